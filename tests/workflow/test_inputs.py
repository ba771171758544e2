"""Inputs: their types, values from the command line, from files and from Python, and mistakes with their lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentmesh.errors import InputProblems
from agentmesh.workflow.load import load_workflow

FILE = """\
agentmesh: 1
inputs:
  goal: {type: text, default: g}
  n: {type: integer, default: 1, minimum: 1, maximum: 9}
  x: {type: number, optional: true}
  on: {type: boolean, default: false}
  kind: {enum: [a, b], default: a}
  words: {type: [text], default: []}
  point: {fields: {x: number}, optional: true}
  rows: {type: rows, optional: true}
tasks: {a: {value: inputs.goal}}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.yaml"
    path.write_text(FILE)
    return path


FROM_TEXT = [
    ("goal=a=b @x", "goal", "a=b @x"),
    ("goal=", "goal", ""),
    ("n=3", "n", 3),
    ("x=2.5", "x", 2.5),
    ("on=true", "on", True),
    ("kind=b", "kind", "b"),
    ('words=["a", "b"]', "words", ["a", "b"]),
    ('point={"x": 1}', "point", {"x": 1}),
    ("goal=@t.txt", "goal", "one\n\ntwo\n"),
    ("words=@t.txt", "words", ["one", "two"]),
    ("words=@w.json", "words", ["j"]),
    ("rows=@r.csv", "rows", [{"id": "1", "t": "a, b"}, {"id": "2", "t": "x\ny"}]),
    ("rows=@r.tsv", "rows", [{"id": "1", "t": "a"}]),
    ("rows=@r.json", "rows", [{"id": 1}]),
    ("rows=@r.jsonl", "rows", [{"id": 1}, {"id": 2}]),
]
FILES = {
    "t.txt": "one\n\ntwo\n",
    "w.json": '["j"]',
    "r.csv": '\ufeffid,t\r\n1,"a, b"\r\n\r\n2,"x\ny"\r\n',
    "r.tsv": "id\tt\n1\ta\n",
    "r.json": '[{"id": 1}]',
    "r.jsonl": '{"id": 1}\n\n{"id": 2}\n',
}


@pytest.mark.parametrize(("option", "name", "value"), FROM_TEXT)
def test_options(option: str, name: str, value: Any, file: Path) -> None:
    for other, text in FILES.items():
        (file.parent / other).write_bytes(text.encode())
    found = load_workflow(file, input_options=(option,)).inputs[name]
    assert found == value
    assert type(found) is type(value)


def test_what_is_not_given_has_its_default(file: Path) -> None:
    assert load_workflow(file).inputs == {
        "goal": "g", "n": 1, "x": None, "on": False, "kind": "a", "words": [], "point": None, "rows": None,
    }  # fmt: skip


def test_data_from_python(file: Path) -> None:
    given = {"goal": "@not a file", "rows": ({"id": 1},), "n": 2.0, "x": None}
    inputs = load_workflow(file, inputs=given).inputs
    assert (inputs["goal"], inputs["rows"], inputs["n"], inputs["x"]) == ("@not a file", [{"id": 1}], 2, None)
    with pytest.raises(InputProblems, match="--input n: 'three' is not a whole number"):
        load_workflow(file, inputs={"n": "three"})


WRONG = [
    ("n=three", "", "--input n: must be a whole number, not 'three'"),
    ("n=10", "", "--input n: 10 is over 9"),
    ("on=yes", "", "--input on: must be true or false, not 'yes'"),
    ("kind=c", "", "--input kind: 'c' is none of a, b"),
    ("words=a", "", "--input words: must be JSON; for a file write @NAME, not 'a'"),
    ("gaol=x", "", "--input gaol: there is no input 'gaol' (did you mean 'goal'?)"),
    ("goal", "", "--input goal has no value (write --input NAME=VALUE)"),
    ("goal=@nope.txt", "", "--input goal: there is no file nope.txt (looked in {cwd})"),
    ("rows=@f.xlsx", "x", "f.xlsx: xlsx is not supported yet (save it as csv)"),
    ("rows=@f.txt", "x", "f.txt: rows are read from .csv, .tsv, .json, .jsonl, not from '.txt'"),
    ("rows=@f.csv", "", "f.csv: the file is empty (the first line names the columns)"),
    ("rows=@f.csv", "a,b\n" + "1,2\n" * 15 + "1,2,3\n1,2\n", "f.csv:17: this row has 3 fields, and the header has 2"),
    ("rows=@f.csv", 'a,b\n1,"x\ny"\n1\n', "f.csv:4: this row has 1 fields, and the header has 2"),
    ("rows=@f.csv", 'a,b\n1,"x"y\n', "f.csv:2: this row is broken: ',' expected after '\"'"),
    ("rows=@f.csv", "a,a\n", "f.csv:1: two columns are called 'a'"),
    ("rows=@f.csv", "a,,b\n", "f.csv:1:2: a column has no name"),
    ("rows=@f.jsonl", '{"a": 1}\n' * 16 + '{"a": 1\n', "f.jsonl:17:8: this line is not JSON: Expecting ',' delimiter"),
    ("rows=@f.jsonl", "[1]\n", "f.jsonl:1: this line is no object"),
    ("rows=@f.json", '{"a": 1}', "f.json:1: rows are a list of objects"),
    ("rows=@f.json", '[{"a": 1}, 3]', "f.json: row 2 is no object"),
    ("rows=@f.json", '[\n{"a" 1}]', "f.json:2:6: this is not JSON: Expecting ':' delimiter"),
    ("words=@f.json", "[1]", "--input words: [0]: 1 is not text"),
    ("goal=@f.txt", b"a\nb\xff", "f.txt:2: this is not UTF-8 (byte 0xff)"),
]


@pytest.mark.parametrize(("option", "content", "expected"), WRONG)
def test_mistakes(option: str, content: str | bytes, expected: str, file: Path) -> None:
    if content or "@f" in option:
        name = option.partition("@")[2]
        (file.parent / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputProblems) as raised:
        load_workflow(file, input_options=(option,))
    assert [str(problem) for problem in raised.value.problems] == [expected.replace("{cwd}", str(Path.cwd()))]


def test_every_broken_line_is_told(file: Path) -> None:
    (file.parent / "f.jsonl").write_text('{"a": 1}\nx\n{"a": 2}\n3\n')
    with pytest.raises(InputProblems) as raised:
        load_workflow(file, input_options=("rows=@f.jsonl", "n=0"))
    assert [problem.line for problem in raised.value.problems if problem.file] == [2, 4]
    assert "0 is under 1" in str(raised.value)


def test_columns_are_known_before_the_first_call(file: Path) -> None:
    (file.parent / "r.csv").write_text("id,title\n1,a\n")
    file.write_text(FILE.replace("value: inputs.goal", "for_each: inputs.rows, value: item.titel"))
    with pytest.raises(InputProblems, match=r"item has no field 'titel'; there are id, title .did you mean 'title'"):
        load_workflow(file, input_options=("rows=@r.csv",))


def test_inputs_may_be_left_open_where_only_the_file_is_checked(file: Path) -> None:
    file.write_text("agentmesh: 1\ninputs: {goal: text}\ntasks: {a: {value: inputs.goal}}\n")
    with pytest.raises(InputProblems, match=r"inputs\.goal: no value is given"):
        load_workflow(file)
    assert load_workflow(file, required=False).inputs == {"goal": None}
    assert load_workflow(file, input_options=("goal=x",)).inputs == {"goal": "x"}

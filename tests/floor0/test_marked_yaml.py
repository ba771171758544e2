"""Mistakes in YAML, each with its place and its message; and the places of what is right."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from agentmesh.errors import InputProblems
from agentmesh.marked_yaml import did_you_mean, load_yaml, path_text


class Left(BaseModel):
    model_config = ConfigDict(extra="forbid")
    agent: int
    note: str = ""


class Right(BaseModel):
    model_config = ConfigDict(extra="forbid")
    value: list[int] | str
    shape: Literal["bucket", "fixed"] = "bucket"


class Root(BaseModel):
    model_config = ConfigDict(extra="forbid")
    tasks: dict[str, Left | Right | str] | None = None
    rate: float | dict[str, float] = 1
    count: int = Field(default=1, ge=1)
    left: Left | None = None


SYNTAX = [
    ("a: {{ x }}", "f:1:4: a: YAML reads {{ as the start of a map (quote a text that begins with {{)"),
    ("a: {{ x }} and\nb: 1", "f:1:4: a: YAML reads {{ as the start of a map (quote a text that begins with {{)"),
    ("- {{ x }}: 1", "f:1:3: [0]: YAML reads {{ as the start of a map (quote a text that begins with {{)"),
    ("a: {% if x %}", "f:1:4: YAML does not allow {% here (quote a text that begins with {%)"),
    ("a: @x", "f:1:4: YAML does not allow @ here (quote a text that begins with @)"),
    ("a:\n\tb: 1", "f:2:1: a tab is not allowed in the indentation (use spaces)"),
    ("a:\n  b: 1\n\tc: 2", "f:3:1: a tab is not allowed in the indentation (use spaces)"),
    (
        "a: 1\na: 2\nb: {c: 1}\nb: 3",
        (
            "f:2:1: a: this key stands twice: on line 1 and on line 2\n"
            "f:4:1: b: this key stands twice: on line 3 and on line 4"
        ),
    ),
    ("---\na: 1\n---\nb: 2", "f:3:1: a second document begins here (one file holds one document)"),
    ("", "f:1:1: the file is empty"),
    ("# only a remark\n", "f:1:1: the file is empty"),
    (
        "a: b: c",
        "f:1:5: a colon that YAML does not allow here (quote a text that contains ': '; check the indentation)",
    ),
    (
        "a: [1, 2",
        "f:1:9: this is not YAML: while parsing a flow sequence, expected ',' or ']', but got 'the end of the file'",
    ),
    ("a: 'x", "f:1:6: this is not YAML: while scanning a quoted scalar, found unexpected end of stream"),
    ("<<: 3", "f:1:1: `<<` is not part of YAML 1.2 (write the keys out)"),
    ("? [a]\n: 1", "f:1:3: a key must be a plain text"),
    ("a: *x", "f:1:4: a: nothing before this is marked &x"),
    ("a: &x [*x]", "f:1:8: a[0]: nothing before this is marked &x"),
    ("a: !!python/object x", "f:1:4: a: the tag tag:yaml.org,2002:python/object is not read here"),
    ("b: 1\na: \x01", "f:2: the character U+0001 is not allowed in YAML"),
    ("[" * 100, "f:1:66: nested more than 64 deep"),
]


@pytest.mark.parametrize(("text", "message"), SYNTAX)
def test_syntax_errors_say_where_and_what(text: str, message: str) -> None:
    with pytest.raises(InputProblems) as caught:
        load_yaml(text, file="f")
    assert str(caught.value) == message


SHAPES = [
    (
        "tasks: {k: {value: 5, shap: 1}}",
        (
            "f:1:20: tasks.k.value: must be a list or a text, not 5\n"
            "f:1:23: tasks.k.shap: unknown key (did you mean 'shape'?)"
        ),
    ),
    ("tasks:\n  k: 3", "f:2:6: tasks.k: must be a map or a text, not 3"),
    ("tasks:\n  k: {agent: x}", "f:2:14: tasks.k.agent: must be a whole number, not 'x'"),
    ("tasks: [1]", "f:1:8: tasks: must be a map, not a list"),
    (
        "tasks:\n  k: {value: a, shape: buckt}",
        "f:2:24: tasks.k.shape: must be bucket or fixed, not 'buckt' (did you mean 'bucket'?)",
    ),
    ("rate: q", "f:1:7: rate: must be a number or a map, not 'q'"),
    ("rate: {q: z}", "f:1:11: rate.q: must be a number, not 'z'"),
    ("count: 0", "f:1:8: count: must be at least 1, not 0"),
    (
        "left: {aent: 1}",
        "f:1:1: left: agent is missing\nf:1:8: left.aent: unknown key (did you mean 'agent'?)",
    ),
    ("zzzz: 1", "f:1:1: zzzz: unknown key (known here: tasks, rate, count, left)"),
    ("4", "f:1:1: must be a map, not 4"),
    ("left: '" + "k" * 60 + "'", "f:1:7: left: must be a map, not a longer text"),
]


@pytest.mark.parametrize(("text", "message"), SHAPES)
def test_shape_errors_are_told_once_for_the_branch_that_was_meant(text: str, message: str) -> None:
    with pytest.raises(InputProblems) as caught:
        load_yaml(text, file="f").validate(Root)
    assert str(caught.value) == message


def test_a_union_told_by_a_key_of_the_data_keeps_the_place() -> None:
    """A branch may be called like a key beside it: `agent` is a branch here and a key there."""
    from typing import Annotated

    from pydantic import Discriminator, Tag

    def kind(value: Any) -> str:
        return "agent" if "agent" in value else "value"

    class Tasks(BaseModel):
        tasks: dict[str, Annotated[Annotated[Left, Tag("agent")] | Annotated[Right, Tag("value")], Discriminator(kind)]]

    with pytest.raises(InputProblems) as caught:
        load_yaml("tasks:\n  one:\n    agent: 1\n    note: [x]\n    nott: 2\n", file="f").validate(Tasks)
    assert str(caught.value) == (
        "f:4:11: tasks.one.note: must be a text, not a list\nf:5:5: tasks.one.nott: unknown key (did you mean 'note'?)"
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"), ("on", "on"), ("true", True), ("False", False), ("~", None), ("0x1F", 31), ("0o14", 12),
        ("012", 12), ("-7", -7), ("1e3", 1000.0), (".5", 0.5), ("1.", 1.0), ("-.inf", float("-inf")),
        ("1_000", "1_000"), ("2026-11-20", "2026-11-20"), ("12:30:45", "12:30:45"), ("'5'", "5"), ("!!str 5", "5"),
        ("9" * 400, float("inf")),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    found = load_yaml(f"a: {text}", file="f").data["a"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_text_and_aliases_are_read() -> None:
    data = load_yaml("on: &x {404: [a]}\ncopy: *x\n", file="f").data
    assert data == {"on": {"404": ["a"]}, "copy": {"404": ["a"]}}


def test_places() -> None:
    text = "a:\n  b: 1\n  'c d': [x, {y: z}]\n"
    yaml = load_yaml(text, file="f")
    assert yaml.place(["a", "b"]) == (2, 6)
    assert yaml.place(["a", "b"], of_key=True) == (2, 3)
    assert yaml.place(["a", "c d", 1, "y"]) == (3, 18)
    assert yaml.place(["a", "nowhere", "below"]) == (1, 1)
    assert yaml.place([]) == (1, 1)
    assert str(yaml.problem(["a", "c d", 1], "is odd", hint="even it")) == "f:3:14: a.c d[1]: is odd (even it)"
    assert path_text(["a", 0, "b"]) == "a[0].b"


def test_places_inside_texts() -> None:
    text = "one: plain {{ x }}\nfold: >\n  a\n  b\nblock: |2\n\n     deep\n    x\r\n   last"
    yaml = load_yaml(text, file="f")
    assert yaml.text_place(["one"], 1) == (1, 6)
    assert yaml.text_place(["fold"], 1) == (2, 7)
    assert yaml.data["block"] == "\n   deep\n  x\n last"
    assert [yaml.text_place(["block"], line) for line in (1, 2, 3, 4)] == [(6, 1), (7, 3), (8, 3), (9, 3)]
    assert yaml.text_place(["block"], 99) == (5, 8)
    assert yaml.text_place(["gone"], 1) == (1, 1)


def test_the_nearest_word_is_offered() -> None:
    assert did_you_mean("agnet", ["agent", "task"]) == "did you mean 'agent'?"
    assert did_you_mean("Agent", ["agent"]) == "did you mean 'agent'?"
    assert did_you_mean("zzz", ["agent"]) is None

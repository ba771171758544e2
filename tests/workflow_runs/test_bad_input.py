"""Bad input: every mistake with its place and what would be right, all at once, exit code 2, nothing half-written."""

# ruff: noqa: E501  # workflows are read best whole

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agentmesh.app.cli import main

GOOD = "agentmesh: 1\nagents: {one: {model: sim/small}}\ntasks: {a: {agent: one, prompt: x}}\n"


def told(text: str, capsys: pytest.CaptureFixture[str], *options: str, command: str = "check") -> list[str]:
    """The lines that a command says of a workflow; it must end with 2, say nothing on stdout and leave nothing behind."""
    Path("w.yaml").write_text(text)
    before = sorted(Path().iterdir())
    assert main([command, "w.yaml", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert sorted(Path().iterdir()) == before
    return err.splitlines()


@pytest.mark.parametrize("command", ["check", "run"])
def test_all_mistakes_of_a_file_at_once_each_with_its_place(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = """\
agentmesh: 1
models: {odd: nobody/x}
agents:
  one: {model: sim/small, instrctions: hi}
  two: {model: odd}
  two: {model: odd}
tasks:
  a: {agent: one, prompt: "{{ itm.x }} {{ tasks.bb }}"}
  b: {for_each: tasks.c, agent: two, prompt: "{{ item }}"}
  c: {for_each: tasks.b, agent: three, prompt: x}
  d: {for_each: [1], agent: two, prompt: x, tmeout: 5s}
  e:
    for_each: [{x: 1}]
    agent: one
    prompt: |
      fine
      {{ item.y }}
outputs: {x: tasks.nope}
"""
    lines = told(text, capsys, command=command)
    found = [(line.split(": ", 2)[0], line.split(": ", 2)[2]) for line in lines]
    places = [place for place, _ in found]
    assert places == [
        f"w.yaml:{place}" for place in ("2:15", "4:27", "6:3", "8:27", "8:27", "9:3", "10:33", "11:45", "17:7", "18:14")
    ]
    whole = "\n".join(lines)
    for words in (
        "models.odd: no provider is called 'nobody'", "used by agent two", "unknown key (did you mean 'instructions'?)",
        "this key stands twice: on line 5 and on line 6", "there is no name 'itm' here", "there is no task 'bb'",
        "tasks wait for each other: b -> c -> b", "there is no agent 'three'", "unknown key (did you mean 'timeout'?)",
        "item has no field 'y'", "there is no task 'nope'",
    ):  # fmt: skip
        assert words in whole, words


def test_a_missing_key_says_which_variable_for_which_model_in_which_agent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """\
agentmesh: 1
models: {big: openai/gpt-5-mini}
agents: {one: {model: big}, two: {model: anthropic/claude-haiku-4-5}, three: {model: big}}
tasks: {a: {agent: one, prompt: x}, b: {agent: two, prompt: x}, c: {agent: three, prompt: x}}
"""
    assert told(text, capsys, command="run") == [
        "w.yaml:2:15: models.big: OPENAI_API_KEY is not set (for openai/gpt-5-mini, used by agents one, three)",
        "w.yaml:3:42: agents.two.model: ANTHROPIC_API_KEY is not set (for anthropic/claude-haiku-4-5, used by agent two)",
    ]
    assert main(["check", "w.yaml", "--no-keys"]) == 0
    assert main(["check", "w.yaml", "--model", "sim/small"]) == 0
    capsys.readouterr()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    lines = told(text, capsys)
    assert len(lines) == 1
    assert "sk-secret" not in lines[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("agentmesh: 1\ntasks:\n  a:\n    agent: one\n   prompt: x\n", "w.yaml:5:4: this is not YAML"),
        ("agentmesh: 1\ntasks:\n  a:\n    prompt: {{ item }}\n", "w.yaml:4:13: tasks.a.prompt: YAML reads {{ as the start of a map (quote a text that begins with {{)"),
        ("", "w.yaml:1:1: the file is empty"),
        (GOOD.replace("sim/small", "sim/smal"), "agents.one.model: "),
        (GOOD.replace("sim/small", "smal"), "there is no model 'smal'"),
        (GOOD.replace("agentmesh: 1", "agentmesh: 2"), "w.yaml:1:12: agentmesh: "),
        (GOOD.replace("prompt: x", 'prompt: "{{ item"'), "w.yaml:3:33: tasks.a.prompt: "),
        (GOOD.replace("prompt: x", 'prompt: "{{ tasks.a }}"'), "this task waits for itself"),
        (GOOD.replace("prompt: x", "prompt: {file: gone.md}"), "there is no file gone.md"),
        (GOOD.replace("agent: one, prompt: x", 'python: "gone_lib:f"'), "there is no module gone_lib"),
        (GOOD.replace("agent: one, prompt: x", 'python: "json:dmps"'), "did you mean 'dumps'?"),
        (GOOD + "outputs: {o: {value: tasks.a, file: ../o.md}}\n", "../o.md is not below the working directory"),
    ],
)  # fmt: skip
def test_one_clear_message(text: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(text, capsys)
    assert len(lines) == 1
    assert words in lines[0]


def test_inputs_from_files_that_are_missing_or_broken(capsys: pytest.CaptureFixture[str]) -> None:
    text = "agentmesh: 1\ninputs: {rows: rows, n: integer}\ntasks: {a: {for_each: inputs.rows, value: item.id}}\n"
    rows = [json.dumps({"id": number}) for number in range(1, 31)]
    rows[16] = rows[16][:-1]
    rows[20] = "[1]"
    Path("rows.jsonl").write_text("\n".join(rows))
    lines = told(text, capsys, "--input", "rows=@rows.jsonl", "--input", "n=x", "--input", "m=1", command="run")
    assert sorted(lines) == [
        "--input m: there is no input 'm' (there are rows, n)",
        "--input n: must be a whole number, not 'x'",
        "rows.jsonl:17:10: this line is not JSON: Expecting ',' delimiter",
        "rows.jsonl:21: this line is no object",
    ]
    assert told(text, capsys, "--input", "rows=@gone.csv", "--input", "n=1", command="run") == [
        f"--input rows: there is no file gone.csv (looked in {Path.cwd()})"
    ]
    Path("rows.csv").write_text("id,q\n" + "".join(f"{n},x\n" for n in range(2, 17)) + "17,x,y\n18,x\n")
    assert told(text, capsys, "--input", "rows=@rows.csv", "--input", "n=1", command="run") == [
        "rows.csv:17: this row has 3 fields, and the header has 2"
    ]


def test_a_workflow_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "hypothses"]) == 2
    assert "did you mean 'hypotheses'?" in capsys.readouterr().err
    assert main(["check", "gone.yaml"]) == 2
    assert "there is no such workflow" in capsys.readouterr().err
    assert main(["run"]) == 2
    assert main(["run", "compare", "--bogus"]) == 2
    assert main(["run", "compare", "--display", "loud"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_models_of_a_column_are_checked_before_anything_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    text = """\
agentmesh: 1
inputs: {rows: {type: rows, default: [{id: a, model: sim/small}, {id: b, model: nobody/y}]}}
agents: {one: {}}
tasks: {a: {for_each: inputs.rows, agent: one, model: "{{ item.model }}", prompt: x}}
"""
    lines = told(text, capsys, command="run")
    assert len(lines) == 1
    assert "no provider is called 'nobody'" in lines[0]
    assert "used by agent one" in lines[0]


def test_a_process_of_its_own_says_the_same_and_ends_with_2() -> None:
    Path("w.yaml").write_text(GOOD.replace("prompt: x", 'prompt: "{{ tasks.b }}"'))
    done = subprocess.run(
        [sys.executable, "-m", "agentmesh", "run", "w.yaml", "-o", "out.json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "w.yaml:3:33: tasks.a.prompt: there is no task 'b' (there are a)\n"
    assert [path.name for path in Path().iterdir()] == ["w.yaml"]

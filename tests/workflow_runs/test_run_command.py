"""`agentmesh run`: what goes to stdout, to stderr and to files, exit codes, and what a bad start leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentmesh.app.cli import main

PROVIDER = """\
provider: quick
dialect: openai-chat
base_url: inprocess://quick
models:
  good: {prices: {input: 1.0, output: 2.0}}
  bad: {simulate: {failures: {"500": 1.0}}}
simulate: {latency: {first_token: 0.001, per_token: 0}, length: 5}
"""
WORKFLOW = """\
agentmesh: 1
name: small
inputs: {n: {type: integer, default: 3}}
models: {main: quick/good}
agents:
  echo: {model: main, retry: {attempts: 1}}
  broken: {model: quick/bad, retry: {attempts: 1}}
tasks:
  ask: {samples: inputs.n, agent: echo, prompt: "question {{ sample }}"}
  text: {value: tasks.ask | length}
outputs: {answers: tasks.ask, count: tasks.text}
"""


@pytest.fixture(autouse=True)
def _files() -> None:
    Path("quick.yaml").write_text(PROVIDER)
    Path("small.yaml").write_text(WORKFLOW)


def run(*arguments: str) -> int:
    return main(["run", *arguments, "--provider-file", "quick.yaml"])


def with_tasks(text: str, outputs: str = "{}") -> str:
    return WORKFLOW[: WORKFLOW.index("tasks:")] + f"tasks:\n{text}\noutputs: {outputs}\n"


def left_behind() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def test_outputs_go_to_stdout_as_json_and_the_screen_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("small.yaml", "--no-journal") == 0
    out, err = capsys.readouterr()
    outputs = json.loads(out)
    assert list(outputs) == ["answers", "count"]
    assert outputs["count"] == len(outputs["answers"]) == 3
    assert all("simulated" in answer for answer in outputs["answers"])
    assert "ask ended: 3/3" in err
    assert "done       small" in err
    assert left_behind() == ["quick.yaml", "small.yaml"]


def test_the_file_has_what_is_promised(capsys: pytest.CaptureFixture[str]) -> None:
    Path("out.json").write_text("old")
    assert run("small.yaml", "--input", "n=2", "-o", "out.json", "--display", "none") == 0
    written = json.loads(Path("out.json").read_text())
    assert list(written)[:11] == [
        "format", "run", "workflow", "status", "seconds", "outputs", "tasks", "failures", "usage", "usd", "lanes",
    ]  # fmt: skip
    assert (written["format"], written["workflow"], written["status"], written["failures"]) == (1, "small", "done", [])
    assert written["outputs"] == json.loads(capsys.readouterr().out)
    assert written["tasks"]["ask"] == {"done": 2, "failed": 0, "skipped": 0, "cancelled": 0}
    assert written["usage"]["calls"] == 2
    assert written["usd"] > 0
    assert set(written["lanes"]) == {"quick"}
    assert left_behind() == [".agentmesh", "out.json", "quick.yaml", "small.yaml"]
    assert main(["show", written["run"], "ask/0"]) == 0
    assert "question 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tasks", "code", "status"),
    [
        ("  a: {agent: echo, prompt: x}", 0, "done"),
        ("  a: {agent: broken, prompt: x}\n  b: {agent: echo, prompt: y}", 1, "partial"),
        ("  a: {agent: broken, prompt: x, on_failure: skip}", 0, "done"),
        ("  a: {samples: 9, agent: echo, prompt: x}\nbudget: {calls: 4}", 3, "stopped"),
    ],
)
def test_the_exit_code_says_how_it_ended(
    tasks: str, code: int, status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("small.yaml").write_text(with_tasks(tasks, "{a: tasks.a}"))
    assert run("small.yaml", "-o", "out.json") == code
    written = json.loads(Path("out.json").read_text())
    assert written["status"] == status
    out, err = capsys.readouterr()
    assert json.loads(out) == written["outputs"]
    assert f" {status}" in err
    if status == "partial":
        assert [(one["task"], one["error"]["kind"]) for one in written["failures"]] == [("a", "server")]
        assert "failed     a: server: " in err
        assert f"agentmesh show {written['run'][-4:]}" in err or "agentmesh show" in err
    if status == "stopped":
        assert written["tasks"]["a"]["done"] == 4
        assert written["unfinished"] == 5
        assert "5 tasks unfinished" in err


@pytest.mark.parametrize("display", ["full", "plain", "json", "none"])
def test_every_display_leaves_stdout_alone(display: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("small.yaml", "--display", display, "--no-journal") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["count"] == 3
    if display == "none":
        assert err == ""
    elif display == "json":
        events: list[dict[str, Any]] = [json.loads(line) for line in err.splitlines()]
        assert {event["format"] for event in events} == {1}
        kinds = [event["kind"] for event in events]
        assert (kinds[0], kinds[-1]) == ("RunStarted", "RunEnded")
        assert kinds.count("CallEnded") == 3
    else:
        assert "done       small" in err


def test_what_a_workflow_names_is_beside_it_and_what_it_writes_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("elsewhere")
    folder.mkdir()
    (folder / "ask.md").write_text("Question: {{ item.q }}\n")
    (folder / "beside_scores.py").write_text("def score(reply: str) -> int:\n    return len(reply)\n")
    (folder / "w.yaml").write_text(
        with_tasks(
            "  ask: {for_each: inputs.rows, agent: echo, prompt: {file: ask.md}}\n"
            '  score: {for_each: tasks.ask, python: "beside_scores:score", with: {reply: item}}',
            "{scores: {value: tasks.score, file: scores.json}}",
        ).replace("inputs: {n: {type: integer, default: 3}}", "inputs: {rows: rows}")
    )
    Path("rows.csv").write_text("id,q\na/1,one\nb,two\n")
    assert run("elsewhere/w.yaml", "--input", "rows=@rows.csv", "--display", "none") == 0
    assert json.loads(Path("scores.json").read_text()) == json.loads(capsys.readouterr().out)["scores"]
    assert sorted(path.name for path in folder.iterdir() if path.suffix) == ["ask.md", "beside_scores.py", "w.yaml"]
    assert main(["runs", "--json"]) == 0
    last = json.loads(capsys.readouterr().out)["runs"][0]["id"]
    assert main(["show", last, "ask/a%2F1"]) == 0
    assert "Question: one" in capsys.readouterr().out


def test_the_same_seed_gives_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    def outputs(seed: str) -> Any:
        assert run("small.yaml", "--seed", seed, "--no-journal", "--display", "none") == 0
        return json.loads(capsys.readouterr().out)

    assert outputs("1") == outputs("1") != outputs("2")


def test_models_and_inputs_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    Path("small.yaml").write_text(WORKFLOW.replace("inputs: {n: {type: integer, default: 3}}", "inputs: {n: integer}"))
    assert run("small.yaml", "--no-journal") == 2
    assert "inputs.n: no value is given (--input n=VALUE)" in capsys.readouterr().err
    assert run("small.yaml", "--input", "n=1", "--model", "main=quick/bad", "--no-journal") == 1
    assert '"answers": []' in capsys.readouterr().out
    assert run("small.yaml", "--input", "n=1", "--model", "quick/bad", "--no-journal") == 1


def test_a_result_that_cannot_be_written_is_told_before_anything_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    Path("folder").mkdir()
    assert run("small.yaml", "-o", "folder") == 2
    assert "this is a directory" in capsys.readouterr().err
    assert run("small.yaml", "-o", "small.yaml/out.json") == 2
    assert "cannot be written" in capsys.readouterr().err
    assert left_behind() == ["folder", "quick.yaml", "small.yaml"]


def test_an_output_that_cannot_be_made_is_noted_and_the_rest_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    Path("small.yaml").write_text(with_tasks("  a: {value: inputs.n}", '{a: tasks.a, b: "[1][tasks.a]"}'))
    assert run("small.yaml", "--no-journal", "--display", "full") == 1
    out, err = capsys.readouterr()
    assert json.loads(out) == {"a": 3, "b": None}
    assert "the output b has no value" in err

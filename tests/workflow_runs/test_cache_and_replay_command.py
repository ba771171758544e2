"""`--cache`, `--record` and `--replay` as a user types them: on `run`, on `batch`, and when a run is looked at."""

from __future__ import annotations

import json
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentmesh.app.cli import main
from agentmesh.app.going_on import began_as
from agentmesh.journal import list_runs

PROVIDER = """\
provider: quick
dialect: openai-chat
base_url: inprocess://quick
models: {good: {prices: {input: 1.0, output: 2.0}}}
simulate: {latency: {first_token: 0.001, per_token: 0, jitter: 0}, length: 5}
"""
FAR = """\
provider: quick
dialect: openai-chat
base_url: https://far.invalid/v1
api_key_env: FAR_API_KEY
models: {good: {prices: {input: 1.0, output: 2.0}}}
"""
WORKFLOW = """\
agentmesh: 1
name: small
models: {main: quick/good}
agents:
  echo: {model: main}
  judge: {model: main}
tasks:
  ask: {samples: 5, agent: echo, prompt: "The same question."}
  check: {for_each: {n: [1, 2, 3]}, agent: echo, prompt: "question {{ n }}"}
  contest: {rank: tasks.ask, judge: judge, entrant: "{{ item }}", criteria: truth}
outputs: {answers: tasks.ask, checked: tasks.check, best: "top(tasks.contest, 5)"}
"""


@pytest.fixture(autouse=True)
def _files() -> None:
    Path("quick.yaml").write_text(PROVIDER)
    Path("small.yaml").write_text(WORKFLOW)


def run(*arguments: str, command: str = "run", workflow: str = "small.yaml") -> int:
    return main([command, workflow, *arguments, "--provider-file", "quick.yaml"])


def written(*arguments: str, **more: Any) -> tuple[int, dict[str, Any]]:
    code = run(*arguments, "-o", "out.json", **more)
    result: dict[str, Any] = json.loads(Path("out.json").read_text())
    return code, result


def without_tournament() -> None:
    lines = WORKFLOW.splitlines(keepends=True)
    kept = "".join(line for line in lines if "contest:" not in line).replace(', best: "top(tasks.contest, 5)"', "")
    Path("small.yaml").write_text(kept)


def test_the_second_time_nothing_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    without_tournament()
    _, first = written("--cache", "use")
    assert (first["usage"]["calls"], first["spared"], first["saved_usd"]) == (8, 0, 0.0)
    code, second = written("--cache", "use")
    assert (code, second["usage"]["calls"], second["usd"], second["spared"]) == (0, 0, 0.0, 8)
    assert second["saved_usd"] == pytest.approx(first["usd"])
    assert second["outputs"] == first["outputs"]
    assert stat.S_IMODE(Path(".agentmesh/cache.db").stat().st_mode) == 0o600
    said = capsys.readouterr().err
    assert " used       0 calls, $0.00 (simulated)\n            8 answers from the cache, $0.00" in said
    assert main(["runs", "--json"]) == 0
    newest, older = json.loads(capsys.readouterr().out)["runs"]
    assert (newest["spared"], newest["calls"], older["spared"]) == (8, 0, 0)
    assert newest["saved_usd"] == pytest.approx(first["usd"])


def test_show_tells_what_was_known_and_export_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    without_tournament()
    for _ in range(2):
        assert run("--cache", "use", "--display", "none") == 0
    capsys.readouterr()
    assert main(["show", "last"]) == 0
    assert "0 calls, 8 answers known, $0.00" in capsys.readouterr().out
    assert main(["show", "last", "check/1"]) == 0
    shown = capsys.readouterr().out
    assert "question 1" in shown
    assert "A simulated reply of good" in shown
    assert "from the cache: not sent" in shown
    assert main(["export", "last", "--calls"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 8


def test_simulated_dollars_are_marked_wherever_they_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    without_tournament()
    assert run("--display", "plain") == 0
    marked = [line for line in capsys.readouterr().err.splitlines() if "$" in line]
    assert marked
    assert all("(simulated)" in line for line in marked)
    assert main(["show", "last"]) == 0
    assert "(simulated)" in capsys.readouterr().out
    assert main(["runs"]) == 0
    row, note = capsys.readouterr().out.splitlines()[1:]
    assert ("* " in row, note) == (True, "* simulated")


def test_gc_forgets_old_answers(capsys: pytest.CaptureFixture[str]) -> None:
    without_tournament()
    assert run("--cache", "use", "--no-journal", "--display", "none") == 0
    capsys.readouterr()
    assert main(["gc", "--older-than", "1d", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answers"] == 0
    with closing(sqlite3.connect(".agentmesh/cache.db")) as file, file:
        file.execute("UPDATE reply SET at = 1.0 WHERE rowid < 7")
    assert main(["gc", "--older-than", "1d", "--dry-run"]) == 0
    assert capsys.readouterr().out == "would delete 0 runs, 0 B; 6 answers in the cache\n"
    assert main(["gc", "--older-than", "1d"]) == 0
    assert "6 answers in the cache" in capsys.readouterr().out
    assert written("--cache", "read")[1]["spared"] == 2


def test_the_cache_is_set_by_the_environment_and_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    without_tournament()
    monkeypatch.setenv("AGENTMESH_CACHE", "use")
    assert run("--no-journal", "--display", "none") == 0
    monkeypatch.delenv("AGENTMESH_CACHE")
    Path("agentmesh.toml").write_text('cache = "read"\n')
    assert written()[1]["spared"] == 8
    assert written("--cache", "off")[1]["spared"] == 0


@pytest.mark.parametrize("source", ["calls.jsonl.gz", "last"])
def test_a_recorded_run_is_repeated_without_key_and_network(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, first = written("--record", "calls.jsonl.gz")
    assert stat.S_IMODE(Path("calls.jsonl.gz").stat().st_mode) == 0o600
    Path("quick.yaml").write_text(FAR)
    assert run("--display", "none") == 2  # it has no key
    capsys.readouterr()
    code, again = written("--replay", source)
    assert (code, again["usage"]["calls"], again["spared"]) == (0, 0, first["usage"]["calls"])
    assert again["outputs"] == first["outputs"]
    assert "answers replayed, no model was asked" in capsys.readouterr().err


def test_the_last_run_is_replayed_by_its_id_and_never_a_replay_itself(capsys: pytest.CaptureFixture[str]) -> None:
    without_tournament()
    assert run("--display", "none") == 0
    assert run("--replay", "last", "--display", "none", "--budget", "tokens=1") == 0
    assert run("--replay", "last", "--display", "none", "--fresh") == 0
    newest, again, paid = list_runs(Path(".agentmesh"))
    assert [run.calls for run in (newest, again, paid)] == [0, 0, 8]
    assert [began_as(run.path).options.get("replay") for run in (newest, again, paid)] == [paid.id, paid.id, None]


def test_what_was_not_recorded_fails_that_item_alone(capsys: pytest.CaptureFixture[str]) -> None:
    without_tournament()
    assert run("--record", "calls.jsonl", "--display", "none") == 0
    Path("small.yaml").write_text(Path("small.yaml").read_text().replace("[1, 2, 3]", "[1, 2, 9]"))
    code, result = written("--replay", "calls.jsonl")
    assert (code, result["status"], result["usage"]["calls"]) == (1, "partial", 0)
    assert result["tasks"]["check"] == {"done": 2, "failed": 1, "skipped": 0, "cancelled": 0}
    (failure,) = result["failures"]
    assert (failure["key"], failure["error"]["kind"]) == ("9", "bad_request")
    assert "has 'user question" in failure["error"]["message"]
    assert "check/9: bad_request: calls.jsonl has no answer to these messages" in capsys.readouterr().err


def test_a_batch_too(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{"id": f"q{number}", "prompt": f"Question {number}?"} for number in range(5)]
    Path("lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def batch(out: str, *options: str) -> list[Any]:
        asked = ["--model", "quick/good", "-o", out, *options]
        assert run(*asked, command="batch", workflow="lines.jsonl") in (0, 1)
        rows = [json.loads(line) for line in Path(out).read_text().splitlines()]
        return [(row["id"], row["reply"], row["usage"]["calls"]) for row in rows]

    first = batch("a.jsonl", "--cache", "use", "--record", "calls.jsonl")
    spared = [(name, reply, 0) for name, reply, _ in first]
    assert batch("b.jsonl", "--cache", "use") == spared
    assert "5 answers from the cache, " in capsys.readouterr().err
    Path("quick.yaml").write_text(FAR)
    assert batch("c.jsonl", "--replay", "calls.jsonl") == spared
    lines[2]["prompt"] = "Another question?"
    Path("lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    changed = batch("d.jsonl", "--replay", "calls.jsonl")
    assert [reply for _, reply, _ in changed] == [reply if at != 2 else None for at, (_, reply, _) in enumerate(first)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--replay", "none.jsonl"], "--replay none.jsonl: there is no such file"),
        (["--replay", "zzzz"], "--replay zzzz: there is no file of that name; and as a run: "),
        (["--record", "."], "--record .: this cannot be written"),
        (["--record", "no/where.jsonl"], "--record no/where.jsonl: this cannot be written"),
        (["--replay", "small.yaml"], "small.yaml:1: this line is no JSON"),
        (["--replay", "rows.jsonl", "--record", "./rows.jsonl"], "the run is replayed from this file"),
        (["--cache", "maybe"], "Invalid value for '--cache'"),
    ],
)
def test_what_makes_no_sense_begins_nothing(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.jsonl").write_text('{"messages": [{"role": "user", "content": "a"}], "reply": "b"}\n')
    before = sorted(Path().iterdir())
    assert run(*options) == 2
    assert words in capsys.readouterr().err
    assert sorted(Path().iterdir()) == before

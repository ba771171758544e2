"""`agentmesh perf overhead`: each measurement at a small scale, its verdicts, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentmesh.app.perf import calls, overhead, starting
from agentmesh.app.perf.calls import calls_in_process, calls_over_http
from agentmesh.app.perf.cli import app
from agentmesh.app.perf.overhead import Figure
from agentmesh.app.perf.starting import seconds_to_run
from agentmesh.app.perf.waiting import bytes_per_waiting_task
from agentmesh.errors import UserError


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_ROUNDS", 2)
    monkeypatch.setattr(starting, "_ROUNDS", 1)


def test_calls_over_http_are_compared_with_a_bare_client() -> None:
    costs = calls_over_http(20)
    assert min(costs.bare, costs.without_journal, costs.with_journal) > 0.0
    assert costs.without_journal < 100 * costs.bare


@pytest.mark.parametrize("journal", [False, True])
def test_calls_in_process_are_counted_per_second(journal: bool) -> None:
    assert 50.0 < calls_in_process(200, journal=journal) < 100_000.0


def test_a_waiting_task_weighs_little() -> None:
    assert 300.0 < bytes_per_waiting_task(2000) < 4000.0  # the lane's look-ahead is live, and heavy among so few


def test_starts_are_timed_in_turns_with_bytecode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    script = tmp_path / "script.py"
    script.write_text(f"import sys; open({str(tmp_path / 'log')!r}, 'a').write(f'{{sys.dont_write_bytecode}} ')")
    script_s, bare_s = seconds_to_run([str(script)], ["-c", "pass"])
    assert min(script_s, bare_s) > 0.0
    assert (tmp_path / "log").read_text() == "False False "  # one run makes the bytecode, one is timed


def test_a_start_that_fails_says_why() -> None:
    with pytest.raises(UserError, match="ended with 3: no such thing"):
        seconds_to_run(["-c", "import sys; sys.stderr.write('no such thing'); sys.exit(3)"])


@pytest.mark.parametrize(("measured", "least", "ok"), [(9.0, False, True), (11.0, False, False), (11.0, True, True)])
def test_a_bound_is_kept_or_missed(measured: float, least: bool, ok: bool) -> None:
    figure = Figure("speed", measured, 10.0, "/s", "a note", least=least)
    assert figure.ok is ok
    assert figure.as_json()["bound_is"] == ("least" if least else "most")


def test_the_command_prints_a_table_and_writes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead, "_CALLS", 200)
    monkeypatch.setattr(overhead, "_TASKS", 2000)
    monkeypatch.setattr(overhead, "seconds_to_run", lambda *commands: [0.01, 0.02, 0.6])
    out = tmp_path / "overhead.json"
    result = CliRunner().invoke(app, ["overhead", "--quick", "-o", str(out)])
    assert result.exit_code == 0, result.output
    written = json.loads(out.read_text())
    assert (written["format"], written["benchmark"], written["quick"]) == (1, "overhead", True)
    rows = {row["name"]: row for row in written["rows"]}
    assert rows["agentmesh --version"]["measured"] == 2.0
    assert not rows["agentmesh check hypotheses"]["ok"]
    assert len(rows) == 7
    for name in rows:
        assert name in result.stdout
    assert "20 waiting tasks" not in result.stdout  # progress is not a result


def test_json_goes_to_stdout_and_a_file_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overhead, "_measure", lambda divisor: [Figure("a", float(divisor), 2.0, "s", "")])
    result = CliRunner().invoke(app, ["overhead", "--json"])
    assert [row["measured"] for row in json.loads(result.stdout)["rows"]] == [1.0]
    tmp_path.joinpath("file").touch()
    result = CliRunner().invoke(app, ["overhead", "-o", str(tmp_path / "file" / "out.json")])
    assert isinstance(result.exception, UserError)

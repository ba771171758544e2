"""`agentmesh perf journal`: each measurement at a small scale, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentmesh.app.perf import journal, starting
from agentmesh.app.perf.cli import app
from agentmesh.app.perf.journal import Paced, paced_calls, streamed_events
from agentmesh.app.perf.large_journal import write_large_journal
from agentmesh.app.perf.resuming import seconds_to_go_on
from agentmesh.journal import RunFile, RunSummary, item_histories


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_PAIRS", 1)
    monkeypatch.setattr(starting, "_ROUNDS", 1)


@pytest.mark.parametrize("kept", [False, True])
def test_events_come_at_their_pace(kept: bool) -> None:
    streamed = streamed_events(0.1, journal=kept)
    assert 0 < streamed.rate <= 5100  # a loaded machine may be far behind
    assert streamed.late_ms > 0.0
    assert streamed.cpu_us > 0.0


def test_a_run_is_timed_without_a_journal_and_with_one() -> None:
    bare, kept = paced_calls(100)
    assert min(bare.seconds, kept.seconds) > 0.07  # 80 behind a burst of 20, at 1,000 per second
    assert min(bare.cpu, kept.cpu) > 0.0


def test_a_large_journal_is_a_finished_run(tmp_path: Path) -> None:
    path, item = write_large_journal(tmp_path, 2_000_000)
    assert 2_000_000 < path.stat().st_size < 40_000_000  # it grows by what one checkpoint brings in
    with RunFile.open(path) as run:
        summary = RunSummary.of(run)
        (history,) = item_histories(run, item)
    assert (summary.status, summary.name) == ("done", "large")
    assert summary.added == summary.done == summary.calls > 100
    assert history.outcome is not None
    assert history.outcome.ok


def test_the_command_prints_a_table_and_writes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_LARGE_BYTES", 1_000_000)
    monkeypatch.setattr(journal, "streamed_events", lambda seconds, *, journal: streamed_events(0.05, journal=journal))
    monkeypatch.setattr(journal, "paced_calls", lambda calls: (Paced(1.0, 1.0), Paced(1.2, 1.1)))
    monkeypatch.setattr(journal, "seconds_to_go_on", lambda tasks: seconds_to_go_on(tasks // 500))
    monkeypatch.setattr(journal, "seconds_to_run", lambda *commands: [0.2, 0.3, 1.4])
    out = tmp_path / "journal.json"
    result = CliRunner().invoke(app, ["journal", "--quick", "-o", str(out)])
    assert result.exit_code == 0, result.output
    written = json.loads(out.read_text())
    assert (written["format"], written["benchmark"], written["quick"]) == (1, "journal", True)
    rows = {row["name"]: row for row in written["rows"]}
    assert rows["agentmesh runs"]["ok"]
    assert not rows["makespan with a journal"]["ok"]
    assert rows["CPU with a journal"]["ok"]
    assert not rows["agentmesh show last ITEM"]["ok"]
    assert rows["until the first new call of a resume"]["ok"]
    assert len(rows) == 8
    for name in rows:
        assert name in result.stdout

"""A run's file that another process goes on with: numbers, counts, older and newer versions, who is refused."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import anyio
import pytest

from agentmesh.clock import in_thread
from agentmesh.errors import UserError
from agentmesh.events import CallEnded, CallIntent, Event, RunEnded, RunResumed, RunStarted, TaskAdded
from agentmesh.journal import Journal, RunFile, RunSummary
from agentmesh.journal.format import SCHEMA_VERSION
from agentmesh.journal.store import Store
from agentmesh.journal.tally import TALLY_COLUMNS, Tally
from agentmesh.outcome import Usage

pytestmark = pytest.mark.anyio

VERSION_1 = (
    "last", "name", "source", "began", "ended", "seconds", "status", "added", "done", "failed", "skipped", "cancelled",
    "calls", "pushed_back", "usd", "unpriced",
)  # fmt: skip

RESUMED = RunResumed(at=20.0, run="r1", process="process 2 on here", seconds=2.0)

KILLED = """
import os, signal, sys
from pathlib import Path
import anyio
from agentmesh.events import RunStarted, TaskAdded
from agentmesh.journal import Journal

async def main():
    journal = Journal.create(Path(sys.argv[1]), "r1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        journal.append(RunStarted(at=1.0, run="r1", name="killed"))
        for number in range(500):
            journal.append(TaskAdded(at=2.0, task="t", key=str(number)))
            if number % 7 == 0:
                await journal.durable()
        await journal.durable()
        os.kill(os.getpid(), signal.SIGKILL)

anyio.run(main)
"""


def first_events() -> list[Event]:
    intent = CallIntent(
        at=11.0, call=7, attempt=1, address="t/a", agent="x", account="sim", model="m", request=None, waited=0.0
    )
    ended = CallEnded(
        at=12.0, call=7, attempt=1, address="t/a", agent="x", account="sim", model="m", result="ok", seconds=1.0,
        usage=Usage(1, input_tokens=5, output_tokens=9), usd=0.25,
    )  # fmt: skip
    return [
        RunStarted(at=10.0, run="r1", name="hypotheses", inputs={"n": 3}),
        TaskAdded(at=10.0, task="t", key="a"),
        intent,
        ended,
    ]


async def write(folder: Path, events: list[Event]) -> Path:
    journal = await in_thread(Journal.create, folder, "r1")
    for event in events:
        journal.append(event)
    await journal.aclose("cancelled")
    return journal.path


async def resumed(path: Path) -> Journal:
    return await in_thread(Journal.resume, path)


async def test_numbers_and_counts_go_on(tmp_path: Path) -> None:
    path = await write(tmp_path, first_events())
    journal = await resumed(path)
    assert journal.run_id == "r1"
    assert journal.statistics().durable == 4
    assert journal.append(RESUMED) == 5
    assert journal.append(TaskAdded(at=20.0, task="t", key="b")) == 6
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        await journal.durable()
        with RunFile.open(path) as run:
            assert RunSummary.of(run).status == "running"
            assert [number for number, _ in run.events()] == [1, 2, 3, 4, 5, 6]
        await journal.aclose("stopped")
    with RunFile.open(path) as run:
        tally = run.tally()
        assert (tally.last, tally.added, tally.calls, tally.call, tally.usd) == (6, 2, 1, 7, 0.25)
        assert (tally.input_tokens, tally.output_tokens, tally.resumes, tally.name) == (5, 9, 1, "hypotheses")
        assert RunSummary.of(run).status == "stopped"
    assert not list(path.parent.glob("r1.db-*")) + list(path.parent.glob("*.lock"))


async def test_what_a_killed_process_left_is_brought_in(tmp_path: Path) -> None:
    child = await in_thread(
        lambda: subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, timeout=30)
    )
    assert child.returncode == -9
    path = tmp_path / "runs/r1.db"
    assert path.with_name("r1.db-wal").stat().st_size > 0
    journal = await resumed(path)
    assert journal.append(RESUMED) == 502
    await journal.aclose("done")
    with RunFile.open(path) as run:
        assert (run.last(), run.tally().added) == (502, 500)
    assert [entry.name for entry in path.parent.iterdir() if entry.name != ".gitignore"] == ["r1.db"]


def make_version_1(path: Path) -> None:
    """What an older agentmesh wrote: its summary row has fewer sums."""
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE run")
    connection.execute(f"CREATE TABLE run (id TEXT PRIMARY KEY, {', '.join(VERSION_1)})")
    values = (4, "hypotheses", None, 10.0, 13.0, 3.0, "cancelled", 1, 0, 0, 0, 0, 1, 0, 0.25, 0)
    connection.execute(f"INSERT INTO run VALUES ('r1', {', '.join('?' * len(values))})", values)
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()


async def test_an_older_file_becomes_one_of_this_version_with_all_its_sums(tmp_path: Path) -> None:
    assert TALLY_COLUMNS[: len(VERSION_1)] == VERSION_1  # what readers of an older file count on
    path = await write(tmp_path / "new", first_events())
    with RunFile.open(path) as run:
        expected = asdict(run.tally())
    make_version_1(path)
    with RunFile.open(path) as run:
        assert (RunSummary.of(run).status, RunSummary.of(run).usd) == ("cancelled", 0.25)
    journal = await resumed(path)
    journal.append(RunEnded(at=21.0, status="done", seconds=4.0, usage=Usage(1), usd=0.25))
    await journal.aclose()
    with RunFile.open(path) as run:
        found = asdict(run.tally())
    changed = {"last", "ended", "seconds", "status", "input_tokens", "output_tokens"}
    assert {k: v for k, v in found.items() if k not in changed} == {
        k: v for k, v in expected.items() if k not in changed
    }
    assert (found["call"], found["identity"]) == (7, expected["identity"])
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    connection.close()


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = await write(tmp_path, first_events())
    make_version_1(path)
    before = path.read_bytes()
    monkeypatch.setattr("agentmesh.journal.format._RUN", "CREATE TABLE event (id)")
    with pytest.raises(UserError, match=r"run r1 cannot be gone on with: .*r1\.db: table event already exists"):
        await resumed(path)
    with RunFile.open(path) as run:
        assert RunSummary.of(run).name == "hypotheses"
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    assert len(path.read_bytes()) == len(before)


def newer(path: Path) -> str:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    return rf"newer agentmesh \(format {SCHEMA_VERSION + 1}; this one reads {SCHEMA_VERSION}\): update agentmesh"


def missing(path: Path) -> str:
    path.unlink()
    return "there is no run file"


def empty(path: Path) -> str:
    path.write_bytes(b"")
    return "is empty"


def foreign(path: Path) -> str:
    path.write_bytes(b"SQLite is not what this is. " * 400)
    return "cannot be gone on with: .*: file is not a database"


@pytest.mark.parametrize("change", [newer, missing, empty, foreign])
async def test_what_cannot_be_gone_on_with_is_left_as_it_is(tmp_path: Path, change: Callable[[Path], str]) -> None:
    path = await write(tmp_path, first_events())
    words = change(path)
    before = {entry: entry.read_bytes() for entry in path.parent.iterdir()}
    with pytest.raises(UserError, match=words):
        await resumed(path)
    assert {entry: entry.read_bytes() for entry in path.parent.iterdir()} == before


async def test_who_writes_a_run_is_named_to_who_would_go_on_with_it(tmp_path: Path) -> None:
    journal = await in_thread(Journal.create, tmp_path, "r1")
    journal.append(first_events()[0])
    held = (
        "import sys; from pathlib import Path; from agentmesh.journal import Journal; Journal.resume(Path(sys.argv[1]))"
    )
    second = await in_thread(
        lambda: subprocess.run([sys.executable, "-c", held, str(journal.path)], capture_output=True, text=True)
    )
    assert f"run r1 is being written by process {os.getpid()} on {os.uname().nodename}" in second.stderr
    await journal.aclose("done")
    store = await in_thread(Store.resume, journal.path)
    store.close()


@pytest.mark.parametrize(
    ("calls", "simulated"),
    [
        ([(True, 0)], True),
        ([(True, 0), (True, 1)], True),
        ([(True, 0), (False, 0)], False),
        ([(False, 0), (True, 1)], False),  # one was paid, and nobody knows of the other
    ],
)
def test_a_run_is_simulated_when_all_calls_of_known_end_were(calls: list[tuple[bool, int]], simulated: bool) -> None:
    tally = Tally()
    for number, (of_simulated, uncertain) in enumerate(calls):
        ended = CallEnded(
            at=1.0, call=number, attempt=1, address="t/a", agent="x", account="a", model="m", result="ok", seconds=1.0,
            usage=Usage(calls=1, uncertain=uncertain), simulated=of_simulated,
        )  # fmt: skip
        tally.add(number, ended)
    assert tally.is_simulated is simulated

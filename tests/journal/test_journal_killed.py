"""Real processes: one is killed while it writes, one meets a full disk, one holds a lock."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from agentmesh.errors import UserError
from agentmesh.events import Notice
from agentmesh.journal import Journal, RunFile, RunSummary, list_runs

WRITER = """
import os, sys
from pathlib import Path
import anyio
from agentmesh.events import Notice, RunStarted
from agentmesh.journal import Journal

async def write(journal):
    journal.append(RunStarted(at=1.0, run="r1", name="endless"))
    while True:
        for _ in range(7):
            number = journal.append(Notice(at=1.0, level="info", text="word " * 300))
        await journal.durable(number)
        os.write(1, b"%d\\n" % number)

async def main():
    journal = Journal.create(Path(sys.argv[1]), "r1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        await write(journal)

anyio.run(main)
"""
FULL = """
import resource, sys
from pathlib import Path
import anyio
from agentmesh.errors import UserError
from agentmesh.events import Notice
from agentmesh.journal import Journal

async def main():
    journal = Journal.create(Path(sys.argv[1]), "r1")
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    written = 0
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.serve)
            for number in range(10_000):
                text = "".join(chr(300 + (number * 7919 + k * k) % 20000) for k in range(400))
                written = journal.append(Notice(at=1.0, level="info", text=text))
                await journal.durable(written)
    except* UserError as group:
        print(written, group.exceptions[0])
    await journal.aclose("stopped")

anyio.run(main)
"""


def start(script: str, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_after_kill_9_everything_acknowledged_is_there(tmp_path: Path) -> None:
    with start(WRITER, tmp_path) as child:
        assert child.stdout is not None
        for _ in range(40):
            child.stdout.readline()
        with pytest.raises(UserError, match=f"run r1 is being written by process {child.pid} on {os.uname().nodename}"):
            Journal.create(tmp_path, "r1")
        (running,) = list_runs(tmp_path)
        child.kill()
        rest, _ = child.communicate(timeout=30)
    acknowledged = max((int(line) for line in rest.split(b"\n")[:-1]), default=7 * 40 + 1)
    assert (running.status, running.name) == ("running", "endless")
    assert running.holder is not None
    assert running.holder.pid == child.pid
    with RunFile.open(tmp_path / "runs" / "r1.db") as run:
        numbers = [number for number, _ in run.events()]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= acknowledged >= 7 * 40 + 1
        assert not run.unreadable
        assert RunSummary.of(run).status == "interrupted"
    connection = sqlite3.connect(tmp_path / "runs" / "r1.db")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_a_disk_that_fills_up_is_told_and_keeps_what_was_durable(tmp_path: Path) -> None:
    with start(FULL, tmp_path) as child:
        out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err.decode()
    number, _, message = out.decode().partition(" ")
    assert "cannot be written" in message
    assert "record is not in it" in message or "records are not in it" in message
    with RunFile.open(tmp_path / "runs" / "r1.db") as run:
        assert [got for got, _ in run.events(Notice)] == list(range(1, int(number)))

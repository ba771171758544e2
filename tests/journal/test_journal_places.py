"""Where a run's file is: network file systems, who is kept out there, and what others see meanwhile."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from agentmesh.clock import in_thread
from agentmesh.errors import UserError
from agentmesh.events import Notice, RunResumed, RunStarted, TaskAdded
from agentmesh.journal import Journal, RunFile, list_runs
from agentmesh.journal.lock import lock_holder, release_lock, take_lock
from agentmesh.journal.place import file_system, is_network
from agentmesh.journal.status import read_status, status_path
from agentmesh.journal.store import Store

pytestmark = pytest.mark.anyio

MOUNTS = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /home rw shared:2 master:1 - nfs4 server:/home rw,vers=4.2
31 30 0:41 / /home/a\040b rw - xfs /dev/sdb rw
32 22 0:42 / /mnt/cover rw - ext4 /dev/sdc rw
33 32 0:43 / /mnt/cover rw - fuse.sshfs me@there:/ rw

nonsense
"""

KILLED = """
import os, signal, sys
from pathlib import Path
import anyio
from agentmesh.events import RunStarted, TaskAdded
from agentmesh.journal import Journal
from agentmesh.journal.status import read_status, status_path
from agentmesh.journal.store import Store

async def main():
    journal = Journal(Store.create(Path(sys.argv[1]), "r1", probe=lambda folder: "nfs4"), "r1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        journal.append(RunStarted(at=1.0, run="r1", name="killed"))
        journal.append(TaskAdded(at=2.0, task="t", key="a"))
        await journal.durable()
        journal._store._connection.execute("PRAGMA cache_size = 1")
        journal._store._connection.execute("BEGIN IMMEDIATE")  # what a commit does, half of it
        for number in range(100, 400):
            row = (number, 1.0, 1, None, None, 0, b"x" * 5000)
            journal._store._connection.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        os.kill(os.getpid(), signal.SIGKILL)

anyio.run(main)
"""


def on_network(folder: Path) -> str:
    return "nfs4"


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(
    ("folder", "kind", "network"),
    [
        ("/work", "ext4", False),
        ("/home/me/runs", "nfs4", True),
        ("/home/a b/runs", "xfs", False),
        ("/homely", "ext4", False),
        ("/mnt/cover", "fuse.sshfs", True),
    ],
)
def test_the_file_system_of_a_folder_is_that_of_the_nearest_mount(
    tmp_path: Path, folder: str, kind: str, network: bool
) -> None:
    tmp_path.joinpath("mountinfo").write_text(MOUNTS)
    assert file_system(Path(folder), mounts=tmp_path / "mountinfo") == kind
    assert is_network(kind) == network


def test_where_the_system_does_not_tell_a_folder_counts_as_local(tmp_path: Path) -> None:
    assert not is_network(file_system(tmp_path, mounts=tmp_path / "none"))
    assert file_system(Path("/proc")) in ("proc", "")


async def test_on_a_network_one_process_has_the_file_and_others_read_its_status(tmp_path: Path) -> None:
    store = await in_thread(lambda: Store.create(tmp_path, "r1", probe=on_network))
    journal = Journal(store, "r1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        journal.append(RunStarted(at=1.0, run="r1", name="shared"))
        journal.append(TaskAdded(at=2.0, task="t", key="a"))
        await journal.durable()
        assert not list(store.path.parent.glob("*-wal"))
        assert {entry.stat().st_mode & 0o777 for entry in store.path.parent.glob("r1*")} == {0o600}
        names = {"r1.db", "r1.db-journal", "r1.lock", "r1.status.json"}
        assert {entry.name for entry in store.path.parent.glob("r1*")} == names
        code = "import sys; from pathlib import Path; from agentmesh.journal import *; p = Path(sys.argv[1]);"
        listed = await in_thread(python, code + "print(*list_runs(p), sep='\\n')", tmp_path)
        assert "status='running', name='shared'" in listed.stdout
        assert "added=1" in listed.stdout
        assert "as_of=1" in listed.stdout
        shown = await in_thread(python, code + "RunFile.open(p / 'runs/r1.db')", tmp_path)
        assert f"run r1 is being written by process {os.getpid()} on {socket.gethostname()}, on a net" in shown.stderr
        second = await in_thread(python, code + "Journal.resume(p / 'runs/r1.db')", tmp_path)
        assert f"run r1 is being written by process {os.getpid()} on" in second.stderr
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            sqlite3.connect(store.path, timeout=0).execute("SELECT * FROM event")
        await journal.aclose("done")
    assert {entry.name for entry in store.path.parent.glob("r1*")} == {"r1.db"}
    assert list_runs(tmp_path)[0].status == "done"


async def test_on_a_network_a_process_that_goes_on_reads_what_was_there_meanwhile(tmp_path: Path) -> None:
    journal = Journal(await in_thread(lambda: Store.create(tmp_path, "r1", probe=on_network)), "r1")
    journal.append(RunStarted(at=1.0, run="r1", name="shared"))
    await journal.aclose("stopped")
    again = Journal(await in_thread(lambda: Store.resume(journal.path, probe=on_network)), "r1")
    again._appended = 1
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(again.serve)
        with RunFile.open(journal.path) as run:
            for number in (1, 2, 3):
                assert run.last() == number
                again.append(TaskAdded(at=2.0, task="t", key=str(number)))
                await again.durable()
        code = "import sys; from pathlib import Path; from agentmesh.journal import *; RunFile.open(Path(sys.argv[1]))"
        shown = await in_thread(python, code, journal.path)
        assert f"run r1 is being written by process {os.getpid()}" in shown.stderr
        await again.aclose("done")
    assert {entry.name for entry in journal.path.parent.glob("r1*")} == {"r1.db"}


async def test_what_a_killed_process_had_half_written_on_a_network_is_taken_back(tmp_path: Path) -> None:
    child = await in_thread(python, KILLED, tmp_path)
    assert child.returncode == -signal.SIGKILL, child.stderr
    path = tmp_path / "runs/r1.db"
    assert path.stat().st_size > 1_000_000  # some of what was never committed is in the file
    (summary,) = list_runs(tmp_path)  # a process of this host that is gone locks nobody out
    assert (summary.status, summary.added, summary.problem) == ("interrupted", 1, None)
    journal = await in_thread(Journal.resume, path)
    assert journal.append(RunResumed(at=5.0, run="r1", process="p", seconds=1.0)) == 3
    await journal.aclose("done")
    with RunFile.open(path) as run:
        assert run.last() == 3
    assert not path.with_name("r1.db-journal").exists()


def test_another_hosts_lock_is_never_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "r1.lock"
    path.write_text("4711 elsewhere exclusive\n")
    with pytest.raises(UserError, match=r"written by process 4711 on elsewhere; .* If that one is no more, delete .*"):
        take_lock(path, exclusive=True)
    holder = lock_holder(path)
    assert holder is not None
    assert (holder.pid, holder.host, holder.locks_out) == (4711, "elsewhere", True)
    path.unlink()
    release_lock(take_lock(path, exclusive=True), path)
    assert not path.exists()


def test_a_dead_process_of_this_host_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "r1.lock"
    path.write_text(f"4711 {socket.gethostname()} exclusive\n")
    assert lock_holder(path) is None
    release_lock(take_lock(path, exclusive=True), path)


def test_without_locks_of_the_system_the_file_is_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(descriptor: int, operation: int) -> None:
        raise OSError(38, "no locks here")

    monkeypatch.setattr(fcntl, "flock", none)
    path = tmp_path / "r1.lock"
    mine = take_lock(path, exclusive=True)
    with pytest.raises(UserError, match=f"written by process {os.getpid()} on"):
        take_lock(path, exclusive=True)
    assert lock_holder(path) is not None
    release_lock(mine, path)
    assert lock_holder(path) is None


def test_a_status_file_that_is_no_such_is_as_none(tmp_path: Path) -> None:
    path = tmp_path / "r1.db"
    for text in ("", "{}", "[1]", '{"at": 1.0, "added": 2}'):
        status_path(path).write_text(text)
        found = read_status(path)
    assert found is not None
    assert (found[0].added, found[1]) == (2, 1.0)


async def test_a_status_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    store = await in_thread(lambda: Store.create(tmp_path, "r1", probe=on_network))
    store.path.with_suffix(".status.part").mkdir()
    journal = Journal(store, "r1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        await journal.durable(journal.append(Notice(at=1.0, level="info", text="a")))
        await journal.aclose("done")
    with RunFile.open(store.path) as run:
        assert run.last() == 1

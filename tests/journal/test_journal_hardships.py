"""A full disk, a folder that cannot be written, a clock that is set back, and whom the files are readable by."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from agentmesh.agents.agent import Agent
from agentmesh.clock import in_thread
from agentmesh.errors import UserError
from agentmesh.events import Notice, RunResumed, RunStarted
from agentmesh.journal import Journal, RunFile, RunSummary, list_runs, new_run_id, next_run_id, run_time
from agentmesh.mesh.mesh import Mesh

pytestmark = pytest.mark.anyio

STARTED = RunStarted(at=100.0, run="r1", name="hypotheses")


def mounted(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, timeout=10).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for a megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    if shutil.which("mount") is None or not mounted(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]):
        pytest.skip("no file system can be mounted here")
    yield folder
    mounted(["umount", str(folder)])


async def test_a_run_that_filled_the_disk_is_read_and_gone_on_with_when_there_is_room(small_disk: Path) -> None:
    journal = await in_thread(Journal.create, small_disk / "j", "r1")
    written = 0
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.serve)
            journal.append(STARTED)
            while True:
                number = journal.append(Notice(at=1.0, level="info", text=os.urandom(2000).hex()))
                await journal.durable(number)
                written = number
    except* UserError as caught:
        said = {str(error) for error in caught.exceptions}
    (message,) = said
    assert message == (
        f"the journal {journal.path} cannot be written: database or disk is full; 1 record is not in it: make room, "
        "then `agentmesh resume r1` goes on"
    )
    await journal.aclose("stopped")
    assert written > 20
    assert [run.status for run in list_runs(small_disk / "j")] == ["interrupted"]
    with RunFile.open(journal.path) as run:
        assert [number for number, _ in run.events()] == list(range(1, written + 1))
        assert not run.unreadable
    full = await in_thread(Journal.resume, journal.path)
    with pytest.raises(UserError, match="database or disk is full"):
        await full.aclose("stopped")
    assert mounted(["mount", "-o", "remount,size=8m", str(small_disk)])
    again = await in_thread(Journal.resume, journal.path)
    assert again.append(RunResumed(at=2.0, run="r1", process="p")) == written + 1
    await again.aclose("done")
    with RunFile.open(journal.path) as run:
        assert (run.last(), RunSummary.of(run).status) == (written + 1, "done")
    assert {entry.name for entry in journal.path.parent.iterdir()} == {".gitignore", "r1.db"}


def test_on_a_full_disk_no_run_begins_and_nothing_is_left_of_it(small_disk: Path) -> None:
    Journal.create(small_disk / "j", "r0")._store.close()
    small_disk.joinpath("fill").write_bytes(bytes(shutil.disk_usage(small_disk).free - 8192))
    with pytest.raises(UserError, match=r"cannot write a journal in .*/small/j: .*(full|space|I/O)"):
        Journal.create(small_disk / "j", "r1")
    assert {entry.name for entry in small_disk.joinpath("j/runs").iterdir()} == {".gitignore", "r0.db"}


def test_a_read_only_file_system_has_one_clear_message(small_disk: Path) -> None:
    journal = Journal.create(small_disk / "j", "r1")
    journal._store.close()
    assert mounted(["mount", "-o", "remount,ro", str(small_disk)])
    with pytest.raises(UserError, match=r"cannot write a journal in .*/small/j: Read-only file system"):
        Journal.create(small_disk / "j", "r2")
    with pytest.raises(UserError, match=r"run r1 cannot be gone on with: .*r1\.lock: Read-only file system"):
        Journal.resume(journal.path)
    assert [run.status for run in list_runs(small_disk / "j")] == ["interrupted"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_elses_has_one_clear_message(tmp_path: Path) -> None:
    tmp_path.joinpath("runs").mkdir(mode=0o500)
    with pytest.raises(UserError, match=r"cannot write a journal in .*: Permission denied"):
        Journal.create(tmp_path, "r1")


async def test_all_that_a_run_makes_is_for_its_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        journal = await in_thread(Journal.create, tmp_path / "a/b", "r1")
    finally:
        os.umask(before)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        await journal.durable(journal.append(STARTED))
        files = {entry for entry in (tmp_path / "a/b/runs").iterdir() if entry.name.startswith("r1")}
        assert {entry.name for entry in files} == {"r1.db", "r1.db-wal", "r1.db-shm", "r1.lock"}
        assert {stat.S_IMODE(entry.stat().st_mode) for entry in files} == {0o600}
        for folder in ("a", "a/b", "a/b/runs"):
            assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700
        await journal.aclose("done")
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600


def test_names_sort_in_the_order_of_runs_though_the_clock_is_set_back(tmp_path: Path) -> None:
    tmp_path.joinpath("runs").mkdir()
    tmp_path.joinpath("runs/zz.db").touch()  # somebody's own: says nothing of time
    made = []
    for now in (1_700_000_000.0, 1_700_000_000.0, 1_600_000_000.0, 1_600_000_000.5, 1_800_000_000.0):
        made.append(next_run_id(tmp_path, now))
        tmp_path.joinpath(f"runs/{made[-1]}.db").touch()
    assert made == sorted(made)
    assert run_time(made[3]) == pytest.approx(1_700_000_000.003)
    assert run_time(made[4]) == 1_800_000_000.0
    assert len(new_run_id(1.0, after="z" * 26)) == 26


async def test_a_run_during_which_the_clock_is_set_back_lasts_as_long_as_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_700_000_000.0]

    def backwards() -> float:
        now[0] -= 60.0
        return now[0]

    monkeypatch.setattr(time, "time", backwards)
    async with Mesh(journal=tmp_path, remembers=False) as mesh, mesh.open_run("back") as first:
        await first.start(Agent[str]("a", model="sim/small").on("hello"))
    async with Mesh(journal=tmp_path, remembers=False) as mesh, mesh.open_run("back again"):
        pass
    newest, oldest = list_runs(tmp_path)
    assert (newest.name, oldest.name) == ("back again", "back")
    assert (oldest.status, oldest.done, oldest.calls) == ("done", 1, 1)
    assert oldest.seconds is not None
    assert 0 <= oldest.seconds < 60
    assert oldest.began is not None
    assert oldest.ended is not None
    assert oldest.ended < oldest.began

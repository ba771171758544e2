"""The journal while it is written: groups, order, backpressure, disk errors, closing."""

from __future__ import annotations

import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from blockbuster import blockbuster_ctx

from agentmesh.clock import in_thread, monotonic
from agentmesh.errors import AgentmeshError, UserError
from agentmesh.events import Event, Notice, RunEnded, RunStarted, TaskEnded
from agentmesh.journal import Journal, NullJournal, RunFile, RunSummary
from agentmesh.journal import journal as journal_module
from agentmesh.journal.format import SCHEMA_VERSION
from agentmesh.journal.store import Store
from agentmesh.outcome import Outcome, Usage

pytestmark = [pytest.mark.anyio, pytest.mark.both_backends]

STARTED = RunStarted(at=100.0, run="r1", name="hypotheses")
ENDED = RunEnded(at=121.0, status="done", seconds=21.0, usage=Usage(calls=3), usd=0.5)


def notice(text: str) -> Notice:
    return Notice(at=1.0, level="info", text=text)


async def create(folder: Path, run_id: str = "r1") -> Journal:
    return await in_thread(Journal.create, folder, run_id)


async def test_events_come_back_in_order_and_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = await create(tmp_path)
    events: list[Event] = [STARTED, notice("a"), notice("long " * 1000), ENDED]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        assert [journal.append(event) for event in events] == [1, 2, 3, 4]
        await journal.durable(4)
        await journal.aclose()
    with RunFile.open(journal.path) as run:
        assert list(run.events()) == list(enumerate(events, start=1))
        monkeypatch.setattr("agentmesh.journal.read._SLICE", 1)
        assert list(run.events(after=2)) == [(3, events[2]), (4, events[3])]
        assert [number for number, _ in run.events(Notice)] == [2, 3]
        assert RunSummary.of(run).status == "done"


async def test_a_record_is_on_disk_before_durable_returns(tmp_path: Path) -> None:
    journal = await create(tmp_path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        for text in "abc":
            number = journal.append(notice(text))
            await journal.durable(number)
            with RunFile.open(journal.path) as run:
                assert run.last() == number
        await journal.aclose()


async def test_what_comes_in_during_a_commit_is_one_group(tmp_path: Path) -> None:
    journal = await create(tmp_path)
    for text in "abcde":
        journal.append(notice(text))
    done: list[int] = []

    async def wait(number: int) -> None:
        await journal.durable(number)
        done.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(1, 6):
            tasks.start_soon(wait, number)
        tasks.start_soon(journal.serve)
        await journal.durable(5)
        for text in "fgh":
            journal.append(notice(text))
        await journal.durable()
        await journal.aclose()
    assert sorted(done) == [1, 2, 3, 4, 5]
    assert journal.statistics().groups == 2
    assert journal.statistics().durable == 8
    assert journal.statistics().pending_bytes == 0


async def test_what_nobody_waits_for_is_on_disk_a_moment_later(tmp_path: Path) -> None:
    journal = await create(tmp_path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        for _ in range(3):
            began = monotonic()
            journal.append(STARTED)
            journal.append(notice("a"))
            while journal.statistics().pending_bytes:
                await anyio.sleep(0.005)
            assert monotonic() - began > 0.09
        assert journal.statistics().groups == 3
        await journal.aclose()


async def test_what_nobody_waits_for_goes_with_what_is_waited_for(tmp_path: Path) -> None:
    journal = await create(tmp_path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        for number in range(1, 6):
            for text in "abc":
                journal.append(notice(text))
            await journal.durable()
            assert journal.statistics() == replace(journal.statistics(), groups=number, durable=3 * number)
        await journal.aclose()


@pytest.mark.virtual_time
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_the_patient_wait_for_others_and_not_for_long(tmp_path: Path) -> None:
    journal = await create(tmp_path)

    async def wait(*, patient: bool) -> float:
        journal.append(notice("a"))
        began = monotonic()
        await journal.durable(patient=patient)
        return monotonic() - began

    async def hurry() -> None:
        await anyio.sleep(0.03)
        assert await wait(patient=False) == 0.0

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        assert await wait(patient=True) == 0.0, "the last commit is long ago"
        assert await wait(patient=True) == pytest.approx(0.1)
        await anyio.sleep(0.06)
        assert await wait(patient=True) == pytest.approx(0.04)
        tasks.start_soon(hurry)
        assert await wait(patient=True) == pytest.approx(0.03), "one that others need takes it along"
        assert journal.statistics().groups == 4
        await journal.aclose()


async def test_commits_that_follow_each_other_closely_keep_their_distance(tmp_path: Path) -> None:
    journal = await create(tmp_path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        taken = []
        for _ in range(2):
            began = monotonic()
            for _ in range(20):
                journal.append(notice("a"))
                await journal.durable()
            taken.append(monotonic() - began)
        assert journal.statistics().groups == 40  # each of them is one that somebody waited for
        assert sum(taken) >= 29 * 0.004  # the first ten wait for nothing
        tasks.cancel_scope.cancel()
    with anyio.fail_after(5, shield=True):  # and where nothing would ring any more, nothing is put off
        for _ in range(20):
            journal.append(notice("b"))
            await journal.durable(patient=True)
    await journal.aclose()


@pytest.mark.virtual_time
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize(("waiters", "seconds"), [(1, 0.004), (20, 0.010)])
async def test_the_distance_grows_with_those_who_wait_up_to_a_bound(
    tmp_path: Path, waiters: int, seconds: float
) -> None:
    journal = await create(tmp_path)

    async def ask() -> None:
        for _ in range(40):
            journal.append(notice("a"))
            await journal.durable()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        began = monotonic()
        async with anyio.create_task_group() as asking:
            for _ in range(waiters):
                asking.start_soon(ask)
        assert monotonic() - began == pytest.approx(39 * seconds - 0.04, abs=0.02)
        assert journal.statistics().groups <= 50
        await journal.aclose()


async def test_a_heavy_group_waits_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_GROUP_BYTES", 1000)
    monkeypatch.setattr(journal_module, "_LINGER_S", 1e6)
    journal = await create(tmp_path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        journal.append(notice("x" * 900))
        with anyio.fail_after(10.0):
            while journal.statistics().groups == 0:
                await anyio.sleep(0.005)
        await journal.aclose()


async def test_a_group_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_GROUP_RECORDS", 10)
    journal = await create(tmp_path)
    for number in range(25):
        journal.append(notice(str(number)))
    await journal.aclose("cancelled")
    assert journal.statistics().groups == 3
    with RunFile.open(journal.path) as run:
        assert run.last() == 25
        assert RunSummary.of(run).status == "cancelled"


async def test_room_waits_while_much_is_pending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_ROOM_BYTES", 1000)
    journal = await create(tmp_path)
    await journal.room()
    journal.append(notice("x" * 2000))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await journal.room()
    assert scope.cancelled_caught
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        await journal.room()
        assert journal.statistics().durable == 1
        await journal.aclose()


async def test_a_full_disk_reaches_every_waiter_and_the_owner(tmp_path: Path) -> None:
    journal = await create(tmp_path)
    pages = journal._store._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._store._connection.execute(f"PRAGMA max_page_count = {pages}")
    told: list[str] = []

    async def wait(number: int) -> None:
        with pytest.raises(UserError, match="disk is full"):
            await journal.durable(number)
        told.append("waiter")

    async def own() -> None:
        with pytest.raises(UserError, match=r"r1\.db cannot be written: .*disk is full; 40 records are not in it"):
            await journal.serve()
        told.append("owner")

    for number in range(40):
        journal.append(notice(f"{number} " + "".join(map(chr, range(200 + number, 2000)))))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, 1)
        tasks.start_soon(wait, 40)
        tasks.start_soon(own)
    assert sorted(told) == ["owner", "waiter", "waiter"]
    with pytest.raises(UserError, match="disk is full"):
        await journal.room()
    assert journal.append(notice("later")) == 41
    assert journal.statistics().pending_bytes == 0
    await journal.aclose()
    assert "failed" in repr(journal)
    with RunFile.open(journal.path) as run:
        assert run.last() == 0


async def test_closing_tells_what_nobody_else_told(tmp_path: Path) -> None:
    journal = await create(tmp_path)
    journal._store._connection.execute("PRAGMA query_only = 1")
    journal.append(STARTED)
    with pytest.raises(UserError, match="1 record is not in it"):
        await journal.aclose("done")
    await journal.aclose()
    assert not journal.path.with_suffix(".lock").exists()


async def test_closing_is_not_interrupted_and_writes_what_serve_left(tmp_path: Path) -> None:
    journal = await create(tmp_path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        journal.append(STARTED)
        await journal.durable()
        tasks.cancel_scope.cancel()
        journal.append(notice("last words"))
        await journal.aclose("cancelled")
        await journal.aclose("done")
    with RunFile.open(journal.path) as run:
        assert run.last() == 2
        assert RunSummary.of(run).status == "cancelled"
    with pytest.raises(AgentmeshError, match="closed"):
        journal.append(notice("too late"))
    with pytest.raises(AgentmeshError, match="no record 3"):
        await journal.durable(3)


async def test_a_closed_run_is_one_private_file(tmp_path: Path) -> None:
    folder = tmp_path / ".agentmesh"
    journal = await create(folder)
    runs = folder / "runs"
    journal.append(STARTED)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        await journal.durable()
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in runs.glob("r1*")}
        assert modes == dict.fromkeys(["r1.db", "r1.db-wal", "r1.db-shm", "r1.lock"], 0o600)
        with RunFile.open(journal.path) as run:
            assert RunSummary.of(run).status == "running"
        await journal.aclose()
    assert (folder / ".gitignore").read_text() == "*\n"
    assert [path.name for path in runs.glob("r1*")] == ["r1.db"]
    with RunFile.open(journal.path) as run:
        assert RunSummary.of(run).status == "interrupted"
    assert [path.name for path in runs.glob("r1*")] == ["r1.db"]
    await in_thread(_assert_settings, journal.path)


def _assert_settings(path: Path) -> None:
    connection = sqlite3.connect(path)
    values = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "user_version")]
    connection.close()
    assert values == [8192, SCHEMA_VERSION]


async def test_closing_while_somebody_reads_is_sound(tmp_path: Path) -> None:
    journal = await create(tmp_path)
    journal.append(STARTED)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        await journal.durable()
        with RunFile.open(journal.path) as run:
            assert run.last() == 1
            await journal.aclose("done")
            assert RunSummary.of(run).status == "done"


async def test_the_counts_of_a_killed_run_include_what_came_after_its_last_summary(tmp_path: Path) -> None:
    journal = await create(tmp_path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        journal.append(STARTED)
        await journal.durable()
        for key in "abc":
            journal.append(TaskEnded(at=2.0, outcome=Outcome("draft", key)))
        await journal.durable()
        with RunFile.open(journal.path) as run:
            assert run.rows("SELECT last FROM run") == [(1,)]
            assert RunSummary.of(run).done == 3
        await journal.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_nothing_blocks_the_event_loop(tmp_path: Path) -> None:
    with blockbuster_ctx():
        journal = await create(tmp_path)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.serve)
            for _ in range(5):
                journal.append(notice("x" * 3000))
                await journal.durable()
            await journal.aclose("done")
    assert journal.statistics().written_bytes < 5 * 300


async def test_a_folder_of_the_users_own_gets_no_gitignore(tmp_path: Path) -> None:
    journal = await create(tmp_path)
    await journal.aclose()
    assert not (tmp_path / ".gitignore").exists()
    assert (tmp_path / "runs" / ".gitignore").exists()


async def test_the_null_journal_never_waits() -> None:
    journal = NullJournal()
    await journal.serve()
    assert [journal.append(STARTED), journal.append(ENDED)] == [1, 2]
    await journal.durable()
    await journal.durable(7)
    await journal.room()
    await journal.aclose("done")
    assert journal.statistics().appended == 2
    assert journal.statistics().durable == 0


async def test_a_second_writer_is_refused_and_told_who_writes(tmp_path: Path) -> None:
    journal = await create(tmp_path)
    with pytest.raises(UserError, match=r"run r1 is being written by process \d+ on "):
        await create(tmp_path)
    await journal.aclose()
    with pytest.raises(UserError, match="there is a run r1"):
        await create(tmp_path)
    await (await create(tmp_path, "r2")).aclose()


def test_a_folder_that_cannot_be_written_has_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write a journal in"):
        Journal.create(tmp_path / "file", "r1")
    with pytest.raises(UserError, match="cannot write a journal in"):
        Store.create(tmp_path / "file" / "below", "r1")

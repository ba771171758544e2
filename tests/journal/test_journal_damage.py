"""Files that were cut off or overwritten: what is wrong is said, and what is intact is read."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from agentmesh.errors import UserError
from agentmesh.events import Notice, RunStarted, TaskAdded
from agentmesh.journal import Journal, RunFile, RunSummary, list_runs

PAGE = 8192
RECORDS = 2001


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of about 160 pages: one start and 2,000 notices that do not compress."""
    chance = random.Random(1)

    async def write() -> Path:
        journal = Journal.create(tmp_path_factory.mktemp("sound"), "r1")
        journal.append(RunStarted(at=1.0, run="r1", name="damaged"))
        for number in range(2, RECORDS + 1):
            journal.append(Notice(at=float(number), level="info", text=chance.randbytes(300).hex()))
        await journal.aclose("done")
        return journal.path

    return anyio.run(write)


def overwrite(path: Path, begin: int, end: int) -> None:
    data = bytearray(path.read_bytes())
    data[begin:end] = random.Random(2).randbytes(end - begin)
    path.write_bytes(data)


def read(path: Path) -> tuple[dict[int, str], dict[int, str]]:
    """The texts that are there and the reasons for those that are not, by their numbers."""
    with RunFile.open(path) as run:
        found = {number: getattr(event, "text", "") for number, event in run.events()}
        return found, run.unreadable


@pytest.mark.parametrize(
    ("begin", "end", "most"),
    [
        (50 * PAGE, 51 * PAGE, 20),  # a whole page
        (50 * PAGE + 100, 50 * PAGE + 4000, 20),  # the middle of a page, its header sound: records lead astray
        (50 * PAGE + 3000, 53 * PAGE + 10, 60),
        (155 * PAGE, 156 * PAGE, 20),
        (1 * PAGE, 2 * PAGE, 0),  # the summary: it is counted anew
    ],
)
def test_what_is_not_on_a_damaged_page_is_read(sound: Path, tmp_path: Path, begin: int, end: int, most: int) -> None:
    expected, none = read(sound)
    assert (len(expected), none) == (RECORDS, {})
    path = Path(shutil.copy(sound, tmp_path / "r1.db"))
    overwrite(path, begin, end)
    found, lost = read(path)
    assert found.keys() | lost.keys() == expected.keys()
    assert not found.keys() & lost.keys()
    assert all(expected[number] == text for number, text in found.items())
    assert len(lost) <= most
    assert bool(lost) == bool(most)
    with RunFile.open(path) as run:
        assert sum(1 for _ in run.events(RunStarted, Notice)) == len(found)
        assert RunSummary.of(run).name == "damaged"
        assert not list(run.events(TaskAdded))


def test_a_file_cut_in_the_middle_of_a_page_is_read_up_to_there(sound: Path, tmp_path: Path) -> None:
    expected, _ = read(sound)
    path = tmp_path / "runs/r1.db"
    path.parent.mkdir()
    path.write_bytes(sound.read_bytes()[: 80 * PAGE + 3000])
    found, lost = read(path)
    assert 800 < len(found) < 1100
    assert found.items() <= expected.items()
    assert len(found) + len(lost) == RECORDS
    (summary,) = list_runs(tmp_path)
    assert (summary.status, summary.name) == ("done", "damaged")
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"cannot be gone on with: .*r1\.db: .*malformed; `agentmesh export` saves wh"):
        Journal.resume(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(b""), r"r1\.db is empty: that run ended before its first event"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:50]),
            r"r1\.db is no run of agentmesh, or one that ended bef",
        ),
        (lambda path: path.write_bytes(path.read_bytes()[:4000]), r"r1\.db cannot be read as a run: no such table"),
        (lambda path: path.write_bytes(path.read_bytes()[:PAGE]), r"r1\.db is damaged: database disk image is malfor"),
        (lambda path: overwrite(path, 0, PAGE), r"r1\.db cannot be read as a run: file is not a database"),
    ],
)
def test_what_nothing_can_be_read_of_says_so(
    sound: Path, tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    path = Path(shutil.copy(sound, tmp_path / "r1.db"))
    damage(path)
    with pytest.raises(UserError, match=words):
        read(path)


def test_without_its_log_a_file_has_what_had_been_brought_into_it(tmp_path: Path) -> None:
    async def write() -> None:
        journal = Journal.create(tmp_path, "r1")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.serve)
            journal.append(RunStarted(at=1.0, run="r1", name="short"))
            await journal.durable()
            for name in ("r1.db", "r1.db-wal"):
                shutil.copy(journal.path.with_name(name), tmp_path / name)
            await journal.aclose()

    anyio.run(write)
    with RunFile.open(tmp_path / "r1.db") as run:
        assert run.last() == 1
    for log in tmp_path.glob("r1.db-*"):
        log.unlink()
    with RunFile.open(tmp_path / "r1.db") as run:
        assert (run.last(), RunSummary.of(run).status) == (0, "interrupted")
    resumed = Journal.resume(tmp_path / "r1.db")
    assert resumed.statistics().durable == 0
    anyio.run(resumed.aclose)

"""Ends of tasks that are read when they are asked for: in any order, each record about once, and few of them held."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import anyio
import pytest

from agentmesh.clock import in_thread
from agentmesh.events import Event, Notice, RunResumed, RunStarted, RunStatus, TaskEnded, TaskReopened
from agentmesh.journal import Journal, RunFile
from agentmesh.journal.ends import Ends
from agentmesh.journal.past import Past
from agentmesh.outcome import Address, Outcome

TASKS = 1000
Order = Callable[[list[Address]], list[Address]]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which `a/N` and `b/N` have ended in turns, up to 50 places too early or too late."""
    folder = tmp_path_factory.mktemp("ends")
    places = sorted(range(TASKS), key=lambda number: number + random.Random(number).randint(0, 50))
    ends: list[Event] = [RunStarted(at=1.0, run="r", name="n")]
    ends += [
        TaskEnded(at=2.0, outcome=Outcome(task, str(number), value=f"{task} of {number}"), asked=f"{task}{number}")
        for number in places
        for task in "ab"
    ]

    return write(folder, ends, status="cancelled")


def write(folder: Path, events: Iterable[Event], *, status: RunStatus | None = None) -> Path:
    async def go() -> Path:
        journal = await in_thread(Journal.create, folder, "r")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.serve)
            for event in events:
                journal.append(event)
            await journal.aclose(status)
            tasks.cancel_scope.cancel()
        return journal.path

    return anyio.run(go)


class Counted(RunFile):
    """Counts the records that are read."""

    def events_at(self, numbers: Iterable[int]) -> Iterator[tuple[int, Event]]:
        some = list(numbers)
        self.read = getattr(self, "read", 0) + len(some)
        return super().events_at(some)


def ends_of(path: Path) -> tuple[Ends, Counted]:
    file = Counted.open(path)
    assert isinstance(file, Counted)
    ends = Ends(file)
    for number, _, address, _ in file.skeleton(TaskEnded):
        ends.note(address, number)
    return ends, file


def shuffled(addresses: list[Address]) -> list[Address]:
    return random.Random(7).sample(addresses, len(addresses))


ALL = [Address(task, str(number)) for task in "ab" for number in range(TASKS)]


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(lambda all_: all_, id="task by task"),
        pytest.param(lambda all_: [one for pair in zip(all_[:TASKS], all_[TASKS:], strict=True) for one in pair],
                     id="item by item"),
        pytest.param(lambda all_: all_[::-1], id="backwards"),
    ],
)  # fmt: skip
def test_in_a_usual_order_each_record_is_read_once(path: Path, order: Order) -> None:
    ends, file = ends_of(path)
    for address in order(ALL):
        found = ends.find(str(address))
        assert found is not None
        assert found.outcome.value == f"{address.task} of {address.key}"
    assert file.read == len(ALL)
    ends.close()


def test_in_no_order_at_all_a_record_is_read_twice_at_most_and_few_are_held(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentmesh.journal.ends._AHEAD", 300)
    ends, file = ends_of(path)
    most = 0
    for address in shuffled(ALL):
        found = ends.find(str(address))
        assert found is not None
        assert found.outcome.value == f"{address.task} of {address.key}"
        most = max(most, len(ends._ahead))
    assert len(ALL) < file.read <= 2 * len(ALL)
    assert most <= 300
    ends.close()


def test_time_in_which_a_killed_process_was_paused_is_not_spent(tmp_path: Path) -> None:
    def noted(at: float, *, paused: bool | None = None) -> Notice:
        return Notice(at=at, level="info", text="", paused=paused)

    events: list[Event] = [RunStarted(at=0.0, run="r", name="n"), noted(10.0, paused=True), noted(110.0, paused=False)]
    past = Past.read(write(tmp_path / "one", [*events, noted(120.0)]))
    assert (past.seconds, past.paused, past.spent().seconds) == (120.0, 100.0, 20.0)
    past.close()
    events += [RunResumed(at=500.0, run="r", process="p", seconds=120.0, paused=100.0), noted(505.0, paused=True)]
    past = Past.read(write(tmp_path / "two", [*events, noted(705.0)]))  # killed in a pause
    assert (past.seconds, past.paused, past.spent().seconds) == (325.0, 300.0, 25.0)
    past.close()


def test_what_never_ended_is_not_found(path: Path) -> None:
    ends, _ = ends_of(path)
    assert (ends.find("a/none"), "a/none" in ends) == (None, False)
    ends.close()


def test_a_past_takes_back_an_end_and_says_how_it_was(path: Path) -> None:
    past = Past.read(path)
    assert past.finished == 2 * TASKS
    outcome = past.recall("b/7", "b7")
    assert outcome is not None
    assert outcome.value == "b of 7"
    assert past.recall("b/7", "something else") is None
    assert past.reopen("b/7", 3.0) == TaskReopened(at=3.0, address="b/7", state="done")
    assert past.recall("b/7", "b7") is None
    assert (past.holds("b/7"), past.reopen("b/7", 4.0)) == (False, None)
    assert past.ended_so(outcome, asked="b7")  # so that what depends on it may still stand
    past.close()

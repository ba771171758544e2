"""What a run has its journal commit, and when: everything that was promised, and nothing for its own sake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scripted import LAB, provider_file

import agentmesh as am
from agentmesh.clock import monotonic
from agentmesh.events import CallEnded, CallIntent, Event, RunEnded, TaskEnded, TaskStarted
from agentmesh.journal import Journal, RunFile
from agentmesh.mesh.run import Run

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

STEADY = LAB.replace("lab", "paced").replace("limits: {requests_per_minute: {limit: 6, burst: 1}}",
                                             "limits: {requests_per_minute: {limit: 900, burst: 1}}")  # fmt: skip
ASKED = 40
READER = am.Agent[str]("reader", model="paced/rare")


class Seen:
    """What was on disk when a reply came, and when something was said to have ended or begun."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.replies: dict[str, tuple[int, float]] = {}  # the number of the record, and when it was written down
        self.ended: dict[str, float] = {}
        self.began: dict[str, int] = {}
        self._count = 0

    @property
    def durable(self) -> int:
        assert self.run is not None
        assert isinstance(self.run.record.journal, Journal)
        return self.run.record.journal.statistics().durable

    def hear(self, event: Event) -> None:
        self._count += 1
        match event:
            case CallEnded():
                self.replies[event.address] = (self._count, monotonic())
            case TaskStarted():
                self.began[event.address] = self.durable if self.run else 0
            case TaskEnded(outcome=outcome) if outcome.ok:
                address = str(outcome.address)
                number, _ = self.replies[address]
                assert number <= self.durable, "its reply is on disk before anybody hears that it has ended"
                self.ended[address] = monotonic()


async def test_calls_that_follow_each_other_closely_take_one_commit_each(tmp_path: Path) -> None:
    seen = Seen()
    async with am.open_mesh(journal=tmp_path / "j", provider_files=[provider_file(tmp_path, STEADY)]) as mesh:
        async with mesh.open_run("r", watchers=[seen.hear]) as seen.run:
            for number in range(ASKED):
                seen.run.start(READER.on(f"What is {number}?"), key=str(number))
        journal = seen.run.record.journal
    assert isinstance(journal, Journal)
    in_flight_at_the_end = 15  # for which no other call waits, and so no commit
    assert ASKED <= journal.statistics().groups <= ASKED + in_flight_at_the_end + 5
    assert len(seen.ended) == ASKED
    waits = sorted(seen.ended[address] - at for address, (_, at) in seen.replies.items())
    assert waits[0] == 0.0
    assert waits[-1] <= 0.1
    with RunFile.open(journal.path) as run:
        assert [len(list(run.events(kind))) for kind in (CallIntent, CallEnded, TaskEnded, RunEnded)] == [
            ASKED, ASKED, ASKED, 1,
        ]  # fmt: skip


async def test_what_others_depend_on_waits_for_no_other_call(tmp_path: Path) -> None:
    seen = Seen()
    options: dict[str, Any] = {"journal": tmp_path / "j", "provider_files": [provider_file(tmp_path, STEADY)]}
    async with am.open_mesh(**options) as mesh, mesh.open_run("r", watchers=[seen.hear]) as seen.run:
        first = seen.run.start(READER.on("What comes first?"), key="first", priority="high")
        second = seen.run.start(READER.on("And after {{ it }}?", it=first), key="second", priority="high")
        for number in range(ASKED):
            seen.run.start(READER.on(f"What is {number}?"), key=str(number))
    number, at = seen.replies[str(first.address)]
    assert seen.ended[str(first.address)] == at
    assert seen.began[str(second.address)] >= number


async def test_who_asks_one_after_the_other_waits_for_nothing(tmp_path: Path) -> None:
    files = [provider_file(tmp_path)]
    async with am.open_mesh(journal=tmp_path / "j", provider_files=files) as mesh:
        for _ in range(3):
            await mesh.ask("lab/free", "Is it so?")
        assert monotonic() == pytest.approx(3.0)


async def test_a_call_that_is_never_sent_is_not_waited_for(tmp_path: Path) -> None:
    files = [provider_file(tmp_path)]
    async with am.open_mesh(journal=tmp_path / "j", provider_files=files) as mesh:
        async with mesh.open_run("r", failures="report", budget=am.Budget(calls=1)) as run:
            for number in range(3):
                run.start(am.Agent[str]("reader", model="lab/one").on(f"What is {number}?"), key=str(number))
        assert run.status == "stopped"
        assert not run.record.waiting

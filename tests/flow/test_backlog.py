"""The backlog of a lane, as tables: order, the turn of the oldest, room for what is urgent, and what it keeps."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator

import anyio
import anyio.abc
import pytest

from agentmesh.clock import sleep
from agentmesh.flow.backlog import Backlog
from agentmesh.flow.graph import Node
from agentmesh.flow.runner import Runner
from agentmesh.flow.state import FlowState, Moved, Ready
from agentmesh.outcome import Address, Outcome

TURN = 16


class Lane:
    """A backlog with the state machine that fills it; what goes from it ends at once."""

    def __init__(self) -> None:
        self.state = FlowState()
        self.backlog = Backlog()

    def add(self, name: str, *needs: Node, priority: float = 0.0) -> Node:
        node, instructions = self.state.add(Address(name), None, priority=priority, needs=needs)
        for one in instructions:
            match one:
                case Ready(ready):
                    self.backlog.add(ready)
                case Moved(moved):
                    self.backlog.move(moved)
        return node

    def go(self, *, room: float = math.inf, spare: float = 0.0, ends: bool = True) -> str | None:
        if (node := self.backlog.next(room, spare=spare)) is None:
            return None
        self.state.start(node)
        self.backlog.begin(node)
        if ends:
            self.end(node)
        return node.address.task

    def end(self, node: Node) -> None:
        self.backlog.leave(node)
        self.state.end(node, Outcome(node.address.task, state="done"))

    def all(self) -> Iterator[str]:
        while (name := self.go()) is not None:
            yield name


def test_it_goes_by_priority_then_path_then_age() -> None:
    lane = Lane()
    for name, priority in (("low", -1), ("first", 0), ("needed", 0), ("number", 0.5), ("high", 1)):
        node = lane.add(name, priority=priority)
        if name == "needed":
            lane.add("after", node)
    assert list(lane.all()) == ["high", "number", "needed", "first", "low"]


def test_each_sixteenth_is_who_has_been_ready_longest() -> None:
    lane = Lane()
    for number in range(3):
        lane.add(f"low{number}", priority=-1)
    for number in range(60):
        lane.add(f"high{number}")
    went = list(lane.all())
    assert [place for place, name in enumerate(went, 1) if name.startswith("low")] == [TURN, 2 * TURN, 3 * TURN]
    assert [name for name in went if name.startswith("high")] == [f"high{number}" for number in range(60)]


def test_a_low_one_goes_within_the_bound_however_many_urgent_ones_come() -> None:
    """At most the urgent ones that were there before it, and a turn."""
    lane = Lane()
    for number in range(40):
        lane.add(f"before{number}", priority=1)
    lane.add("low", priority=-1)
    went: list[str | None] = []
    for number in range(1000):
        lane.add(f"high{number}", priority=1)
        went.append(lane.go())
    assert 40 <= went.index("low") <= 40 + TURN
    assert None not in went
    assert len(set(went)) == 1000


def test_it_is_of_use_to_wait_in_a_queue_of_low_ones() -> None:
    lane = Lane()
    for number in range(10):
        lane.add(f"low{number}", priority=-1)
    went: list[str | None] = []
    for number in range(TURN * 10):
        lane.add(f"high{number}", priority=1)
        went.append(lane.go())
    assert [name for name in went if name is not None and name.startswith("low")] == [f"low{n}" for n in range(10)]


def test_what_is_more_urgent_than_what_fills_the_room_has_some_to_spare() -> None:
    lane = Lane()
    nodes = [lane.add(f"plain{number}") for number in range(6)]
    options = {"room": 4, "spare": 2, "ends": False}
    assert [lane.go(**options) for _ in range(5)] == ["plain0", "plain1", "plain2", "plain3", None]  # type: ignore[arg-type]
    for number in range(3):
        lane.add(f"high{number}", priority=1)
    assert [lane.go(**options) for _ in range(3)] == ["high0", "high1", None]  # type: ignore[arg-type]
    lane.end(nodes[0])
    assert [lane.go(**options) for _ in range(2)] == ["high2", None]  # type: ignore[arg-type]
    assert lane.backlog.live == 6


def test_the_room_to_spare_is_not_for_more_of_the_same() -> None:
    lane = Lane()
    for number in range(6):
        lane.add(f"high{number}", priority=1)
    lane.add("low", priority=0)
    went = [lane.go(room=4, spare=10, ends=False) for _ in range(5)]
    assert went == ["high0", "high1", "high2", "high3", None]
    assert lane.go(room=4) is None, "without spare room nothing goes beyond it"


def test_what_was_withdrawn_or_moved_is_passed_over() -> None:
    lane = Lane()
    nodes = [lane.add(f"t{number}") for number in range(5)]
    for node in (nodes[0], nodes[3]):
        lane.state.end(node, Outcome(node.address.task, state="cancelled"))
    lane.add("after", nodes[4])
    assert list(lane.all()) == ["t4", "t1", "t2"]
    assert lane.go() is None


@pytest.mark.parametrize("waiting", [0, 1, 100])
def test_memory_is_that_of_those_who_wait(waiting: int) -> None:
    """However many went by, in whichever order."""
    lane = Lane()
    rng = random.Random(waiting)
    for number in range(waiting):
        lane.add(f"low{number}", priority=-1)
    largest = 0
    for number in range(20_000):
        lane.add(f"t{number}", priority=rng.choice([0, 1, 2]))
        lane.go()
        backlog = lane.backlog
        largest = max(largest, len(backlog._heap), len(backlog._ages))
    assert largest <= 2 * (waiting + TURN) + 64
    assert sys.getsizeof(lane.backlog._ages) < 20_000


@pytest.mark.anyio
@pytest.mark.virtual_time
@pytest.mark.both_backends
async def test_a_run_full_of_urgent_tasks_does_the_low_one_too() -> None:
    """Each urgent task that ends starts one more, a thousand in all; one lane, four at a time."""
    order: list[str] = []
    runners: list[Runner] = []

    def urgent() -> None:
        number = len(runners[0].state.nodes)
        runners[0].add(Address("urgent", str(number)), None, lane="a", priority=1)

    async def perform(node: Node) -> Outcome:
        order.append(str(node.address))
        await sleep(1.0)
        if len(order) < 1000:
            urgent()
        return Outcome(node.address.task, node.address.key, state="done")

    async with anyio.create_task_group() as group:
        runners.append(Runner(group, perform=perform, room=lambda lane: 4, on_ended=lambda node: None))
        for _ in range(20):
            urgent()
        runners[0].add(Address("low"), None, lane="a", priority=-1)
        await runners[0].wait_finished()
    assert len(order) >= 1000
    assert order.index("low") <= 20 + TURN
    assert runners[0].live == {"a": 0}


@pytest.mark.anyio
@pytest.mark.virtual_time
async def test_each_share_of_a_lane_has_room_of_its_own() -> None:
    async def perform(node: Node) -> Outcome:
        live.append(runner.live["a"])
        await sleep(1.0)
        return Outcome(node.address.task, node.address.key, state="done")

    live: list[int] = []
    began: dict[str, int] = {}
    async with anyio.create_task_group() as group:
        runner = Runner(group, perform=perform, room=lambda lane: 2, on_ended=lambda node: None)
        for share in ("one", "two"):
            for number in range(4):
                runner.add(Address(share, str(number)), None, lane="a", share=share)
        await sleep(0.5)
        for address, node in runner.state.nodes.items():
            began[address.task] = began.get(address.task, 0) + (node.state == "running")
        assert began == {"one": 2, "two": 2}
        await runner.wait_finished()
    assert max(live) == 4
    assert runner.idle

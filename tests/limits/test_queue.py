"""The queue of a row beside a plain list: whoever leaves and comes back, the first is the first, and nobody is lost."""

from __future__ import annotations

import random

import pytest

from agentmesh.limits.queue import ALONE, Queue
from agentmesh.limits.row import Row, Ticket


def ticket(row: Row, number: int, *, urgency: int = 0) -> Ticket:
    return Ticket(row, (float(urgency), 0.0, number), "t", 100, None, ALONE, number)


def test_one_that_was_the_oldest_and_is_pushed_back_waits_once() -> None:
    row = Row("m", ())
    queue = Queue(row, ALONE)
    tickets = [ticket(row, number, urgency=-number) for number in range(50)]  # the oldest is the least urgent
    for one in tickets:
        queue.add(one)
    assert queue.head() is tickets[-1]
    oldest = row.oldest()
    assert oldest is tickets[0]
    queue.remove(oldest, state="admitted")
    queue.add(oldest)
    left = []
    while queue:
        left.append(queue.head())
        queue.remove(left[-1], state="admitted")
    assert left == tickets[::-1]


@pytest.mark.parametrize("seed", range(8))
def test_any_coming_and_going(seed: int) -> None:
    rng = random.Random(seed)
    row = Row("m", ())
    queue = Queue(row, ALONE)
    waiting: list[Ticket] = []
    taken: list[Ticket] = []
    for number in range(800):
        match rng.choice(["new", "new", "head", "oldest", "any", "back", "back"]):
            case "new":
                waiting.append(ticket(row, number, urgency=rng.randrange(5)))
                queue.add(waiting[-1])
            case "back" if taken:
                waiting.append(taken.pop(rng.randrange(len(taken))))
                queue.add(waiting[-1])
            case "head" | "oldest" | "any" as what if waiting:
                oldest = row.oldest()
                assert oldest is not None
                one = queue.head() if what == "head" else oldest if what == "oldest" else rng.choice(waiting)
                queue.remove(one, state="admitted")
                waiting.remove(one)
                taken.append(one)
        assert len(queue) == len(waiting)
        if waiting:
            assert queue.head() is min(waiting)
            assert row.oldest() in waiting
            assert set(queue.next_ones()) <= set(waiting)

"""Who of several shares is next: by what each has used, by weight, among calls of one priority."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from agentmesh.limits.admission import Admission
from agentmesh.limits.queue import Share
from agentmesh.limits.row import Row, Ticket
from agentmesh.limits.shares import Shares
from agentmesh.rates import Limit


class Lane:
    """Ten calls in a second, one after the other; each is over the moment it went."""

    def __init__(self, *rows: list[Limit]) -> None:
        self.now = 0.0
        self.admission = Admission("a", [Limit("requests", 600, burst=1)], self.now)
        self.rows: list[Row] = [self.admission.row(f"m{n}", limits, self.now) for n, limits in enumerate(rows or [[]])]
        self._age = 0

    def wait(self, share: Share, calls: int = 1, *, priority: float = 0.0, row: int = 0, **options: Any) -> None:
        for _ in range(calls):
            self._age += 1
            self.admission.enqueue(
                self.rows[row], kind="k", order=(-priority, 0.0, self._age), now=self.now, share=share,
                **{"characters": 40, "max_tokens": 10} | options,
            )  # fmt: skip

    def go(self, seconds: float) -> list[Ticket]:
        gone: list[Ticket] = []
        end = self.now + seconds
        while self.now < end:
            admitted, wait = self.admission.admit(self.now)
            for ticket in admitted:
                self.admission.settle(ticket, self.now)
            gone += admitted
            self.now = min(end, self.now + max(wait, 0.001))
        return gone


def counts(tickets: list[Ticket]) -> Counter[str]:
    return Counter(ticket.share.name for ticket in tickets)


def test_shares_go_in_proportion_to_their_weights() -> None:
    lane = Lane()
    for name, weight in (("one", 1.0), ("three", 3.0), ("half", 0.5)):
        lane.wait(Share(name, weight), 1000)
    assert counts(lane.go(90)) == pytest.approx({"one": 200, "three": 600, "half": 100}, rel=0.03)


def test_a_share_that_was_away_begins_where_the_others_stand() -> None:
    lane = Lane()
    lane.wait(Share("gone"), 1)
    lane.wait(Share("busy"), 3000)
    lane.go(60)
    lane.wait(Share("gone"), 1000)
    lane.wait(Share("new"), 1000)
    assert counts(lane.go(30)) == pytest.approx({"gone": 100, "busy": 100, "new": 100}, abs=8)


def test_a_share_with_one_call_at_a_time_gets_no_more_than_its_part() -> None:
    lane = Lane()
    lane.wait(Share("busy"), 3000)
    lane.wait(Share("single"))
    gone: list[Ticket] = []
    for _ in range(600):
        went = lane.go(0.1)
        gone += went
        if any(ticket.share.name == "single" for ticket in went):
            lane.wait(Share("single"))
    assert counts(gone)["single"] == pytest.approx(300, abs=10)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_urgent_counts_apart(seed: int) -> None:
    """Another's urgent calls take two thirds of the lane; who comes later shares the rest from the start."""
    lane = Lane()
    rng = random.Random(seed)
    lane.wait(Share("plain"), 3000)

    def go(seconds: float) -> list[Ticket]:
        gone = []
        for _ in range(int(seconds * 10)):
            if rng.random() < 2 / 3:
                lane.wait(Share("urgent"), priority=1)
            gone += lane.go(0.1)
        return gone

    go(60 + seed / 10)
    lane.wait(Share("late"), 1000)
    lane.wait(Share("urgent"), 1000)  # what is not urgent of those who had most does not wait for the others
    found = Counter(ticket.share.name for ticket in go(60) if ticket.order[0] == 0.0)
    assert found == pytest.approx({"late": 67, "urgent": 67, "plain": 67}, rel=0.35)


def test_the_turn_of_the_oldest_takes_nothing_from_who_comes_next() -> None:
    """A share of little weight has used much by its weight; that it went as the oldest sets nobody back."""
    shares = Shares()
    tickets = {}
    lane = Lane()
    for name, weight in (("heavy", 1.0), ("light", 0.001), ("late", 1.0)):
        tickets[name] = Ticket(lane.rows[0], (0.0, 0.0, 0), "k", 40, 10, Share(name, weight))
    for name in ("heavy", "heavy", "light", "light"):
        shares.wait(tickets[name])
    shares.go(tickets["light"], 1.0, in_order=True)
    shares.wait(tickets["light"])
    shares.go(tickets["heavy"], 1.0, in_order=True)
    shares.go(tickets["light"], 1.0, in_order=False)
    shares.wait(tickets["late"])
    assert shares.used(tickets["late"]) == 0.0 < shares.used(tickets["heavy"]) == 1.0


def test_nothing_is_kept_of_those_who_are_gone() -> None:
    lane = Lane()
    for number in range(300):
        lane.wait(Share(f"run{number}"), priority=number % 50)
        if number % 7 == 0:
            lane.go(0.1)
    lane.wait(Share("last"), priority=-1)
    lane.go(60)
    assert lane.admission.waiting == 0
    assert lane.admission._lineup.shares._priorities == {}


def test_few_are_remembered_while_others_go_on_waiting() -> None:
    lane = Lane()
    lane.wait(Share("busy"), 5000)
    for number in range(1000):
        lane.wait(Share(f"run{number}"))
        lane.go(0.2)
    [one] = lane.admission._lineup.shares._priorities.values()
    assert len(one.used) < 64


def test_cancelled_calls_leave_nothing_behind() -> None:
    lane = Lane()
    row = lane.rows[0]
    waiting = [
        lane.admission.enqueue(
            row, characters=4, kind="k", max_tokens=1, order=(-n % 3, 0.0, n), now=0.0, share=Share(f"s{n % 4}")
        )
        for n in range(60)
    ]
    for ticket in waiting:
        lane.admission.cancel(ticket, 0.0)
    assert lane.admission._lineup.shares._priorities == {}
    assert lane.admission.waiting == 0

"""Limits that somebody sets while calls wait and fly: they hold at once, whatever the file or the provider said."""

from __future__ import annotations

from typing import Any

import pytest

from agentmesh.limits.admission import Admission, Row, Ticket
from agentmesh.rates import Limit, Told

MINUTE = Limit("requests", 60)  # one at once, one each second


def some(admission: Admission, row: Row, number: int, *, now: float) -> list[Ticket]:
    return [
        admission.enqueue(row, characters=40, kind="", max_tokens=10, order=(0.0, 0.0, place), now=now)
        for place in range(number)
    ]


def figure(admission: Admission, name: str, scope: str) -> tuple[float, str]:
    found = [one for one in admission.statistics(0.0).limits if (one.name, one.scope) == (name, scope)]
    assert len(found) == 1
    return found[0].limit, found[0].source


def admit(admission: Admission, *, until: float, since: float = 0.0) -> list[float]:
    """When each call is admitted: asked only when the lane says so."""
    at: list[float] = []
    now = since
    while now <= until:
        admitted, wait = admission.admit(now)
        at += [round(now, 2)] * len(admitted)
        now += max(wait, 1e-6)
    return at


def test_calls_that_wait_are_looked_at_again() -> None:
    admission = Admission("acme", (), 0.0)
    row = admission.row("m", (MINUTE,), 0.0)
    some(admission, row, 100, now=0.0)
    slow = admit(admission, until=10.0)
    assert len(slow) in (10, 11)
    admission.set_limit(Limit("requests", 600, ceiling=True), of=row, scope="m", now=10.0)
    fast = admit(admission, since=10.0, until=12.0)
    assert 19 <= len(fast) <= 30
    admission.set_limit(Limit("requests", 60, ceiling=True), of=row, scope="m", now=12.0)
    assert 8 <= len(admit(admission, since=12.0, until=22.0)) <= 11
    assert figure(admission, "requests_per_minute", "m") == (60, "file")


def test_a_limit_that_there_was_not_counts_what_is_in_flight() -> None:
    admission = Admission("acme", (), 0.0)
    row, other = admission.row("m", (), 0.0), admission.row("n", (), 0.0)
    some(admission, row, 1, now=0.0)
    some(admission, other, 2, now=0.0)
    flying, _ = admission.admit(0.0)
    admission.set_limit(Limit("in_flight", 3, ceiling=True), of=row, scope="m", now=0.0)
    admission.set_limit(Limit("tokens", 6000, ceiling=True), of=None, scope="acme", now=0.0)
    waiting = some(admission, row, 10, now=0.0)
    admission.admit(0.0)
    assert row.in_flight == 3
    assert sum(gauge.scope == "acme" and gauge.limit.unit == "tokens" for gauge in other.gauges) == 1
    for ticket in (*flying, *(one for one in waiting if one.state == "admitted")):
        admission.settle(ticket, 0.0, input_tokens=10, output_tokens=10)
    tokens = next(gauge for gauge in other.gauges if gauge.limit.unit == "tokens")
    assert tokens.doubt == pytest.approx(0.0)
    assert tokens.used == 20 * (len(flying) + 2)
    later = admission.row("later", (), 0.0)
    assert tokens in later.gauges, "it is the account's, and a new model's too"
    assert figure(admission, "in_flight", "m")[0] == 3


def test_the_figure_that_we_chose_ourselves_is_a_users_once_it_is_set() -> None:
    admission = Admission("acme", (), 0.0)
    row = admission.row("m", (), 0.0)
    assert figure(admission, "in_flight", "acme")[1] == "own"
    admission.set_limit(Limit("in_flight", 2, ceiling=True), of=None, scope="acme", now=0.0)
    some(admission, row, 5, now=0.0)
    admission.admit(0.0)
    assert row.in_flight <= 2
    assert figure(admission, "in_flight", "acme") == (2, "file")


@pytest.mark.parametrize(("told", "expected"), [(900.0, 300.0), (100.0, 100.0)])
def test_what_a_provider_tells_lowers_it_and_never_lifts_it(told: float, expected: float) -> None:
    admission = Admission("acme", (), 0.0)
    row = admission.row("m", (MINUTE,), 0.0)

    def hear(limit: float, now: float) -> Any:
        some(admission, row, 1, now=now)
        (ticket,), _ = admission.admit(now)
        admission.sent(ticket, now)
        admission.hear(ticket, [Told("requests", 60.0, limit, limit - 1, None)], now=now)
        admission.settle(ticket, now, input_tokens=1, output_tokens=1)

    hear(120.0, 1.0)
    assert figure(admission, "requests_per_minute", "m") == (120, "told")
    admission.set_limit(Limit("requests", 300, ceiling=True), of=row, scope="m", now=2.0)
    assert figure(admission, "requests_per_minute", "m") == (300, "file")
    hear(told, 10.0)
    assert figure(admission, "requests_per_minute", "m")[0] == expected


def test_a_pools_limit_and_a_models_of_one_name() -> None:
    admission = Admission("acme", (), 0.0)
    row = admission.row("m", (MINUTE,), 0.0, pool="p", pool_limits=(Limit("requests", 600, burst=10),))
    admission.set_limit(Limit("requests", 60, ceiling=True), of=row, scope="pool p", now=0.0)
    admission.set_limit(Limit("requests", 30, ceiling=True), of=row, scope="m", now=0.0)
    assert figure(admission, "requests_per_minute", "pool p")[0] == 60
    assert figure(admission, "requests_per_minute", "m")[0] == 30
    pool = next(gauge for gauge in row.gauges if gauge.scope == "pool p")
    assert pool.limit.burst == 1.0, "a burst changes in proportion"


def test_what_others_use_of_the_providers_limit_is_not_taken_from_the_users() -> None:
    admission = Admission("acme", (), 0.0)
    row = admission.row("m", (Limit("requests", 600, burst=10),), 0.0)
    for second in range(20):  # others have emptied it each time
        (ticket,) = some(admission, row, 1, now=float(second))
        admission.admit(float(second))
        admission.hear(ticket, [Told("requests", 60.0, 600, 0, None)], now=second + 0.1)
        admission.settle(ticket, second + 0.1, input_tokens=1, output_tokens=1)
    some(admission, row, 300, now=20.0)
    assert len(admit(admission, since=20.0, until=30.0)) < 70
    admission.set_limit(Limit("requests", 60, ceiling=True), of=row, scope="m", now=30.0)
    assert len(admit(admission, since=30.0, until=40.0)) >= 9

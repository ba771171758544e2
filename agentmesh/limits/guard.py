"""What a call needs of a limit, and how long it waits for it: with a margin for what we cannot know exactly.

Our clock and the provider's differ, the first connections are slow, and calls in flight may cost more than was
expected of them. The margin costs no rate, only a delay at the beginning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..errors import ErrorInfo
from .gauge import Gauge
from .row import Row, Ticket

__all__ = ["Guard", "ahead", "correct", "give_back", "need", "recount", "reserved", "too_large"]

_GUARD_S = 0.05  # how differently two calls' ways to the server may take: first connections, garbage collection
_GUARD_MAX_S = 2.0
_GROWTH = 1.25  # at a refusal, which also tells where the limit stands: a little is enough
_DECAY = 0.998  # what was learned from a refusal is forgotten over a few hundred calls that went well
_START_GUARD_S, _START_S = 0.4, 2.0  # by how much more where a burst begins, and how long until that has passed
_BLIND = 0.15  # of what goes at once, before the first reply: by how much texts differ in characters per token
_DEVIATIONS = 2.0  # standard deviations kept spare for what calls in flight may cost beyond their estimates


def reserved(gauge: Gauge, ticket: Ticket) -> float:
    """Units that the provider reserves for a call."""
    output = ticket.output_tokens if ticket.max_tokens is None else ticket.max_tokens
    return gauge.limit.reserved(ticket.input_tokens, output)


def need(gauge: Gauge, ticket: Ticket) -> float:
    """What the provider will count: what it reserves, where it reserves max_tokens, or what is likely used, if more."""
    if not gauge.tokens:
        return 1.0
    limit = gauge.limit
    if (units := ticket.needs.get(gauge)) is None:
        units = 0.0
        if limit.reserves in ("sum", "max") or limit.settles == "reserved":
            units = reserved(gauge, ticket)
        if limit.settles == "actual":
            units = max(units, limit.used(ticket.input_tokens, ticket.output_tokens))
        ticket.needs[gauge] = units
    return units if units < limit.largest else limit.largest


def ahead(gauge: Gauge, ticket: Ticket) -> float:
    """What of a call's need the provider counts only when the call ends."""
    limit = gauge.limit
    if not gauge.tokens or limit.settles == "reserved" or limit.reserves == "sum":
        return 0.0
    return max(0.0, need(gauge, ticket) - reserved(gauge, ticket))


def recount(row: Row, now: float) -> None:
    """The first reply has shown how good estimates are: count the calls in flight by what is known now."""
    for ticket in row.flying:
        ticket.estimate()
        doubt, ticket.doubt = ticket.doubt, row.estimate.variance(ticket.input_tokens)
        for number, hold in enumerate(ticket.held):
            gauge = hold.gauge
            gauge.doubt = max(0.0, gauge.doubt + ticket.doubt - doubt)
            if "tokens" in gauge.limit.unit:
                units, early = need(gauge, ticket), ahead(gauge, ticket)
                gauge.release_ahead(hold.ahead - early, now, since=ticket.admitted_at)
                gauge.release(hold.units - hold.ahead - units + early, now, since=ticket.admitted_at)
                ticket.held[number] = hold._replace(units=units, ahead=early)


def correct(ticket: Ticket, now: float, *, input_tokens: int | None, output_tokens: int | None) -> list[Gauge]:
    """A call has ended: its slots come back, and what it took is corrected to what it really used, if that is known.

    Returns the limits of which units came back.
    """
    freed = []
    since = ticket.admitted_at
    for hold in ticket.held:
        gauge = hold.gauge
        if gauge.slots:
            gauge.release(hold.units, now)
            freed.append(gauge)
        elif gauge.tokens and gauge.limit.settles == "actual" and input_tokens is not None:
            counted, used = hold.units - hold.ahead, gauge.limit.used(input_tokens, output_tokens or 0)
            if hold.ahead:
                gauge.release_ahead(hold.ahead, now, since=since)
            if used != counted:
                gauge.release(counted - used, now, since=since)
            if used < hold.units:
                freed.append(gauge)
    return freed


def give_back(ticket: Ticket, now: float) -> None:
    """The provider never saw a call: all that it holds comes back."""
    for hold in ticket.held:
        if hold.ahead:
            hold.gauge.release_ahead(hold.ahead, now, since=ticket.admitted_at)
        hold.gauge.release(hold.units - hold.ahead, now, since=ticket.admitted_at)


class Guard:
    """The margin of one account, in seconds of refill. With `told_sent` bursts begin more gently."""

    __slots__ = ("_grown_at", "_seconds", "_told_sent")

    def __init__(self, *, told_sent: bool) -> None:
        self._told_sent = told_sent
        self._seconds = _GUARD_S
        self._grown_at = -math.inf

    def __repr__(self) -> str:
        return f"<Guard of {self._seconds:.3f} s>"

    def wait(self, gauge: Gauge, ticket: Ticket, *, now: float) -> float:
        """Seconds until a limit has room for a call, and for what may differ from what we know."""
        if gauge.slots:
            return gauge.meter.wait(1.0, now)
        seconds = self._seconds
        if self._told_sent and now < gauge.full_at + _START_S:  # first calls wait for connections, and each other
            seconds += _START_GUARD_S * (1.0 - (now - gauge.full_at) / _START_S)
        if not gauge.tokens:
            return gauge.wait(1.0, now, guard=seconds, doubt=0.0)
        estimate = ticket.row.estimate
        doubt = _DEVIATIONS * math.sqrt(gauge.doubt + estimate.variance(ticket.input_tokens))
        if estimate.blind:
            doubt = max(doubt, _BLIND * gauge.limit.capacity)
        return gauge.wait(need(gauge, ticket), now, guard=seconds, doubt=doubt)

    def lets_go(self, ticket: Ticket, *, before: float, claimed: Mapping[Gauge, Ticket], now: float) -> bool:
        """Whether claimed limits would let a call go now, or before that time: else it is no reason to look anew."""
        for gauge in ticket.row.gauges:
            if gauge in claimed and (wait := self.wait(gauge, ticket, now=now)) > 0.0 and now + wait >= before:
                return False
        return True

    def grow(self, ticket: Ticket, now: float) -> None:
        """A call was refused; what was in flight already when one was before is refused for the same reason."""
        if ticket.admitted_at >= self._grown_at:
            self._seconds, self._grown_at = min(_GUARD_MAX_S, self._seconds * _GROWTH), now

    def decay(self) -> None:
        """A call went well."""
        self._seconds = max(_GUARD_S, self._seconds * _DECAY)


def too_large(gauge: Gauge, need: float) -> ErrorInfo:
    """What is wrong with a call that no wait would let in."""
    limit = gauge.limit
    return ErrorInfo(
        "bad_request",
        f"this call needs about {need:,.0f} {limit.unit.replace('_', ' ')}, and {gauge.scope} allows "
        f"{limit.largest:,.0f} at once ({limit.name}): shorten it, lower max_tokens, or take a model that allows more",
    )

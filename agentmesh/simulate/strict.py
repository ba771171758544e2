"""Strict admission, as a server does it: what does not fit into a limit now is refused, with the time to wait.

Each key is an account and has the limits for itself.
Account, pool and model limits are decided together: a request is counted on all of them or on none. The arithmetic is
that of `limits/`, so a client that keeps its own count by the same rules is refused only when clocks differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..limits.meter import Meter, meter
from ..rates import Limit
from .behaviour import Served, ServedModel
from .beside import Beside

__all__ = ["Admitted", "KeyedLimits", "Refused", "ServerStatistics", "StrictLimits"]

_MEMORY = 0.1  # weight of the newest reply in the learned length
_MOST_KEYS = 64  # that are counted each by itself: whoever asks with ever new keys must not fill the memory
_SLOT_WAIT_S = 1.0  # advice while no call has ended yet and nobody knows how long one takes


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """What a server did since it was started, as `/stats` tells it.

    `received` counts requests for a reply, whatever came of them; `refused` those that met a limit; `accepted` those
    that were admitted and `completed` those of them that were answered to the last byte. `tokens` is what admitted
    requests used (reserved, while they last). `first_s` and `last_s` are the seconds of the first and last admission
    since the start, by the server's monotonic clock; None before any.
    """

    received: int
    accepted: int
    refused: int
    completed: int
    in_flight: int
    peak_in_flight: int
    tokens: int
    first_s: float | None
    last_s: float | None


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that meets `limit` of `scope`: it may come again after `wait` seconds, or never (inf)."""

    limit: Limit
    scope: str
    need: float
    wait: float


@dataclass(slots=True)
class Admitted:
    """What an admitted request holds on each meter, and of how many tokens that is the count."""

    model: str
    meters: tuple[tuple[str, Meter], ...]
    input_tokens: int
    output_tokens: float
    since: float


class StrictLimits:
    """All limits of one server and what they have counted. Synchronous, reads no clock: `now` is monotonic seconds."""

    def __init__(self, served: Served, now: float) -> None:
        self._served = served
        self._start = now
        self._account = _meters("account", served.limits, now=now)
        self._account_meters = [one for _, one in self._account]
        self._beside = Beside(served.changes, served.neighbour, seed=served.seed)
        self._pools = {name: _meters(f"pool {name}", limits, now=now) for name, limits in served.pools.items()}
        self._models: dict[str, tuple[tuple[str, Meter], ...]] = {}
        self._lengths: dict[str, float] = {}  # mean output tokens by model, learned from replies
        self._seconds = 0.0  # mean duration of a call
        self._received = self._accepted = self._refused = self._completed = self._in_flight = self._peak = 0
        self._tokens = 0.0
        self._first: float | None = None
        self._last: float | None = None

    def __repr__(self) -> str:
        return f"<StrictLimits {self._in_flight} in flight, {self._accepted} accepted, {self._refused} refused>"

    @property
    def in_flight(self) -> int:
        """Admitted requests that have not ended."""
        return self._in_flight

    def note_received(self) -> None:
        """A request for a reply has arrived."""
        self._received += 1

    def admit(
        self, model: ServedModel, name: str, *, input_tokens: int, output_tokens: int | None, now: float
    ) -> Admitted | Refused:
        """Count a request of this size on every limit that it touches, or refuse it because of the slowest of them.

        `output_tokens` is what the request may produce at most (its max_tokens), or exactly what it will produce where
        that is known; None reserves the mean of the replies of this model so far.
        """
        self._beside.begin(now)
        self._beside.follow(self._account_meters, now)
        expected = self._length(model, name) if output_tokens is None else output_tokens
        meters = self._meters_of(model, name, now=now)
        worst: Refused | None = None
        for scope, one in meters:
            need = one.limit.reserved(input_tokens, expected)
            wait = math.inf if need > one.limit.largest else one.wait(need, now)
            if wait == math.inf and one.limit.unit == "in_flight":
                wait = self._slot_wait(one.limit)
            if wait > 0.0 and (worst is None or wait > worst.wait):
                worst = Refused(one.limit, scope, need, wait)
        if worst is not None:
            self._refused += 1
            return worst
        for _, one in meters:
            one.take(one.limit.reserved(input_tokens, expected), now)
        self._accepted += 1
        self._in_flight += 1
        self._peak = max(self._peak, self._in_flight)
        self._tokens += input_tokens + expected
        self._first = now if self._first is None else self._first
        self._last = now
        return Admitted(name, meters, input_tokens, expected, now)

    def settle(self, admitted: Admitted, now: float, *, output_tokens: int, completed: bool) -> None:
        """An admitted request has ended, having produced `output_tokens`: slots and what it did not use come back."""
        self._beside.follow(self._account_meters, now)
        for _, one in admitted.meters:
            limit = one.limit
            held = limit.reserved(admitted.input_tokens, admitted.output_tokens)
            if limit.unit == "in_flight":
                one.give(held, now, since=admitted.since)
            elif limit.unit != "requests" and limit.settles == "actual":
                used = limit.used(admitted.input_tokens, output_tokens)
                if used != held:
                    one.give(held - used, now, since=admitted.since)
        self._in_flight -= 1
        self._tokens += output_tokens - admitted.output_tokens
        if completed:
            self._completed += 1
            known = self._lengths.get(admitted.model, float(output_tokens))
            self._lengths[admitted.model] = known + _MEMORY * (output_tokens - known)
            weight = 1.0 if self._completed == 1 else _MEMORY
            self._seconds += weight * (now - admitted.since - self._seconds)

    def levels(self, model: ServedModel, name: str, *, now: float) -> list[tuple[Limit, float, float]]:
        """Each limit that calls of this model touch: (limit, units left, seconds until it is full)."""
        self._beside.follow(self._account_meters, now)
        return [
            (one.limit, max(0.0, one.level(now)), one.reset(now)) for _, one in self._meters_of(model, name, now=now)
        ]

    def statistics(self) -> ServerStatistics:
        """A truthful picture of the server."""
        return ServerStatistics(
            received=self._received,
            accepted=self._accepted,
            refused=self._refused,
            completed=self._completed,
            in_flight=self._in_flight,
            peak_in_flight=self._peak,
            tokens=round(self._tokens),
            first_s=None if self._first is None else round(self._first - self._start, 6),
            last_s=None if self._last is None else round(self._last - self._start, 6),
        )

    def _meters_of(self, model: ServedModel, name: str, *, now: float) -> tuple[tuple[str, Meter], ...]:
        found = self._models.get(name)
        if found is None:  # a name that `*` stands for gets meters of its own
            shared = self._pools.get(model.pool, ()) if model.pool is not None else ()
            found = self._models[name] = self._account + shared + _meters(name, model.limits, now=now)
        return found

    def _length(self, model: ServedModel, name: str) -> float:
        return self._lengths.get(name, model.behaviour.output_tokens)

    def _slot_wait(self, limit: Limit) -> float:
        """Seconds until one of the slots should be free, if calls take what they took before."""
        return max(self._seconds / limit.limit, 0.001) if self._completed else _SLOT_WAIT_S


class KeyedLimits:
    """The limits of a server that has the same for every key: of each account what `StrictLimits` says.

    Keys beyond the first 64 are one account together.
    """

    def __init__(self, served: Served, now: float) -> None:
        self._served = served
        self._start = now
        self._of: dict[str, StrictLimits] = {}
        self._peak = 0

    def __repr__(self) -> str:
        return f"<KeyedLimits of {len(self._of)} keys>"

    def of(self, key: str) -> StrictLimits:
        """The limits of the account with this key ("" for none), made when it is first seen."""
        if len(self._of) >= _MOST_KEYS and key not in self._of:
            key = "and others"
        if (limits := self._of.get(key)) is None:
            limits = self._of[key] = StrictLimits(self._served, self._start)
        return limits

    def note_peak(self) -> None:
        """A request was admitted: as many as are in flight now may be more than ever."""
        self._peak = max(self._peak, sum(one.in_flight for one in self._of.values()))

    def statistics(self) -> ServerStatistics:
        """All accounts together."""
        each = self.each() or [StrictLimits(self._served, self._start).statistics()]
        return ServerStatistics(
            received=sum(one.received for one in each),
            accepted=sum(one.accepted for one in each),
            refused=sum(one.refused for one in each),
            completed=sum(one.completed for one in each),
            in_flight=sum(one.in_flight for one in each),
            peak_in_flight=self._peak,
            tokens=sum(one.tokens for one in each),
            first_s=min((one.first_s for one in each if one.first_s is not None), default=None),
            last_s=max((one.last_s for one in each if one.last_s is not None), default=None),
        )

    def each(self) -> list[ServerStatistics]:
        """The accounts one by one, in the order in which they were first seen; their keys are nobody's business."""
        return [one.statistics() for one in self._of.values()]


def _meters(scope: str, limits: Sequence[Limit], *, now: float) -> tuple[tuple[str, Meter], ...]:
    return tuple((scope, meter(limit, now, early=True)) for limit in limits)

"""Who of several endpoints serves a call: the accounts of a model share the work, other models stand in for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ..clock import wall
from ..errors import CallFailed, ErrorKind
from ..events import CallSpared, Notice
from ..limits.admission import OrderKey
from ..limits.lane import Elsewhere, Lane
from ..messages import Reply, Request
from .caller import Caller
from .endpoint import Endpoint
from .known import Found

__all__ = ["Accounts", "Route"]

_ENDPOINT_FAULTS: frozenset[ErrorKind] = frozenset({"auth", "quota", "rate", "server", "connection", "timeout"})
"""Errors that say something about the endpoint rather than about the request: another one may do better."""

_SOONER_S = 0.001  # a call changes its lane for no less


class _Listener:
    """Hands pieces of a reply on, and knows whether there was one."""

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self._on_text = on_text
        self.spoken = False

    def __call__(self, text: str) -> None:
        self.spoken = True
        self._on_text(text)


def _is_final(failure: CallFailed, listener: _Listener | None) -> bool:
    """Whether no other endpoint shall be asked."""
    return failure.error.kind not in _ENDPOINT_FAULTS or (listener is not None and listener.spoken)


@dataclass(eq=False, slots=True)
class _Guest:
    """A call of several accounts: `to` is where it is sent on to, `failed` are those that could not serve it."""

    accounts: Accounts
    to: Endpoint | None = None
    failed: set[Endpoint] = field(default_factory=set)


class Accounts:
    """Endpoints that do the same: one model with each of the keys there are for it. Their quotas add up.

    A call goes into the lane in which it is expected to wait least. That is a guess, so it may leave: whenever a lane
    has decided something and one of them has nothing left to do, or is frozen, or its endpoint is stopped, the first
    call of another lane that would go sooner elsewhere is sent on, one at a time. So no call waits in one lane while
    another has room, and the order of calls holds across lanes. A call that was tried stays with its endpoint.
    """

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = tuple(endpoints)
        self.lanes: tuple[Lane, ...] = tuple(dict.fromkeys(endpoint.lane for endpoint in endpoints))
        self.name = "+".join(lane.account for lane in self.lanes)
        self._turn = 0
        self._moving: set[_Guest] = set()
        self._untold = [endpoint for endpoint in endpoints if endpoint.stopped is not None]
        if len(self.endpoints) > 1:
            for lane in self.lanes:
                lane.watchers.append(self._balance)

    def __repr__(self) -> str:
        return f"<Accounts {self}>"

    def __str__(self) -> str:
        return " + ".join(endpoint.name for endpoint in self.endpoints)

    @property
    def stopped(self) -> bool:
        """Whether none of them serves calls any more."""
        return all(endpoint.stopped is not None for endpoint in self.endpoints)

    async def call(
        self, request: Request, caller: Caller, *, on_text: Callable[[str], None] | None = None, key: str | None = None
    ) -> Reply:
        """The reply of one of them; of another one if that cannot serve. Raises CallFailed with the last one's error.

        Once `on_text` has got something, no other endpoint is asked: it would say it all once more.
        """
        if len(self.endpoints) == 1:
            return await self.endpoints[0].call(request, caller, on_text=on_text, key=key)
        self._tell_stopped(caller)
        guest, listener = _Guest(self), on_text and _Listener(on_text)
        endpoint = self._choose(request, caller, guest)
        try:
            while True:
                try:
                    return await endpoint.call(request, caller, on_text=listener, guest=guest, key=key)
                except Elsewhere:  # to another one, or out of the lane while the run is paused
                    endpoint, guest.to = guest.to or endpoint, None
                    self._moving.discard(guest)
                except CallFailed as failure:
                    guest.failed.add(endpoint)
                    self._balance()  # it may have been stopped
                    if _is_final(failure, listener) or not self._usable(guest):
                        raise
                    endpoint = self._choose(request, caller, guest)
        finally:
            self._moving.discard(guest)

    def _usable(self, guest: _Guest) -> list[Endpoint]:
        return [one for one in self.endpoints if one.stopped is None and one not in guest.failed]

    def _choose(self, request: Request, caller: Caller, guest: _Guest) -> Endpoint:
        """Where this call would wait least; those where it would wait as long take turns."""
        if not (usable := self._usable(guest)):
            return self.endpoints[0]
        self._turn += 1
        turn = self._turn % len(usable)
        waits = _waits(
            (*usable[turn:], *usable[:turn]), characters=request.text_length(),
            max_tokens=request.settings.max_tokens, order=caller.order,
        )  # fmt: skip
        return min(waits, key=waits.__getitem__)

    def _balance(self) -> None:
        """Send a waiting call on, if there is one that would go sooner in another lane."""
        if self._moving:
            return
        waiting = [one for one in self.endpoints if one.row.waiting]
        if not waiting:
            return
        idle = any(one.stopped is None and one not in waiting for one in self.endpoints)
        for donor in waiting:
            held = donor.stopped is not None or donor.row.gate.frozen_until is not None
            if (idle or held) and self._send_on_from(donor):
                return

    def _send_on_from(self, donor: Endpoint) -> bool:
        ticket = donor.lane.first_guest(donor.row)
        if ticket is None or not isinstance(guest := ticket.guest, _Guest) or guest.accounts is not self:
            return False
        waits = _waits(
            self._usable(guest), characters=ticket.characters, max_tokens=ticket.max_tokens, order=ticket.order
        )
        here = waits.pop(donor, math.inf)  # not usable any more: it would wait for nothing
        best = min(waits, key=waits.__getitem__, default=None)
        if best is None or waits[best] + _SOONER_S >= here:
            return False
        guest.to = best
        self._moving.add(guest)
        donor.lane.send_on(ticket)
        return True

    def _tell_stopped(self, caller: Caller) -> None:
        """Say once which accounts cannot be used from the start, if others do their work."""
        untold, self._untold = self._untold, []
        for endpoint in untold if not self.stopped else ():
            assert endpoint.stopped is not None
            text = f"{endpoint.stopped.message}: the other accounts do without it"
            caller.emit(Notice(at=wall(), level="warning", text=text))


def _waits(
    endpoints: Iterable[Endpoint], *, characters: int, max_tokens: int | None, order: OrderKey
) -> dict[Endpoint, float]:
    """How long a call would wait in the lane of each, in seconds."""
    return {
        one: one.lane.outlook(one.row, characters=characters, max_tokens=max_tokens, order=order) for one in endpoints
    }


class Route:
    """Alternatives under one name, in the order in which they are asked; each is an endpoint, or several accounts."""

    def __init__(self, name: str, alternatives: Sequence[Accounts | Endpoint]) -> None:
        self.name = name
        self.alternatives = tuple(one if isinstance(one, Accounts) else Accounts([one]) for one in alternatives)

    def __repr__(self) -> str:
        return f"<Route {self.name}: {', '.join(map(str, self.alternatives))}>"

    @property
    def endpoints(self) -> Iterator[Endpoint]:
        """All that may serve it."""
        return (endpoint for alternative in self.alternatives for endpoint in alternative.endpoints)

    @property
    def lane(self) -> str:
        """The backlog in which calls of this route wait: an account, or several that share the work (`a#1+a#2`)."""
        first, *others = self.alternatives
        return next((one for one in self.alternatives if not one.stopped), first).name if others else first.name

    async def call(self, request: Request, caller: Caller, *, on_text: Callable[[str], None] | None = None) -> Reply:
        """The reply of the first alternative that can serve. Raises CallFailed with the last one's error.

        Once `on_text` has got something, no other endpoint is asked: it would say it all once more.
        """
        key = caller.key_of(request)
        if key is not None and (known := await self._known(key, request, caller)) is not None:
            if on_text is not None:
                on_text(known.text)
            return known
        *others, last = self.alternatives
        listener = on_text and _Listener(on_text)
        for alternative in others:
            if alternative.stopped:
                continue
            try:
                return await alternative.call(request, caller, on_text=listener, key=key)
            except CallFailed as failure:
                if _is_final(failure, listener):
                    raise
        return await last.call(request, caller, on_text=listener, key=key)

    async def _known(self, key: str, request: Request, caller: Caller) -> Reply | None:
        """The answer of one of the alternatives, if somebody knows it. Raises CallFailed where none may be asked."""
        for known in caller.known:
            refused: CallFailed | None = None
            for alternative in self.alternatives:
                endpoint = alternative.endpoints[0]
                full = endpoint.key_of(key)
                assert full is not None
                try:
                    found = await known.find(full, request, address=caller.address)
                except CallFailed as failure:  # another alternative may have answered
                    refused = refused or failure
                    continue
                if found is not None:
                    _take(found, full, request, caller=caller, endpoint=endpoint)
                    return found.reply
            if refused is not None:
                raise refused
        return None


def _take(found: Found, key: str, request: Request, *, caller: Caller, endpoint: Endpoint) -> None:
    """Count an answer that was known, and say so where it is another run's."""
    tally, model = caller.tally, endpoint.model
    tally.model, tally.finish = endpoint.name, found.reply.finish
    tally.attempts += found.attempts
    tally.add(found.usage, found.usd)
    if found.source is None:
        return
    asked = replace(request, model=model.model)
    caller.emit(
        CallSpared(
            at=wall(), call=caller.number(), address=caller.address, agent=caller.agent, account=endpoint.lane.account,
            model=model.model, source=found.source, key=key, request=asked if caller.keep_content else None,
            reply=found.reply if caller.keep_content else None, usd=found.saved_usd,
            simulated=model.simulated,
        )
    )  # fmt: skip

"""A set of endpoints, one of which serves a call. Fallback: the next one is asked when one cannot serve."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import CallFailed, ErrorKind
from ..messages import Reply, Request
from .caller import Caller
from .endpoint import Endpoint

__all__ = ["Route"]

_ENDPOINT_FAULTS: frozenset[ErrorKind] = frozenset({"auth", "quota", "rate", "server", "connection", "timeout"})
"""Errors that say something about the endpoint rather than about the request: another one may do better."""


class Route:
    """One or more endpoints under one name, in the order in which they are asked."""

    def __init__(self, name: str, endpoints: Sequence[Endpoint]) -> None:
        self.name = name
        self.endpoints = tuple(endpoints)

    def __repr__(self) -> str:
        return f"<Route {self.name}: {', '.join(endpoint.name for endpoint in self.endpoints)}>"

    @property
    def lane(self) -> str:
        """The account in whose lane calls of this route wait first."""
        usable = next((e for e in self.endpoints if e.stopped is None), self.endpoints[0])
        return usable.lane.account

    async def call(self, request: Request, caller: Caller, *, on_text: Callable[[str], None] | None = None) -> Reply:
        """The reply of the first endpoint that can serve. Raises CallFailed with the last one's error.

        Once `on_text` has got something, no other endpoint is asked: it would say it all once more.
        """
        *others, last = self.endpoints
        spoken = False

        def speak(text: str) -> None:
            nonlocal spoken
            assert on_text is not None
            spoken = True
            on_text(text)

        for endpoint in others:
            if endpoint.stopped is not None:
                continue
            try:
                return await endpoint.call(request, caller, on_text=on_text and speak)
            except CallFailed as failure:
                if spoken or failure.error.kind not in _ENDPOINT_FAULTS:
                    raise
        return await last.call(request, caller, on_text=on_text)

"""All lanes, transports and endpoints of one mesh: a model's name in, a route out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio.abc
import httpx

from ..catalog import Catalog, ResolvedModel
from ..client.endpoint import Endpoint
from ..client.route import Route
from ..client.transport import DEFAULT_TIMEOUTS, Timeouts, Transport, default_http
from ..limits.lane import Lane
from ..limits.statistics import LaneStatistics
from ..simulate.provider import SimulatedProvider
from ..simulate.transport import InProcessTransport

__all__ = ["Endpoints"]

_IN_PROCESS = "inprocess"


class Endpoints:
    """Makes what is asked for when it is first asked for, and keeps it until `aclose`.

    `http` takes the place of the real transport (tests, own proxies); `seed` is the simulated provider's.
    """

    def __init__(
        self, catalog: Catalog, services: anyio.abc.TaskGroup, *, seed: int = 0,
        http: httpx.AsyncBaseTransport | None = None,
        event_hooks: Mapping[str, Sequence[Callable[..., Any]]] | None = None, timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:  # fmt: skip
        self.catalog = catalog
        self._services = services
        self._seed = seed
        self._given = http
        self._hooks = event_hooks
        self._timeouts = timeouts
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._by_account: dict[str, Lane] = {}
        self._endpoints: dict[str, tuple[Endpoint, ...]] = {}
        self._routes: dict[tuple[str, ...], Route] = {}
        self._transports: dict[str, Transport] = {}

    def __repr__(self) -> str:
        return f"<Endpoints {', '.join(self._endpoints) or 'none yet'}>"

    def route(self, models: Sequence[str]) -> Route:
        """The route over these models, in this order. Raises UserError for a name that nobody serves."""
        key = tuple(models)
        if key not in self._routes:
            endpoints = [endpoint for name in key for endpoint in self._of(name)]
            self._routes[key] = Route(", ".join(key), endpoints)
        return self._routes[key]

    def knows(self, name: str) -> bool:
        """Whether a model has been asked for before, so that nothing need be read for it."""
        return name in self._endpoints

    def _of(self, name: str) -> tuple[Endpoint, ...]:
        if name not in self._endpoints:
            self._endpoints[name] = tuple(
                Endpoint(model, self._lane(model), self._transport(model), timeouts=self._timeouts)
                for model in self.catalog.resolve(name)
            )
        return self._endpoints[name]

    def _lane(self, model: ResolvedModel) -> Lane:
        key = (model.base_url, model.account)
        if key not in self._lanes:
            self._lanes[key] = Lane(
                model.account, model.limits_of("account"), simulated=model.simulated,
                told_sent=not self._in_process(model),
            )  # fmt: skip
            self._by_account.setdefault(model.account, self._lanes[key])
            self._services.start_soon(self._lanes[key].serve, name=f"lane {model.account}")
        return self._lanes[key]

    def _transport(self, model: ResolvedModel) -> Transport:
        kind = f"{_IN_PROCESS}:{model.provider}" if self._in_process(model) else "network"
        if kind not in self._transports:
            self._transports[kind] = Transport(self._http(kind, model), event_hooks=self._hooks)
        return self._transports[kind]

    def _in_process(self, model: ResolvedModel) -> bool:
        return self._given is None and model.base_url.startswith(f"{_IN_PROCESS}://")

    def _http(self, kind: str, model: ResolvedModel) -> httpx.AsyncBaseTransport:
        if kind != "network":
            provider = SimulatedProvider.of(self.catalog.provider(model.provider), seed=self._seed)
            return InProcessTransport(provider)
        return self._given if self._given is not None else default_http()

    def lane_of_account(self, account: str) -> Lane | None:
        """The lane of an account, if one has been made."""
        return self._by_account.get(account)

    def statistics(self) -> tuple[LaneStatistics, ...]:
        """How every lane stands now."""
        return tuple(lane.statistics() for lane in self._lanes.values())

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._transports.values():
            await transport.aclose()

"""All lanes, transports and endpoints of one mesh: a model's name in, a route out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import anyio.abc
import httpx

from ..catalog import Catalog, RateOverride, ResolvedModel
from ..catalog.resolve import accounts_of, rate_scope
from ..client.endpoint import Endpoint
from ..client.route import Accounts, Route
from ..client.transport import DEFAULT_TIMEOUTS, Timeouts, Transport, default_http
from ..limits.lane import Lane
from ..limits.statistics import LaneStatistics
from ..rates import Limit, parse_limit_name
from ..simulate.behaviour import served_by
from ..simulate.provider import SimulatedProvider
from ..simulate.transport import InProcessTransport
from .memories import Memories

__all__ = ["Endpoints"]

_IN_PROCESS = "inprocess"


class Endpoints:
    """Makes what is asked for when it is first asked for, and keeps it until `aclose`.

    `http` takes the place of the real transport (tests, own proxies); `seed` is the simulated provider's. `memories`
    has what earlier processes knew of the accounts, None for nothing.
    """

    def __init__(
        self, catalog: Catalog, services: anyio.abc.TaskGroup, *, seed: int = 0,
        http: httpx.AsyncBaseTransport | None = None,
        event_hooks: Mapping[str, Sequence[Callable[..., Any]]] | None = None, timeouts: Timeouts = DEFAULT_TIMEOUTS,
        memories: Memories | None = None,
    ) -> None:  # fmt: skip
        self.catalog = catalog
        self._services = services
        self._seed = seed
        self._given = http
        self._hooks = event_hooks
        self._timeouts = timeouts
        self._memories = memories
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._backlogs: dict[str, tuple[Lane, ...]] = {}  # the lanes that pull from each
        self._pulling: dict[str, list[str]] = {}  # the backlogs that each account pulls from
        self._accounts: dict[str, Accounts] = {}
        self._routes: dict[tuple[str, ...], Route] = {}
        self._transports: dict[str, Transport] = {}

    def __repr__(self) -> str:
        return f"<Endpoints {', '.join(self._accounts) or 'none yet'}>"

    def route(self, models: Sequence[str]) -> Route:
        """The route over these models, in this order. Raises UserError for a name that nobody serves."""
        key = tuple(models)
        if key not in self._routes:
            self._routes[key] = Route(", ".join(key), [self._of(name) for name in key])
        return self._routes[key]

    def read(self, name: str) -> None:
        """Read all that there is about a model: its provider's file, its keys, what is known of its accounts. Blocks.

        Raises UserError for a name that nobody serves.
        """
        for model in self.catalog.resolve(name):
            if (memories := self._memories_for(model)) is not None:
                memories.read(model.base_url, model.account)

    def has_read(self, name: str) -> bool:
        """Whether nothing need be read any more before a model is asked."""
        if name in self._accounts:
            return True
        if not self.catalog.has_resolved(name):
            return False
        found = [(self._memories_for(model), model) for model in self.catalog.resolve(name)]
        return all(memories is None or memories.has_read(model.base_url, model.account) for memories, model in found)

    def _of(self, name: str) -> Accounts:
        if name not in self._accounts:
            accounts = self._accounts[name] = Accounts(
                [
                    Endpoint(model, self._lane(model), self._transport(model), timeouts=self._timeouts)
                    for model in self.catalog.resolve(name)
                ]
            )
            if accounts.name not in self._backlogs:
                self._backlogs[accounts.name] = accounts.lanes
                for lane in accounts.lanes:
                    self._pulling.setdefault(lane.account, []).append(accounts.name)
        return self._accounts[name]

    def _lane(self, model: ResolvedModel) -> Lane:
        key = (model.base_url, model.account)
        if key not in self._lanes:
            memories = self._memories_for(model)
            lane = self._lanes[key] = Lane(
                model.account, model.limits_of("account"), simulated=model.simulated,
                told_sent=not self._in_process(model), memory=None if memories is None else memories.of(*key),
            )  # fmt: skip
            self._services.start_soon(lane.serve, name=f"lane {model.account}")
            if memories is not None:
                self._services.start_soon(memories.keep, lane, model.base_url, name=f"memory of lane {model.account}")
        return self._lanes[key]

    def _memories_for(self, model: ResolvedModel) -> Memories | None:
        """Where it is kept what a model's account is known for: nowhere if its calls do not leave the process."""
        return None if self._in_process(model) else self._memories

    def _transport(self, model: ResolvedModel) -> Transport:
        kind = f"{_IN_PROCESS}:{model.account}" if self._in_process(model) else "network"
        if kind not in self._transports:
            self._transports[kind] = Transport(self._http(kind, model), event_hooks=self._hooks)
        return self._transports[kind]

    def _in_process(self, model: ResolvedModel) -> bool:
        return self._given is None and model.base_url.startswith(f"{_IN_PROCESS}://")

    def _http(self, kind: str, model: ResolvedModel) -> httpx.AsyncBaseTransport:
        if kind != "network":
            account = accounts_of(self.catalog.provider(model.provider).spec)[model.account]
            return InProcessTransport(SimulatedProvider(served_by(account, seed=self._seed)))
        return self._given if self._given is not None else default_http()

    def set_rates(self, rates: Iterable[RateOverride], catalog: Catalog) -> None:
        """From now on these limits hold: for what is asked already, and by this catalogue for what is asked later."""
        self.catalog = catalog
        for rate in rates:
            self._set_rate(rate)

    def _set_rate(self, rate: RateOverride) -> None:
        provider, _, _ = rate.target.partition("/")[0].partition("#")
        unit, window = parse_limit_name(rate.limit)
        limit = Limit(unit, rate.value, window)
        accounts = accounts_of(self.catalog.provider(provider).spec)
        for lane in (lane for lane in self._lanes.values() if lane.account in accounts):
            spec = accounts[lane.account]
            scopes = {rate_scope(rate, lane.account, spec=spec, model=row.model): row for row in lane.rows}
            for scope, row in scopes.items():
                if scope == "account":
                    lane.set_limit(limit)
                elif scope is not None:
                    lane.set_limit(limit, of=row, pool=scope.partition(":")[2] or None)

    def turn_away(self, run: str) -> None:
        """Let all calls of a run that wait in lanes leave them: they ask again, if it goes on."""
        for lane in self._lanes.values():
            lane.turn_away(run)

    def room(self, backlog: str) -> int | None:
        """How many calls of a backlog may be live: the sum over the lanes that pull from it. None if there are none."""
        lanes = self._backlogs.get(backlog)
        return None if lanes is None else sum(lane.room() for lane in lanes)

    def backlogs(self, account: str) -> Sequence[str]:
        """The backlogs from which an account's lane pulls: its own, and those that it shares with other accounts."""
        return self._pulling.get(account, ())

    def statistics(self) -> tuple[LaneStatistics, ...]:
        """How every lane stands now."""
        return tuple(lane.statistics() for lane in self._lanes.values())

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._transports.values():
            await transport.aclose()

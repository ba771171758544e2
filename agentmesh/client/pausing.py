"""The pause of a run: while it lasts nothing new is sent, its deadlines and the time of its budgets stand still."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from ..clock import monotonic
from .budget import Budget

__all__ = ["Pause", "Paused"]


class Paused(Exception):
    """A call was admitted while its run was paused: it is not sent, and comes again when the run goes on."""


class Pause:
    """Whether a run is paused. Who has something to send waits for `wait_over` first, and asks again once admitted."""

    __slots__ = ("_budgets", "_deadlines", "_lasted", "_over", "_since")

    def __init__(self) -> None:
        self._over: anyio.Event | None = None
        self._since = self._lasted = 0.0
        self._budgets: set[Budget] = set()
        self._deadlines: dict[anyio.CancelScope, float] = {}  # of each, the seconds that it had left when it stopped

    def __repr__(self) -> str:
        return f"<Pause {'on' if self.on else 'off'}>"

    @property
    def on(self) -> bool:
        """Whether nothing new is to be sent now."""
        return self._over is not None

    def begin(self) -> None:
        """From now on."""
        if self._over is None:
            self._over, self._since = anyio.Event(), monotonic()
            for budget in self._budgets:
                budget.pause()
            for scope in self._deadlines:
                self._stop(scope)

    def end(self) -> None:
        """Go on."""
        if self._over is not None:
            self._over.set()
            self._over = None
            self._lasted += monotonic() - self._since
            for budget in self._budgets:
                budget.unpause()
            for scope, left in self._deadlines.items():
                scope.deadline = monotonic() + left

    @property
    def seconds(self) -> float:
        """For how long it has lasted in all."""
        return self._lasted + (monotonic() - self._since if self.on else 0.0)

    def stops_time_of(self, budget: Budget) -> None:
        """From now on the time of this budget stands still whenever the run is paused."""
        if budget not in self._budgets:
            self._budgets.add(budget)
            if self.on:
                budget.pause()

    async def wait_over(self) -> None:
        """Return when it is not paused."""
        while self._over is not None:
            await self._over.wait()

    @contextmanager
    def stops(self, scope: anyio.CancelScope) -> Iterator[None]:
        """While inside, the time of this scope stands still whenever the run is paused."""
        self._deadlines[scope] = math.inf
        if self.on:
            self._stop(scope)
        try:
            yield
        finally:
            del self._deadlines[scope]

    def _stop(self, scope: anyio.CancelScope) -> None:
        self._deadlines[scope] = scope.deadline - monotonic()
        scope.deadline = math.inf

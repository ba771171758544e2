"""Budgets in a run: they count what its earlier processes have spent, and no time in which it is paused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import anyio

from ..client.budget import Budget
from ..client.pausing import Pause

if TYPE_CHECKING:
    from .recall import Recall

__all__ = ["Carrying"]


class _Of(NamedTuple):
    """Whose calls: those of an agent, or those at and under an address."""

    agent: str | None = None
    task: str | None = None


class Carrying:
    """Finds what was spent before, once a budget is needed: it is read from the journal, which takes a while.

    A budget that was there when an earlier process of the run was this very one has counted it already.
    """

    def __init__(self, run: str, recall: Recall | None, *, pause: Pause) -> None:
        self._run = run
        self._pause = pause
        self._recall = recall
        self._is_new: dict[Budget, bool] = {}  # to this run
        self._due: dict[Budget, dict[_Of, None]] = {}
        self._done: set[tuple[Budget, _Of]] = set()
        self._alone = anyio.Lock()

    def __repr__(self) -> str:
        return f"<Carrying {len(self._done)} sums, {len(self._due)} budgets to come>"

    def note(self, budget: Budget, *, agent: str | None = None, task: str | None = None) -> None:
        """A budget counts the calls of an agent, or those at and under an address."""
        self._pause.stops_time_of(budget)
        if self._recall is None:
            budget.joins(self._run)
            return
        if budget not in self._is_new:
            self._is_new[budget] = budget.joins(self._run)
        of = _Of(agent, task)
        if self._is_new[budget] and (budget, of) not in self._done:
            self._due.setdefault(budget, {})[of] = None

    async def carry(self, budgets: Iterable[Budget]) -> None:
        """Have these count what was spent before, before anything more is."""
        if self._recall is None or not any(budget in self._due for budget in budgets):
            return
        async with self._alone:
            for budget in budgets:
                while due := self._due.get(budget):
                    of = next(iter(due))
                    spent = await self._recall.spent(task=of.task, agent=of.agent)
                    if spent.calls:
                        budget.carry(spent[:3], seconds=spent.seconds)
                    self._done.add((budget, of))
                    del due[of]
                    if not due:
                        del self._due[budget]

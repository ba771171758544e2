"""Budgets: dollars, tokens, calls and time, reserved before a call at its highest possible cost and settled after it.

Budgets nest (a call's, its agent's, its task's, the run's), and each must have room. When one has none, but calls in
flight may give some back, a call waits for that like for a lane; when nothing can come back, it is over.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import anyio

from ..clock import monotonic
from ..errors import BudgetExceeded

__all__ = ["BUDGET_UNITS", "Budget", "BudgetStatistics", "Budgets", "Reservation"]

BUDGET_UNITS = ("usd", "tokens", "calls", "time")

Amounts = tuple[float, float, float]
"""Dollars, tokens and calls."""
_NOTHING: Amounts = (0.0, 0.0, 0.0)

_EPSILON = 1e-9  # so far sums of floats may be off
_WARN_AT = 0.8
_FEW_CALLS = 5
"""A budget of fewer calls has no room between a warning and its end."""


@dataclass(frozen=True, slots=True)
class BudgetStatistics:
    """How a budget stands: its bounds (None: no bound), and what is spent and reserved."""

    name: str
    usd: float | None
    tokens: float | None
    calls: float | None
    time: float | None
    spent_usd: float
    spent_tokens: float
    spent_calls: float
    reserved_usd: float
    waiting: int


class Budget:
    """One budget. `usd` in dollars, `tokens` input and output together, `calls` attempts, `time` in seconds from the
    beginning of its run, or else from the first call that counts against it.

    Time in which a run that counts against it is paused does not count, except in that of a mesh.
    """

    def __init__(
        self, *, usd: float | None = None, tokens: float | None = None, calls: float | None = None,
        time: float | None = None, name: str = "budget",
    ) -> None:  # fmt: skip
        self.name = name
        self.usd, self.tokens, self.calls, self.time = usd, tokens, calls, time
        for unit, bound in (("usd", usd), ("tokens", tokens), ("calls", calls), ("time", time)):
            if bound is not None and not (bound >= 0 and math.isfinite(bound)):
                raise ValueError(f"a budget's {unit} must be a number from 0 on, not {bound}")
        self._spent = [0.0, 0.0, 0.0]
        self._reserved = [0.0, 0.0, 0.0]
        self._began: float | None = None
        self._pauses = 0  # of runs, now
        self._paused_at = 0.0
        self._freed: anyio.Event | None = None  # made by the first who waits
        self._waiting = 0
        self._runs: tuple[str, ...] = ()
        self._untold = tuple(unit for unit in BUDGET_UNITS if getattr(self, unit) is not None)  # that it nears its end
        if calls is not None and calls < _FEW_CALLS:
            self._untold = tuple(unit for unit in self._untold if unit != "calls")

    def __repr__(self) -> str:
        return f"<Budget {self.name}: {self.statistics()}>"

    @property
    def bounds_size(self) -> bool:
        """Whether it counts what depends on the length of replies: then max_tokens must be explicit."""
        return self.usd is not None or self.tokens is not None

    def statistics(self) -> BudgetStatistics:
        """How it stands now."""
        return BudgetStatistics(
            self.name, self.usd, self.tokens, self.calls, self.time,
            spent_usd=self._spent[0], spent_tokens=self._spent[1], spent_calls=self._spent[2],
            reserved_usd=self._reserved[0], waiting=self._waiting,
        )  # fmt: skip

    def begin(self) -> None:
        """Time counts from here on."""
        if self._began is None:
            self._began = self._now

    def pause(self) -> None:
        """Its time stands still from now on, until `unpause` was said as often."""
        if not self._pauses:
            self._paused_at = monotonic()
        self._pauses += 1
        self._wake()

    def unpause(self) -> None:
        """Its time goes on."""
        self._pauses -= 1
        if not self._pauses and self._began is not None:
            self._began += monotonic() - self._paused_at
        self._wake()

    @property
    def _now(self) -> float:
        return self._paused_at if self._pauses else monotonic()

    def carry(self, spent: Amounts, *, seconds: float = 0.0) -> None:
        """Count what earlier processes of the run have spent, and the time they took."""
        self.spend(spent)
        self._began = min(self._began or math.inf, self._now - seconds)

    def joins(self, run: str) -> bool:
        """Whether this is the first that it hears of a run: what that has spent before is not counted yet."""
        is_new = run not in self._runs
        if is_new:
            self._runs = (*self._runs, run)
        return is_new

    def warnings(self) -> list[str]:
        """What is to be said of it now: once for each unit of which four fifths are spent."""
        found = []
        for unit in self._untold:
            place, bound = BUDGET_UNITS.index(unit), getattr(self, unit)
            used = self._spent[place] if place < len(self._spent) else self.seconds
            if used >= _WARN_AT * bound - _EPSILON:
                self._untold = tuple(other for other in self._untold if other != unit)
                found.append(f"{self.name}: {_amounts(unit, used, bound)}")
        return found

    @property
    def seconds(self) -> float:
        """For how long its time has run, in all processes of a run; asked in an event loop."""
        return 0.0 if self._began is None else self._now - self._began

    def over(self, need: Amounts) -> tuple[str, float, float] | None:
        """The unit, its bound and what is spent of it, if `need` cannot fit even when all reservations come back."""
        if self.time is not None and self._began is not None and self.time_left <= _EPSILON:
            return "time", self.time, self.seconds
        for place, bound in enumerate((self.usd, self.tokens, self.calls)):
            if bound is not None and self._spent[place] + need[place] > bound + _EPSILON:
                return BUDGET_UNITS[place], bound, self._spent[place]
        return None

    @property
    def time_left(self) -> float:
        """Seconds until its time is over, from 0 on."""
        if self.time is None or self._began is None:
            return math.inf if self.time is None else self.time
        return max(0.0, self._began + self.time - self._now)

    def fits(self, need: Amounts) -> bool:
        """Whether `need` fits beside what is spent and reserved."""
        for place, bound in enumerate((self.usd, self.tokens, self.calls)):
            if bound is not None and self._spent[place] + self._reserved[place] + need[place] > bound + _EPSILON:
                return False
        return True

    def hold(self, need: Amounts) -> None:
        """Reserve so much."""
        for place, amount in enumerate(need):
            self._reserved[place] += amount

    def give_back(self, need: Amounts) -> None:
        """What was reserved is not any more."""
        for place, amount in enumerate(need):
            self._reserved[place] = max(0.0, self._reserved[place] - amount)

    def spend(self, cost: Amounts) -> None:
        """Count what a call really cost, and wake who waits."""
        for place, amount in enumerate(cost):
            self._spent[place] += amount
        self._wake()

    def _wake(self) -> None:
        if self._freed is not None:
            self._freed.set()
            self._freed = None

    async def wait_freed(self) -> None:
        """Wait until a reservation was settled, the time is over, or it begins to stand still or goes on."""
        self._waiting += 1
        if self._freed is None:
            self._freed = anyio.Event()
        try:
            with anyio.move_on_after(None if self.time is None or self._pauses else self.time_left):
                await self._freed.wait()
        finally:
            self._waiting -= 1


@dataclass(eq=False, slots=True)
class Reservation:
    """What one attempt holds of every budget that it counts against; `paid`, in dollars and tokens, once settled."""

    budgets: tuple[Budget, ...]
    need: Amounts
    paid: tuple[float | None, float | None] = (None, None)

    def settle(self, *, usd: float = 0.0, tokens: float = 0.0, calls: float = 1.0) -> None:
        """Replace the reservation by what the attempt really cost."""
        budgets, self.budgets = self.budgets, ()
        if budgets:
            self.paid = usd, tokens
        for budget in budgets:
            budget.give_back(self.need)
            budget.spend((usd, tokens, calls))

    def settle_whole(self) -> None:
        """The attempt broke and may have been paid for: count all that was reserved."""
        usd, tokens, calls = self.need
        self.settle(usd=usd, tokens=tokens, calls=calls)

    def cancel(self) -> None:
        """Nothing was sent."""
        self.settle(calls=0.0)


class Budgets(tuple[Budget, ...]):
    """The budgets a call counts against, innermost first."""

    __slots__ = ()

    def __new__(cls, budgets: Iterable[Budget | None] = ()) -> Self:
        return super().__new__(cls, (budget for budget in budgets if budget is not None))

    @property
    def bound_size(self) -> bool:
        """Whether any of them makes max_tokens explicit."""
        return bool(self) and any(budget.bounds_size for budget in self)

    @property
    def bound_usd(self) -> bool:
        """Whether any of them is in dollars, so that prices must be known."""
        return bool(self) and any(budget.usd is not None for budget in self)

    @property
    def time_left(self) -> float | None:
        """Seconds until the first of them runs out of time; None if none of them counts it."""
        left = [budget.time_left for budget in self if budget.time is not None]
        return min(left) if left else None

    def warnings(self) -> list[str]:
        """What is to be said of them now, see Budget."""
        return [text for budget in self for text in budget.warnings()]

    def check_time(self) -> None:
        """Raise BudgetExceeded if one of them has run out of time: what has waited that long is not sent any more."""
        for budget in reversed(self):
            over = budget.over(_NOTHING) if budget.time is not None else None
            if over is not None and over[0] == "time":
                raise BudgetExceeded(_message(budget, over, _NOTHING), unit="time", budget=budget)

    async def reserve(self, *, usd: float, tokens: float) -> Reservation:
        """Hold the highest possible cost of one attempt, waiting for calls in flight to give some back if need be.

        Raises BudgetExceeded, naming the outermost budget that has ended, when waiting cannot help.
        """
        need = (usd, tokens, 1.0)
        while self:
            for budget in reversed(self):
                budget.begin()
                if (over := budget.over(need)) is not None:
                    message, amount = _message(budget, over, need), (*need, 0.0)[BUDGET_UNITS.index(over[0])]
                    raise BudgetExceeded(message, unit=over[0], budget=budget, need=amount)
            for budget in self:
                if not budget.fits(need):
                    await budget.wait_freed()
                    break
            else:
                for budget in self:
                    budget.hold(need)
                return Reservation(self, need)
        return Reservation((), need)


def _message(budget: Budget, over: tuple[str, float, float], need: Amounts) -> str:
    unit, bound, spent = over
    if unit == "time":
        return f"the {budget.name} of {bound:g} s is used up"
    left, amount = bound - spent, need[BUDGET_UNITS.index(unit)]
    if unit == "usd":
        costs = f"the next call could cost ${amount:,.4f}"
        return f"the {budget.name} of {_dollars(bound)} has ${left:,.4f} left, and {costs}"
    unit = unit.removesuffix("s") if bound == 1 else unit
    return f"the {budget.name} of {bound:,.0f} {unit} has {left:,.0f} left, and the next call could need {amount:,.0f}"


def _dollars(usd: float) -> str:
    return f"${usd:,.2f}" if usd >= 0.1 or usd == 0 else f"${usd:.4f}"


def _amounts(unit: str, used: float, bound: float) -> str:
    share = f"({100 * used / bound:.0f} %)" if bound else "(all)"
    match unit:
        case "usd":
            return f"{_dollars(used)} of {_dollars(bound)} are spent {share}"
        case "time":
            return f"{used:{',.0f' if bound >= 10 else '.2g'}} of {bound:,g} s are over {share}"
    return f"{used:,.0f} of {bound:,.0f} {unit} are used {share}"

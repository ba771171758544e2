"""What a run has left undone, what finishing it may cost, and with which budget that could be done: estimates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..client.budget import Budget
from .record import Cost

if TYPE_CHECKING:
    from .run import Run

__all__ = ["Left", "left_of"]

_SPARE = 1.25
"""Of what finishing is estimated to cost, so much is suggested: items differ, and some calls are tried again."""


@dataclass(frozen=True, slots=True)
class Left:
    """Unfinished tasks by name; `grows` says that more may come that are not known yet.

    `cost` is what they should cost, from what the items of the same tasks have cost so far; it leaves out the tasks in
    `unknown`, of which no item has ended. `matches` says of tournaments how many it counts: as many as may still be
    played, though they end earlier where the order is clear. `budget` is the unit of the budget that has ended, and a
    bound in it with which the run should get to its end.
    """

    tasks: Mapping[str, int]
    grows: bool
    cost: Cost
    unknown: tuple[str, ...] = ()
    matches: Mapping[str, int] = field(default_factory=dict)
    budget: tuple[str, float] | None = None


def left_of(run: Run, *, expected: Mapping[str, int] | None = None) -> Left | None:
    """What a run has left undone; None if that is nothing. `expected` says how many items a task has in all."""
    state = run.runner.state
    open_nodes = [node for node in state.nodes.values() if not node.ended]
    tasks = Counter(node.address.task for node in open_nodes)
    for name, number in (expected or {}).items():
        tasks[name] = max(tasks[name], number - sum(run.record.counts.get(name, {}).values()))
    grows = any(group.open for group in state.collections.values() if group.name not in (expected or {}))
    tasks = +tasks
    if not tasks and not grows:
        return None
    calling = {node.address.task for node in open_nodes if node.payload is not None and node.payload.is_call}
    calling.update(expected or {})
    cost, unknown, matches = Cost(), [], {}
    for name, number in tasks.items():
        known = run.record.costs.get(name)
        if (more := run.record.matches.get(name, lambda: None)()) is not None:
            matches[name] = round(more.items)
            cost.add(more)
        elif known is not None and known.items:
            cost.add(known, number / known.items)
        elif name in calling:
            unknown.append(name)
    budget = _budget(run, cost, sum(tasks[name] for name in unknown))
    return Left(dict(tasks), grows, cost, tuple(unknown), matches, budget)


def _budget(run: Run, cost: Cost, unknown: int) -> tuple[str, float] | None:
    """With what is known, and for `unknown` items what an item has cost on average."""
    over = run.exceeded
    if over is None or not isinstance(over.budget, Budget):
        return None
    so_far, more = Cost(), Cost()
    for one in run.record.costs.values():
        so_far.add(one)
    more.add(cost)
    if unknown and so_far.items:
        more.add(so_far, unknown / so_far.items)
    budget = over.budget.statistics()
    match over.unit:
        case "usd":
            bound, spent, needed = budget.usd, budget.spent_usd, more.usd
        case "tokens":
            bound, spent, needed = budget.tokens, budget.spent_tokens, more.tokens
        case "calls":
            bound, spent, needed = budget.calls, budget.spent_calls, more.calls
        case _:
            calls = run.record.usage.calls
            share = more.calls / calls if calls else 1.0
            bound, spent, needed = budget.time, over.budget.seconds, over.budget.seconds * share
    return over.unit, _round_up(
        max(spent + _SPARE * needed + over.need, _SPARE * (bound or 0.0)), whole=over.unit != "usd"
    )


def _round_up(amount: float, *, whole: bool) -> float:
    """To two figures, so that it reads like a decision; `whole` is without decimals."""
    if amount <= 0:
        return 1.0
    step = 10.0 ** (math.floor(math.log10(amount)) - 1)
    if whole:
        step = max(1.0, step)
    return round(math.ceil(amount / step - 1e-9) * step, 10)

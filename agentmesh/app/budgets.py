"""The option `--budget`: what a run may cost, as people write it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from ..client.budget import BUDGET_UNITS, Budget
from ..errors import UserError
from ..marked_yaml import did_you_mean
from ..workflow.plan import Workflow
from ..workflow.spec import BudgetSpec
from ..workflow.units import parse_duration
from .wording import count, duration, plural

__all__ = [
    "BudgetOption",
    "budget_option",
    "budget_over",
    "budget_words",
    "newest_bounds",
    "read_bounds",
    "read_budget",
]

BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="UNIT=N",
        help="Stop before more is spent: usd=2, calls=500, tokens=1000000, time=15m. Repeatable.",
    ),
]


def newest_bounds(before: Sequence[str] | None, now: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The texts that hold for a run that goes on, the newest of each unit; and what to say of those from before."""
    said = {_unit(text) for text in now or ()}
    kept = [text for text in before or () if _unit(text) not in said]
    told = f"the budget that this run was last given holds ({', '.join(kept)}); --budget gives it another"
    return [*kept, *(now or ())], [told] if kept else []


def _unit(text: str) -> str:
    return text.partition("=")[0]


def read_bounds(texts: Sequence[str]) -> dict[str, float]:
    """The bounds that texts `usd=2`, `time=15m` set, by unit. Raises UserError."""
    bounds: dict[str, float] = {}
    for text in texts:
        unit, equals, value = text.partition("=")
        if not equals or unit not in BUDGET_UNITS:
            near = None if unit in BUDGET_UNITS else did_you_mean(unit, BUDGET_UNITS)
            hint = near or f"write {', '.join(f'{name}=N' for name in BUDGET_UNITS)}"
            raise UserError(f"--budget {text}: this is no budget ({hint})")
        if unit in bounds:
            raise UserError(f"--budget {text}: {unit} is given twice")
        try:
            bounds[unit] = parse_duration(value) if unit == "time" else _positive(value.removeprefix("$"), unit)
        except ValueError as error:
            raise UserError(f"--budget {text}: {unit} {error}") from None
    return bounds


def read_budget(texts: Sequence[str]) -> Budget | None:
    """One budget from such texts; None if there are none. Raises UserError."""
    bounds = read_bounds(texts)
    if not bounds:
        return None
    return Budget(
        usd=bounds.get("usd"), tokens=bounds.get("tokens"), calls=bounds.get("calls"), time=bounds.get("time")
    )


def budget_over(workflow: Workflow, texts: Sequence[str]) -> Workflow:
    """The workflow with these bounds in its own budget, in place of those of the same units. Raises UserError."""
    bounds = read_bounds(texts)
    if not bounds:
        return workflow
    own = workflow.limits.budget or BudgetSpec()
    return replace(workflow, limits=replace(workflow.limits, budget=own.model_copy(update=bounds)))


def budget_words(budget: Budget | None) -> str:
    """How a budget stands in all but dollars, which are shown where they are spent: `251 of 500 calls, ...`."""
    if budget is None:
        return ""
    now = budget.statistics()
    parts = []
    for unit, used, bound in (("call", now.spent_calls, now.calls), ("token", now.spent_tokens, now.tokens)):
        if bound is not None:
            parts.append(f"{count(round(used))} of {plural(round(bound), unit)}")
    if now.time is not None:
        parts.append(f"{duration(min(budget.seconds, now.time))} of {duration(now.time)}")
    return ", ".join(parts)


def budget_option(unit: str, bound: float) -> str:
    """A bound as it is given on the command line: `--budget usd=5`."""
    if unit == "time":
        text = f"{bound / 60:.0f}m" if bound >= 600 else f"{bound:.0f}s"
    else:
        text = f"{bound:.2f}".removesuffix(".00") if unit == "usd" and bound >= 1 else f"{bound:.10g}"
    return f"--budget {unit}={text}"


def _positive(text: str, unit: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError("must be a number above 0")
    if unit != "usd" and number != int(number):
        raise ValueError("must be a whole number above 0")
    return number

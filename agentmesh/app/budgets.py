"""The option `--budget`: what a run may cost, as people write it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import typer

from ..client.budget import Budget
from ..errors import UserError
from ..marked_yaml import did_you_mean
from ..workflow.units import parse_duration

__all__ = ["BudgetOption", "read_budget"]

_UNITS = ("usd", "calls", "tokens", "time")

BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="UNIT=N",
        help="Stop before more is spent: usd=2, calls=500, tokens=1000000, time=15m. Repeatable.",
    ),
]


def read_budget(texts: Sequence[str]) -> Budget | None:
    """One budget from texts `usd=2`, `time=15m`; None without any. Raises UserError."""
    bounds: dict[str, float] = {}
    for text in texts:
        unit, equals, value = text.partition("=")
        if not equals or unit not in _UNITS:
            hint = did_you_mean(unit, _UNITS) or f"write {', '.join(f'{name}=N' for name in _UNITS)}"
            raise UserError(f"--budget {text}: this is no budget ({hint})")
        if unit in bounds:
            raise UserError(f"--budget {text}: {unit} is given twice")
        try:
            bounds[unit] = parse_duration(value) if unit == "time" else _positive(value.removeprefix("$"))
        except ValueError as error:
            raise UserError(f"--budget {text}: {unit} {error}") from None
    if not bounds:
        return None
    return Budget(
        usd=bounds.get("usd"), tokens=bounds.get("tokens"), calls=bounds.get("calls"), time=bounds.get("time")
    )


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError("must be a number above 0")
    return number

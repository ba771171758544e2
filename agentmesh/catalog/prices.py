"""Prices of a model, with the conditions under which they hold, and what a call costs by them."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ..messages import Tokens

__all__ = ["Day", "LaxDate", "Price", "Prices"]

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(r"([01]\d|2[0-4]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")
_PER = 1_000_000
"""Prices are dollars per so many tokens."""


@lru_cache(maxsize=256)
def _span(text: str) -> tuple[int, int]:
    """`01:00-04:00` as minutes of the day. Raises ValueError for anything else."""
    match = _HOURS.fullmatch(text)
    if match is None:
        raise ValueError(f"must be hours such as 01:00-04:00, not '{text[:20]}'")
    begin_h, begin_m, end_h, end_m = (int(part) for part in match.groups())
    begin, end = begin_h * 60 + begin_m, end_h * 60 + end_m
    if begin >= 24 * 60 or end > 24 * 60 or begin == end:
        raise ValueError(f"must be hours such as 01:00-04:00, not '{text}'")
    return begin, end


def _several_hours(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _checked_hours(value: list[str]) -> list[str]:
    for span in value:
        _span(span)
    return value


Hours = Annotated[
    list[str],
    BeforeValidator(_several_hours, json_schema_input_type=str | list[str]),
    AfterValidator(_checked_hours),
    Field(min_length=1),
]
Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]
LaxDate = Annotated[datetime.date, Field(strict=False)]


class Price(BaseModel):
    """Dollars per million tokens. Input that is read from or written to a cache costs as `input` unless it is said.

    Conditions: `from` and `until` are the first and the last day (UTC), `days` and `hours_utc` when it holds in the
    week (`01:00-04:00`; over midnight is allowed), `above_input` that the whole request has more input tokens.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    input: Dollars
    output: Dollars
    cached_input: Dollars | None = None
    cache_write: Dollars | None = None
    from_: LaxDate | None = Field(default=None, alias="from")
    until: LaxDate | None = None
    days: list[Day] | None = Field(default=None, min_length=1)
    hours_utc: Hours | None = None
    above_input: int | None = Field(default=None, gt=0)

    def holds(self, *, at: float, input_tokens: int) -> bool:
        """Whether these prices hold for a call at wall time `at` with so many input tokens."""
        if self.above_input is not None and input_tokens <= self.above_input:
            return False
        if not (self.from_ or self.until or self.days or self.hours_utc):
            return True
        when = datetime.datetime.fromtimestamp(at, datetime.UTC)
        minute = when.hour * 60 + when.minute
        return (
            (self.from_ is None or when.date() >= self.from_)
            and (self.until is None or when.date() <= self.until)
            and (self.days is None or _DAYS[when.weekday()] in self.days)
            and (self.hours_utc is None or any(_within(minute, span) for span in self.hours_utc))
        )

    def cost(self, *, fresh: int, cached: int, written: int, output: int) -> float:
        """Dollars for so many tokens of each sort."""
        cached_price = self.input if self.cached_input is None else self.cached_input
        write_price = self.input if self.cache_write is None else self.cache_write
        return (fresh * self.input + cached * cached_price + written * write_price + output * self.output) / _PER

    @property
    def highest_input(self) -> float:
        """The dearest that a million input tokens can be, whatever a cache does with them."""
        return max(self.input, self.cached_input or 0.0, self.cache_write or 0.0)


def _within(minute: int, span: str) -> bool:
    begin, end = _span(span)
    return begin <= minute < end if begin < end else minute >= begin or minute < end


@dataclass(frozen=True, slots=True)
class Prices:
    """What a model costs. Of the prices whose conditions hold, the last one in the list counts.

    None for `entries` means that the price is unknown, an empty tuple that the model is free.
    """

    entries: tuple[Price, ...] | None = None

    @property
    def known(self) -> bool:
        return self.entries is not None

    @property
    def free(self) -> bool:
        return self.entries == ()

    def cost(self, tokens: Tokens, *, at: float) -> float | None:
        """Dollars for a reply that used `tokens` at wall time `at`; None where the price or the use is unknown.

        What the provider itself states (`tokens.usd`) wins.
        """
        if tokens.usd is not None:
            return tokens.usd
        if self.entries is None:
            return None
        if not self.entries:
            return 0.0
        price = self._at(at, tokens.input or 0)
        if price is None or tokens.input is None or tokens.output is None:
            return None
        cached, written = tokens.cached or 0, tokens.cache_write or 0
        fresh = max(0, tokens.input - cached - written)
        return price.cost(fresh=fresh, cached=cached, written=written, output=tokens.output)

    def highest(self, input_tokens: int, max_output: int) -> float | None:
        """The most dollars that such a call can cost at any time; None where the price is unknown."""
        if self.entries is None:
            return None
        return max(
            (
                (input_tokens * price.highest_input + max_output * price.output) / _PER
                for price in self.entries
                if price.above_input is None or input_tokens > price.above_input
            ),
            default=0.0 if not self.entries else None,
        )

    def _at(self, at: float, input_tokens: int) -> Price | None:
        for price in reversed(self.entries or ()):
            if price.holds(at=at, input_tokens=input_tokens):
                return price
        return None

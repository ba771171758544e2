"""Lengths of time as people write them, read as intervals of seconds.

A month has 28 to 31 days and a year 365 or 366, so a length is an interval; all other units make it a point.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from decimal import Decimal

__all__ = ["Interval", "parse_duration", "seconds_of"]

_DAY = 86_400
_LONGEST_NUMBER = 20  # characters: beyond this, sums would lose digits
_BOUNDS = {
    "second": (1, 1), "minute": (60, 60), "hour": (3_600, 3_600), "day": (_DAY, _DAY), "week": (7 * _DAY, 7 * _DAY),
    "month": (28 * _DAY, 31 * _DAY), "year": (365 * _DAY, 366 * _DAY),
}  # fmt: skip
_SHORT = {"sec": "second", "min": "minute", "h": "hour", "d": "day", "w": "week", "m": "month"}
_UNITS = {
    **_BOUNDS, **{name + "s": bounds for name, bounds in _BOUNDS.items()},
    **{name: _BOUNDS[unit] for name, unit in _SHORT.items()}, "secs": _BOUNDS["second"], "mins": _BOUNDS["minute"],
}  # fmt: skip
_AMOUNT = re.compile(r"([0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]*\.[0-9]+|[0-9]+)(?:\s+([^\W\d_]+))?")
_JOINTS = re.compile(r"(?:\band\b|[\s,])*")


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high` seconds, both included."""

    low: float
    high: float

    def __contains__(self, seconds: float) -> bool:
        return self.low <= seconds <= self.high

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)


def parse_duration(text: str, *, ignore_words: bool = False) -> Interval:
    """The sum of all numbers with units in a text: "2 hours 30 minutes" is 9,000 seconds; zero is a length too.

    Known are seconds to years, their plurals, sec, min, and the letters h, d, w and m (a month). Raises ValueError
    for a number without a known unit after a space ("10min", "3 hrs"), for a text without any length and, unless
    `ignore_words`, for anything between the lengths but commas and "and".
    """
    low = high = Decimal(0)
    text = text.lower()
    found = list(_AMOUNT.finditer(text))
    if not found:
        raise ValueError(f"no length of time in {text!r}")
    for amount in found:
        number, unit = amount.groups()
        if len(number) > _LONGEST_NUMBER:
            raise ValueError(f"{number[:_LONGEST_NUMBER]}... is too long for a number")
        if unit not in _UNITS:
            raise ValueError(f"{number} in {text!r} has no unit of time after it" + (f", but {unit!r}" if unit else ""))
        shortest, longest = _UNITS[unit]
        low += Decimal(number.replace(",", "")) * shortest
        high += Decimal(number.replace(",", "")) * longest
    if not ignore_words and not _JOINTS.fullmatch(_AMOUNT.sub(" ", text)):
        raise ValueError(f"{text!r} says more than a length of time")
    return Interval(_plain(low), _plain(high))


def seconds_of(delta: datetime.timedelta) -> float:
    """A timedelta as seconds: an int when they are whole."""
    return _plain(Decimal(delta // datetime.timedelta(microseconds=1)) / 1_000_000)


def _plain(seconds: Decimal) -> float:
    return int(seconds) if seconds == int(seconds) else float(seconds)

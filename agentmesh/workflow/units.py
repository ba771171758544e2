"""Values with units as people write them: `60s`, `5m`, `2h`, `95%`, `4kB`."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["parse_duration", "parse_share", "parse_size"]

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3}
_MEASURE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z%]+)")


def _measure(value: Any, units: dict[str, float], example: str) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"must be written as {example}")
    found = _MEASURE.fullmatch(str(value).strip())
    if found is None or found[2] not in units:
        plain = isinstance(value, int | float)
        raise ValueError(
            f"{value} has no unit: write {example}" if plain else f"must be written as {example}, not {value!r}"
        )
    return float(found[1]) * units[found[2]]


def parse_duration(value: Any, *, example: str = "60s, 5m or 2h") -> float:
    """`60s`, `5m`, `2h`, `30d` in seconds. Raises ValueError, which shows the example."""
    seconds = _measure(value, _SECONDS, example)
    if seconds <= 0:
        raise ValueError("must be longer than nothing")
    return seconds


def parse_share(value: Any) -> float:
    """`95%` as 0.95. Raises ValueError."""
    share = _measure(value, {"%": 0.01}, "95%")
    if share > 1:
        raise ValueError(f"must be at most 100%, not {value}")
    return share


def parse_size(value: Any) -> int:
    """`4kB` as 4000 bytes. Raises ValueError."""
    return round(_measure(value, {**_BYTES}, "4kB, 2MB"))

"""Values that providers put into headers and bodies: durations, instants, epoch times; and the wait they ask for.

One parser reads them all, by their shape, since the same header name carries different shapes at different providers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from .json_text import read_json

__all__ = [
    "LONGEST_WAIT",
    "format_duration",
    "parse_duration",
    "parse_instant",
    "parse_wait",
    "read_wait",
    "stated_wait",
]

LONGEST_WAIT = 31 * 86400.0
"""Seconds. The longest windows are months: what asks for more was misread, and is not acted on."""

_UNITS = {
    "h": 3600.0, "hr": 3600.0, "hrs": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "m": 60.0, "min": 60.0, "mins": 60.0, "minute": 60.0, "minutes": 60.0,
    "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0,
    "ms": 1e-3, "millisecond": 1e-3, "milliseconds": 1e-3,
    "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9,
}  # fmt: skip
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)"
_GO_PART = re.compile(rf"({_NUMBER})(h|ms|us|µs|μs|ns|m|s)")
_GO = re.compile(rf"(?:{_NUMBER}(?:h|ms|us|µs|μs|ns|m|s))+")
_WORD = "|".join(sorted(_UNITS, key=len, reverse=True))
_SPAN_PART = re.compile(rf"({_NUMBER})\s*({_WORD})(?![a-zµμ])", re.IGNORECASE)
_IN_TEXT = re.compile(
    r"(?:\bafter|(?:\bagain|\bretry|\bwait)(?:\s+in|\s+for|\s+at\s+least)?)\s+"
    rf"((?:{_NUMBER}\s*(?:{_WORD})(?![a-zµμ])[\s,]*)+)",
    re.IGNORECASE,
)
_LONGEST_TEXT = 64  # characters of a value, and no more: no header of use is longer
_READ_AT_MOST = 20_000  # characters of a body that are searched


def parse_duration(text: str) -> float | None:
    """Seconds in a Go or protobuf duration (`1m4s`, `225ms`, `0.7s`); None for any other shape."""
    text = text.strip()
    if len(text) > _LONGEST_TEXT or not _GO.fullmatch(text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _GO_PART.findall(text))


def parse_instant(text: str) -> float | None:
    """Seconds since 1970 of an RFC 3339 instant (with `Z` or an offset) or an IMF date; None for any other shape."""
    text = text.strip()
    if not 10 <= len(text) <= _LONGEST_TEXT:
        return None
    try:
        if text[0].isdigit():
            found = datetime.fromisoformat(text)
            return found.timestamp() if found.tzinfo else None
        found = parsedate_to_datetime(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def read_wait(text: str, *, now: float | None) -> float | None:
    """Seconds to wait in a header's value of any known shape, or None.

    `now` is the wall time that instants are measured against; without it they say nothing. A number below 1e6 is
    seconds, from 1e9 to 1e11 seconds since 1970, from 1e12 on milliseconds since 1970. What is negative, not a number
    or above `LONGEST_WAIT` is None.
    """
    if (number := _number(text)) is not None:
        if number < 1e6:
            return _sane(number)
        instant = number if 1e9 <= number <= 1e11 else number / 1e3 if number >= 1e12 else None
    elif (duration := parse_duration(text)) is not None:
        return _sane(duration)
    else:
        instant = parse_instant(text)
    return None if instant is None or now is None else _sane(instant - now)


def parse_wait(
    headers: Mapping[str, str], body: bytes, *, now: float | None, need: float | None = None
) -> float | None:
    """Seconds until a provider that pushed back may accept again, if it told; above 0, and never absurd.

    In this order: `retry-after-ms`, `retry-after`, a `retryDelay` or `retry_after` in the body, the reset of those
    header families whose `remaining` is 0, the text of the message, the reset of the families of tokens with less
    than `need` remaining (the size of the request; last, since a reset is the time until all is free). A wait of 0 is
    none: it was refused just now. `headers` have lower-case names; instants are measured against the reply's own
    `date`, else against `now` (wall time).
    """
    value, headers, now = _prepared(headers, body, now=now)
    return _first(_stated(headers, value, now=now)) or _first(_inferred(headers, body, now=now, need=need))


def stated_wait(headers: Mapping[str, str], body: bytes, *, now: float | None) -> float | None:
    """The wait that a header or a field of the body asks for outright; else as `parse_wait`."""
    value, headers, now = _prepared(headers, body, now=now)
    return _first(_stated(headers, value, now=now))


def _prepared(
    headers: Mapping[str, str], body: bytes, *, now: float | None
) -> tuple[Any, Mapping[str, str], float | None]:
    value = _json_or_none(body)
    headers = {**_headers_in_body(value), **headers}
    date = parse_instant(headers.get("date", ""))
    return value, headers, now if date is None else date


def _first(waits: Iterable[float | None]) -> float | None:
    return next((wait for wait in waits if wait), None)


def _stated(headers: Mapping[str, str], value: Any, *, now: float | None) -> Iterator[float | None]:
    yield _milliseconds(headers.get("retry-after-ms", ""))
    yield read_wait(headers.get("retry-after", ""), now=now)
    yield _retry_info(value)
    yield from _waits_in_fields(value)


def _inferred(
    headers: Mapping[str, str], body: bytes, *, now: float | None, need: float | None
) -> Iterator[float | None]:
    left = {
        name: number for name, text in headers.items() if "remaining" in name and (number := _number(text)) is not None
    }
    yield _longest_reset(headers, [name for name in left if left[name] == 0], now=now)  # -1 means unknown
    if found := _IN_TEXT.search(body[:_READ_AT_MOST].decode("utf-8", "replace")):
        yield _sane(sum(float(number) * _UNITS[unit.lower()] for number, unit in _SPAN_PART.findall(found[1])))
    if need is not None:
        yield _longest_reset(headers, [name for name in left if "token" in name and 0 < left[name] < need], now=now)


def _longest_reset(headers: Mapping[str, str], remaining: Iterable[str], *, now: float | None) -> float | None:
    """The longest wait until the limits are full whose headers for what is left have these names."""
    resets = (read_wait(headers.get(name.replace("remaining", "reset"), ""), now=now) for name in remaining)
    return max((reset for reset in resets if reset is not None), default=None)


def _milliseconds(text: str) -> float | None:
    return None if (number := _number(text)) is None else _sane(number / 1e3)


def _waits_in_fields(value: Any) -> Iterator[float | None]:
    """What gateways put beside an error's message."""
    for place in (_inside(value, "error"), _inside(value, "error", "metadata"), value):
        for name in ("retry_after_ms", "retry_after", "retry_after_seconds"):
            told = _inside(place, name)
            if isinstance(told, str | int | float):
                yield _milliseconds(str(told)) if name.endswith("ms") else read_wait(str(told), now=None)


def _number(text: str) -> float | None:
    try:
        return float(text) if len(text) <= _LONGEST_TEXT and text.isascii() and "_" not in text else None
    except ValueError:
        return None


def _sane(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) and 0 <= seconds <= LONGEST_WAIT else None


def _json_or_none(body: bytes) -> Any:
    try:
        value = read_json(body)
    except ValueError:
        return None
    return value[0] if isinstance(value, list) and value else value


def _inside(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _headers_in_body(value: Any) -> dict[str, str]:
    """Rate limit headers that a gateway repeats in `error.metadata.headers`."""
    found = _inside(value, "error", "metadata", "headers")
    return {str(name).lower(): str(text) for name, text in found.items()} if isinstance(found, Mapping) else {}


def _retry_info(value: Any) -> float | None:
    """The `retryDelay` of a google.rpc.RetryInfo in `error.details`."""
    details = _inside(value, "error", "details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(delay := _inside(detail, "retryDelay"), str):
            return read_wait(delay, now=None)
    return None


def format_duration(seconds: float) -> str:
    """A Go duration, as rate limit headers have it: `225ms`, `2.137s`, `1m4s`, `1h0m30s`; rounded up to 1 ms."""
    milliseconds = max(0, math.ceil(round(seconds * 1e3, 6)))
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    shown = f"{rest / 1e3:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{hours}h{minutes}m{shown}" if hours else f"{minutes}m{shown}" if minutes else shown

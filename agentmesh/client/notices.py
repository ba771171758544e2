"""What an endpoint tells people while a run goes on, in words."""

from __future__ import annotations

from datetime import datetime
from pathlib import PurePath

from ..clock import wall
from ..errors import ErrorInfo
from ..limits.hearing import Adopted
from ..rates import Limit

__all__ = ["adopted", "clock_time", "lowered", "stopped", "waiting"]


def clock_time(seconds: float) -> str:
    """The local time in so many seconds, as people write it: `14:05` today, else with its date."""
    now = datetime.fromtimestamp(wall()).astimezone()
    at = datetime.fromtimestamp(wall() + seconds).astimezone()
    return f"{at:%H:%M}" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M}"


def adopted(place: str, one: Adopted, *, file: str) -> str:
    """A limit of `place` is another than the one in the provider `file`, or than a user's own."""
    assert one.before is not None
    source = "as you set it" if one.before.ceiling else f"as in {PurePath(file).name}"
    return (
        f"{place}: the provider allows {_limit(one.limit)}, not {_number(one.before.limit)} {source}; "
        "what it says holds from now on"
    )


def lowered(name: str, *, asked: int, fits: int) -> str:
    """Requests are above a limit by what their replies may take."""
    return (
        f"{name}: requests with max_tokens {asked:,} are larger than its limits ever allow, so they are sent with as "
        f"many as fit, the first with {fits:,}: ask for fewer, or take a model that allows more"
    )


def stopped(name: str, error: ErrorInfo, *, wait: float | None, key_source: str | None) -> str:
    """An endpoint gets no more calls, for so many seconds or for good."""
    until = "" if wait is None else f" until {clock_time(wait)}"
    key = f" (its key is from {key_source})" if key_source else ""
    return f"{name} stopped{until}: {error.kind}: {error.message.removeprefix(f'{name}: ')}{key}"


def waiting(name: str, error: ErrorInfo, *, wait: float) -> str:
    """A long window is used up."""
    said = error.message.removeprefix(f"{name}: ")
    return f"{name} has used up what it is allowed for now, and its calls wait until {clock_time(wait)}: {said}"


def _limit(limit: Limit) -> str:
    words = "calls in flight" if limit.unit == "in_flight" else limit.name.replace("_", " ")
    return f"{_number(limit.limit)} {words}"


def _number(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 10 else f"{figure:g}"

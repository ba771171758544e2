"""How limits stand, as a reply's headers tell it: every provider's family of names, read into one form.

One table serves all dialects, since gateways pass on each other's headers. A name says which figure of which limit it
is. Where one name means different windows at different providers, a quirk or the figures tell them apart, and where
neither does the window stays unknown: a day's figure that is read as a minute's would be a flood.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Literal, NamedTuple

from ..rates import WINDOW_SECONDS, Told, Unit
from .values import parse_instant, read_wait

__all__ = ["over_limit_hint", "read_levels"]

_Figure = Literal["limit", "remaining", "reset", "window", "dynamic"]
_Form = Literal["exact", "plain", "bare"]

_MINUTE, _HOUR, _DAY = WINDOW_SECONDS["minute"], WINDOW_SECONDS["hour"], WINDOW_SECONDS["day"]
_WINDOWS = {**WINDOW_SECONDS, "month": 30 * _DAY}
_TOLERANCE = 0.05  # of a window: clocks, and figures that were rounded
_MOST = 1e12  # units; what is above is no limit, but something else that was put there
_ROUNDED = 500.0  # Anthropic's token figures are the nearest thousand
_LONGEST_NAME = 80

_UNITS: Mapping[str, Unit] = {
    "req": "requests", "requests": "requests", "tokens": "tokens",
    "input-tokens": "input_tokens", "output-tokens": "output_tokens",
    "tokens-prompt": "input_tokens", "tokens-cache-adjusted-prompt": "input_tokens",
    "tokens-generated": "output_tokens",
}  # fmt: skip
_SPAN = "second|minute|hour|day|month"
_OPENAI = re.compile(
    r"x-ratelimit-(limit|remaining|reset|renewalperiod)-"
    rf"(?:(project)-)?(req|requests|tokens|input-tokens|output-tokens)(?:-({_SPAN})|_(usage_based))?"
)
_FIREWORKS = re.compile(r"x-ratelimit-(limit|remaining)-(tokens-(?:prompt|(cache-adjusted)-prompt|generated))")
_ANTHROPIC = re.compile(
    r"anthropic-(ratelimit|priority|fast)-(requests|tokens|input-tokens|output-tokens)-(limit|remaining|reset)"
)
_BARE = re.compile(r"x-(rate|token)limit-(?:(limit|remaining|reset)|limit-(dynamic))")
_BY_SIZE = re.compile(rf"(?:x-)?ratelimitbysize-(limit|remaining|reset)(?:-({_SPAN}))?")
_COHERE = re.compile(r"x-(trial-endpoint|endpoint-monthly)-call-(limit|remaining)")
_COUNT = re.compile(r"\d{1,15}(?:\.\d{1,9})?", re.ASCII)


class _Limit(NamedTuple):
    """The limit that a header speaks of.

    `form` is `plain` for OpenAI's own names, which are per minute unless something speaks against it, and `bare` for
    names without a unit. Figures times `factor` are units per `window`, true to `within` units.
    """

    unit: Unit
    window: float
    scope: str | None = None
    form: _Form = "exact"
    factor: float = 1.0
    within: float = 0.0


def read_levels(headers: Mapping[str, str], *, now: float, quirks: Collection[str] = frozenset()) -> tuple[Told, ...]:
    """What these headers tell of limits; nothing where they tell nothing.

    `headers` have lower-case names. Instants are measured against the reply's own `date`, else against `now` (wall
    time). Figures that are garbage, negative (-1 says "unknown") or absurd count as not told. The quirks
    `requests_per_day` and `requests_per_second` say what a provider means by names that leave it open.
    """
    found: dict[_Limit, dict[_Figure, str]] = {}
    for name, text in headers.items():
        if (place := _place(name)) is not None:
            found.setdefault(place[0], {})[place[1]] = text
    if not found:
        return ()
    if (date := parse_instant(headers.get("date", ""))) is not None:
        now = date
    # Who speaks of tokens, or of limits that adapt, in names without a unit is Together, and counts per second.
    per_second = any(one.form == "bare" and (one.unit == "tokens" or "dynamic" in found[one]) for one in found)
    told = []
    for limit, figures in found.items():
        one = _told(limit, figures, now=now)
        if limit.form == "plain":
            one = replace(one, window_s=_window_of_plain(one, figures, quirks=quirks))
        elif limit.form == "bare":
            one = replace(one, window_s=1.0 if per_second else _window_of_bare(one, quirks))
        if one.limit is not None or one.remaining is not None:
            told.append(one)
    return tuple(one for one in told if not _is_repeated(one, told))


def over_limit_hint(headers: Mapping[str, str]) -> bool:
    """Whether a call was served although it was above the guaranteed rate (Fireworks): a sign of load."""
    return headers.get("x-ratelimit-over-limit", "").strip().lower() == "yes"


@lru_cache(maxsize=512)
def _place(name: str) -> tuple[_Limit, _Figure] | None:
    """The limit and the figure that a header's name stands for; None for all other headers."""
    if len(name) > _LONGEST_NAME:
        return None
    if match := _OPENAI.fullmatch(name):
        figure, project, unit, span, usage_based = match.groups()
        form: _Form = "exact" if span else "plain"
        return _Limit(_UNITS[unit], _WINDOWS[span or "minute"], project or usage_based, form), _figure(figure)
    if match := _FIREWORKS.fullmatch(name):  # told per second, enforced per minute
        scope = "uncached" if match[3] else None
        return _Limit(_UNITS[match[2]], _MINUTE, scope, factor=_MINUTE), _figure(match[1])
    if match := _ANTHROPIC.fullmatch(name):
        tier, unit, figure = match.groups()
        scope = tier if tier != "ratelimit" else "tightest" if unit == "tokens" else None
        within = 0.0 if unit == "requests" else _ROUNDED
        return _Limit(_UNITS[unit], _MINUTE, scope, within=within), _figure(figure)
    if match := _BARE.fullmatch(name):
        return _Limit("requests" if match[1] == "rate" else "tokens", 1.0, form="bare"), _figure(match[2] or match[3])
    if match := _BY_SIZE.fullmatch(name):
        return _Limit("tokens", _WINDOWS[match[2] or "minute"]), _figure(match[1])
    if match := _COHERE.fullmatch(name):
        span = "month" if match[1] == "endpoint-monthly" else "minute"
        return _Limit("requests", _WINDOWS[span], "trial"), _figure(match[2])
    return None


def _figure(word: str) -> _Figure:
    return "window" if word == "renewalperiod" else word  # type: ignore[return-value]  # the patterns allow no other


def _told(limit: _Limit, figures: Mapping[_Figure, str], *, now: float) -> Told:
    most = _count(figures.get("dynamic") or figures.get("limit", ""), limit.factor) or None
    left = _count(figures.get("remaining", ""), limit.factor)
    if left is not None and most is not None and left > most + limit.within:
        left = None
    reset = read_wait(figures.get("reset", "").strip(), now=now)
    if reset == 0.0 and left is not None and most is not None and left < most:
        reset = None  # not full, and full at once: there are some who say 0 for "not told"
    return Told(limit.unit, limit.window, most, left, reset, limit.scope, limit.within)


def _count(text: str, factor: float = 1.0) -> float | None:
    """A number of units in the form that headers have it, or None: -1, words, other scripts' digits, 1e400."""
    text = text.strip()
    if not _COUNT.fullmatch(text):
        return None
    number = float(text) * factor
    return number if number <= _MOST else None


def _window_of_plain(told: Told, figures: Mapping[_Figure, str], *, quirks: Collection[str]) -> float | None:
    """The window behind `x-ratelimit-limit-requests` and its like, in seconds; None where it cannot be told."""
    if period := _count(figures.get("window", "")):  # Azure says it
        return period
    if told.unit == "requests" and "requests_per_day" in quirks:
        return _DAY
    if told.unit == "requests" and "requests_per_second" in quirks:
        return 1.0
    reset = told.reset_s or 0.0
    if reset > _HOUR * (1 + _TOLERANCE):
        return _day_or_longer(reset)
    if reset > _MINUTE * (1 + _TOLERANCE):  # an hour's, a day's, or a minute's in debt
        return None
    # The reset of a bucket is the time until it is full, and so its window is reset / (share that is used). That of a
    # day that has hardly been used looks like a minute's fixed window, and the other way round: say neither.
    used = (told.limit or 0.0) - (told.remaining or 0.0)
    if told.limit is not None and told.remaining is not None and used > 0:
        window = reset * told.limit / used
        if any(abs(window / longer - 1) <= _TOLERANCE for longer in (_HOUR, _DAY)):
            return None
    return _MINUTE


def _window_of_bare(told: Told, quirks: Collection[str]) -> float | None:
    """The window behind a lone `x-ratelimit-limit`, in seconds; None where it cannot be told."""
    if "requests_per_day" in quirks:
        return _DAY
    if "requests_per_second" in quirks:
        return 1.0
    # OpenRouter counts free requests per minute and per day under one name.
    return _day_or_longer(told.reset_s) if (told.reset_s or 0.0) > _HOUR * (1 + _TOLERANCE) else None


def _day_or_longer(reset: float | None) -> float | None:
    """A day in seconds; None for a reset that is later, since nobody says which windows are longer."""
    return _DAY if reset is not None and reset <= _DAY * (1 + _TOLERANCE) else None


def _is_repeated(told: Told, others: list[Told]) -> bool:
    """Whether Anthropic's `tokens` only says again, or adds up, what it says of input and output tokens apart."""
    if told.scope_hint != "tightest":
        return False
    apart = [one.limit for one in others if one.unit in ("input_tokens", "output_tokens") and one.scope_hint is None]
    known = [limit for limit in apart if limit is not None]
    return told.limit in known or (len(known) == 2 and told.limit == sum(known))

"""A limit as a record: what is counted, over which window, what is reserved on admission and what is settled."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Literal, get_args

__all__ = [
    "WINDOW_SECONDS", "Limit", "Reserves", "Settles", "Shape", "Told", "Unit", "impractical", "limit_name_meant",
    "limit_names", "parse_limit_name",
]  # fmt: skip

Unit = Literal["requests", "tokens", "input_tokens", "output_tokens", "in_flight"]
Shape = Literal["bucket", "fixed", "sliding"]
Reserves = Literal["sum", "max", "input", "nothing"]
Settles = Literal["actual", "reserved"]

WINDOW_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}

_DEFAULT_RESERVES: dict[Unit, Reserves] = {
    "requests": "nothing", "tokens": "sum", "input_tokens": "input", "output_tokens": "nothing", "in_flight": "nothing",
}  # fmt: skip
_LONGEST_BUCKET_S = 60.0  # nobody expects 20,000 a day to be one each 4.3 seconds

_MOST = 1e12  # units: no provider allows as many, and sums stay exact
_LEAST_PER_S = 1 / (366 * 86400)
_IN_SHORT = re.compile(r"(r|t|it|ot)p(s|m|h|d)")
_UNIT_LETTERS = {"r": "requests", "t": "tokens", "it": "input_tokens", "ot": "output_tokens"}


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of an account, a model or a pool.

    `limit` units per `window` seconds (`in_flight` has no window: so many at once). `shape` is by default a bucket for
    windows up to a minute, and where a burst is named; a sliding window for longer ones. `burst` is what may go at once
    of a bucket: by default one second's worth of requests, at least 1, and ten seconds' worth of tokens. A request
    above the burst is admitted at a full bucket and leaves a debt, unless `debt` is false. `reserves` says what is
    counted on admission (`sum` of input and max_tokens, the `max` of the two, `input`, `nothing`), `settles` whether
    the real use is counted in the end. A `ceiling` is what a user allows: what the provider says beyond it changes
    nothing. `capacity` is the most units that can go at once, `per_second` how many come back each second on average,
    `largest` the largest single call that can ever be admitted. Raises ValueError for figures that make no sense.
    """

    unit: Unit
    limit: float
    window: float = 60.0
    burst: float | None = None
    shape: Shape | None = None
    reserves: Reserves | None = None
    settles: Settles = "actual"
    debt: bool = True
    ceiling: bool = False
    capacity: float = field(init=False, repr=False, compare=False)
    per_second: float = field(init=False, repr=False, compare=False)
    largest: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.limit) and self.limit > 0):
            raise ValueError(f"a limit must be a number above 0, not {self.limit:g}")
        if self.burst is not None and not (math.isfinite(self.burst) and self.burst >= 1):
            raise ValueError(f"a burst must be at least 1, not {self.burst:g}")
        if self.reserves is None:
            object.__setattr__(self, "reserves", _DEFAULT_RESERVES[self.unit])
        if self.shape is None:
            bucket = self.unit == "in_flight" or self.burst is not None or self.window <= _LONGEST_BUCKET_S
            object.__setattr__(self, "shape", "bucket" if bucket else "sliding")
        object.__setattr__(self, "per_second", self.limit / self.window)
        object.__setattr__(self, "capacity", self._capacity())
        most = max(1.0, self.limit)  # half a request per second is one each two seconds
        object.__setattr__(self, "largest", most if self.debt else min(most, self.capacity))

    @property
    def name(self) -> str:
        """As it is written in files: `requests_per_minute`, `in_flight`."""
        if self.unit == "in_flight":
            return self.unit
        window = next((name for name, s in WINDOW_SECONDS.items() if s == self.window), f"{self.window:g}s")
        return f"{self.unit}_per_{window}"

    def _capacity(self) -> float:
        if self.unit == "in_flight" or self.shape != "bucket":
            return self.limit
        if self.burst is not None:
            return self.burst
        return max(1.0, self.per_second) if self.unit == "requests" else max(1.0, 10 * self.per_second)

    def reserved(self, input_tokens: float, output_tokens: float) -> float:
        """Units counted on admission of a call of this estimated size; `output_tokens` is its max_tokens, if set."""
        if self.unit in ("requests", "in_flight"):
            return 1.0
        match self.reserves:
            case "sum":
                return input_tokens + output_tokens
            case "max":
                return max(input_tokens, output_tokens)
            case "input":
                return input_tokens
            case _:
                return 0.0

    def used(self, input_tokens: float, output_tokens: float) -> float:
        """Units that a call of this real size costs in the end."""
        match self.unit:
            case "tokens":
                return input_tokens + output_tokens
            case "input_tokens":
                return input_tokens
            case "output_tokens":
                return output_tokens
            case _:
                return 1.0


@dataclass(frozen=True, slots=True)
class Told:
    """What a reply's headers say of one limit; None is "not told", never zero.

    `limit` units per `window_s` seconds, of which `remaining` were left when the reply was written, this request
    already deducted; `reset_s` seconds from then it is full again. `remaining` is true to `within` units. Without
    `window_s` it is a limit of this unit whose window the headers leave open.

    `scope_hint` says of which limit the provider speaks where it has several of a kind: `project` and `usage_based`
    bind beside the account's own (OpenAI), `tightest` is whichever limit of tokens is nearest (Anthropic), `priority`
    and `fast` are those of other service tiers, `uncached` counts input that no cache had (Fireworks), `trial` is a
    trial key's (Cohere). None is the limit of the account or model that was called.
    """

    unit: Unit
    window_s: float | None
    limit: float | None
    remaining: float | None
    reset_s: float | None
    scope_hint: str | None = None
    within: float = 0.0


def limit_names() -> list[str]:
    """Every name a limit can have in a file or after `--rate TARGET.`."""
    units = [unit for unit in get_args(Unit) if unit != "in_flight"]
    return ["in_flight"] + [f"{unit}_per_{window}" for unit in units for window in WINDOW_SECONDS]


def parse_limit_name(name: str) -> tuple[Unit, float]:
    """`requests_per_minute` as ("requests", 60.0). Raises KeyError for a name that is none of `limit_names()`."""
    if name not in limit_names():
        raise KeyError(name)
    unit, _, window = name.partition("_per_")
    return unit, WINDOW_SECONDS.get(window, 1.0)  # type: ignore[return-value]  # checked against the list above


def limit_name_meant(word: str) -> str | None:
    """The limit that other programs call by this name: `rpm`, `tpd`, `max_concurrency`. None for any other word."""
    word = word.lower().replace("-", "_")
    if match := _IN_SHORT.fullmatch(word):
        window = next(name for name in WINDOW_SECONDS if name.startswith(match[2]))
        return f"{_UNIT_LETTERS[match[1]]}_per_{window}"
    return "in_flight" if "concurren" in word or "parallel" in word else None


def impractical(limit: Limit) -> str | None:
    """Why nobody can have meant a limit that somebody wrote, as what must be; None if it is sound."""
    if limit.unit == "in_flight" and limit.limit != int(limit.limit):
        return f"must be a whole number of calls, not {limit.limit:g}"
    if limit.limit > _MOST:
        return f"must be at most {_MOST:,.0f}, not {limit.limit:g}: leave out a limit that there is not"
    if limit.burst is not None and limit.shape != "bucket":
        return f"must have no burst, which only buckets have: a {limit.shape} window lets all of it go at once"
    if limit.shape != "bucket" and limit.limit < 1:
        return f"must be at least 1, not {limit.limit:g}: nothing fits into less than one, write it for a longer window"
    if limit.unit != "in_flight" and limit.per_second < _LEAST_PER_S:
        return f"must let something through in a year, not {limit.limit:g}"
    return None

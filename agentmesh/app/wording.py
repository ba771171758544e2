"""How the command line writes numbers, times and foreign text: the same words on every display."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

__all__ = [
    "address_task",
    "clean",
    "clean_lines",
    "count",
    "dollars",
    "duration",
    "figure",
    "limit_words",
    "more",
    "per",
    "percent",
    "plural",
    "seconds",
    "show_command",
    "title_of",
]

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that move the cursor, turn the direction of writing or cannot be seen."""

_TITLE_FIELDS = ("title", "name", "summary", "claim", "text", "question")


def clean(text: str, *, limit: int = 500) -> str:
    """Foreign text as one harmless line: control characters gone, white space single, cut after `limit` characters."""
    head = text[: 4 * limit]  # a reply of a million characters is not walked through for one line
    if not head.isascii() or not head.isprintable():
        head = "".join(" " if c.isspace() else c for c in head if c.isspace() or unicodedata.category(c) not in _HIDDEN)
    line = " ".join(head.split())
    return line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 1].rstrip() + "…"


def clean_lines(text: str) -> str:
    """Foreign text of several lines, harmless: control characters gone, lines and their indent kept."""
    kept = (c for c in text.expandtabs(4) if c == "\n" or unicodedata.category(c) not in _HIDDEN)
    return "".join(kept)


def duration(seconds: float) -> str:
    """`00:12`, `1:02:03`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def seconds(number: float) -> str:
    """`0.4 s`, `12 s`."""
    return f"{number:.1f} s" if number < 10 else f"{number:,.0f} s"


def dollars(usd: float) -> str:
    """`$0.83`; sums below a cent with two figures that say something, down to a millionth."""
    if usd >= 0.01 or usd <= 0:
        return f"${usd:,.2f}"
    return f"${usd:.6f}".rstrip("0") if usd < 0.0001 else f"${usd:.4f}"


def count(number: float) -> str:
    """`12,345`."""
    return f"{number:,.0f}"


def figure(number: float) -> str:
    """`12,345`, `12`, and of small numbers that are not whole two figures: `3.4`, `0.25`."""
    return count(number) if number >= 100 or number == int(number) else f"{number:.2g}"


def percent(share: float) -> str:
    """`93 %`."""
    return f"{min(share, 9.99):.0%}".replace("%", " %")


_SHORT = {"second": "s", "minute": "min", "hour": "h", "day": "day"}


def per(limit_name: str) -> str:
    """A limit in short: `requests/min`, `output tokens/day`, `in flight`."""
    unit, _, window = limit_name.partition("_per_")
    return unit.replace("_", " ") + (f"/{_SHORT.get(window, window)}" if window else "")


def limit_words(limit_name: str) -> str:
    """A limit in full: `requests per minute`, `calls in flight`."""
    return "calls in flight" if limit_name == "in_flight" else limit_name.replace("_", " ")


def plural(number: int, noun: str) -> str:
    """`1 call`, `12 calls`, `2 matches`."""
    ending = "" if number == 1 else "es" if noun.endswith(("ch", "sh", "s", "x")) else "s"
    return f"{number:,} {noun}{ending}"


def more(number: int) -> str:
    """What stands where a list was cut."""
    return f"+ {number:,} more"


def title_of(item: Any) -> str:
    """A short name for an entrant of a tournament: its title, its first text, or itself."""
    if isinstance(item, Mapping):
        named = [item[name] for name in _TITLE_FIELDS if isinstance(item.get(name), str)]
        item = next(iter(named + [value for value in item.values() if isinstance(value, str)]), "")
    return clean(str(item), limit=80)


def address_task(address: str) -> str:
    """The name of the task in an address."""
    return address.partition("/")[0]


def show_command(run: str, address: str | None = None) -> str:
    """What to type to see a run or one of its tasks; `run` is its short name."""
    return f"agentmesh show {run}" + (f" {address}" if address else "")

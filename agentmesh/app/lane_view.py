"""Draws the lanes: how much of each limit is in use, what is in flight, what waits, and what was pushed back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.text import Text

from ..limits.statistics import EndpointStatistics, LaneStatistics, LimitStatistics
from .ruler import bar, cut, pad
from .wording import count, more

__all__ = ["lane_lines"]

_BAR_SIZES = (12, 8, 5)
_MAX_NAME = 28
_PERCENT = 5  # cells of `100 %`
_MIN_NAME = 12
_PARTS = ("requests", "tokens")
_SHORT = {"second": "s", "minute": "min", "hour": "h", "day": "day"}


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of the table: a name, the share used of requests and tokens (None: no such limit), and figures.

    Of too many lines those of the lowest `rank` are shown. Lines that begin with a space stand under a `head`.
    """

    name: str
    shares: tuple[float | None, float | None]
    figures: tuple[str, ...]
    rank: tuple[bool, bool, int] = (True, True, 0)
    head: bool = False


_FIGURES = ("in flight", "waiting", "next", "pushed back")


def lane_lines(lanes: Sequence[LaneStatistics], *, width: int, limit: int, blocks: bool = True) -> list[Text]:
    """The table with its head, at most `width` cells wide and about `limit` lines high."""
    rows = [row for lane in lanes for row in _rows(lane)]
    kept = _most_telling(rows, limit - 1)
    columns = _fit(kept, _share_titles(lanes), width=width)
    lines = [_head(columns)]
    lines += [_line(row, columns, blocks=blocks) for row in kept]
    if len(kept) < len(rows):
        lines.append(Text(" " + more(len(rows) - len(kept)), "dim"))
    for line in lines:
        line.truncate(width)
        line.rstrip()
    return lines


def _most_telling(rows: Sequence[_Line], limit: int) -> list[_Line]:
    """All rows, or those with most to tell (frozen, at work, by calls so far) under the heads they belong to."""
    if len(rows) <= max(1, limit):
        return list(rows)
    heads: list[int] = []
    for place, row in enumerate(rows):
        heads.append(place if row.head or not row.name.startswith(" ") else heads[-1])
    kept: set[int] = set()
    for place in sorted(range(len(rows)), key=lambda place: (rows[place].rank, place)):
        wanted = kept | {place, heads[place]}
        if len(wanted) < limit or not kept:
            kept = wanted
    return [rows[place] for place in sorted(kept)]


# --- rows


def _rows(lane: LaneStatistics) -> list[_Line]:
    """The lines of one account: itself, its models, its pools; one line where that says everything."""
    mark = " (simulated)" if lane.simulated else ""
    account = _shares(lane.limits, lane.account)
    if len(lane.endpoints) == 1 and not any(one.scope.startswith("pool ") for one in lane.limits):
        endpoint = lane.endpoints[0]
        shares = _higher(account, _shares(lane.limits, endpoint.model))
        return [_endpoint(endpoint, f"{lane.account}/{endpoint.model}{mark}", shares=shares)]
    rows = [_Line(lane.account + mark, account, (), head=True)]
    rows += [_endpoint(one, "  " + one.model, shares=_shares(lane.limits, one.model)) for one in lane.endpoints]
    pools = dict.fromkeys(one.scope for one in lane.limits if one.scope.startswith("pool "))
    return rows + [_Line("  " + pool, _shares(lane.limits, pool), ()) for pool in pools]


def _endpoint(one: EndpointStatistics, name: str, *, shares: tuple[float | None, float | None]) -> _Line:
    frozen = one.frozen_s is not None
    wait = one.frozen_s if one.frozen_s is not None else one.next_s or 0.0
    figures = (count(one.in_flight), count(one.waiting), _next(wait, frozen=frozen), count(one.pushed_back))
    return _Line(name, shares, figures, rank=(not frozen, not (one.in_flight or one.waiting), -one.admitted))


def _next(seconds: float, *, frozen: bool) -> str:
    """When the next call may go: `now`, `0.4s`, `frozen 12s`."""
    if not frozen and seconds < 0.05:
        return "now"
    text = f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s" if seconds < 600 else f"{seconds / 60:.0f}min"
    return "frozen " + text if frozen else text


def _shares(limits: Sequence[LimitStatistics], scope: str) -> tuple[float | None, float | None]:
    """The share in use of the tightest limit on requests, and of the tightest on tokens."""
    requests = [one.recent for one in limits if one.scope == scope and one.name.startswith("requests")]
    tokens = [one.recent for one in limits if one.scope == scope and "tokens" in one.name]
    return max(requests, default=None), max(tokens, default=None)


def _higher(
    a: tuple[float | None, float | None], b: tuple[float | None, float | None]
) -> tuple[float | None, float | None]:
    requests, tokens = (max((one for one in pair if one is not None), default=None) for pair in zip(a, b, strict=True))
    return requests, tokens


def _share_titles(lanes: Sequence[LaneStatistics]) -> tuple[str | None, str | None]:
    """`requests/min` where all such limits have one window, `requests` where they differ, None where there are none."""
    windows: list[set[str]] = [set(), set()]
    for one in (limit for lane in lanes for limit in lane.limits):
        unit, _, window = one.name.partition("_per_")
        if window:
            windows[0 if unit == "requests" else 1].add(_SHORT.get(window, window))
    named = [
        f"{part}/{next(iter(found))}" if len(found) == 1 else part if found else None
        for part, found in zip(_PARTS, windows, strict=True)
    ]
    return named[0], named[1]


# --- columns


@dataclass(frozen=True, slots=True)
class _Columns:
    """What fits: the width of the name, of bars, of the share columns (0: dropped) and of the figures."""

    name: int
    bars: int
    titles: tuple[str, str]
    shares: tuple[int, int]
    figures: tuple[int, ...]


def _fit(rows: Sequence[_Line], titles: tuple[str | None, str | None], *, width: int) -> _Columns:
    """The widest form that fits: bars shrink, and columns go, from the least telling on."""
    name = min(_MAX_NAME, max([len("lane"), *(len(row.name) for row in rows)]))
    figures = tuple(
        max([len(title), *(len(row.figures[place]) for row in rows if row.figures)])
        for place, title in enumerate(_FIGURES)
    )
    troubled = any(row.figures and row.figures[3] != "0" for row in rows)
    first, both = {"next" if troubled else "pushed back"}, {"next", "pushed back"}
    forms: list[tuple[set[str], int]] = [(set(), size) for size in _BAR_SIZES]
    forms += [(first, size) for size in (*_BAR_SIZES, 0)] + [(both, 0), (both | {"tokens"}, 0), (both | {*_PARTS}, 0)]
    for without, bars in forms:
        named = [title if bars > 5 or title is None else part for part, title in zip(_PARTS, titles, strict=True)]
        cell = bars + 1 + _PERCENT if bars else _PERCENT
        shares = [
            max(cell, len(title)) if title and part not in without else 0
            for part, title in zip(_PARTS, named, strict=True)
        ]
        kept = tuple(0 if title in without else size for title, size in zip(_FIGURES, figures, strict=True))
        columns = _Columns(name, bars, (named[0] or "", named[1] or ""), (shares[0], shares[1]), kept)
        if _width(columns) <= width:
            return columns
    return replace(columns, name=max(4, name - (_width(columns) - width)))


def _width(columns: _Columns) -> int:
    return 1 + columns.name + sum(size + 2 for size in (*columns.shares, *columns.figures) if size)


def _head(columns: _Columns) -> Text:
    line = " " + pad("lane", columns.name)
    for title, size in zip(columns.titles, columns.shares, strict=True):
        line += "  " + (pad(title, size) if columns.bars else title.rjust(size)) if size else ""
    for name, size in zip(_FIGURES, columns.figures, strict=True):
        line += "  " + name.rjust(size) if size else ""
    return Text(line, "dim")


def _line(row: _Line, columns: _Columns, *, blocks: bool) -> Text:
    line = Text(" " + pad(cut(row.name, columns.name), columns.name), "bold" if row.head else "")
    if not row.figures and row.shares == (None, None):
        return line
    for share, size in zip(row.shares, columns.shares, strict=True):
        if size:
            line.append("  ").append(_share(share, size, bars=columns.bars, blocks=blocks))
    for place, size in enumerate(columns.figures):
        if size:
            text = row.figures[place] if row.figures else ""
            alarming = text.startswith("frozen") or (place == 3 and text not in ("", "0"))
            line.append("  " + text.rjust(size), "yellow" if alarming else "not bold")
    return line


def _share(share: float | None, size: int, *, bars: int, blocks: bool) -> Text:
    if share is None:
        return Text(" " * size)
    percent = f"{min(9.99, share):.0%}".replace("%", " %").rjust(_PERCENT)
    if not bars:
        return Text(percent.rjust(size))
    text = Text(bar(share, bars, blocks=blocks) + " ", "cyan").append(percent, "not bold")
    text.pad_right(max(0, size - text.cell_len))
    return text

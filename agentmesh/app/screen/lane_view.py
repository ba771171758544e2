"""Draws the lanes: how much of each limit is in use, what is in flight, what waits, and what was pushed back."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.text import Text

from ...limits.statistics import EndpointStatistics, LaneStatistics, LimitStatistics
from ..wording import count, figure, more, per
from .ruler import bar, cut, joined, pad

__all__ = ["found_out_lines", "lane_lines"]

_BAR_SIZES = (12, 8, 5)
_MAX_NAME = 28
_PERCENT = 5  # cells of `100 %`
_PARTS = ("requests", "tokens")
_TOKENS = {"tokens": "", "input_tokens": "in", "output_tokens": "out"}


@dataclass(frozen=True, slots=True)
class _Share:
    """The share of a limit that is in use, and which limit it is where the title of the column leaves that open."""

    part: float
    label: str = ""


_Shares = tuple[_Share | None, _Share | None]


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of the table: a name, the share used of requests and tokens (None: no such limit), and figures.

    Of too many lines those of the lowest `rank` are shown. Lines that begin with a space stand under a `head`.
    """

    name: str
    shares: _Shares
    figures: tuple[str, ...]
    rank: tuple[bool, bool, int] = (True, True, 0)
    head: bool = False


_FIGURES = ("in flight", "waiting", "next", "pushed back")


def lane_lines(lanes: Sequence[LaneStatistics], *, width: int, limit: int, blocks: bool = True) -> list[Text]:
    """The table with its head, at most `width` cells wide and about `limit` lines high."""
    titles = _Titles.of(lanes)
    rows = [row for lane in lanes for row in _rows(lane, titles)]
    kept = _most_telling(rows, limit - 1)
    columns = _fit(kept, titles, width=width)
    lines = [_head(columns)]
    lines += [_line(row, columns, blocks=blocks) for row in kept]
    if len(kept) < len(rows):
        lines.append(Text(" " + more(len(rows) - len(kept)), "dim"))
    for line in lines:
        line.truncate(width)
        line.rstrip()
    return lines


def found_out_lines(lanes: Sequence[LaneStatistics], *, width: int) -> list[Text]:
    """The limits that no file has: a line for what providers told, one for what was learned; what binds comes first."""
    lines = []
    for source, label in (("told", " told       "), ("learned", " learned    ")):
        words: list[str] = []
        for lane in lanes:
            found = sorted((one for one in lane.limits if one.source == source), key=lambda one: -one.bound_s)
            for scope in dict.fromkeys(one.scope for one in found):
                name = scope if scope == lane.account else f"{lane.account}/{scope}"
                first, *others = [_in_words(one) for one in found if one.scope == scope]
                words += [f"{name} {first}", *others]
        if words:
            lines.append(Text(joined(label, words, width=width, gap=", ")))
    return lines


def _in_words(one: LimitStatistics) -> str:
    """`300 requests/min`, `12 in flight`."""
    return f"{figure(one.limit)} {per(one.name)}"


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


@dataclass(frozen=True, slots=True)
class _Titles:
    """What the two columns of shares are called: `requests/min` where all such limits have one window, `requests` where
    they differ, None where there are none; and whether limits of one column differ in window, or in kind of token.
    """

    names: tuple[str | None, str | None]
    windows_differ: tuple[bool, bool]
    tokens_differ: bool

    @classmethod
    def of(cls, lanes: Sequence[LaneStatistics]) -> _Titles:
        """Of all that is in the table."""
        found: tuple[list[str], list[str]] = ([], [])
        for one in (limit for lane in lanes for limit in lane.limits if limit.name != "in_flight"):
            found[_column(one)].append(one.name)
        windows = [{per(name).partition("/")[2] for name in names} for names in found]
        names = [
            None if not some else part if len(some) > 1 else f"{part}/{next(iter(some))}"
            for part, some in zip(_PARTS, windows, strict=True)
        ]
        kinds = {name.partition("_per_")[0] for name in found[1]}
        if len(kinds) == 1 and names[1] is not None:
            names[1] = names[1].replace("tokens", f"{_TOKENS[kinds.pop()]} tokens".strip(), 1)
        return cls((names[0], names[1]), (len(windows[0]) > 1, len(windows[1]) > 1), len(kinds) > 1)

    def label(self, one: LimitStatistics) -> str:
        """What a cell must add to its title: `out`, `/day`, `in/h`."""
        column = _column(one)
        window = per(one.name).partition("/")[2]
        kind = _TOKENS.get(one.name.partition("_per_")[0], "") if self.tokens_differ else ""
        return kind + ("/" + window if self.windows_differ[column] else "")


def _column(one: LimitStatistics) -> int:
    return 0 if one.name.startswith("requests") else 1


def _rows(lane: LaneStatistics, titles: _Titles) -> list[_Line]:
    """The lines of one account: itself, its models, its pools; one line where that says everything."""
    mark = " (simulated)" if lane.simulated else ""
    pools = dict.fromkeys(one.scope for one in lane.limits if one.scope.startswith("pool "))
    if len(lane.endpoints) == 1 and not pools:
        endpoint = lane.endpoints[0]
        return [_endpoint(endpoint, f"{lane.account}/{endpoint.model}{mark}", limits=lane.limits, titles=titles)]
    own = _of(lane.limits, lane.account)
    flying = _flying(lane.in_flight, own)
    head = (flying, "", "", "") if " of " in flying else ()
    first = _Line(lane.account + mark, _shares(own, titles), head, head=True)
    models = [
        _endpoint(one, "  " + one.model, limits=_of(lane.limits, one.model), titles=titles) for one in lane.endpoints
    ]
    return [first, *models] + [_Line("  " + pool, _shares(_of(lane.limits, pool), titles), ()) for pool in pools]


def _of(limits: Sequence[LimitStatistics], scope: str) -> list[LimitStatistics]:
    return [one for one in limits if one.scope == scope]


def _endpoint(
    one: EndpointStatistics, name: str, *, limits: Sequence[LimitStatistics], titles: _Titles
) -> _Line:  # fmt: skip
    frozen = one.thaws_s is not None
    figures = (_flying(one.in_flight, limits), count(one.waiting), _next(one), count(one.pushed_back))
    rank = (not frozen, not (one.in_flight or one.waiting), -one.admitted)
    return _Line(name, _shares(limits, titles), figures, rank=rank)


def _flying(number: int, limits: Sequence[LimitStatistics]) -> str:
    """`9 of 12` where it is known or learned how many may be in flight; our own bound is shown where it is reached."""
    most = [one.limit for one in limits if one.name == "in_flight" and (one.source != "own" or one.binds)]
    return f"{count(number)} of {count(min(most))}" if most else count(number)


def _next(one: EndpointStatistics) -> str:
    """When the next call may go: `now`, `0.4s`, `frozen 12s`; `when free` if it takes the place of one in flight."""
    if one.thaws_s is not None:
        return "frozen " + _seconds(one.thaws_s)
    if one.next_s is None:
        return "when free" if one.waiting else "now"
    return "now" if one.next_s < 0.05 else _seconds(one.next_s)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s" if seconds < 600 else f"{seconds / 60:.0f}min"


def _shares(limits: Sequence[LimitStatistics], titles: _Titles) -> _Shares:
    """The share in use of one limit on requests and of one on tokens: what holds calls back now, else the tightest."""
    first, second = (
        max(
            (one for one in limits if one.name != "in_flight" and _column(one) == column),
            key=lambda one: (one.binds, one.recent), default=None,
        )
        for column in (0, 1)
    )  # fmt: skip
    return (
        None if first is None else _Share(first.recent, titles.label(first)),
        None if second is None else _Share(second.recent, titles.label(second)),
    )


# --- columns


@dataclass(frozen=True, slots=True)
class _Columns:
    """What fits: the width of the name, of bars, of the share columns (0: dropped), of their labels, of the figures."""

    name: int
    bars: int
    titles: tuple[str, str]
    shares: tuple[int, int]
    labels: tuple[int, int]
    figures: tuple[int, ...]


def _fit(rows: Sequence[_Line], titles: _Titles, *, width: int) -> _Columns:
    """The widest form that fits: bars shrink, and columns go, from the least telling on."""
    name = min(_MAX_NAME, max([len("lane"), *(len(row.name) for row in rows)]))
    figures = tuple(
        max([len(title), *(len(row.figures[place]) for row in rows if row.figures)])
        for place, title in enumerate(_FIGURES)
    )
    troubled = any(row.figures and row.figures[3] not in ("", "0") for row in rows)
    frozen = any(row.figures and row.figures[2].startswith("frozen") for row in rows)
    first, both = {"next" if troubled and not frozen else "pushed back"}, {"next", "pushed back"}
    forms: list[tuple[set[str], int]] = [(set(), size) for size in _BAR_SIZES]
    forms += [(first, size) for size in (*_BAR_SIZES, 0)] + [(both, 0), (both | {"tokens"}, 0), (both | {*_PARTS}, 0)]
    wide = [max((len(s.label) + 1 for row in rows if (s := row.shares[n]) and s.label), default=0) for n in (0, 1)]
    for (without, bars), labels in itertools.product(forms, (wide, [0, 0])):
        if labels is not wide and bars:
            continue  # rather a shorter bar than a figure of nobody knows which limit
        named = [title if bars > 5 or title is None else part for part, title in zip(_PARTS, titles.names, strict=True)]
        cell = bars + 1 + _PERCENT if bars else _PERCENT
        shares = [
            max(cell + label, len(title)) if title and part not in without else 0
            for part, title, label in zip(_PARTS, named, labels, strict=True)
        ]
        kept = tuple(0 if title in without else size for title, size in zip(_FIGURES, figures, strict=True))
        columns = _Columns(
            name, bars, (named[0] or "", named[1] or ""), (shares[0], shares[1]), (labels[0], labels[1]), kept
        )
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
    for share, size, label in zip(row.shares, columns.shares, columns.labels, strict=True):
        if size:
            line.append("  ").append(_share(share, size, bars=columns.bars, label=label, blocks=blocks))
    for place, size in enumerate(columns.figures):
        if size:
            text = row.figures[place] if row.figures else ""
            alarming = text.startswith("frozen") or (place == 3 and text not in ("", "0"))
            line.append("  " + text.rjust(size), "yellow" if alarming else "not bold")
    return line


def _share(share: _Share | None, size: int, *, bars: int, label: int, blocks: bool) -> Text:
    if share is None:
        return Text(" " * size)
    percent = f"{min(9.99, share.part):.0%}".replace("%", " %").rjust(_PERCENT)
    percent += (" " + share.label).ljust(label) if label else ""
    if not bars:
        return Text(percent.rjust(size))
    text = Text(bar(share.part, bars, blocks=blocks) + " ", "cyan").append(percent, "not bold")
    text.pad_right(max(0, size - text.cell_len))
    return text

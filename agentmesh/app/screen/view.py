"""Draws a snapshot of a run as lines of text: one calm picture, as wide and as high as the terminal allows.

Nothing wraps: where room is short, words get shorter first and whole columns go next. Foreign text is put into `Text`
as it is, so that no markup in it is read.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from ..wording import count, dollars, duration, more, plural, seconds
from .lane_view import found_out_lines, lane_lines
from .picture import Failure, Snapshot, TaskRow
from .ruler import bar, cut, joined, pad

__all__ = ["MAX_WIDTH", "header_words", "render", "task_words"]

MAX_WIDTH = 120
"""Lines that are longer are hard to read."""

_MAX_NAME = 20
_WIDE = 80  # columns from which there is room for words beside the figures
_MAX_TITLE = 34
_MIN_TITLE = 12
_MIN_ROWS = 3  # of tasks and of lanes, however low the terminal is


def render(snapshot: Snapshot, *, width: int, height: int = 40, blocks: bool = True) -> list[Text]:
    """The picture, at most `width` columns wide, cut to about `height` lines; without `blocks` bars are of `#`."""
    width = max(20, min(width, MAX_WIDTH))
    lines = [_header(snapshot, width), Text()]
    below = _below(snapshot, width)
    room = height - len(lines) - len(below) - 3  # blank lines, and the head of the lanes
    wanted = 1 + sum(len(lane.endpoints) + 1 for lane in snapshot.lanes)
    task_room = max(_MIN_ROWS, room - min(wanted, max(_MIN_ROWS, room // 2)))
    tasks = _tasks(snapshot.tasks, width, limit=task_room, blocks=blocks)
    lines += tasks
    if snapshot.lanes:
        lane_room = max(_MIN_ROWS, room - len(tasks))
        shown = lane_lines(snapshot.lanes, width=width, limit=lane_room, blocks=blocks)
        lines += [Text(), *shown]
    lines += below
    for line in lines:
        line.truncate(width)
    return lines


# --- the first line


def header_words(snapshot: Snapshot, *, style: str = "full") -> list[str]:
    """Time, calls and dollars, each in words, with what is to be expected as far as it is known.

    `style` is full, short or tiny.
    """
    of, about, calls = {
        "full": (" of ", "about ", " calls"), "short": (" of ", "~", " calls"), "tiny": ("/", "", ""),
    }[style]  # fmt: skip
    time = duration(snapshot.elapsed)
    made = count(snapshot.calls)
    if snapshot.status is None and snapshot.forecast is not None:
        time += of + about + duration(snapshot.forecast)
    if snapshot.status is None and snapshot.expected_calls is not None:
        made += of + about + count(_about(snapshot))
    spent = dollars(snapshot.usd) + ("" if snapshot.usd_known else "+")
    if snapshot.budget_usd is not None:
        spent += of + dollars(snapshot.budget_usd)
    return [time, made + (calls or (" call" if made == "1" else " calls")), spent]


def _about(snapshot: Snapshot) -> int:
    """The expected calls, to the ten above a hundred: a guess does not pretend to know the last figure."""
    number = snapshot.expected_calls or 0
    return max(snapshot.calls, round(number, -1)) if number >= 100 else number


def _header(snapshot: Snapshot, width: int) -> Text:
    for style in ("full", "short", "tiny"):
        title = Text.assemble(" ", (cut(snapshot.name or "run", 30), "bold"), "  ", (snapshot.run, "dim"))
        words = header_words(snapshot, style=style)
        spare = width - title.cell_len - sum(map(len, words))
        if spare >= 2 * len(words):
            break
    else:
        title = Text.assemble(" ", (cut(snapshot.name, max(1, width // 3)), "bold"))
    gap = min(12, max(2, (width - title.cell_len - sum(map(len, words))) // len(words)))
    line = title
    for word in words:
        line = line + Text(" " * gap + word)
    line.truncate(width)
    line.rstrip()
    return line


# --- tasks


def _tasks(rows: Sequence[TaskRow], width: int, *, limit: int, blocks: bool) -> list[Text]:
    """A line per task; where there are too many, those that have ended and those that only wait go first."""
    shown = list(rows)
    if len(rows) > limit:
        rank = {id(row): (not _live(row), row.complete, place) for place, row in enumerate(rows)}
        kept = {id(row) for row in sorted(rows, key=lambda row: rank[id(row)])[: limit - 1]}
        shown = [row for row in rows if id(row) in kept]
    names = min(_MAX_NAME, max((len(row.name) for row in shown), default=0))
    figures = max((len(_figures(row)) for row in shown), default=0)
    size = 24 if width >= 90 else 16 if width >= _WIDE else 10
    lines = [_task(row, width, names=names, size=size, figures=figures, blocks=blocks) for row in shown]
    if len(shown) < len(rows):
        hidden = [row for row in rows if row not in shown]
        ended = sum(row.complete for row in hidden)
        lines.append(Text(" " + more(len(hidden)) + (f", {count(ended)} of them ended" if ended else ""), "dim"))
    return lines


def _live(row: TaskRow) -> bool:
    return not row.complete and not row.waits_for and (row.started or row.ended > 0)


def _figures(row: TaskRow) -> str:
    """`15/24`, and `15/24+` while more may come."""
    if not row.total and row.open:
        return "0"
    return f"{count(row.done)}/{count(row.total)}" + ("+" if row.open else "")


def task_words(row: TaskRow) -> list[str]:
    """What did not succeed, in words: `2 failed`, `1 skipped`."""
    numbers = {"failed": row.failed, "skipped": row.skipped, "cancelled": row.cancelled}
    return [f"{count(number)} {state}" for state, number in numbers.items() if number]


_STATE_STYLES = {"failed": "red", "skipped": "yellow", "cancelled": "yellow"}


def _task(row: TaskRow, width: int, *, names: int, size: int, figures: int, blocks: bool) -> Text:
    line = Text(" " + pad(row.name, names) + "   ")
    if row.waits_for:
        line.append(joined("waits for ", row.waits_for, width=width - line.cell_len, gap=", "), "dim")
    elif row.tournament is not None:
        _tournament(line, row, width=width)
    else:
        whole = max(row.total, row.expected or 0)
        style = "green" if row.complete and not row.failed else "cyan"
        line.append(bar(row.ended / whole if whole else 0.0, size, blocks=blocks), style)
        line.append("  " + pad(_figures(row), figures))
        for words in task_words(row):
            line.append("   " + words, _STATE_STYLES[words.rpartition(" ")[2]])
    line.truncate(width, overflow="ellipsis")
    line.rstrip()
    return line


def _tournament(line: Text, row: TaskRow, *, width: int) -> None:
    contest = row.tournament
    assert contest is not None
    if row.complete:
        line.append(plural(contest.matches, "match"))
    elif contest.entrants < 2:
        line.append("waits for entrants", "dim")
    else:
        line.append(f"match {count(contest.matches)}")
        if contest.limit is not None:
            line.append(f" of at most {count(contest.limit)}" if width >= _WIDE else f" of {count(contest.limit)}")
    if contest.regret is not None:
        line.append(f"   regret {contest.regret:.2f}")
    if contest.failed:
        line.append(f"   {count(contest.failed)} failed", "red")
    for words in task_words(row):
        line.append("   " + words, _STATE_STYLES[words.rpartition(" ")[2]])
    for place, title in enumerate(contest.titles, 1):
        gap = "   " if place == 1 else "  "
        room = min(_MAX_TITLE, width - line.cell_len - len(gap))
        if room < _MIN_TITLE:
            break
        line.append(gap + cut(f"{place}. {title}", room), "" if place == 1 else "dim")


# --- what is under the tables


def _below(snapshot: Snapshot, width: int) -> list[Text]:
    lines = []
    if snapshot.agents:
        words = [f"{name} {live}" for name, live in snapshot.agents]
        if sum(map(len, words)) + 3 * len(words) > width - 12:  # not all of them fit: the busiest first
            words = [f"{name} {live}" for name, live in sorted(snapshot.agents, key=lambda agent: -agent[1])]
        lines.append(Text(joined(" agents     ", words, width=width)))
    lines += found_out_lines(snapshot.lanes, width=width)
    if snapshot.paused:
        flying = f"{plural(snapshot.live, 'call')} in flight; " if snapshot.live else ""
        lines.append(Text(cut(f" paused     {flying}agentmesh unpause {snapshot.run} goes on", width), "yellow"))
    if snapshot.bounds:
        lines.append(Text(cut(f" budget     {snapshot.bounds}", width)))
    if number := snapshot.waiting_for_budget:
        label = "" if snapshot.bounds else "budget"
        text = f" {label:10} {plural(number, 'call')} wait{'s' if number == 1 else ''} for what others have reserved"
        lines.append(Text(cut(text, width), "yellow"))
    for name, left, reason in snapshot.frozen:
        lines.append(Text(cut(f" frozen     {name} for {seconds(left)}: {reason}", width), "yellow"))
    lines += [Text(cut(" notice     " + text, width), "yellow") for text in snapshot.notices]
    lines += [_failure(failure, width) for failure in snapshot.failures[:3]]
    if (hidden := snapshot.failures_total - min(3, len(snapshot.failures))) > 0:
        lines.append(Text(" " * 12 + more(hidden), "dim"))
    return [Text(), *lines] if lines else []


def _failure(failure: Failure, width: int) -> Text:
    """What went wrong, and at the right what to type; where room is short, the command is what stays."""
    command = "   " + failure.command if failure.command and width >= _WIDE else ""
    text = f" {pad(failure.state, 9)}  {failure.address}: {failure.error}"
    line = Text(cut(text, min(width, 110) - len(command)), _STATE_STYLES[failure.state])
    if command:
        line.append(" " * max(0, min(width, 110) - line.cell_len - len(command)) + command, "bold")
    return line

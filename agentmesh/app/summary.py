"""The few lines that stay when a run is over: what was made, what it cost, what bounded it, and what to type next."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from ..events import RunStatus
from ..journal.ids import short_id
from ..limits.statistics import Bound, LaneStatistics, SmallerMaxTokens
from ..mesh.left import Left
from ..outcome import Outcome, Usage
from .budgets import budget_option
from .screen.picture import failure_of
from .screen.ruler import cut
from .wording import clean, count, dollars, duration, figure, limit_words, more, percent, plural, show_command

__all__ = ["Summary", "print_summary", "summary_lines"]

_FAILURES = 5
_LABEL = 11
_MIN_ERROR = 20
_WRAPPED = (
    "",
    "tasks",
    "left",
    "used",
    "budget",
    "limits",
    "done",
    "partial",
    "stopped",
)  # labels of lines without commands or paths
_ALSO = 0.1  # of the time: what held calls back for as long is named beside what did so longest
_HARDLY = 0.05  # of the time: what held calls back for less has bounded nothing
_STATES = ("done", "failed", "skipped", "cancelled")
_STYLES = {"done": "green", "partial": "yellow", "stopped": "yellow", "cancelled": "yellow", "failed": "red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A run that is over, as it is summed up for whoever began it.

    `tasks` counts the items of each task by end state. `failures` are the outcomes that are no success in themselves;
    those that only followed from another are passed over. `usd` and `budget` (of the whole run) are dollars, `usd`
    None where a price is unknown. `outputs` maps what was written to its path. `unfinished` tasks have no end state.
    `spared` calls were not sent, as their answer was in the cache, or is `replayed`; `saved_usd` is what they cost when
    they were asked.
    `forecast` is the duration in seconds that the display forecast half way. Without a `journal` there is nothing that
    `agentmesh show` could find; `place` is what commands need besides to find that. `left` is what was left undone;
    `resumes` says whether `agentmesh resume` goes on with it, or the command `again`; `bounds` how its budget stands in
    other units than dollars. `raise_first` are budgets in the workflow's file without more of which what failed would
    fail alike. `next` replaces the command that is suggested.
    """

    run: str
    workflow: str
    status: RunStatus
    seconds: float
    tasks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    failures: Sequence[Outcome] = ()
    usage: Usage = Usage()
    usd: float | None = 0.0
    lanes: Sequence[LaneStatistics] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)
    budget: float | None = None
    simulated: bool = False
    reason: str | None = None
    unfinished: int = 0
    forecast: float | None = None
    spared: int = 0
    saved_usd: float | None = 0.0
    replayed: bool = False
    journal: bool = True
    place: str = ""
    left: Left | None = None
    resumes: bool = True
    again: str | None = None
    bounds: str = ""
    raise_first: Sequence[str] = ()
    next: str | None = None


def print_summary(summary: Summary, console: Console) -> None:
    """The lines on a console, in colour where it has any; commands are never wrapped, so that they can be copied."""
    for line in summary_lines(summary, width=console.width if console.is_terminal else None):
        label = line[: _LABEL + 1].strip()
        text = Text(line)
        text.stylize(_STYLES.get(label, "dim"), 0, _LABEL + 1)
        console.print(text, soft_wrap=True)


def summary_lines(summary: Summary, *, width: int | None = None) -> list[str]:
    """The same as plain text, without line ends, wrapped to `width` columns where that harms no command."""
    room = None if width is None else max(20, width - _LABEL - 1)
    lines = []
    for label, text in _parts(summary, room):
        wrapped = textwrap.wrap(text, room, break_long_words=False) if room and label in _WRAPPED else [text]
        lines += [f" {'' if place else label:{_LABEL}}{line}".rstrip() for place, line in enumerate(wrapped)]
    return lines


def _parts(summary: Summary, room: int | None) -> Iterator[tuple[str, str]]:
    run = short_id(summary.run)
    yield summary.status, f"{clean(summary.workflow)} {run}{_time(summary)}"
    if summary.tasks:
        yield "tasks", "; ".join(_task(name, counts) for name, counts in summary.tasks.items())
    for place, (name, path) in enumerate(summary.outputs.items()):
        yield "" if place else "wrote", path if name == path else f"{path}  ({name})"
    if summary.left is not None:
        yield "left", _left(summary.left, simulated=summary.simulated)
    yield "used", _used(summary)
    if summary.spared:
        yield "", _spared(summary)
    if trouble := _trouble(summary.usage):
        yield "", trouble
    if summary.bounds:
        yield "budget", summary.bounds
    limits = [line for lane in _telling(summary.lanes) for line in (_lane(lane), *_smaller(lane))]
    for place, line in enumerate(limits):
        yield "" if place else "limits", line
    yield from _failures(summary, run, room=room)
    for place, command in enumerate(_next(summary, run)):
        yield "" if place else "next", command


def _next(summary: Summary, run: str) -> list[str]:
    """What a person is likely to type next."""
    if summary.next is not None:
        return [summary.next]
    if not summary.journal:
        return []
    commands, again = [show_command(run) + summary.place], (summary.again or f"agentmesh resume {run}") + summary.place
    if not summary.resumes:
        return commands
    if summary.status in ("cancelled", "stopped"):
        enough = summary.left.budget if summary.left is not None else None
        commands.insert(0, again + (f" {budget_option(*enough)}" if enough is not None else ""))
    elif any(failure.state == "failed" for failure in summary.failures):
        if summary.raise_first:
            commands.append(f"raise {' and '.join(summary.raise_first)}, else it fails alike; then")
        commands.append(f"{again} --failed")
    return commands


def _left(left: Left, *, simulated: bool) -> str:
    """What is undone, and what the rest should cost."""
    text = ", ".join(f"{name} {count(number)}{_matches(left.matches.get(name))}" for name, number in left.tasks.items())
    if left.grows:
        text += ", and what is not known yet" if text else "what is not known yet"
    if not left.cost.items:
        return text + "; what finishing costs cannot be estimated: nothing like it has ended"
    cost = "an unknown price" if left.cost.unpriced else f"about {dollars(left.cost.usd)}"
    most = "at most " if left.matches else ""
    text += f"; an estimate by what such items have cost: finishing takes {most}{cost}"
    text += " (simulated)" if simulated else ""
    text += f" and {plural(math.ceil(left.cost.calls), 'call')}"
    return text + (f", without {', '.join(left.unknown)}, of which none has ended" if left.unknown else "")


def _matches(number: int | None) -> str:
    return "" if number is None else f" (at most {plural(number, 'match')} more)"


def _time(summary: Summary) -> str:
    text = f" in {duration(summary.seconds)}"
    if summary.forecast is not None:
        text += f" (half way it looked like {duration(summary.forecast)})"
    if summary.unfinished:
        text += f", {plural(summary.unfinished, 'task')} unfinished"
    return text + (f": {clean(summary.reason)}" if summary.reason else "")


def _task(name: str, counts: Mapping[str, int]) -> str:
    words = [f"{count(counts[state])} {state}" for state in _STATES if counts.get(state)]
    return f"{name} {', '.join(words) or 'nothing'}"


def _used(summary: Summary) -> str:
    usage = summary.usage
    parts = [plural(usage.calls, "call")]
    for tokens, way in ((usage.input_tokens, "in"), (usage.output_tokens, "out")) if usage.calls else ():
        parts.append(f"{'unknown tokens' if tokens is None else plural(tokens, 'token')} {way}")
    spent = "dollars unknown (not every price is known)" if summary.usd is None else dollars(summary.usd)
    if summary.usd is not None and summary.budget is not None:
        spent += f" of {dollars(summary.budget)}"
    parts.append(spent + (" (simulated)" if summary.simulated else ""))
    return ", ".join(parts)


def _spared(summary: Summary) -> str:
    answers = plural(summary.spared, "answer")
    if summary.replayed:
        return f"{answers} replayed, no model was asked"
    saved = "unknown dollars" if summary.saved_usd is None else dollars(summary.saved_usd)
    return f"{answers} from the cache, {saved} saved" + (" (simulated)" if summary.simulated else "")


def _trouble(usage: Usage) -> str:
    parts = [f"{count(usage.pushed_back)} pushed back"] if usage.pushed_back else []
    if usage.uncertain:
        parts.append(f"{count(usage.uncertain)} may have been paid without an answer")
    return ", ".join(parts)


def _telling(lanes: Sequence[LaneStatistics]) -> list[LaneStatistics]:
    return [lane for lane in lanes if lane.admitted]


def _lane(lane: LaneStatistics) -> str:
    """What held this account's calls back, for what share of the time, and how much of what it allowed was used."""
    pushed = f", {count(lane.pushed_back)} pushed back" if lane.pushed_back else ""
    held = [bound for bound in lane.bounds if bound.by != "latency" and bound.share >= _HARDLY]
    if not held:
        flying = f"at most {plural(lane.peak_in_flight, 'call')} in flight"
        return f"{lane.account}: no limit held calls back, only the time its answers took; {flying}{pushed}"
    first, *others = held
    also = [f"{_bound(one, lane, also=True)} {percent(one.share)}" for one in others[:2] if one.share >= _ALSO]
    time = f"held calls back {percent(first.share)} of the time"
    return (
        f"{_place(first, lane)}: {_bound(first, lane)} {time}{_used_to(first, lane)}"
        + "".join(f"; {part}" for part in also)
        + pushed
    )


def _place(bound: Bound, lane: LaneStatistics) -> str:
    return lane.account if bound.scope == lane.account else f"{lane.account}/{bound.scope}"


def _bound(bound: Bound, lane: LaneStatistics, *, also: bool = False) -> str:
    """`requests per minute (600)`; with where it holds if that is not said already."""
    if bound.by == "push_backs":
        return f"waiting after push-backs ({lane.frozen_s:.0f} s frozen)"
    limit = next(
        one for one in lane.limits if (one.name, one.scope, one.source) == (bound.by, bound.scope, bound.source)
    )
    says = {"told": ", as its answers say", "learned": ", learned", "own": ", our own limit", "file": ""}[limit.source]
    scope = f" of {limit.scope}" if also and limit.scope != lane.account and len(lane.endpoints) > 1 else ""
    return f"{limit_words(limit.name)}{scope} ({figure(limit.limit)}{says})"


def _used_to(bound: Bound, lane: LaneStatistics) -> str:
    use = next((one.use for one in lane.limits if (one.name, one.scope) == (bound.by, bound.scope)), None)
    return "" if use is None else f", used to {percent(use)}"


def _smaller(lane: LaneStatistics) -> Iterator[str]:
    """What a smaller max_tokens would gain, where it is what the limit counted that bounded the run."""
    for one in lane.endpoints:
        smaller = one.smaller_max_tokens
        if smaller is not None and lane.bounded_by == f"{smaller.scope} {smaller.name}":
            yield _would_gain(smaller, f"{lane.account}/{one.model}")


def _would_gain(smaller: SmallerMaxTokens, name: str) -> str:
    kind = f" of {smaller.kind}" if smaller.kind else ""
    return (
        f"{name} counts all of max_tokens: each call{kind} reserved {count(smaller.max_tokens)} tokens of output, and "
        f"the longest reply had {count(smaller.longest)}; with max_tokens {smaller.enough} this run could have gone "
        f"up to {smaller.times_as_fast:.1f} times as fast"
    )


def _failures(summary: Summary, run: str, *, room: int | None) -> Iterator[tuple[str, str]]:
    """What failed, and what to type to see it. Where room is short, the error is cut and the command is not."""
    known = run if summary.journal else None
    found = [failure for one in summary.failures if (failure := failure_of(one, run=known)) is not None]
    for failure in found[:_FAILURES]:
        command = f"   {failure.command}{summary.place}" if failure.command else ""
        text = f"{failure.address}: {failure.error}"
        yield failure.state, (text if room is None else cut(text, max(_MIN_ERROR, room - len(command)))) + command
    if len(found) > _FAILURES:
        yield "", more(len(found) - _FAILURES)

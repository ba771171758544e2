"""The commands `runs` and `show`: what the journals of past and present runs have."""

from __future__ import annotations

import difflib
import json as jsonlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic_core import to_jsonable_python
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import UserError
from ..events import CallEnded
from ..journal import (
    CallHistory,
    ItemHistory,
    RunFile,
    RunHistory,
    RunSummary,
    TaskHistory,
    find_run,
    item_histories,
    list_runs,
    run_history,
    short_id,
)
from ..messages import Message, Reply
from ..outcome import Outcome
from .wording import dollars, plural
from .wording import show_command as command_for

__all__ = ["runs_command", "show_command"]

_DEFAULT_FOLDER = Path(".agentmesh")
_SHOWN = 20  # failures, or items of one task, before one has to ask for more
_GAP = 1  # between columns, so that eight of them fit into 60
_STYLES = {"done": "green", "running": "cyan", "partial": "yellow", "failed": "red", "unreadable": "red"}
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])  # a reply must not steer the terminal

JournalOption = Annotated[
    Path, typer.Option("--journal", envvar="AGENTMESH_JOURNAL", help="The folder that the journals are in.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FirstOption = Annotated[int | None, typer.Option("--first", min=1, help="Print only that many.")]


def runs_command(journal: JournalOption = _DEFAULT_FOLDER, json: JsonOption = False, first: FirstOption = None) -> None:
    """List the runs that are in the journal, the newest first.

    Example: agentmesh runs
    """
    found = list_runs(journal)
    names = [run.id for run in found]
    if json:
        _print_json({"runs": [asdict(run) | {"short": short_id(run.id, names)} for run in found[:first]]})
        return
    console = _console()
    if not found:
        console.print(Text(f"There are no runs in {journal} yet."))
        return
    table = _table(["when", "id", "workflow", "status"], numbers=["tasks", "calls", "cost", "time"])
    rows = [_run_cells(run, short_id(run.id, names)) for run in found[:first]]
    widths = [max(cell.cell_len for cell in column) for column in zip(_titles(table), *rows, strict=True)]
    room = console.width - sum(widths) + widths[2] - _GAP * (len(widths) - 1)
    for row in rows:
        row[2].truncate(max(4, room), overflow="ellipsis")  # names are the one thing that may be cut
        table.add_row(*row)
    console.print(table)
    for run in found[:first]:
        if run.problem is not None:
            console.print(_text(run.problem, "red"), soft_wrap=True)


def show_command(
    run: Annotated[str, typer.Argument(help="The end or the beginning of a run's id, or `last`.")] = "last",
    address: Annotated[str | None, typer.Argument(help="A task, or one item: review/17.")] = None,
    *,
    journal: JournalOption = _DEFAULT_FOLDER,
    json: JsonOption = False,
    first: FirstOption = None,
) -> None:
    """Show a run: its tasks, what failed, and at an address every prompt, reply, attempt and error.

    Example: agentmesh show last
    """
    with _one_message(), RunFile.open(find_run(journal, run)) as file:
        if address is None:
            _show_run(file, journal, json=json, first=first)
        else:
            _show_address(file, address.strip("/"), json=json, first=first)
        if file.unreadable:
            number, why = next(iter(file.unreadable.items()))
            typer.echo(f"{len(file.unreadable)} damaged records were left out; record {number}: {why}", err=True)


@contextmanager
def _one_message() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None


# One run.


def _show_run(file: RunFile, folder: Path, *, json: bool, first: int | None) -> None:
    summary, history = file.summary(), run_history(file)
    if json:
        tasks = [asdict(task) | {"unfinished": task.unfinished} for task in history.tasks.values()]
        failures = [_outcome_json(outcome) for outcome in history.failures[:first]]
        _print_json({"run": asdict(summary), "tasks": tasks, "failures": failures, "notices": history.notices})
        return
    console = _console()
    others = [path.stem for path in file.path.parent.glob("*.db")]
    short = short_id(file.run_id, others)
    console.print(_headline(summary, short), soft_wrap=True)
    if history.ended is not None and history.ended.reason:
        console.print(_text(history.ended.reason), soft_wrap=True)
    table = _table(["task"], folding=["items"], numbers=["calls", "waited", "time", "cost"])
    for task in history.tasks.values():
        table.add_row(*_task_cells(task))
    if history.tasks:
        console.print()
        console.print(table)
    for notice in history.notices:
        console.print(_text(f"{notice.level}: {notice.text}", "yellow" if notice.level == "warning" else ""))
    if history.tasks:
        more = "" if folder == _DEFAULT_FOLDER else f" --journal {folder}"
        _print_failures(console, history, short, more=more, first=first or _SHOWN)


def _print_failures(console: Console, history: RunHistory, run: str, *, more: str, first: int) -> None:
    """The causes, each with the command that shows it; what was skipped because of them is only counted."""
    causes = [outcome for outcome in history.failures if outcome.error and outcome.error.kind != "dependency"]
    console.print()
    for outcome in causes[:first]:
        console.print(_text(f"{outcome.state} {outcome.address}: {outcome.error}", _STYLES.get(outcome.state, "")))
        console.print(_text(f"    {command_for(run, str(outcome.address))}{more}", "dim"), soft_wrap=True)
    if len(causes) > first:
        console.print(_text(f"and {len(causes) - first} more (--first {len(causes)})"))
    if behind := len(history.failures) - len(causes):
        console.print(_text(f"skipped behind them: {behind}"))
    if not causes:
        task = next(iter(history.tasks))
        console.print(_text(f"Prompts and replies: {command_for(run, task)}{more}", "dim"), soft_wrap=True)


def _headline(summary: RunSummary, short: str) -> Text:
    text = Text.assemble((summary.name or "unnamed", "bold"), f"  {short}  ", _status(summary.status))
    if summary.holder is not None and summary.status == "running":
        text.append(f" in {summary.holder}")
    counts = [plural(summary.calls, "call")]
    if summary.pushed_back:
        counts.append(f"{summary.pushed_back} pushed back")
    counts += [_dollars(summary.usd), _duration(summary.seconds)]
    text.append(f"\n{_when(summary.began, full=True)}  {', '.join(filter(None, counts))}\n{summary.path}")
    return text


def _run_cells(run: RunSummary, short: str) -> list[Text]:
    first = [Text(_when(run.began)), Text(short), _text(run.name), _status(run.status)]
    if run.problem is not None:
        return [*first, *(Text() for _ in range(4))]
    tasks = Text(str(run.done))
    if run.failed:
        tasks.append(f"/{run.failed}", "red")
    seconds = run.seconds
    if seconds is None and run.status == "running" and run.began is not None:
        seconds = time.time() - run.began
    return [*first, tasks, Text(str(run.calls)), Text(_dollars(run.usd)), Text(_duration(seconds))]


def _task_cells(task: TaskHistory) -> list[Text | str]:
    counts = [(getattr(task, state), state) for state in ("done", "failed", "skipped", "cancelled", "unfinished")]
    items = ", ".join(f"{count} {state}" for count, state in counts if count)
    if task.matches:
        items += (", " if items else "") + plural(task.matches, "match")
    took = None if task.first is None or task.last is None else task.last - task.first
    cost = "?" if task.unpriced else _dollars(task.usd) if task.calls else ""
    return [_text(task.task), items, str(task.calls or ""), _duration(task.waited or None), _duration(took), cost]


# One address.


def _show_address(file: RunFile, address: str, *, json: bool, first: int | None) -> None:
    items = list(item_histories(file, address))
    if not items:
        raise UserError(_unknown_address(file, address))
    if json:
        _print_json({"run": file.run_id, "address": address, "items": [_item_json(item) for item in items[:first]]})
        return
    console = _console()
    shown = first or _SHOWN
    for item in items[:shown]:
        _print_item(console, item)
    if len(items) > shown:
        console.print(_text(f"and {len(items) - shown} more items (--first {len(items)})"))


def _unknown_address(file: RunFile, address: str) -> str:
    tasks = list(run_history(file).tasks)
    task = address.partition("/")[0]
    if task in tasks:
        return f"nothing happened at {address!r} in run {file.run_id}; `{command_for(file.run_id, task)}` has the rest"
    close = difflib.get_close_matches(task, tasks, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(tasks)}" if tasks else ""
    return f"run {file.run_id} has no task {task!r}{hint}"


def _print_item(console: Console, item: ItemHistory) -> None:
    outcome = item.outcome
    head = Text(item.address, "bold")
    if outcome is not None:
        head.append_text(Text("  ")).append_text(_status(outcome.state))
        head.append(f"  {_duration(outcome.seconds)}  {_dollars(outcome.usd)}", "not bold")
    console.print(head, soft_wrap=True)
    if outcome is not None and outcome.error is not None:
        console.print(_text(f"  {outcome.error}", "red"))
    for match in item.matches:
        score = "no verdict" if match.score is None else f"score {match.score:g}"
        console.print(_text(f"  match of {match.first} and {match.second}: {score} for the first, by {match.judge}"))
    seen: tuple[Message, ...] = ()
    for call in item.calls.values():
        seen = _print_call(console, call, seen)
    if not item.calls and outcome is not None and outcome.value is not None:
        _print_said(console, "value", _readable(outcome.value))
    console.print()


def _print_call(console: Console, call: CallHistory, seen: Sequence[Message]) -> tuple[Message, ...]:
    """One call: what is new in its prompt since `seen`, then its attempts. Returns all that has been shown now."""
    sent = call.intents[0] if call.intents else None
    facts = [f"call {call.call}", call.agent or "", call.model]
    if sent is not None:
        facts += [_when(sent.at, full=True), f"waited {_duration(sum(i.waited for i in call.intents))}"]
    console.print(_text("  " + "  ".join(fact for fact in facts if fact), "cyan"))
    messages: tuple[Message, ...] = () if call.request is None else call.request.messages
    known = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(seen, messages, strict=False)))
    for message in messages[known:]:
        _print_said(console, message.role, _said(message))
    reply: Reply | None = None
    for end in call.ends:
        if end.reply is not None:
            reply = end.reply
            _print_said(console, "reply", _said(reply))
        console.print(_text("    " + _attempt(end), "dim" if end.result == "ok" else "red"))
    if len(call.ends) < len(call.intents):
        console.print(_text("    sent; no end was recorded", "yellow"))
    return messages if reply is None else (*messages, reply.as_message())


def _attempt(end: CallEnded) -> str:
    tokens = [f"{n} {word}" for n, word in ((end.usage.input_tokens, "in"), (end.usage.output_tokens, "out")) if n]
    facts = [f"attempt {end.attempt}: {end.result.replace('_', ' ')}", f"{_duration(end.seconds)}"]
    facts += [", ".join(tokens), _dollars(end.usd) if end.usd is not None else ""]
    facts += [f"finish {end.reply.finish}" if end.reply is not None else "", str(end.error or "")]
    facts += ["it may have been paid" if end.uncertain else ""]
    return "  ".join(fact for fact in facts if fact)


def _said(said: Message | Reply) -> str:
    calls = [f"{call.name}({call.arguments})" for call in said.tool_calls]
    return "\n".join([part for part in (said.text, *calls) if part])


def _print_said(console: Console, role: str, text: str) -> None:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=13, no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(Text(f"    {role}", "bold"), _text(text))
    console.print(table)


# Words and figures.


def _console() -> Console:
    """Standard output. Into a pipe lines are as long as they are, so that nothing in them is cut."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = 10_000
    return console


def _table(plain: Iterable[str], *, numbers: Iterable[str], folding: Iterable[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    for title in plain:
        table.add_column(title, no_wrap=True)
    for title in folding:
        table.add_column(title, min_width=8)
    for title in numbers:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _titles(table: Table) -> list[Text]:
    return [Text(str(column.header)) for column in table.columns]


def _text(value: str, style: str = "") -> Text:
    return Text(value.translate(_CONTROLS), style)


def _status(status: str) -> Text:
    return Text(status, _STYLES.get(status, "yellow"))


def _when(at: float | None, *, full: bool = False) -> str:
    if at is None:
        return ""
    local, now = time.localtime(at), time.localtime()
    if full:
        return time.strftime("%Y-%m-%d %H:%M:%S", local)
    return time.strftime("%H:%M" if local[:3] == now[:3] else "%d %b" if local[0] == now[0] else "%Y-%m", local)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def _dollars(usd: float | None) -> str:
    return "?" if usd is None else dollars(usd)


def _readable(value: Any) -> str:
    return value if isinstance(value, str) else jsonlib.dumps(to_jsonable_python(value, fallback=repr), indent=2)


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    return {"address": str(outcome.address), "ok": outcome.ok, **asdict(outcome)}


def _item_json(item: ItemHistory) -> dict[str, Any]:
    return {
        "address": item.address,
        "outcome": None if item.outcome is None else _outcome_json(item.outcome),
        "calls": [asdict(call) for call in item.calls.values()],
        "matches": [asdict(match) for match in item.matches],
    }


def _print_json(value: dict[str, Any]) -> None:
    typer.echo(jsonlib.dumps(to_jsonable_python({"format": 1, **value}, fallback=repr), indent=2))

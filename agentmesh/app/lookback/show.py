"""The command `show`: what a run did, task by task; `show_item` has what it prints of one task or item."""

from __future__ import annotations

import difflib
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ...errors import UserError
from ...journal import RunFile, RunHistory, RunSummary, TaskHistory, find_run, item_histories, run_history, short_of
from ..going_on import told_how_it_goes_on
from ..options import JournalOption, JsonFlag, RunArgument
from ..wording import plural
from ..wording import show_command as command_for
from .show_item import item_json, print_item
from .tables import (
    SIMULATED_MARK,
    STYLES,
    FirstOption,
    cost,
    explain_damage,
    journal_of,
    lasted,
    marked_cost,
    new_console,
    new_table,
    outcome_json,
    print_json,
    status_text,
    text_of,
    when,
)
from .tree import tree

__all__ = ["show_command"]

_SHOWN = 20  # failures, or items of one task, before one has to ask for more
_TASKS = 100
_NOTICEABLE = 0.05  # seconds


def show_command(
    run: RunArgument = "last",
    address: Annotated[str | None, typer.Argument(metavar="ADDRESS", help="A task, or one item: review/17.")] = None,
    *,
    journal: JournalOption = None,
    json: JsonFlag = False,
    first: FirstOption = None,
) -> None:
    """Show a run: its tasks, what failed, and at an address every prompt, reply, attempt, wait and error.

    Example: agentmesh show last
    """
    with RunFile.open(find_run(journal_of(journal), run)) as file:
        more = "" if journal is None else f" --journal {journal}"
        if address is None:
            _show_run(file, more=more, json=json, first=first)
        else:
            _show_address(file, address.strip("/"), json=json, first=first)
        explain_damage(file)


# One run.


def _show_run(file: RunFile, *, more: str, json: bool, first: int | None) -> None:
    summary, history = RunSummary.of(file), run_history(file, failures=first if json else first or _SHOWN)
    if json:
        print_json(_run_json(summary, history))
        return
    console = new_console()
    short = short_of(file.path)
    console.print(_headline(summary, history, short), soft_wrap=True)
    if history.ended is not None and history.ended.reason:
        console.print(text_of(history.ended.reason), soft_wrap=True)
    if history.tasks:
        _print_tasks(console, history, first=max(first or 0, _TASKS), simulated=summary.simulated)
    for notice in history.notices:
        console.print(text_of(f"{notice.level}: {notice.text}", "yellow" if notice.level == "warning" else ""))
    if history.tasks:
        _print_failures(console, history, short, more=more)


def _run_json(summary: RunSummary, history: RunHistory) -> dict[str, Any]:
    return {
        "run": asdict(summary),
        "processes": 1 + len(history.resumed),
        "tasks": [_task_json(task) for task in history.tasks.values()],
        "failures": [outcome_json(outcome) for outcome in history.failures],
        "failed": history.causes,
        "skipped_behind": history.behind,
        "notices": history.notices,
        "resumed": history.resumed,
    }


def _task_json(task: TaskHistory) -> dict[str, Any]:
    values = asdict(task) | {"needs": task.needs.splitlines(), "unfinished": task.unfinished}
    return {name: value for name, value in values.items() if name not in ("first_event", "last_event")}


def _headline(summary: RunSummary, history: RunHistory, short: str) -> Text:
    text = Text.assemble((summary.name or "unnamed", "bold"), f"  {short}  ", status_text(summary.status))
    if summary.holder is not None and summary.is_running:
        text.append(f" in {summary.holder}")
    retries = sum(task.retries for task in history.tasks.values())
    counts, saved = [plural(summary.calls, "call")], ""
    if summary.saved_usd:  # of a recording nobody may know
        saved = f", {cost(summary.saved_usd, simulated=summary.simulated)} saved"
    counts += [plural(retries, "retry") if retries else ""]
    counts += [f"{plural(summary.spared, 'answer')} known{saved}" if summary.spared else ""]
    counts += [f"{summary.pushed_back:,} pushed back" if summary.pushed_back else ""]
    tokens = ((summary.input_tokens, "in"), (summary.output_tokens, "out"))
    counts += [f"{plural(number, 'token')} {way}" for number, way in tokens if number]
    counts += [cost(summary.usd, simulated=summary.simulated), lasted(summary.seconds)]
    text.append(f"\n{when(summary.began, full=True)}  {', '.join(filter(None, counts))}\n{summary.path}")
    if history.resumed:
        left = sum(resumed.uncertain for resumed in history.resumed)
        text.append(f"\nresumed: {1 + len(history.resumed)} processes; in flight when one of them ended: {left}")
    if summary.uncertain:
        text.append(f"\n{plural(summary.uncertain, 'call')} may have been paid without an answer", "yellow")
    if summary.status == "paused":
        text.append(f"\nagentmesh unpause {short} goes on with it", "dim")
    if summary.is_unfinished:
        text.append(f"\n{told_how_it_goes_on(short, history)}", "dim")
    return text


def _print_tasks(console: Console, history: RunHistory, *, first: int, simulated: bool) -> None:
    table = new_table(["task"], folding=["items"], numbers=["calls", "retries", "waited, sum", "time", "cost"])
    rows = tree({name: task.needs.splitlines() for name, task in history.tasks.items()})
    for name, branch in rows[:first]:
        table.add_row(
            *_task_cells(history.tasks[name], branch, took=history.took(history.tasks[name]), simulated=simulated)
        )
    console.print()
    console.print(table)
    if simulated:
        console.print(SIMULATED_MARK)
    if len(rows) > first:
        console.print(text_of(f"and {plural(len(rows) - first, 'more task')} (--first {len(rows)})"))


def _task_cells(task: TaskHistory, branch: str, *, took: float | None, simulated: bool) -> list[Text | str]:
    counts = [(getattr(task, state), state) for state in ("done", "failed", "skipped", "cancelled", "unfinished")]
    items = ", ".join(f"{count:,} {state}" for count, state in counts if count)
    if task.spared:
        items += (", " if items else "") + f"{plural(task.spared, 'answer')} known"
    if task.matches:
        items += (", " if items else "") + plural(task.matches, "match")
    spent = "?" if task.unpriced else marked_cost(task.usd, simulated=simulated) if task.calls else ""
    waited = task.waited if task.waited >= _NOTICEABLE else None
    figures = [f"{number:,}" if number else "" for number in (task.calls, task.retries)]
    return [
        text_of(branch + task.task),
        items or ("not asked for any more" if task.calls else "not begun"),
        *figures,
        lasted(waited),
        lasted(took),
        spent,
    ]


def _print_failures(console: Console, history: RunHistory, run: str, *, more: str) -> None:
    """The causes, each with the command that shows it; what was skipped because of them is only counted."""
    console.print()
    for outcome in history.failures:
        console.print(text_of(f"{outcome.state} {outcome.address}: {outcome.error}", STYLES.get(outcome.state, "")))
        console.print(text_of(f"    {command_for(run, str(outcome.address))}{more}", "dim"), soft_wrap=True)
    if (hidden := history.causes - len(history.failures)) > 0:
        console.print(text_of(f"and {hidden:,} more (--first {history.causes})"))
    if history.behind:
        console.print(text_of(f"skipped behind them: {history.behind:,}"))
    if not history.causes:
        task = next(iter(history.tasks))
        console.print(text_of(f"Prompts and replies: {command_for(run, task)}{more}", "dim"), soft_wrap=True)


# One address.


def _show_address(file: RunFile, address: str, *, json: bool, first: int | None) -> None:
    shown = first or (None if json else _SHOWN)
    items = list(item_histories(file, address, first=None if shown is None else shown + 1))
    if not items:
        raise UserError(_unknown_address(file, address))
    if json:
        print_json({"run": file.run_id, "address": address, "items": [item_json(item) for item in items[:shown]]})
        return
    console = new_console()
    for item in items[:shown]:
        print_item(console, item)
    if shown is not None and len(items) > shown:
        task = run_history(file, failures=0).tasks[address.partition("/")[0]]
        ended = task.done + task.failed + task.skipped + task.cancelled
        left = max(task.added, ended) - shown if address == task.task else 0
        console.print(
            text_of(f"and {plural(left, 'more item')} (--first {shown + left})" if left > 0 else "and more (--first N)")
        )


def _unknown_address(file: RunFile, address: str) -> str:
    tasks = list(run_history(file, failures=0).tasks)
    task = address.partition("/")[0]
    short = short_of(file.path)
    if task in tasks:
        return f"nothing happened at {address!r} in run {short}; `{command_for(short, task)}` has the rest"
    close = difflib.get_close_matches(task, tasks, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(tasks)}" if tasks else ""
    return f"run {short} has no task {task!r}{hint}"

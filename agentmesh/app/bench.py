"""The command group `bench`: measures models and methods on published tasks."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import UserError
from ..science.planning.asynchow import Item, load_items
from ..science.planning.bench import METHOD, Report, Row, Score, recorded_answers, report
from ..science.planning.recordings import Recordings, read_recordings
from ..science.planning.scoring import Accuracy
from .wording import clean, plural

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure models and methods on published tasks."""


@app.command()
def asynchow(
    replies: Annotated[
        list[Path], typer.Option("--replies", help="Recorded replies to score: .jsonl, .jsonl.gz, or a folder of them.")
    ],
    data: Annotated[
        Path | None,
        typer.Option("--data", help="The data set: one of its pickles, or their folder. Adds the interval rule."),
    ] = None,
    first: Annotated[int | None, typer.Option("--first", min=1, help="Only the first questions.")] = None,
    out: Annotated[Path | None, typer.Option("-o", help="Write a line of JSON for each scored reply.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Planning with durations and an order (AsyncHow): the shortest time in which everything can be finished.

    A reply is right if its value is the recorded gold exactly; with --data, the data set's own interval rule is
    shown beside it.

    Example: agentmesh bench asynchow --replies recorded/ --data asynchow/ -o scored.jsonl
    """
    items: Sequence[Item] = load_items(data) if data else ()
    recordings = read_recordings(replies)
    scored = report(recorded_answers(recordings.rows, items=items, first=first))
    if not scored.rows:
        raise UserError(f"nothing to score: {_left_out(recordings) or 'the files have no rows'}")
    _deliver(scored, out=out, json=json, remark=_left_out(recordings))


def _deliver(scored: Report, *, out: Path | None, json: bool, remark: str) -> None:
    """Scores to stdout, remarks to stderr, rows to the file: the same for answers of any origin."""
    if out:
        _write_rows(out, scored.rows)
    if json:
        scores = [score.as_json() for score in scored.scores]
        found = {"format": 1, "benchmark": "asynchow", "method": METHOD, "scores": scores, "notes": scored.notes}
        typer.echo(jsonlib.dumps(found, ensure_ascii=False, indent=2))
    else:
        Console().print(_table(scored.scores))
    for line in (*scored.notes, remark, f"{plural(len(scored.rows), 'row')} in {out}" if out else ""):
        if line:
            typer.echo(clean(line), err=True)


def _left_out(recordings: Recordings) -> str:
    """What of the files is no planner's work on AsyncHow."""
    rows = sum(recordings.left_out.values())
    named = ", ".join(f"{number:,} {name}" for name, number in recordings.left_out.items())
    return f"left out {plural(rows, 'row')} of other data sets and methods: {named}" if rows else ""


def _table(scores: Sequence[Score]) -> Table:
    """A column for each model: there are few models and many figures, and terminals are narrow."""
    table = Table("AsyncHow", box=box.SIMPLE_HEAD)
    for score in scores:
        table.add_column(Text(clean(score.model)), justify="right")

    def add(name: str, figure: Callable[[Score], str]) -> None:
        table.add_row(name, *(figure(score) for score in scores))

    add("method", lambda _: METHOD)
    add("right", lambda score: _of(score.equal))
    add("score", lambda score: _share(score.equal))
    add("95 % interval", lambda score: _interval(score.equal))
    add("right by interval rule", lambda score: _of(score.interval))
    add("wrong", lambda score: f"{score.reasons['wrong']:,}")
    add("unreadable", lambda score: f"{score.reasons['unreadable']:,}")
    add("no reply", lambda score: f"{score.reasons['no reply']:,}")
    add("agrees with published", lambda score: f"{score.agrees:,} of {score.published:,}" if score.published else "")
    bins = {name: int(name.split()[0]) for score in scores for name in score.by_complexity}
    if bins:
        table.add_section()
        table.add_row(Text("right by complexity", style="bold"))
    for name in sorted(bins, key=bins.__getitem__):
        add(f"  {name}", partial(_bin, name))
    return table


def _bin(name: str, score: Score) -> str:
    counted = score.by_complexity.get(name)
    return f"{_of(counted)}  {_share(counted):>7}\n{_interval(counted)}" if counted else ""


def _of(counted: Accuracy) -> str:
    return f"{counted.right:,} of {counted.items:,}" if counted.items else ""


def _share(counted: Accuracy) -> str:
    return "" if counted.share is None else f"{100 * counted.share:.1f} %"


def _interval(counted: Accuracy) -> str:
    """`94.0 to 98.1 %`."""
    if counted.low is None or counted.high is None:
        return ""
    return f"{100 * counted.low:.1f} to {100 * counted.high:.1f} %"


def _write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write all rows as JSON Lines, or nothing at all."""
    unfinished = path.with_name(path.name + ".partial")
    try:
        with unfinished.open("w", encoding="utf-8") as stream:
            stream.writelines(jsonlib.dumps(row.as_json(), ensure_ascii=False) + "\n" for row in rows)
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error

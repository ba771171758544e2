"""The command group `bench`: measures models and methods on published tasks."""

from __future__ import annotations

import json as jsonlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..data import plain
from ..errors import UserError
from ..science.planning.asynchow import Item, load_items
from ..science.planning.bench import METHOD, Report, Row, Score, plan_asynchow, recorded_answers, report
from ..science.planning.recordings import Recordings, read_recordings
from ..science.planning.scoring import Accuracy
from .options import (
    DisplayOption,
    JournalOption,
    JsonFlag,
    NoContentFlag,
    NoJournalFlag,
    OutputOption,
    ProviderFileOption,
    RateOption,
    SeedOption,
)
from .settings import Options
from .summary import Summary, print_summary
from .wording import clean, plural

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)

_RECORDED = ".jsonl, .jsonl.gz, or a folder of them. Repeatable."


@app.callback()
def bench() -> None:
    """Measure models and methods on published tasks."""


@app.command()
def asynchow(
    data: Annotated[
        Path | None,
        typer.Option("--data", help="The data set: one of its pickles, or their folder. Adds the interval rule."),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", metavar="NAME", help="Ask this model. Repeatable.")
    ] = None,
    prompts: Annotated[
        list[Path] | None, typer.Option("--prompts", help=f"Send the prompts of these recordings: {_RECORDED}")
    ] = None,
    replies: Annotated[
        list[Path] | None, typer.Option("--replies", help=f"Score recorded replies: {_RECORDED}")
    ] = None,
    first: Annotated[int | None, typer.Option("--first", min=1, help="Only the first questions.")] = None,
    out: OutputOption = None,
    json: JsonFlag = False,
    provider_file: ProviderFileOption = None,
    rate: RateOption = None,
    display: DisplayOption = None,
    journal: JournalOption = None,
    no_journal: NoJournalFlag = False,
    no_content: NoContentFlag = False,
    seed: SeedOption = None,
) -> int:
    """Planning with durations and an order (AsyncHow): the shortest time in which everything can be finished.

    Models are asked in our own wording, or with --prompts exactly what was recorded. A reply is right if its value is
    the gold exactly; with --data, the data set's own interval rule is shown beside it. -o FILE gets a line of JSON for
    each scored reply.

    Example: agentmesh bench asynchow --data asynchow/ --model openai/gpt-5-mini --first 20 -o scored.jsonl
    """
    if not (model or replies):
        raise UserError("nothing to score: name a model to ask (--model) or recorded replies (--replies)")
    if model and not (data or prompts):
        raise UserError("nothing to ask: name the data set (--data) or recordings whose prompts to send (--prompts)")
    options = Options.load(
        provider_file=provider_file, display=display, journal=journal, no_journal=no_journal, seed=seed, rate=rate,
        no_content=no_content,
    )  # fmt: skip
    items: Sequence[Item] = load_items(data) if data else ()
    recorded, sent = read_recordings(replies or ()), read_recordings(prompts or ())
    answers = recorded_answers(recorded.rows, items=items, first=first)
    cases = plan_asynchow(items=items, prompts=sent.rows, first=first) if model else []
    if not (answers or cases):
        raise UserError(f"nothing to score: {_left_out(recorded, sent) or 'the files have no rows'}")
    if not model:
        _deliver(report(answers), None, out=out, json=json, remark=_left_out(recorded))
        return 0
    if out:
        _check_writable(out)
    from .asking import ask_models  # here, because what sends calls takes a while to import

    asked = ask_models(cases, model, options=options, name="bench asynchow")
    scored = report([*answers, *asked.answers])
    _deliver(scored, asked.summary, out=out, json=json, remark=_left_out(recorded, sent))
    if options.display != "none":
        print_summary(asked.summary, Console(stderr=True, highlight=False))
    return asked.exit_code


def _deliver(scored: Report, run: Summary | None, *, out: Path | None, json: bool, remark: str) -> None:
    """Scores to stdout, remarks to stderr, rows to the file: the same for answers of any origin."""
    if out:
        _write_rows(out, scored.rows)
    if json:
        scores = [score.as_json() for score in scored.scores]
        found = {"format": 1, "benchmark": "asynchow", "method": METHOD, "scores": scores, "notes": scored.notes}
        typer.echo(jsonlib.dumps(found | ({"run": _run(run)} if run else {}), ensure_ascii=False, indent=2))
    else:
        Console().print(_table(scored.scores))
    for line in (*scored.notes, remark, f"{plural(len(scored.rows), 'row')} in {out}" if out else ""):
        if line:
            typer.echo(clean(line), err=True)


def _run(run: Summary) -> dict[str, Any]:
    """The run in which models were asked, in the words of the file that `agentmesh run -o` writes."""
    return {
        "run": run.run, "status": run.status, "seconds": round(run.seconds, 3), "tasks": plain(run.tasks),
        "usage": plain(run.usage), "usd": run.usd, "lanes": {lane.account: plain(lane) for lane in run.lanes},
    }  # fmt: skip


def _left_out(*recordings: Recordings) -> str:
    """What of the files is no planner's work on AsyncHow."""
    left_out = sum((one.left_out for one in recordings), Counter())
    rows = sum(left_out.values())
    named = ", ".join(f"{number:,} {name}" for name, number in left_out.items())
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


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _check_writable(path: Path) -> None:
    """Raises UserError for a file that cannot be written, before anything is paid for what belongs into it."""
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "is a folder")
        _unfinished(path).touch()
        _unfinished(path).unlink()
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


def _write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write all rows as JSON Lines, or nothing at all."""
    unfinished = _unfinished(path)
    try:
        with unfinished.open("w", encoding="utf-8") as stream:
            stream.writelines(jsonlib.dumps(row.as_json(), ensure_ascii=False) + "\n" for row in rows)
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error

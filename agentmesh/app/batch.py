"""The command `batch`: the prompts of a JSONL file in, one answer line for each out, in the same order."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import typer
from rich.console import Console

from ..catalog import Catalog
from ..errors import InputProblems, Problem, UserError
from ..messages import Settings
from .batch_answers import Answers, check_free
from .batch_lines import Lines, read_lines
from .budgets import BudgetOption, read_budget
from .options import (
    DisplayOption,
    JournalOption,
    NoJournalFlag,
    ProviderFileOption,
    RateOption,
    SeedOption,
)
from .settings import Options
from .summary import print_summary

__all__ = ["batch_command"]

_STDIN = Path("-")


LinesArgument = Annotated[Path, typer.Argument(metavar="IN.jsonl", help="The lines to ask; - reads standard input.")]
AnswersOption = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="OUT.jsonl", help="Where the answers go. Required.")
]
ModelOption = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="The model (provider/model) of lines without their own.")
]
MaxTokensOption = Annotated[
    int | None, typer.Option("--max-tokens", metavar="N", min=1, help="The longest reply, in tokens.")
]
TemperatureOption = Annotated[
    float | None, typer.Option("--temperature", metavar="T", min=0.0, max=2.0, help="From 0 to 2.")
]
SystemOption = Annotated[
    str | None, typer.Option("--system", metavar="TEXT", help="The system message of lines without their own.")
]
FirstOption = Annotated[int | None, typer.Option("--first", metavar="N", min=1, help="Ask only the first N lines.")]
OverwriteFlag = Annotated[
    bool, typer.Option("--overwrite", help="Replace OUT.jsonl, and what an interrupted batch has left of it.")
]


def batch_command(
    lines: LinesArgument,
    output: AnswersOption = None,
    model: ModelOption = None,
    max_tokens: MaxTokensOption = None,
    temperature: TemperatureOption = None,
    system: SystemOption = None,
    first: FirstOption = None,
    overwrite: OverwriteFlag = False,
    budget: BudgetOption = None,
    provider_file: ProviderFileOption = None,
    rate: RateOption = None,
    journal: JournalOption = None,
    no_journal: NoJournalFlag = False,
    display: DisplayOption = None,
    seed: SeedOption = None,
) -> int:
    """Send the prompts of a JSONL file; one answer line for each, in the order of the file.

    A line has `prompt` or `messages`, and may have `id`, `system`, and settings of its own (model, max_tokens,
    temperature, ...), which win over those given here. Any other key comes back with the answer. A line that fails, or
    cannot be read, is an answer with an `error`; the others go on. While it runs, answers are added to
    OUT.jsonl.partial as they come.

    Example: echo '{"id": "a", "prompt": "Say hello."}' | agentmesh batch - --model sim/small -o answers.jsonl
    """
    options = Options.load(
        provider_file=provider_file, journal=journal, no_journal=no_journal, display=display, seed=seed, rate=rate
    )
    out = _output(output, lines)
    bound = read_budget(budget or ())
    catalog = options.catalog()
    if model is not None:
        catalog.resolve(model, keys=False)
    from .batch_run import Batch, run_batch  # here, because what sends calls takes a while to import

    check_free(out, overwrite=overwrite)
    read = _read(lines, model=model, first=first)
    _check_models(
        read, catalog, shown=_shown(lines), default=model, dollars=bound is not None and bound.usd is not None
    )
    batch = Batch(
        _shown(lines), read.lines, notices=read.notices, system=system, budget=bound,
        settings=Settings(max_tokens=max_tokens, temperature=temperature),
    )  # fmt: skip
    with Answers(out, len(read.lines), overwrite=overwrite) as answers:
        summary, code = anyio.run(partial(run_batch, batch, answers, catalog=catalog, options=options))
    if options.display not in ("json", "none"):
        print_summary(summary, Console(stderr=True, highlight=False))
    return code


def _output(output: Path | None, lines: Path) -> Path:
    if output is None:
        raise UserError("say where the answers go: -o OUT.jsonl")
    output = output.expanduser()
    if output.exists() and lines != _STDIN and lines.exists() and output.samefile(lines):
        raise UserError(f"{output} is the input itself: name another file for the answers")
    return output


def _shown(lines: Path) -> str:
    return "standard input" if lines == _STDIN else str(lines)


def _read(path: Path, *, model: str | None, first: int | None) -> Lines:
    """All lines. Raises UserError for a file that cannot be read, and for one that has none."""
    try:
        if path == _STDIN:
            if sys.stdin.isatty():
                sys.stderr.write("reading lines from the terminal; Ctrl-D on an empty line ends them\n")
            read = read_lines(sys.stdin.buffer, model=model, first=first)
        else:
            with path.expanduser().open("rb") as stream:
                read = read_lines(stream, model=model, first=first)
    except OSError as error:
        raise UserError(f"{_shown(path)} cannot be read: {error.strerror or error}") from error
    if not read.lines:
        raise UserError(f"there is nothing to ask: {_shown(path)} has no lines")
    return read


def _check_models(read: Lines, catalog: Catalog, *, shown: str, default: str | None, dollars: bool) -> None:
    """Raises InputProblems with every model that cannot be asked, before the first call."""
    problems = []
    for model, line in read.models().items():
        if model is None:
            hint = "--model provider/model is for all lines without their own"
            problems.append(Problem("the line names no model", file=shown, line=line.number, hint=hint))
        elif (trouble := _trouble(model, catalog, dollars=dollars)) is not None:
            if model == default:
                problems.append(Problem(trouble, key=f"--model {model}"))
            else:
                problems.append(Problem(trouble, file=shown, line=line.number, key="model"))
    if problems:
        raise InputProblems(problems)


def _trouble(model: str, catalog: Catalog, *, dollars: bool) -> str | None:
    """Why a model cannot be asked; None if it can."""
    try:
        endpoints = catalog.resolve(model)
    except UserError as error:
        return str(error)
    if all(endpoint.key_problem for endpoint in endpoints):
        return f"{model} cannot be asked: {endpoints[0].key_problem}"
    if dollars and not all(endpoint.prices.known for endpoint in endpoints):
        return f"the price of {model} is unknown, so a budget in dollars cannot be kept"
    return None

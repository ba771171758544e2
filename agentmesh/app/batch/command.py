"""The command `batch`: the prompts of a JSONL file in, one answer line for each out, in the same order."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

import anyio
import typer
from rich.console import Console

from ...catalog import Catalog
from ...client.asking import price_problem
from ...errors import InputProblems, Problem, UserError
from ...events import RunStarted
from ...journal import RunSummary, short_id
from ...mesh.recall import Resume
from ...messages import Settings
from ..budgets import BudgetOption, newest_bounds, read_budget
from ..going_on import (
    PIPE,
    FailedFlag,
    FreshFlag,
    OnUncertainChoice,
    OnUncertainOption,
    began_as,
    goes_on_by,
    on_uncertain_of,
    told_of_failures,
    tries_failed_again,
    with_lasting_names,
)
from ..options import (
    CacheOption,
    DisplayOption,
    JournalOption,
    NoContentFlag,
    NoJournalFlag,
    ProviderFileOption,
    RateOption,
    RecordOption,
    ReplayOption,
    SeedOption,
)
from ..settings import Options, told
from ..summary import print_summary
from .answers import Answers, check_free
from .lines import Lines, read_lines
from .past import NAME, check_place, earlier_batches, find_again, identity_of, newest_of, owner_of

__all__ = ["batch_command", "resume_batch"]

_STDIN = Path(PIPE)

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
    fresh: FreshFlag = False,
    failed: FailedFlag = False,
    on_uncertain: OnUncertainOption = None,
    provider_file: ProviderFileOption = None,
    rate: RateOption = None,
    journal: JournalOption = None,
    no_journal: NoJournalFlag = False,
    no_content: NoContentFlag = False,
    display: DisplayOption = None,
    seed: SeedOption = None,
    cache: CacheOption = None,
    record: RecordOption = None,
    replay: ReplayOption = None,
) -> int:
    """Send the prompts of a JSONL file; one answer line for each, in the order of the file.

    A line has `prompt` or `messages`, and may have `id`, `system`, and settings of its own (model, max_tokens,
    temperature, ...), which win over those given here. Any other key comes back with the answer. A line that fails, or
    cannot be read, is an answer with an `error`; the others go on. While it runs, answers are added to
    OUT.jsonl.partial as they come.

    The same command again goes on with a batch that was killed, interrupted or stopped: what is answered is not asked.

    Example: echo '{"id": "a", "prompt": "Say hello."}' | agentmesh batch - --model sim/small -o answers.jsonl
    """
    options = Options.load(
        provider_file=provider_file, journal=journal, no_journal=no_journal, display=display, seed=seed, rate=rate,
        cache=cache, record=record, replay=replay, no_content=no_content,
    )  # fmt: skip
    options = with_lasting_names(options)
    asked = _Asked(
        lines, _output(output, lines), model, system, Settings(max_tokens=max_tokens, temperature=temperature), first
    )
    if failed and (fresh or options.journal_folder is None):
        raise UserError(f"--failed goes on with an earlier run: leave out {'--fresh' if fresh else '--no-journal'}")
    catalog = asked.catalog(options)
    runs = earlier_batches(options.journal_folder)
    owner = owner_of(asked.output, runs)
    if owner is None:
        check_free(asked.output, overwrite=overwrite)
    read = asked.read()
    identity = asked.identity(read, options)
    again = None if fresh else find_again(runs, identity, failed=failed)
    replace_it = check_place(asked.output, owner, identity=identity, again=again, fresh=fresh, overwrite=overwrite)
    read.notices += [] if fresh or again else told_of_failures(newest_of(runs, identity), place=options.place)
    failed, texts = _as_before(read, None if again is None else began_as(again.path), failed=failed, budget=budget)
    resume = None if again is None else Resume(again.path, failed=failed, on_uncertain=on_uncertain_of(on_uncertain))
    answers = Answers(asked.output, len(read.lines), overwrite=replace_it, again=again is not None)
    started = {"identity": identity, "options": {**asked.options(options, budget=texts), "failed": failed}}
    return _ask(asked, read, answers, catalog=catalog, options=options, started=started, resume=resume)


def resume_batch(
    path: Path, *, failed: bool, on_uncertain: OnUncertainChoice | None, budget: list[str] | None, options: Options
) -> int:
    """Go on with the batch in the file `path`, as it was begun; returns the exit code.

    Of the budget that it was begun with, what `budget` leaves out holds. Lines that have changed since are asked.
    Raises UserError, and then nothing has changed.
    """
    run, began = RunSummary.at(path), began_as(path)
    if began.options.get("command") != NAME:
        raise UserError(f"{path} is no batch that can be gone on with")
    if "system" not in began.options:
        raise UserError("this run keeps no content, and so no system message: give the command that began it again")
    asked = _Asked.of(began.options)
    if asked.lines == _STDIN:
        raise UserError(
            f"run {short_id(run.id)} read its lines from standard input: pipe the same lines again, as in "
            f"`{goes_on_by(short_id(run.id), began.options)}`, which goes on with it"
        )
    catalog = asked.catalog(options)
    read = asked.read()
    failed, texts = _as_before(read, began, failed=failed, budget=budget)
    identity = asked.identity(read, options)
    if identity != run.identity:
        read.notices.append(f"{asked.lines} has changed since this run began: lines that are the same are not asked")
    owner = owner_of(asked.output, earlier_batches(path.parent.parent))
    check_place(asked.output, owner or run, identity=identity, again=run, fresh=False, overwrite=False)
    resume = Resume(path, failed=failed, on_uncertain=on_uncertain_of(on_uncertain))
    answers = Answers(asked.output, len(read.lines), again=True)
    started = {"options": {**began.options, "budget": texts, "failed": failed}}
    return _ask(asked, read, answers, catalog=catalog, options=options, started=started, resume=resume)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A batch as it is told on the command line, and in its run's first event."""

    lines: Path
    output: Path
    model: str | None
    system: str | None
    settings: Settings
    first: int | None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """As it was recorded by `options`."""
        settings = Settings(max_tokens=options.get("max_tokens"), temperature=options.get("temperature"))
        lines, output = Path(options["lines"]), Path(options["output"])
        return cls(lines, output, options.get("model"), options.get("system"), settings, options.get("first"))

    def options(self, options: Options, *, budget: Sequence[str]) -> dict[str, Any]:
        """What is recorded, so that it can be repeated from any folder."""
        lines = self.lines if self.lines == _STDIN else self.lines.expanduser().absolute()
        return {
            "command": NAME, "lines": str(lines), "output": str(self.output.absolute()), "model": self.model,
            "max_tokens": self.settings.max_tokens, "temperature": self.settings.temperature, "system": self.system,
            "first": self.first, "budget": list(budget), "rate": list(options.rate), **told(options),
            "provider_file": [str(one.expanduser().absolute()) for one in options.provider_file],
        }  # fmt: skip

    def catalog(self, options: Options) -> Catalog:
        """The catalogue of models. Raises UserError, also where it does not have the batch's own."""
        catalog = options.catalog()
        if self.model is not None:
            catalog.resolve(self.model, keys=False)
        return catalog

    def read(self) -> Lines:
        """All lines. Raises UserError."""
        return _read(self.lines, model=self.model, first=self.first)

    def identity(self, read: Lines, options: Options) -> str:
        """What is asked for. A replay is a run of its own: the one that asks does not go on with it."""
        identity = identity_of(read.lines, system=self.system, settings=self.settings)
        return identity if options.replay is None else f"{identity} replayed"


def _ask(
    asked: _Asked, read: Lines, answers: Answers, *, catalog: Catalog, options: Options, started: Mapping[str, Any],
    resume: Resume | None,
) -> int:  # fmt: skip
    budget = read_budget(started["options"]["budget"])
    dollars = budget is not None and budget.usd is not None
    _check_models(
        read, catalog, shown=_shown(asked.lines), default=asked.model, dollars=dollars, keys=options.replay is None
    )
    from ..record_and_replay import RecordAndReplay
    from .run import Batch, run_batch  # here, because what sends calls takes a while to import

    batch = Batch(
        _shown(asked.lines), read.lines, notices=read.notices, system=asked.system, budget=budget,
        settings=asked.settings, started=started, resume=resume,
        recorded=RecordAndReplay.of(options, goes_on=None if resume is None else resume.path),
    )  # fmt: skip
    with answers:
        summary, code = anyio.run(partial(run_batch, batch, answers, catalog=catalog, options=options))
    if options.display not in ("json", "none"):
        again = goes_on_by(short_id(summary.run), started["options"], content=not options.no_content)
        print_summary(replace(summary, again=again, place=options.place), Console(stderr=True, highlight=False))
    return code


def _as_before(
    read: Lines, began: RunStarted | None, *, failed: bool, budget: Sequence[str] | None
) -> tuple[bool, list[str]]:
    """Whether failed lines are asked again, and the bounds: as is said now, else as it was before, which is told."""
    before = {} if began is None else began.options
    failed, of_failed = tries_failed_again(failed, before)
    texts, of_budget = newest_bounds(before.get("budget"), budget)
    read.notices += [*of_failed, *of_budget]
    return failed, texts


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


def _check_models(read: Lines, catalog: Catalog, *, shown: str, default: str | None, dollars: bool, keys: bool) -> None:
    """Raises InputProblems with every model that cannot be asked, before the first call."""
    problems = []
    for model, line in read.models().items():
        if model is None:
            hint = "--model provider/model is for all lines without their own"
            problems.append(Problem("the line names no model", file=shown, line=line.number, hint=hint))
        elif (trouble := _trouble(model, catalog, dollars=dollars, keys=keys)) is not None:
            if model == default:
                problems.append(Problem(trouble, key=f"--model {model}"))
            else:
                problems.append(Problem(trouble, file=shown, line=line.number, key="model"))
    if problems:
        raise InputProblems(problems)


def _trouble(model: str, catalog: Catalog, *, dollars: bool, keys: bool) -> str | None:
    """Why a model cannot be asked; None if it can."""
    try:
        endpoints = catalog.resolve(model, keys=keys)
    except UserError as error:
        return str(error)
    if keys and all(endpoint.key_problem for endpoint in endpoints):
        return f"{model} cannot be asked: {endpoints[0].key_problem}"
    return (
        next((problem for one in endpoints if (problem := price_problem(one)) is not None), None) if dollars else None
    )

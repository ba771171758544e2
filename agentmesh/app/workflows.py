"""The commands `run` and `check`: workflows, from a file or shipped."""

from __future__ import annotations

import json as jsonlib
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer

from ..catalog import Catalog
from ..clock import in_thread, wall
from ..errors import UserError
from ..workflow.fits import check_prices, check_sizes
from ..workflow.load import load_workflow
from ..workflow.models import problem_of_model
from ..workflow.plan import Workflow
from .budgets import BudgetOption, budget_over, budget_words, newest_bounds
from .exits import EXIT_CODES, FAILED
from .going_on import (
    FreshFlag,
    OnUncertainChoice,
    OnUncertainOption,
    began_as,
    on_uncertain_of,
    refuse_output_of_another,
    told_of_failures,
    told_of_unfinished,
    tries_failed_again,
    with_lasting_names,
)
from .options import (
    CacheOption,
    DisplayOption,
    JournalOption,
    NoContentFlag,
    NoJournalFlag,
    OutputOption,
    ProviderFileOption,
    RateOption,
    RecordOption,
    ReplayOption,
    SeedOption,
)
from .settings import Options, told
from .wording import plural

if TYPE_CHECKING:
    from ..client.budget import Budget
    from ..events import RunStarted
    from ..journal import RunSummary
    from ..mesh.recall import Resume
    from ..mesh.run import Run

__all__ = ["check_command", "resume_workflow", "run_command"]

WorkflowArgument = Annotated[str, typer.Argument(metavar="WORKFLOW", help="A workflow file, or a shipped name.")]
InputOption = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="NAME=VALUE", help="An input; NAME=@FILE reads a file. Repeatable."),
]
ModelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model", metavar="[NAME=]MODEL", help="Use provider/model for one of the workflow's names, or for all."
    ),
]


def run_command(
    workflow: WorkflowArgument,
    inputs: InputOption = None,
    model: ModelOption = None,
    provider_file: ProviderFileOption = None,
    rate: RateOption = None,
    journal: JournalOption = None,
    no_journal: NoJournalFlag = False,
    no_content: NoContentFlag = False,
    display: DisplayOption = None,
    output: OutputOption = None,
    seed: SeedOption = None,
    budget: BudgetOption = None,
    fresh: FreshFlag = False,
    on_uncertain: OnUncertainOption = None,
    cache: CacheOption = None,
    record: RecordOption = None,
    replay: ReplayOption = None,
) -> int:
    """Run a workflow, with a live picture of it on stderr and its outputs on stdout.

    Where the last run of the same workflow with the same inputs and models did not get to its end, it goes on; where
    that has ended with failures, this begins anew, and `agentmesh resume RUN --failed` goes on with that one.

    Example: agentmesh run hypotheses --input ideas=12
    """
    options = Options.load(
        provider_file=provider_file, journal=journal, no_journal=no_journal, display=display, seed=seed, rate=rate,
        cache=cache, record=record, replay=replay, no_content=no_content,
    )  # fmt: skip
    options = with_lasting_names(options)
    if output is not None:
        _check_output(output)
    catalog = options.catalog()
    loaded = load_workflow(
        workflow, input_options=inputs or (), model_options=model or (),
        resolve=problem_of_model(catalog, keys=options.replay is None),
    )  # fmt: skip
    given: dict[str, Any] = {
        "command": "run", "workflow": workflow, "model": list(model or ()), "rate": list(options.rate),
        "provider_file": [str(file) for file in options.provider_file],
        "output": None if output is None else str(output), **told(options),
    }  # fmt: skip
    newest = None if fresh else _newest(loaded, given, options=options)
    resume, notices = None, told_of_failures(newest, place=options.place)
    if newest is not None and newest.is_unfinished:
        began = began_as(newest.path)
        refuse_output_of_another(output, began)
        given["budget"] = began.options.get("budget")
        given["failed"], notices = tries_failed_again(False, began.options)
        resume = _resume(newest.path, loaded, failed=given["failed"], on_uncertain=on_uncertain)
    elif not fresh:
        notices += told_of_unfinished(options.journal_folder, name=loaded.name, place=options.place)
    return _go(
        loaded, given, budget=budget, catalog=catalog, options=options, output=output, resume=resume, notices=notices
    )


def _newest(workflow: Workflow, given: Mapping[str, Any], *, options: Options) -> RunSummary | None:
    """The newest run that the same command began, if there is one."""
    from ..mesh.recall import find_newest
    from ..workflow.run import identity_of

    if options.journal_folder is None:
        return None
    return find_newest(options.journal_folder, name=workflow.name, identity=identity_of(workflow, given))


def _resume(path: Path, workflow: Workflow, *, failed: bool, on_uncertain: OnUncertainChoice | None) -> Resume:
    from ..mesh.recall import Resume

    return Resume(path, failed=failed, on_uncertain=on_uncertain_of(on_uncertain or workflow.on_uncertain))


def resume_workflow(
    started: RunStarted, path: Path, *, failed: bool, on_uncertain: OnUncertainChoice | None, options: Options,
    output: Path | None, budget: Sequence[str] | None,
) -> int:  # fmt: skip
    """Go on with the run of a workflow: with the inputs that it had, and the workflow as it is now.

    Of the budget that it was begun with, what `budget` leaves out holds.
    """
    if not started.content:
        raise UserError("this run keeps no content, and so no inputs: give the command that began it again")
    given, catalog = started.options, options.catalog()
    loaded = load_workflow(
        given["workflow"], inputs=started.inputs, model_options=given.get("model", ()),
        resolve=problem_of_model(catalog, keys=options.replay is None),
    )  # fmt: skip
    if output is None and given.get("output") is not None:
        output = Path(given["output"])
    if output is not None:
        _check_output(output)
        refuse_output_of_another(output, started)
    failed, notices = tries_failed_again(failed, given)
    resume = _resume(path, loaded, failed=failed, on_uncertain=on_uncertain)
    given = {**given, "output": None if output is None else str(output), "failed": failed}
    return _go(
        loaded, given, budget=budget, catalog=catalog, options=options, output=output, resume=resume, notices=notices
    )


def _go(
    workflow: Workflow, given: Mapping[str, Any], *, budget: Sequence[str] | None, catalog: Catalog, options: Options,
    output: Path | None, resume: Resume | None, notices: Sequence[str],
) -> int:  # fmt: skip
    """Run it within the budget that is said now, else the one that it was `given` before."""
    texts, of_budget = newest_bounds(given.get("budget"), budget)
    workflow = budget_over(workflow, texts)
    _check_fits(workflow, catalog)
    return anyio.run(
        partial(
            _run, workflow, catalog=catalog, options=options, output=output, given={**given, "budget": texts},
            resume=resume, notices=[*notices, *of_budget],
        )
    )  # fmt: skip


def _check_fits(workflow: Workflow, catalog: Catalog) -> None:
    """Raises InputProblems where limits or budgets cannot be kept, whatever is asked."""
    check_sizes(workflow, catalog)
    check_prices(workflow, catalog)


async def _run(
    workflow: Workflow, *, catalog: Catalog, options: Options, output: Path | None, given: Mapping[str, Any],
    resume: Resume | None, notices: Sequence[str],
) -> int:  # fmt: skip
    from ..events import Notice
    from ..workflow.mesh import Mesh  # here, as what sends calls takes a while to import, and `check` sends none
    from ..workflow.run import run_workflow, write_whole
    from .record_and_replay import RecordAndReplay
    from .screen.displays import open_display
    from .signals import handling_signals

    recorded = await in_thread(partial(RecordAndReplay.of, options, goes_on=None if resume is None else resume.path))
    budget = workflow.limits.budget.usd if workflow.limits.budget is not None else None
    begun: list[Run] = []
    folder = options.journal_folder
    cache = recorded.cache(options)
    async with Mesh(
        catalog=catalog, journal=folder, seed=options.seed, cache=cache, content=not options.no_content
    ) as mesh:
        display = open_display(
            options.display, lanes=mesh.statistics, budget_usd=budget, journal=folder is not None,
            waiting_for_budget=lambda: sum(run.budget.statistics().waiting for run in begun if run.budget is not None),
            paused=mesh.is_paused, bounds=lambda: budget_words(begun[0].budget) if begun else "",
        )  # fmt: skip
        async with handling_signals() as signals, display:

            def begin(run: Run) -> None:
                begun.append(run)
                signals.watch(run)
                for text in notices:
                    run.record.emit(Notice(at=wall(), level="info", text=text))

            result = await run_workflow(
                mesh, workflow, watchers=[display.event, *recorded.watchers], known=recorded.known, on_run=begin,
                options=given, resume=resume or False,
            )  # fmt: skip
    unrecorded, lost = await recorded.finish(), None
    if output is not None:
        try:
            await in_thread(write_whole, output, jsonlib.dumps(result.as_json(), ensure_ascii=False, indent=2) + "\n")
        except OSError as error:  # what was paid for still goes to stdout
            lost = f"{output} cannot be written: {error.strerror}"
    _show_outputs(result.outputs)
    _show_summary(
        result,
        workflow,
        budget=begun[0].budget,
        output=None if lost else output,
        forecast=display.forecast,
        options=options,
    )
    for problem in filter(None, (unrecorded, lost)):
        sys.stderr.write(problem + "\n")
    code = signals.exit_code if result.status == "cancelled" else None
    return code or EXIT_CODES[result.status] or (FAILED if unrecorded or lost else 0)


def _check_output(path: Path) -> None:
    """Say before anything is paid for that a file cannot be written. Raises UserError."""
    path = path.expanduser()
    if path.is_dir():
        raise UserError(f"-o {path}: this is a directory; name a file")
    folder = path if path.exists() else next(parent for parent in path.absolute().parents if parent.exists())
    if not os.access(folder, os.W_OK) or (folder != path and not folder.is_dir()):
        raise UserError(f"-o {path}: this cannot be written")


def _show_outputs(outputs: Any) -> None:
    """Into a pipe as JSON; on a terminal so that a person can read them."""
    if not sys.stdout.isatty():
        sys.stdout.write(jsonlib.dumps(dict(outputs), ensure_ascii=False, indent=2) + "\n")
        sys.stdout.flush()
        return
    from .outputs import print_outputs

    print_outputs(outputs)


def _show_summary(
    result: Any, workflow: Workflow, *, budget: Budget | None, output: Path | None, forecast: float | None,
    options: Options,
) -> None:  # fmt: skip
    from rich.console import Console

    from ..workflow.works import ended_budgets
    from .summary import Summary, print_summary

    if options.display in ("none", "json"):
        return
    files = dict(result.files)
    if output is not None:
        files["everything"] = str(output)
    console = Console(stderr=True)
    print_summary(
        Summary(
            run=result.run, workflow=result.workflow, status=result.status, seconds=result.seconds,
            tasks=result.tasks, failures=result.failures, usage=result.usage, usd=result.usd, lanes=result.lanes,
            outputs=files, budget=None if budget is None else budget.usd, reason=result.reason, forecast=forecast,
            unfinished=result.unfinished,
            simulated=all(lane.simulated for lane in result.lanes), journal=options.journal_folder is not None,
            place=options.place,
            left=result.left, bounds=budget_words(budget), resumes=not options.no_content,
            spared=result.spared, saved_usd=result.saved_usd,
            replayed=options.replay is not None,
            raise_first=[f"{field} in {workflow.file}" for field in ended_budgets(workflow, result.failures)],
        ),
        console,
    )  # fmt: skip


def check_command(
    workflow: WorkflowArgument,
    inputs: InputOption = None,
    model: ModelOption = None,
    provider_file: ProviderFileOption = None,
    rate: RateOption = None,
    no_keys: Annotated[bool, typer.Option("--no-keys", help="Do not mind keys that are not set.")] = False,
) -> int:
    """Find every mistake in a workflow before the first call: each with its place, and what would be right.

    Example: agentmesh check hypotheses
    """
    catalog = Options.load(provider_file=provider_file, rate=rate).catalog()
    loaded = load_workflow(
        workflow, input_options=inputs or (), model_options=model or (), required=bool(inputs),
        resolve=problem_of_model(catalog, keys=not no_keys),
    )  # fmt: skip
    _check_fits(loaded, catalog)
    agents, tasks = plural(len(loaded.agents), "agent"), plural(len(loaded.tasks), "task")
    sys.stdout.write(f"{workflow} is sound: {agents}, {tasks} ({', '.join(loaded.tasks)})\n")
    return 0

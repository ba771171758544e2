"""Asks models the cases of a benchmark for a command: with the global options, a display, and a summary at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import anyio

from ..catalog import Catalog
from ..errors import UserError
from ..mesh.mesh import Mesh
from ..science.planning.ask import ask, task_names
from ..science.planning.bench import Answer, Case
from .exits import EXIT_CODES
from .screen.displays import open_display
from .settings import Options
from .signals import handling_signals
from .summary import Summary

__all__ = ["Answered", "ask_models"]


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of asking: the answers, case by case and in each the models in the order given; and how it went."""

    answers: tuple[Answer, ...]
    summary: Summary
    exit_code: int


def ask_models(cases: Sequence[Case], models: Sequence[str], *, options: Options, name: str) -> Answered:
    """Ask all models all cases, in an event loop of its own.

    Raises UserError for unknown models and missing keys, before the first call.
    """
    catalog = options.catalog()
    models = list(dict.fromkeys(models))
    for model in models:
        endpoints = catalog.resolve(model)
        if all(endpoint.key_problem for endpoint in endpoints):
            raise UserError(f"{model} cannot be asked: {endpoints[0].key_problem}")
    return anyio.run(partial(_ask, cases, models, catalog=catalog, options=options, name=name))


async def _ask(
    cases: Sequence[Case], models: Sequence[str], *, catalog: Catalog, options: Options, name: str
) -> Answered:
    journal = options.journal_folder
    tasks = tuple(task_names(models).values())
    answers: list[Answer] = []
    async with Mesh(catalog=catalog, journal=journal, seed=options.seed, content=not options.no_content) as mesh:
        await mesh.read_models(models)
        display = open_display(
            options.display, lanes=mesh.statistics, journal=journal is not None, paused=mesh.is_paused
        )
        async with handling_signals() as signals:
            async with display, mesh.open_run(
                name, failures="report", started={"tasks": tasks}, watchers=[display.event]
            ) as run:  # fmt: skip
                signals.watch(run)
                async for answer in ask(run, cases, models):
                    answers.append(answer)  # noqa: PERF401  # what has come is kept when the run is cancelled
            assert run.status is not None  # it has ended
            lanes, counts = mesh.statistics(), run.record.counts
            summary = Summary(
                run=run.id, workflow=name, status=run.status, seconds=run.seconds,
                tasks={task: counts[task] for task in tasks if task in counts}, failures=run.failures,
                usage=run.record.usage, usd=run.record.usd, lanes=lanes, reason=run.reason,
                simulated=all(lane.simulated for lane in lanes), unfinished=run.runner.statistics().unfinished,
                forecast=display.forecast, journal=journal is not None, place=options.place, resumes=False,
            )  # fmt: skip
    places = {case.id: place for place, case in enumerate(cases)}
    answers.sort(key=lambda answer: (places[answer.case.id], models.index(answer.model)))
    return Answered(tuple(answers), summary, signals.exit_code or EXIT_CODES[summary.status])

"""Runs a batch on the ordinary graph: one task for each line, whose answer goes to disk as soon as it is there."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_core import to_json

from ...agents.loop import refuse_unusable
from ...catalog import Catalog
from ...client.budget import Budget
from ...clock import in_thread, sleep, wall
from ...errors import CallFailed, ErrorInfo
from ...events import CollectionClosed, Notice
from ...flow.graph import Node
from ...keys import encode_key
from ...mesh.left import left_of
from ...mesh.mesh import Mesh
from ...mesh.recall import Resume
from ...mesh.run import PYTHON_LANE, Run
from ...mesh.work import Job, Work
from ...messages import Settings
from ...outcome import Address, Outcome
from ..budgets import budget_words
from ..exits import EXIT_CODES, FAILED
from ..record_and_replay import RecordAndReplay
from ..screen.displays import open_display
from ..settings import Options
from ..signals import handling_signals
from ..summary import Summary
from .answers import Answers
from .lines import Line
from .past import NAME, LineHash

__all__ = ["Batch", "run_batch"]

_TASK = "line"
_AT_ONCE = 100  # lines that enter the graph before others get a turn


@dataclass(frozen=True, slots=True)
class Batch:
    """What is asked: lines, and what holds for those that say nothing themselves.

    `started` has more of the run's first event, `resume` names the run to go on with.
    """

    source: str
    lines: Sequence[Line]
    notices: Sequence[str] = ()
    settings: Settings = Settings()
    system: str | None = None
    budget: Budget | None = None
    started: Mapping[str, Any] = field(default_factory=dict)
    resume: Resume | None = None
    recorded: RecordAndReplay = RecordAndReplay()


async def run_batch(batch: Batch, answers: Answers, *, catalog: Catalog, options: Options) -> tuple[Summary, int]:
    """Ask all lines; returns how it went, and the exit code.

    The output is written unless the run was interrupted: then the answers stay in the partial one. Lines that a budget
    left out are errors of the kind `budget`. Raises UserError when something cannot be written.
    """
    journal = options.journal_folder
    started = {"tasks": (_TASK,), "inputs": {"lines": batch.source}, **batch.started}
    usd = None if batch.budget is None else batch.budget.usd
    recorded = batch.recorded
    cache = recorded.cache(options)
    async with Mesh(
        catalog=catalog, journal=journal, seed=options.seed, cache=cache, content=not options.no_content
    ) as mesh:
        await mesh.read_models({line.model for line in batch.lines if line.model is not None and not line.problem})
        display = open_display(
            options.display, lanes=mesh.statistics, budget_usd=usd, journal=journal is not None, paused=mesh.is_paused,
            waiting_for_budget=lambda: 0 if batch.budget is None else batch.budget.statistics().waiting,
            bounds=lambda: budget_words(batch.budget),
        )  # fmt: skip
        async with handling_signals() as signals:
            async with display, answers.writing(), mesh.open_run(
                NAME, budget=batch.budget, failures="report", settings=batch.settings, started=started,
                watchers=[display.event, *recorded.watchers], known=recorded.known, resume=batch.resume or False,
            ) as run:  # fmt: skip
                signals.watch(run)
                if answers.again:
                    await in_thread(answers.begin_again)
                await _Asking(run, batch, answers=answers).start()
            summary = _summary(run, batch, answers=answers)
            if summary.status != "cancelled" or answers.complete:
                await in_thread(answers.put_in_order, lambda place: _left_out(batch.lines[place], run.reason))
    lanes = mesh.statistics()
    simulated = all(lane.simulated for lane in lanes)
    summary = replace(summary, lanes=lanes, forecast=display.forecast, journal=journal is not None, simulated=simulated)
    lost = await recorded.finish()
    if lost is not None:
        sys.stderr.write(lost + "\n")
    return summary, signals.exit_code or EXIT_CODES[summary.status] or (FAILED if lost else 0)


class _Asking:
    """The lines of a batch in the graph of a run."""

    def __init__(self, run: Run, batch: Batch, *, answers: Answers) -> None:
        self._run, self._batch, self._answers = run, batch, answers
        self._places: dict[str | None, int] = {}
        self._work = Work(self._perform)  # the same for all: a line is found by the key of its task
        self._hash_of = LineHash(batch.system, batch.settings).of

    async def start(self) -> None:
        """Put all lines into the graph."""
        run, lines = self._run, self._batch.lines
        for text in self._batch.notices:
            run.record.emit(Notice(at=wall(), level="warning", text=text))
        collection = run.runner.state.open_collection(_TASK)
        collection.on_item.append(self._ended)
        for place, line in enumerate(lines):
            key = run.unique_key(_TASK, encode_key(line.own_id))
            self._places[key] = place
            lane = PYTHON_LANE if line.problem or line.model is None else run.lane_of([line.model])
            work = Work(self._work.perform, asked=self._hash_of(line)) if run.is_kept else self._work
            run.add(work, address=Address(_TASK, key), lane=lane, collection=collection)
            if place % _AT_ONCE == _AT_ONCE - 1:
                await run.record.journal.room()
                await sleep(0)
                if run.runner.stopping:
                    return
        run.runner.close(collection)
        run.record.emit(CollectionClosed(at=wall(), task=_TASK, items=len(lines)))

    async def _perform(self, job: Job) -> str:
        line = self._batch.lines[self._places[job.node.address.key]]
        if line.problem or line.model is None:
            raise CallFailed(ErrorInfo("bad_request", f"line {line.number:,}: {line.problem}"))
        request = line.request(system=self._batch.system)
        request = replace(request, settings=request.settings.over(job.run.settings))
        reply = await job.run.mesh.route([line.model]).call(request, job.caller)
        refuse_unusable(reply, structured=request.schema is not None)
        return reply.text

    def _ended(self, node: Node) -> None:
        outcome = node.outcome
        if outcome is None or outcome.state == "cancelled":
            return
        place = self._places[node.address.key]
        line = self._batch.lines[place]
        self._answers.put(place, _row(line, outcome))
        line.raw = b""
        node.let_go()  # it is on its way to the disk


def _row(line: Line, outcome: Outcome) -> bytes:
    """An answer as JSON: what came of the line, and after it the line's own data."""
    row = {
        "format": 1, "id": line.id, "ok": outcome.ok, "reply": outcome.value if outcome.ok else None,
        "finish": outcome.finish, "error": None if outcome.ok else outcome.error,
        "model": outcome.model or line.model, "attempts": outcome.attempts, "seconds": round(outcome.seconds, 3),
        "usage": outcome.usage, "usd": outcome.usd,
    }  # fmt: skip
    data = line.data() if line.has_data else {}
    return to_json({**row, **data}, inf_nan_mode="null")


def _left_out(line: Line, reason: str | None) -> bytes:
    error = ErrorInfo("budget", reason or "the run was stopped before this line was asked", retryable=True)
    return _row(line, Outcome(_TASK, state="failed", error=error))


def _summary(run: Run, batch: Batch, *, answers: Answers) -> Summary:
    assert run.status is not None  # it has ended
    written = {"answers": str(answers.path)}
    if run.status == "cancelled" and not answers.complete:
        counted = f"{answers.arrived:,} of {len(batch.lines):,} answers, as they came; {answers.path} was not written"
        written = {counted: str(answers.partial)} if answers.arrived else {}
    return Summary(
        run=run.id, workflow=NAME, status=run.status, seconds=run.seconds, tasks=run.record.counts,
        failures=run.failures, usage=run.record.usage, usd=run.record.usd, outputs=written,
        budget=None if batch.budget is None else batch.budget.usd, reason=run.reason,
        unfinished=run.runner.statistics().unfinished, left=left_of(run, expected={_TASK: len(batch.lines)}),
        bounds=budget_words(batch.budget), spared=run.record.spared, saved_usd=run.record.saved_usd,
        replayed=batch.recorded.replayed is not None,
    )  # fmt: skip

"""Runs a checked workflow in a mesh, and says what came of it."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import anyio

from ..client.known import Known
from ..clock import in_thread, wall
from ..data import plain
from ..errors import UserError
from ..events import CallIntent, Event, Notice, RunStatus
from ..limits.statistics import LaneStatistics
from ..mesh.left import Left, left_of
from ..mesh.mesh import Mesh
from ..mesh.recall import OnUncertain, Resume
from ..mesh.run import Run
from ..messages import digest
from ..outcome import Outcome, Usage
from ..references import TemplateProblem
from .build import Build
from .fits import check_prices
from .plan import Workflow
from .works import budget_of

__all__ = ["WorkflowResult", "identity_of", "run_workflow", "write_whole"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowResult:
    """What came of a workflow: the same words as in the file that `-o` writes.

    `tasks` counts the items of each task by end state; `failures` are the outcomes with an error of their own; `usd`
    is None where a price is unknown; `spared` calls were not sent, as their answer was known, and `saved_usd` is what
    they cost when they were asked; `files` maps outputs to where they were written; `left` is what was left undone.
    """

    run: str
    workflow: str
    status: RunStatus
    seconds: float
    outputs: Mapping[str, Any]
    tasks: Mapping[str, Mapping[str, int]]
    failures: Sequence[Outcome]
    usage: Usage
    usd: float | None
    spared: int
    saved_usd: float | None
    lanes: Sequence[LaneStatistics]
    unfinished: int = 0
    reason: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    left: Left | None = None

    def as_json(self) -> dict[str, Any]:
        """One JSON object, with `format` first."""
        failures = [
            {"task": one.task, "key": one.key, "sample": one.sample, "error": plain(one.error)} for one in self.failures
        ]
        return {
            "format": 1, "run": self.run, "workflow": self.workflow, "status": self.status,
            "seconds": round(self.seconds, 3), "outputs": dict(self.outputs), "tasks": plain(self.tasks),
            "failures": failures, "usage": plain(self.usage), "usd": self.usd,
            "lanes": {lane.account: plain(lane) for lane in self.lanes}, "unfinished": self.unfinished,
            "reason": self.reason, "files": dict(self.files), "spared": self.spared, "saved_usd": self.saved_usd,
        }  # fmt: skip


async def run_workflow(
    mesh: Mesh, workflow: Workflow, *, seed: int | None = None, watchers: Sequence[Callable[[Event], None]] = (),
    on_run: Callable[[Run], None] | None = None, weight: float = 1.0, resume: bool | Resume = False,
    options: Mapping[str, Any] | None = None, known: Sequence[Known] = (),
) -> WorkflowResult:  # fmt: skip
    """Run a workflow to its end and write the files of its outputs. Failures of tasks are in the result.

    `on_run` gets the run when it has begun, to stop or cancel it from outside; `weight`, `resume` and `known` are as in
    `open_run`. `options` are kept with the run, for whoever goes on with it. Raises UserError for an agent's model that
    nobody serves, and for one of unknown price under a budget in dollars.
    """
    started = {
        "source": workflow.file, "spec": workflow.text, "inputs": plain(workflow.inputs),
        "tasks": tuple(name for name, plan in workflow.tasks.items() if not plan.is_fallback),
        "waits_for": {name: plan.needs for name, plan in workflow.tasks.items()}, "options": dict(options or {}),
        "identity": identity_of(workflow, options or {}),
    }  # fmt: skip
    if resume:
        how = resume if isinstance(resume, Resume) else Resume()
        resume = replace(how, on_uncertain=how.on_uncertain or _on_uncertain_of(workflow))
    named = {agent.model for agent in workflow.agents.values() if agent.model is not None}
    await mesh.read_models({model for name in named for model in workflow.routes(name)})
    dollars = mesh.budget is not None and mesh.budget.usd is not None
    await in_thread(partial(check_prices, workflow, mesh.catalog, dollars=dollars))
    budget = budget_of(workflow.limits.budget, name="budget of the workflow")
    async with mesh.open_run(
        workflow.name,
        budget=budget,
        failures="report",
        seed=seed,
        started=started,
        watchers=watchers,
        weight=weight,
        resume=resume,
        known=known,
    ) as run:
        if on_run is not None:
            on_run(run)
        build = Build(run, workflow)
        build.build()
        try:
            await _finish(run, workflow.limits.timeout)
        finally:  # a run that was cut short has outputs, too
            made = await _make_outputs(build, workflow)
            if made.notes and run.status is None:
                run.status = "partial"
    assert run.status is not None
    return WorkflowResult(
        run=run.id, workflow=workflow.name, status=run.status, seconds=run.seconds, outputs=made.values,
        files=made.files, tasks={name: _counts(run, name) for name in started["tasks"]}, failures=tuple(run.failures),
        usage=run.record.usage, usd=run.record.usd, spared=run.record.spared, saved_usd=run.record.saved_usd,
        lanes=mesh.statistics(), reason=run.reason,
        unfinished=run.runner.statistics().unfinished, notes=made.notes, left=left_of(run),
    )  # fmt: skip


def _on_uncertain_of(workflow: Workflow) -> OnUncertain | None:
    """What the file says of calls that were in flight; `ask` is a function that finds nobody to ask."""
    if workflow.on_uncertain != "ask":
        return workflow.on_uncertain

    def ask(calls: Sequence[CallIntent]) -> NoReturn:
        were = "1 call was" if len(calls) == 1 else f"{len(calls):,} calls were"
        raise UserError(
            f"{were} in flight when the last process ended and may have been paid; {workflow.file} says `on_uncertain: "
            'ask`, and nobody can be asked here: pass resume=am.Resume(on_uncertain="resend") to send them again, '
            '"fail" to have them fail, or a function of these calls that returns one of the two'
        )

    return ask


def identity_of(workflow: Workflow, options: Mapping[str, Any]) -> str:
    """What is asked for: the same workflow with the same inputs and models is the same run, until it is finished."""
    asked = [workflow.name, workflow.file, plain(workflow.inputs), options.get("model", [])]
    if "replay" in options:  # a run of its own: the one that asks does not go on with it
        asked.append(options["replay"])
    return digest(asked, length=16)


async def _finish(run: Run, timeout: float | None) -> None:
    """Wait for the end; when the workflow's own time is over, start nothing new and cut short what is in flight."""
    with anyio.move_on_after(timeout) as scope, run.pause.stops(scope):
        await run.runner.wait_finished()
    if scope.cancelled_caught:
        run.stop("stopped", f"the workflow's timeout of {timeout:g} s is over")
        run.cut()


@dataclass(frozen=True, slots=True)
class _Outputs:
    """The outputs of a run, the files that were written, and what went wrong with them."""

    values: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


async def _make_outputs(build: Build, workflow: Workflow) -> _Outputs:
    """Every output, null where a task that it reads has no value; those with a file are written, if there is one."""
    made = _Outputs()
    for name, output in workflow.outputs.items():
        value = None
        try:
            if all(build.tasks[task].has_value for task in output.needs):
                value = _finite(plain(output.value.evaluate(build.scope())))
        except (TemplateProblem, TypeError) as problem:
            made.notes.append(f"the output {name} has no value: {problem}")
        made.values[name] = value
        if output.file is None or value is None:
            continue
        text = value if isinstance(value, str) else _as_text(value)
        try:
            with anyio.CancelScope(shield=True):
                await in_thread(write_whole, Path(output.file), text)
            made.files[name] = output.file
        except OSError as error:
            made.notes.append(f"the output {name} cannot be written to {output.file}: {error.strerror}")
    for note in made.notes:
        build.run.record.emit(Notice(at=wall(), level="warning", text=note))
    return made


def _finite(value: Any) -> Any:
    """Plain data as JSON can write it: there are no infinite numbers in it, and what is no number is null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list) else value


def _counts(run: Run, task: str) -> dict[str, int]:
    counted: Mapping[str, int] = run.record.counts.get(task, {})
    return {state: counted.get(state, 0) for state in ("done", "failed", "skipped", "cancelled")}


def _as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all: beside it first, then in its place. Raises OSError.

    What is no file but can be written to, such as /dev/null, is written to as it is.
    """
    path = path.expanduser().resolve()
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            beside.chmod(path.stat().st_mode & 0o777)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)

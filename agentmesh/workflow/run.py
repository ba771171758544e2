"""Runs a checked workflow in a mesh, and says what came of it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from ..clock import in_thread
from ..data import plain
from ..events import Event, RunStatus
from ..limits.statistics import LaneStatistics
from ..mesh.mesh import Mesh
from ..mesh.run import Run
from ..outcome import Outcome, Usage
from ..references import TemplateProblem
from .build import Build
from .plan import OutputPlan, Workflow
from .works import budget_of

__all__ = ["WorkflowResult", "run_workflow", "write_whole"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowResult:
    """What came of a workflow: the same words as in the file that `-o` writes.

    `tasks` counts the items of each task by end state; `failures` are the outcomes with an error of their own; `usd`
    is None where a price is unknown; `files` maps outputs to where they were written.
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
    lanes: Sequence[LaneStatistics]
    unfinished: int = 0
    reason: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

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
            "reason": self.reason, "files": dict(self.files),
        }  # fmt: skip


async def run_workflow(
    mesh: Mesh, workflow: Workflow, *, seed: int | None = None, watchers: Sequence[Callable[[Event], None]] = (),
    on_run: Callable[[Run], None] | None = None,
) -> WorkflowResult:  # fmt: skip
    """Run a workflow to its end and write the files of its outputs. Failures of tasks are in the result.

    `on_run` gets the run when it has begun, to stop or cancel it from outside.
    """
    started = {
        "source": workflow.file, "spec": workflow.text, "inputs": plain(workflow.inputs),
        "tasks": tuple(name for name, plan in workflow.tasks.items() if not plan.is_fallback),
        "waits_for": {name: plan.needs for name, plan in workflow.tasks.items()},
    }  # fmt: skip
    budget = budget_of(workflow.limits.budget, name="budget of the workflow")
    async with mesh.open_run(
        workflow.name, budget=budget, failures="report", seed=seed, started=started, watchers=watchers
    ) as run:
        if on_run is not None:
            on_run(run)
        build = Build(run, workflow)
        build.build()
        await _finish(run, workflow.limits.timeout)
    outputs, files, notes = {}, {}, list[str]()
    for name, output in workflow.outputs.items():
        outputs[name] = value = _value(build, output, notes)
        if output.file is not None and value is not None:
            await in_thread(write_whole, Path(output.file), value if isinstance(value, str) else _as_text(value))
            files[name] = output.file
    assert run.status is not None
    return WorkflowResult(
        run=run.id, workflow=workflow.name, status=run.status, seconds=run.seconds, outputs=outputs, files=files,
        tasks={name: _counts(run, name) for name in started["tasks"]}, failures=tuple(run.failures),
        usage=run.record.usage, usd=run.record.usd, lanes=mesh.statistics(), reason=run.reason,
        unfinished=run.runner.statistics().unfinished, notes=notes,
    )  # fmt: skip


async def _finish(run: Run, timeout: float | None) -> None:
    """Wait for the end; when the workflow's own time is over, start nothing new and cut short what is in flight."""
    with anyio.move_on_after(timeout) as scope:
        await run.runner.wait_finished()
    if scope.cancelled_caught:
        run.stop("stopped", f"the workflow's timeout of {timeout:g} s is over")
        run.cut()


def _value(build: Build, output: OutputPlan, notes: list[str]) -> Any:
    """An output's value as plain data; None where a task that it reads has none."""
    if not all(build.tasks[name].has_value for name in output.needs):
        return None
    try:
        return plain(output.value.evaluate(build.scope()))
    except (TemplateProblem, TypeError) as problem:
        notes.append(f"the output {output.name} has no value: {problem}")
        return None


def _counts(run: Run, task: str) -> dict[str, int]:
    counted: Mapping[str, int] = run.record.counts.get(task, {})
    return {state: counted.get(state, 0) for state in ("done", "failed", "skipped", "cancelled")}


def _as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all: beside it first, then in its place. Raises OSError."""
    path = path.expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.chmod(name, path.stat().st_mode & 0o777)
        else:
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise

"""Puts the plan together from parts that were found to be right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from ..template import Expression
from .drafts import Draft, limits_of, stop_of
from .names import Names, Seen, task_references
from .plan import OutputPlan, RankPlan, TaskPlan
from .report import Report
from .spec import OutputSpec
from .texts import Texts

__all__ = ["make_outputs", "plan_task"]

_EARLY = ("source", "samples", "key")
_STREAMS = ("items", "flat")


def plan_task(
    draft: Draft, seen: Seen, *, function: Callable[..., Any] | None, is_fallback: bool, path: int
) -> TaskPlan:
    """The plan of one task, all parts of which are there."""
    spec = draft.spec
    streams = dict.fromkeys(s.task for s in draft.sources if s.task is not None and s.form in _STREAMS)
    before = _before(draft, seen)
    return TaskPlan(
        name=draft.name,
        kind=draft.kind,
        sources=tuple(draft.sources) if draft.kind != "rank" else (),
        samples=draft.samples,
        key=draft.key,
        condition=draft.condition,
        agent=spec.agent,
        prompt=draft.prompt,
        model=draft.model,
        function=function,
        target=spec.python,
        version=None if spec.version is None else str(spec.version),
        arguments=draft.arguments,
        value=draft.value,
        rank=_rank(draft),
        on_failure=draft.on_failure,
        require=draft.require,
        limits=limits_of(spec),
        is_collection=draft.is_collection,
        is_fallback=is_fallback,
        chain=seen.chain,
        names=frozenset(seen.names),
        streams=tuple(streams),
        before=before,
        waits=tuple(name for name in _late(draft, seen) if name not in before),
        order=draft.needs,
        so_far=tuple(task_references(draft.uses, so_far=True)),
        path=path,
    )


def _before(draft: Draft, seen: Seen) -> tuple[str, ...]:
    """The tasks without which elements, their keys or their number cannot be said."""
    whole = [source.value.data for source in draft.sources if source.form not in _STREAMS]
    told = [expression for expression in whole if isinstance(expression, Expression)]
    found = {ref.path[0]: None for one in told for ref in one.names() if ref.root == "tasks" and ref.path}
    early = task_references(use for use in draft.uses if use.role in ("samples", "key"))
    return tuple(found | {name: None for name in early if name not in seen.chain})


def _late(draft: Draft, seen: Seen) -> tuple[str, ...]:
    """The tasks that an item reads beside its own chain. The texts of a tournament itself have no chain."""
    found: dict[str, None] = {}
    for use in draft.uses:
        if use.role not in _EARLY:
            chain = () if draft.kind == "rank" and use.role != "entrant" else seen.chain
            found |= {name: None for name in task_references([use]) if name not in chain}
    return tuple(found)


def _rank(draft: Draft) -> RankPlan | None:
    spec = draft.spec
    if spec.rank is None or draft.criteria is None or draft.entrant is None or spec.judge is None:
        return None
    stop = stop_of(spec)
    return RankPlan(draft.sources[0], spec.judge, draft.criteria, draft.entrant, stop.regret, stop.matches)


def make_outputs(specs: Mapping[str, OutputSpec], *, names: Names, report: Report) -> dict[str, OutputPlan]:
    """The outputs of a workflow. Mistakes go to the report, and what is wrong is left out."""
    outputs = {}
    for name, spec in specs.items():
        written = report.marked.data["outputs"][name]
        long_form = isinstance(written, Mapping) and "value" in written
        texts = Texts(report, ())
        value = texts.value(("outputs", name, "value") if long_form else ("outputs", name), spec.value, role="item")
        for use in texts.uses:
            names.check(use, None)
        if spec.file is not None:
            _check_file(("outputs", name, "file"), spec.file, report)
        if value is not None:
            outputs[name] = OutputPlan(name, value, spec.file, tuple(task_references(texts.uses)))
    _check_twice(specs, report)
    return outputs


def _check_file(path: Sequence[str], name: str, report: Report) -> None:
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        report.add(path, f"{name} is not below the working directory", hint=f"such as {PurePosixPath(name).name}")


def _check_twice(specs: Mapping[str, OutputSpec], report: Report) -> None:
    """Two outputs must not write one file."""
    first: dict[str, str] = {}
    for name, spec in specs.items():
        if spec.file is not None and first.setdefault(spec.file, name) != name:
            report.add(("outputs", name, "file"), f"{spec.file} is written by {first[spec.file]} already")

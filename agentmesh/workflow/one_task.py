"""Checks what one task names beside its texts: its agent or judge, its model, its Python function, other tasks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from ..agents.context import Context
from ..agents.schema import fit
from ..template import Expression, TemplateProblem
from .agents import import_named
from .drafts import Draft
from .models import Models
from .plan import AgentPlan, Source
from .report import Report

__all__ = ["check_agent", "check_function", "check_names"]


def check_names(draft: Draft, *, agents: Collection[str], tasks: Collection[str], report: Report) -> None:
    """The agent, the judge and the other tasks that a task names must be there."""
    path, spec = ("tasks", draft.name), draft.spec
    for key, word in (("agent", spec.agent), ("judge", spec.judge)):
        if word is not None and word not in agents:
            report.unknown((*path, key), "agent", word=word, known=agents)
    for number, word in enumerate(draft.needs):
        if word not in tasks:
            report.unknown(
                (*path, "needs") if isinstance(spec.needs, str) else (*path, "needs", number),
                "task",
                word=word,
                known=tasks,
            )
    if draft.fallback is not None and draft.fallback not in tasks:
        report.unknown((*path, "on_failure", "fallback", "task"), "task", word=draft.fallback, known=tasks)


def check_agent(draft: Draft, agent: AgentPlan, *, inputs: Mapping[str, Any], models: Models, report: Report) -> None:
    """Whether the agent can do what the task wants of it; which models the task itself names is noted in `models`."""
    path, spec = ("tasks", draft.name), draft.spec
    key = "judge" if draft.kind == "rank" else "agent"
    if agent.model is None and spec.model is None and models.only is None:
        report.add((*path, key), f"the agent {agent.name} has no model, and the task names none")
    if draft.kind == "rank" and agent.output is not None:
        report.add(
            (*path, key), f"rank brings its own verdict, and {agent.name} has an output", hint="a judge has none"
        )
    if draft.kind == "agent" and draft.on_failure.action == "default" and agent.output is not None:
        errors: list[str] = []
        fit(draft.on_failure.value, agent.output.value_schema, errors=errors)
        for error in errors:
            report.add((*path, "on_failure", "default"), error, hint=f"it stands for a reply of {agent.name}")
    if draft.on_failure.model is not None:
        models.use(draft.on_failure.model, (*path, "on_failure", "fallback", "model"), agent=agent.name)
    if draft.model is not None:
        _check_model(draft, agent.name, inputs, models)


def _check_model(draft: Draft, agent: str, inputs: Mapping[str, Any], models: Models) -> None:
    """The models that a task's own `model` can be: a word, an input, or the values of a literal factor."""
    path, model = ("tasks", draft.name), draft.model
    references = model.names() if model is not None else ()
    if model is None:
        return
    if all(
        ref.root == "inputs" and len(ref.path) == 1 and isinstance(inputs.get(ref.path[0]), str) for ref in references
    ):
        models.use(model.render({"inputs": inputs}), (*path, "model"), agent=agent)
    for source in draft.sources:
        if not (references and all(ref.root == source.name for ref in references)):
            continue
        place = (*path, "for_each", *((source.name,) if isinstance(draft.spec.for_each, dict) else ()))
        words: dict[str, tuple[str | int, ...]] = {}
        for number, element in enumerate(_known_elements(source, inputs)):
            try:
                exact = (*place, number) if isinstance(source.value.data, list) else place
                words.setdefault(model.render({source.name: element}), exact)
            except TemplateProblem:  # told where names are checked, or when it is met
                continue
        for word, exact in words.items():
            models.use(word, exact, agent=agent)


def _known_elements(source: Source, inputs: Mapping[str, Any]) -> Sequence[Any]:
    """The elements of a factor that is a literal list, or a list of the inputs."""
    if not isinstance(source.value.data, Expression):
        return source.value.data if isinstance(source.value.data, list) else ()
    if any(ref.root != "inputs" for ref in source.value.data.names()):
        return ()
    try:
        found = source.value.evaluate({"inputs": inputs})
    except TemplateProblem:  # it is told where names are checked
        return ()
    return found if isinstance(found, list) else ()


def check_function(draft: Draft, *, folders: Sequence[Path], report: Report) -> Callable[..., Any] | None:
    """The function of a Python task, if it can be imported; its arguments must be those that `with` gives."""
    path, spec = ("tasks", draft.name), draft.spec
    if spec.python is None:
        return None
    found: Callable[..., Any] | None = import_named(
        (*path, "python"), spec.python, folders=folders, report=report, callable_=True
    )
    if found is None:
        return None
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):  # some functions written in C have none
        return found
    try:
        signature.bind(**dict.fromkeys(spec.with_ or {}), **dict.fromkeys(_given_by_itself(found, spec.with_ or {})))
    except TypeError as error:
        takes = ", ".join(map(str, signature.parameters.values())) or "nothing"
        report.add((*path, "with" if spec.with_ else "python"), f"{spec.python}: {error}", hint=f"it takes {takes}")
    return found


def _given_by_itself(function: Callable[..., Any], arguments: Collection[str]) -> list[str]:
    """The parameters that a function is given without being asked for: the context."""
    try:
        hints = get_type_hints(inspect.unwrap(function))
    except (NameError, TypeError):  # annotations that cannot be looked up, or a callable without any
        return []
    return [name for name, hint in hints.items() if hint is Context and name not in arguments]

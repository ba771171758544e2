"""Checks the agents of a workflow: their instructions, their types of reply and their tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic.errors import PydanticUserError

from ..agents.fields import FieldsProblem
from ..agents.output import OutputType
from ..errors import InputProblems
from .drafts import limits_of
from .imports import CannotFind, find_file, import_object
from .models import Models
from .plan import AgentPlan
from .report import Report
from .rows import read_json, read_text
from .spec import AgentSpec
from .texts import Texts, Use

__all__ = ["import_named", "make_agent"]

_OUTPUTS = ("output", "output_schema", "output_model")


def make_agent(
    name: str, spec: AgentSpec, *, models: Models, folders: Sequence[Path], report: Report
) -> tuple[AgentPlan, list[Use]]:
    """An agent, and the texts of it that are filled in once for the run. Mistakes go to the report."""
    path = ("agents", name)
    texts = Texts(report, folders)
    if spec.model is not None:
        models.use(spec.model, (*path, "model"), agent=name)
    instructions = texts.prompt((*path, "instructions"), spec.instructions, role="once") if spec.instructions else None
    said = [key for key in _OUTPUTS if getattr(spec, key) is not None]
    if len(said) > 1:
        report.add((*path, said[1]), f"says the type of the reply a second time, after {said[0]}", of_key=True)
    output = _output(path, said[0], spec, folders, report) if said else None
    agent = AgentPlan(
        name, spec.model, instructions, output, _tools(path, spec, folders, report), spec.max_turns, spec.repairs,
        limits_of(spec), spec.weight,
    )  # fmt: skip
    return agent, texts.uses


def _output(
    path: tuple[str, str], key: str, spec: AgentSpec, folders: Sequence[Path], report: Report
) -> OutputType | None:
    place = (*path, key)
    if key == "output":
        try:
            return OutputType.of(spec.output or {})
        except FieldsProblem as error:
            for problem in error.problems:
                report.add((*place, *problem.path), problem.message, hint=problem.hint, of_key=problem.of_key)
    elif key == "output_schema" and spec.output_schema is not None:
        return _schema_file(place, spec.output_schema, folders, report)
    elif spec.output_model is not None:
        kind = import_named(place, spec.output_model, folders=folders, report=report)
        try:
            return None if kind is None else OutputType.of_type(kind)
        except (PydanticUserError, TypeError) as error:
            why = str(error).splitlines()[0]
            report.add(place, f"{spec.output_model} is no type that a reply can have: {why}")
    return None


def _schema_file(place: Sequence[str], name: str, folders: Sequence[Path], report: Report) -> OutputType | None:
    try:
        file = find_file(name, folders)
        return OutputType.of_schema(read_json(read_text(file, shown=name), shown=name))
    except CannotFind as error:
        report.add(place, str(error), hint=error.hint)
    except InputProblems as error:
        report.problems += error.problems
    except FieldsProblem as error:
        for problem in error.problems:
            where = ".".join(map(str, problem.path))
            report.add(place, f"{name}: {where}: {problem.message}" if where else f"{name}: {problem.message}")
    return None


def _tools(
    path: tuple[str, str], spec: AgentSpec, folders: Sequence[Path], report: Report
) -> tuple[Callable[..., Any], ...]:
    tools = []
    for number, tool in enumerate(spec.tools or ()):
        place = (*path, "tools", number)
        if tool.mcp is not None:
            report.add(
                (*place, "mcp"), "mcp tools are not supported yet", hint="use python: module:function", of_key=True
            )
        elif tool.python is None:
            report.add(place, "a tool says python: module:function")
        else:
            found = import_named((*place, "python"), tool.python, folders=folders, report=report, callable_=True)
            tools += [found] if found is not None else []
    return tuple(tools)


def import_named(
    place: Sequence[str | int], target: str, *, folders: Sequence[Path], report: Report, callable_: bool = False
) -> Any:
    """What `module:name` names; None, and a mistake in the report, if there is no such thing."""
    try:
        found = import_object(target, folders)
    except CannotFind as error:
        if error.word:
            report.unknown(
                place, f"name in the module {target.partition(':')[0]}", word=error.word, known=error.candidates
            )
        else:
            report.add(place, str(error), hint=error.hint)
        return None
    if callable_ and not callable(found):
        report.add(place, f"{target} is {type(found).__name__}, and no function")
        return None
    return found

"""Takes a workflow file apart: each agent, task and input is validated by itself, so that all mistakes are found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from .report import Report
from .spec import NAME, AgentSpec, HeaderSpec, InputSpec, OutputSpec, RouteSpec, TaskSpec, WorkflowSpec

__all__ = ["Sections", "is_reserved", "read_sections"]

M = TypeVar("M", bound=BaseModel)

_LATER = {"workflow": "sub-workflows", "collect": "collect", "beside": "beside", "team": "teams"}
_RESERVED = frozenset({"inputs", "tasks", "sample", "loop", "so_far", "self"})


@dataclass
class Sections:
    """What stood in the file and is well formed. `named` has the names of each section, also of what is not."""

    header: HeaderSpec
    inputs: dict[str, InputSpec] = field(default_factory=dict)
    models: dict[str, RouteSpec] = field(default_factory=dict)
    agents: dict[str, AgentSpec] = field(default_factory=dict)
    tasks: dict[str, TaskSpec] = field(default_factory=dict)
    outputs: dict[str, OutputSpec] = field(default_factory=dict)
    named: dict[str, tuple[str, ...]] = field(default_factory=dict)


def read_sections(report: Report) -> Sections:
    """The parts of the file that `report.marked` holds. Mistakes go to the report."""
    data = report.marked.data
    if not isinstance(data, Mapping):
        report.add((), "a workflow is a map of keys", hint="it begins with agentmesh: 1")
        report.finish()
    maps = ("inputs", "models", "agents", "tasks", "outputs")
    header = {name: value for name, value in data.items() if name not in maps}
    sections = Sections(_header(header, report))
    for name in maps:
        value = data.get(name, {})
        if not isinstance(value, Mapping):
            report.add((name,), "must be a map of names")
            value = {}
        sections.named[name] = tuple(value)
        for word in value:
            if name != "outputs":
                _check_name(name, word, report)
    misspelt = any(name not in HeaderSpec.model_fields for name in header)
    if not sections.named["tasks"] and not misspelt and isinstance(data.get("tasks", {}), Mapping):
        report.add(("tasks",), "there are no tasks", of_key=True)
    for name, found in (data.get("inputs") or {}).items() if sections.named["inputs"] else ():
        long_form = found if isinstance(found, Mapping) else {"type": found}
        _keep(sections.inputs, name, long_form, InputSpec, ("inputs", name), report)
    for name, found in (data.get("models") or {}).items() if sections.named["models"] else ():
        _model(sections, name, found, report)
    for name in sections.named["agents"]:
        _keep(sections.agents, name, data["agents"][name], AgentSpec, ("agents", name), report)
    for name in sections.named["tasks"]:
        if not _is_later(("tasks", name), data["tasks"][name], report):
            _keep(sections.tasks, name, data["tasks"][name], TaskSpec, ("tasks", name), report)
    for name in sections.named["outputs"]:
        found = data["outputs"][name]
        if isinstance(found, Mapping) and {"value", "file"} & {*found}:
            _keep(sections.outputs, name, found, OutputSpec, ("outputs", name), report)
        else:
            sections.outputs[name] = OutputSpec(value=found)
    return sections


def _header(data: Mapping[str, Any], report: Report) -> HeaderSpec:
    if "agentmesh" not in data:
        report.add((), "agentmesh is missing", hint="write agentmesh: 1, the version of this language")
        data = {**data, "agentmesh": 1}
    try:
        return HeaderSpec.model_validate(data)
    except ValidationError as error:
        report.problems += report.marked.problems_of(error, model=WorkflowSpec)
        return HeaderSpec(agentmesh=1)


def _check_name(section: str, word: str, report: Report) -> None:
    path = (section, word)
    if not re.fullmatch(NAME, word):
        meant = re.sub(r"[^a-z0-9_]+", "_", word.lower()).strip("_").lstrip("_0123456789")
        hint = f"such as {meant}" if re.fullmatch(NAME, meant) else None
        report.add(path, "a name begins with a-z and goes on with a-z, 0-9 and _", hint=hint, of_key=True)


def _keep(into: dict[str, M], name: str, found: Any, model: type[M], path: tuple[str, str], report: Report) -> None:
    try:
        into[name] = model.model_validate(found)
    except ValidationError as error:
        problems = report.marked.problems_of(error, prefix=path, model=model)
        if name in model.model_fields and not isinstance(found, Mapping):
            hint = f"if {name} belongs to what stands above it, indent it further"
            problems = [replace(one, hint=hint) for one in problems]
        report.problems += problems


def _model(sections: Sections, name: str, found: Any, report: Report) -> None:
    if isinstance(found, str):
        sections.models[name] = RouteSpec(of=[found])
        return
    _keep(sections.models, name, found, RouteSpec, ("models", name), report)
    if name in sections.models and (route := sections.models[name].route) != "fallback":
        report.add(("models", name, "route"), f"the route {route} is not supported yet", hint="use fallback")


def _is_later(path: tuple[str, str], found: Any, report: Report) -> bool:
    """Whether this is a kind of task that is planned, and not there yet."""
    kinds = [word for word in _LATER if isinstance(found, Mapping) and word in found]
    for word in kinds:
        report.add((*path, word), f"{_LATER[word]} are not supported yet" if word in ("workflow", "team") else
                   f"{word} is not supported yet", of_key=True)  # fmt: skip
    return bool(kinds)


def is_reserved(name: str) -> bool:
    """Whether a name of a product's factor would hide one that is always there."""
    return name in _RESERVED

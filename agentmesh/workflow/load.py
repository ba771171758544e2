"""Finds and reads a workflow, and checks everything that can be known before its first call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputProblems, Problem
from ..marked_yaml import did_you_mean, load_yaml
from .check import Given, check_workflow
from .models import Resolve
from .plan import Workflow
from .rows import read_text

__all__ = ["find_workflow", "load_workflow", "shipped_workflows"]


def load_workflow(
    where: str | Path, *, inputs: Mapping[str, Any] | None = None, input_options: Sequence[str] = (),
    model_options: Sequence[str] = (), resolve: Resolve | None = None, required: bool = True,
) -> Workflow:  # fmt: skip
    """The workflow in a file, or the shipped one of that name, checked.

    `inputs` are data by name; `input_options` are texts as after `--input`: `NAME=VALUE`, `NAME=@file`;
    `model_options` as after `--model`: `MODEL` for all, `NAME=MODEL` for one short name. `resolve` says of a model
    what is wrong with it, or None. With `required=False` an input without a value is no mistake.

    Raises InputProblems with all mistakes, each with its place.
    """
    path = find_workflow(where)
    shown = str(where) if Path(where).is_file() else path.name
    text = read_text(path, shown=shown)
    given = Given(inputs or {}, input_options, model_options, resolve, required)
    folders = tuple(dict.fromkeys((path.parent.resolve(), Path.cwd())))
    marked = load_yaml(text, file=shown, keep_problems=True)
    return check_workflow(marked, text=text, name=path.stem, folders=folders, given=given)


def find_workflow(where: str | Path) -> Path:
    """The file of a workflow: the path as it is given, or a shipped name. Raises InputProblems."""
    path = Path(where).expanduser()
    if path.is_file():
        return path
    shipped = shipped_workflows()
    if str(where) in shipped:
        return shipped[str(where)]
    hint = did_you_mean(path.stem, shipped) or f"shipped are {', '.join(shipped)}"
    what = "this is a directory" if path.is_dir() else "there is no such workflow"
    raise InputProblems([Problem(what, file=str(where), hint=hint)])


def shipped_workflows() -> dict[str, Path]:
    """The workflows that come with agentmesh, by name."""
    found = {file.stem: file for folder in _shipped_folders() for file in sorted(folder.glob("*.yaml"))}
    return dict(sorted(found.items()))


def _shipped_folders() -> Iterator[Path]:
    """In a checkout beside the package, in an installed one inside it; the later wins."""
    from importlib.resources import files  # only for shipped names: it takes longer to import than a file to check

    package = files("agentmesh")
    for folder in (package.joinpath("..", "workflows"), package.joinpath("_data", "workflows")):
        path = Path(str(folder))
        if path.is_dir() and (path.parent.name == "_data" or (path.parent / "agentmesh").is_dir()):
            yield path.resolve()

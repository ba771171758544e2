"""The inputs of a workflow: their types, and the values that were given for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..agents.fields import FieldsProblem, field_schema
from ..agents.schema import fit
from ..data import plain
from ..errors import InputProblems, Problem
from ..marked_yaml import did_you_mean
from .imports import CannotFind, find_file
from .report import Report
from .rows import read_json, read_rows, read_text
from .spec import InputSpec

__all__ = ["InputType", "input_types", "input_values"]

_ROWS: dict[str, Any] = {"type": "array", "items": {"type": "object"}}


@dataclass(frozen=True, slots=True)
class InputType:
    """One input: its JSON Schema, and what stands for it where nothing is given."""

    schema: Mapping[str, Any]
    default: Any = None
    optional: bool = False
    is_rows: bool = False

    @property
    def is_text(self) -> bool:
        """Whether the value is text, so that what is given needs no reading."""
        return self.schema.get("type") == "string"


def input_types(specs: Mapping[str, InputSpec], report: Report) -> dict[str, InputType]:
    """The types that a file describes. Mistakes go to the report, and their inputs are left out."""
    found = {}
    for name, spec in specs.items():
        kind = _input_type(name, spec, report)
        if kind is not None:
            found[name] = kind
    return found


def _input_type(name: str, spec: InputSpec, report: Report) -> InputType | None:
    path = ("inputs", name)
    is_rows = spec.type == "rows"
    keys = ("type", "enum", "fields", "minimum", "maximum")
    said = {key: value for key in keys if (value := getattr(spec, key)) is not None}
    try:
        schema = dict(_ROWS) if is_rows else field_schema(said)
    except FieldsProblem as error:
        for problem in error.problems:
            hint = problem.hint
            if problem.path == ("type",) and hint and hint.startswith("a type is"):
                hint = did_you_mean(str(spec.type), _INPUT_WORDS) or hint.replace("boolean,", "boolean, rows,")
            report.add((*path, *problem.path), problem.message, hint=hint, of_key=problem.of_key)
        return None
    if spec.default is None:
        return InputType(schema, None, spec.optional, is_rows)
    errors: list[str] = []
    default = fit(spec.default, schema, errors=errors)
    for message in errors:
        report.add((*path, "default"), message)
    return None if errors else InputType(schema, default, spec.optional, is_rows)


_INPUT_WORDS = ("text", "integer", "number", "boolean", "rows")


def input_values(
    types: Mapping[str, InputType],
    given: Mapping[str, Any],
    *,
    options: Sequence[str],
    known: Sequence[str],
    report: Report,
    required: bool,
) -> dict[str, Any]:
    """A value for each input: from `options` (texts `NAME=VALUE` or `NAME=@file`), `given` (data), or its default.

    Mistakes go to the report; with `required`, so does an input that has no value. `known` names all inputs, also
    those whose type is wrong.
    """
    values: dict[str, Any] = {}
    for option in options:
        name, equals, text = option.partition("=")
        if not equals:
            report.problems.append(Problem(f"--input {option} has no value", hint="write --input NAME=VALUE"))
        elif _is_known(name, known, report) and name in types:
            _set(values, name, types[name], text, report)
    for name, value in given.items():
        if _is_known(name, known, report) and name in types:
            _keep(values, name, types[name], _data(value), report)
    given_badly = {option.partition("=")[0] for option in options} | {*given}
    for name, kind in types.items():
        if name in values:
            continue
        if kind.default is None and not kind.optional and required and name not in given_badly:
            report.add(("inputs", name), "no value is given", hint=f"--input {name}={_example(kind)}", of_key=True)
        values[name] = kind.default
    return values


def _is_known(name: str, known: Sequence[str], report: Report) -> bool:
    if name not in known:
        hint = did_you_mean(name, known) or (f"there are {', '.join(known)}" if known else "this workflow has none")
        report.problems.append(Problem(f"there is no input '{name}'", key=f"--input {name}", hint=hint))
    return name in known


def _example(kind: InputType) -> str:
    return "@file.csv" if kind.is_rows else "VALUE"


def _data(value: Any) -> Any:
    try:
        return plain(value)
    except TypeError:
        return value


def _set(values: dict[str, Any], name: str, kind: InputType, text: str, report: Report) -> None:
    """Read the text of an option."""
    key = f"--input {name}"
    try:
        value = _from_file(text[1:], kind) if text.startswith("@") else _from_text(text, kind)
    except InputProblems as error:
        report.problems += error.problems
    except (CannotFind, ValueError) as error:
        report.problems.append(Problem(str(error), key=key, hint=getattr(error, "hint", None)))
    else:
        _keep(values, name, kind, value, report)


def _keep(values: dict[str, Any], name: str, kind: InputType, value: Any, report: Report) -> None:
    errors: list[str] = []
    values[name] = None if value is None and kind.optional else fit(value, kind.schema, errors=errors)
    report.problems += [Problem(message, key=f"--input {name}") for message in errors]


def _from_file(name: str, kind: InputType) -> Any:
    path = find_file(name, [Path.cwd()])
    if kind.is_rows:
        return read_rows(path, shown=name)
    text = read_text(path, shown=name)
    if kind.is_text:
        return text
    if kind.schema.get("type") == "array" and path.suffix.lower() == ".txt":
        return [_from_text(line, InputType(kind.schema["items"])) for line in text.splitlines() if line.strip()]
    return read_json(text, shown=name)


def _from_text(text: str, kind: InputType) -> Any:
    """A value from the command line: texts as they are, everything else as JSON writes it."""
    if kind.is_text:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        wanted = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}
        what = wanted.get(str(kind.schema.get("type")), "JSON; for a file write @NAME")
        raise ValueError(f"must be {what}, not '{text}'") from None

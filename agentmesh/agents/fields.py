"""The types of fields as people write them (`text`, `[number]`, `{enum: [a, b]}`), as JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["FieldProblem", "FieldsProblem", "field_schema", "fields_schema", "nullable"]


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One mistake in a description of fields; `path` leads to it from where the description begins.

    `of_key`: the key is wrong, not what stands under it.
    """

    path: tuple[str | int, ...]
    message: str
    hint: str | None = None
    of_key: bool = False


class FieldsProblem(ValueError):
    """All mistakes in a description of fields."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{'.'.join(map(str, p.path))}: {p.message}" for p in problems))


_SCALARS = {"text": "string", "integer": "integer", "number": "number", "boolean": "boolean"}
_OTHER_WORDS = {
    "string": "text", "str": "text", "int": "integer", "float": "number", "double": "number", "bool": "boolean",
    "list": "[text]", "array": "[text]", "dict": "{fields: {...}}", "object": "{fields: {...}}",
    "map": "{fields: {...}}",
}  # fmt: skip
_OPTIONS = ("optional", "description", "minimum", "maximum")
_KINDS = ("type", "enum", "fields")


def fields_schema(fields: Any) -> dict[str, Any]:
    """An object with these fields, in the strict form that providers enforce.

    Nothing else is allowed in it, and all are required; an optional field may be null. Raises FieldsProblem.
    """
    problems: list[FieldProblem] = []
    schema = _object(fields, (), problems)
    if problems:
        raise FieldsProblem(problems)
    return schema


def field_schema(kind: Any) -> dict[str, Any]:
    """The schema of one type of a field. Raises FieldsProblem."""
    problems: list[FieldProblem] = []
    schema = _schema(kind, (), problems)
    if problems:
        raise FieldsProblem(problems)
    return schema


def nullable(schema: Mapping[str, Any]) -> bool:
    """Whether null fits this schema, as far as its outermost level says."""
    kind = schema.get("type")
    return kind == "null" or (isinstance(kind, list) and "null" in kind) or any(map(nullable, schema.get("anyOf", ())))


def _object(fields: Any, path: tuple[str | int, ...], problems: list[FieldProblem]) -> dict[str, Any]:
    if not isinstance(fields, Mapping) or not fields:
        problems.append(FieldProblem(path, "must be a map of names to types", "such as {title: text, score: number}"))
        return {}
    properties = {str(name): _schema(kind, (*path, str(name)), problems) for name, kind in fields.items()}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _schema(kind: Any, path: tuple[str | int, ...], problems: list[FieldProblem]) -> dict[str, Any]:
    match kind:
        case str() if kind in _SCALARS:
            return {"type": _SCALARS[kind]}
        case str() if kind in _OTHER_WORDS:
            problems.append(FieldProblem(path, f"there is no type '{kind}'", f"write {_OTHER_WORDS[kind]}"))
        case str():
            known = "text, integer, number, boolean, [T], {enum: [...]} or {fields: {...}}"
            problems.append(FieldProblem(path, f"there is no type '{kind}'", f"a type is {known}"))
        case [inner]:
            return {"type": "array", "items": _schema(inner, (*path, 0), problems)}
        case list():
            problems.append(FieldProblem(path, "a list type has one type in it", "such as [text]"))
        case Mapping():
            return _long_form(kind, path, problems)
        case _:
            problems.append(FieldProblem(path, "a type is a word, a list with one type, or a map", "such as text"))
    return {}


def _long_form(kind: Mapping[str, Any], path: tuple[str | int, ...], problems: list[FieldProblem]) -> dict[str, Any]:
    """`{type: T, ...}`, `{enum: [...], ...}` or `{fields: {...}, ...}`, with options."""
    said = [name for name in _KINDS if name in kind]
    for name in kind:
        if name not in (*_KINDS, *_OPTIONS):
            hint = f"known here: {', '.join((*_KINDS, *_OPTIONS))}"
            problems.append(FieldProblem((*path, name), "unknown key", hint, of_key=True))
    if len(said) != 1:
        problems.append(FieldProblem(path, "says either type, enum or fields", "to nest, write {fields: {...}}"))
        return {}
    if said == ["enum"]:
        schema = _enum(kind["enum"], (*path, "enum"), problems)
    elif said == ["fields"]:
        schema = _object(kind["fields"], (*path, "fields"), problems)
    else:
        schema = _schema(kind["type"], (*path, "type"), problems)
    schema |= _bounds(kind, schema, path, problems)
    if isinstance(kind.get("description"), str):
        schema["description"] = kind["description"]
    elif "description" in kind:
        problems.append(FieldProblem((*path, "description"), "must be a text"))
    if not isinstance(kind.get("optional", False), bool):
        problems.append(FieldProblem((*path, "optional"), "must be true or false"))
    elif kind.get("optional"):
        said_of = schema.pop("description", None)
        schema = {"anyOf": [schema, {"type": "null"}]} | ({"description": said_of} if said_of else {})
    return schema


def _enum(values: Any, path: tuple[str | int, ...], problems: list[FieldProblem]) -> dict[str, Any]:
    if not isinstance(values, list) or not values:
        problems.append(FieldProblem(path, "must be a list of values", "such as [yes, no]"))
        return {}
    if not all(isinstance(value, str) for value in values):
        at = next(number for number, value in enumerate(values) if not isinstance(value, str))
        problems.append(FieldProblem((*path, at), "values of an enum are texts", "put it in quotes"))
    return {"type": "string", "enum": list(values)}


def _bounds(
    kind: Mapping[str, Any], schema: Mapping[str, Any], path: tuple[str | int, ...], problems: list[FieldProblem]
) -> dict[str, Any]:
    bounds: dict[str, Any] = {}
    for name in ("minimum", "maximum"):
        if (value := kind.get(name)) is None:
            continue
        if schema.get("type") not in ("number", "integer"):
            problems.append(FieldProblem((*path, name), f"{name} is for numbers"))
        elif isinstance(value, bool) or not isinstance(value, int | float):
            problems.append(FieldProblem((*path, name), "must be a number"))
        else:
            bounds[name] = value
    if len(bounds) == 2 and bounds["minimum"] > bounds["maximum"]:
        problems.append(
            FieldProblem((*path, "minimum"), f"{bounds['minimum']:g} is over maximum {bounds['maximum']:g}")
        )
    return bounds

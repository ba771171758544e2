"""Does a value fit a JSON Schema? For the part of JSON Schema that replies need, with errors a model can act on.

Keywords are those of https://json-schema.org/draft/2020-12, chapters "validation" and "applicator".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from .fields import FieldProblem, FieldsProblem, nullable

__all__ = ["check_schema", "fit", "resolve"]

_ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "format", "$schema", "$id", "$comment", "$defs"}
)
_MEANT = frozenset({
    "type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "$ref", "minimum",
    "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems", "minLength", "maxLength", "pattern",
})  # fmt: skip
_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda v: isinstance(v, str),
    "integer": lambda v: isinstance(v, int | float) and not isinstance(v, bool) and v == int(v),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool) and v - v == 0,  # finite
    "boolean": lambda v: isinstance(v, bool),
    "array": lambda v: isinstance(v, list | tuple),
    "object": lambda v: isinstance(v, Mapping),
    "null": lambda v: v is None,
}
_WORDS = {
    "string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false",
    "array": "a list", "object": "an object", "null": "null",
}  # fmt: skip
_NUMBER, _LIST, _MAP = ((int, float), "a number"), (list, "a list"), (Mapping, "a map")
_SHAPES: dict[str, tuple[Any, str]] = {
    "properties": _MAP, "$defs": _MAP, "required": _LIST, "enum": _LIST, "anyOf": _LIST, "pattern": (str, "a text"),
    "minimum": _NUMBER, "maximum": _NUMBER, "exclusiveMinimum": _NUMBER, "exclusiveMaximum": _NUMBER,
    "minItems": _NUMBER, "maxItems": _NUMBER, "minLength": _NUMBER, "maxLength": _NUMBER,
}  # fmt: skip
MAX_REFERENCES = 32
"""How many `$ref` may follow one another: more is a circle."""


def check_schema(schema: Any) -> None:
    """Raises FieldsProblem for a schema that is malformed, or uses more of JSON Schema than is understood here."""
    problems = list(_mistakes(schema, (), schema))
    if problems:
        raise FieldsProblem(problems)


def _mistakes(schema: Any, path: tuple[str | int, ...], root: Any) -> Any:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        yield FieldProblem(path, "a schema must be a map")
        return
    for name in schema:
        if name not in _ANNOTATIONS and name not in _MEANT:
            yield FieldProblem((*path, name), f"the keyword {name} of JSON Schema is not supported")
    kinds = schema.get("type", [])
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if kind not in _TYPES:
            yield FieldProblem((*path, "type"), f"there is no type {kind!r} in JSON Schema", ", ".join(_TYPES))
    if "$ref" in schema:
        try:
            resolve(schema, root)
        except LookupError:
            yield FieldProblem((*path, "$ref"), f"nothing is found at {schema['$ref']}", "write #/$defs/NAME")
    wrong = [name for name, (kind, _) in _SHAPES.items() if name in schema and not isinstance(schema[name], kind)]
    for name in wrong:
        yield FieldProblem((*path, name), f"must be {_SHAPES[name][1]}")
    if "pattern" in schema and "pattern" not in wrong:
        try:
            re.compile(schema["pattern"])
        except re.error as error:
            yield FieldProblem((*path, "pattern"), f"this is no regular expression: {error}")
    for name in {"properties", "$defs"} & {*schema} - {*wrong}:
        for key, inner in schema[name].items():
            yield from _mistakes(inner, (*path, name, key), root)
    for name in {"items", "additionalProperties"} & {*schema}:
        yield from _mistakes(schema[name], (*path, name), root)
    for number, inner in enumerate(schema.get("anyOf", ()) if "anyOf" not in wrong else ()):
        yield from _mistakes(inner, (*path, "anyOf", number), root)


def resolve(schema: Any, root: Any) -> Any:
    """The schema that a local `$ref` leads to; any other schema is itself. Raises LookupError."""
    for _ in range(MAX_REFERENCES):
        if not isinstance(schema, Mapping) or "$ref" not in schema:
            return schema
        begin, *parts = str(schema["$ref"]).split("/")
        if begin != "#":
            raise LookupError(schema["$ref"])
        schema = root
        for part in parts:
            schema = schema[part.replace("~1", "/").replace("~0", "~")]
    raise LookupError("a circle of $ref")


def fit(value: Any, schema: Any, *, root: Any = None, path: str = "", errors: list[str]) -> Any:
    """The value in the form the schema means (8.0 as the integer 8, a missing field that may be null as None).

    What does not fit is appended to `errors`, as `score: 11 is over 10`.
    """
    root = schema if root is None else root
    schema = resolve(schema, root)
    if schema is True:
        return value
    if schema is False:
        errors.append(_at(path, "nothing may stand here"))
        return value
    if "anyOf" in schema:
        value = _fit_any(value, schema["anyOf"], root, path, errors)
    kinds = schema.get("type")
    if kinds is not None and not any(_is(kind, value) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        wanted = " or ".join(_WORDS[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds))
        errors.append(_at(path, f"{_shown(value)} is not {wanted}"))
        return value
    if "enum" in schema and value not in schema["enum"]:
        errors.append(_at(path, f"{_shown(value)} is none of {', '.join(map(str, schema['enum']))}"))
    if "const" in schema and value != schema["const"]:
        errors.append(_at(path, f"{_shown(value)} is not {_shown(schema['const'])}"))
    match value:
        case Mapping():
            return _fit_object(value, schema, root, path, errors)
        case list() | tuple():
            _in_bounds(len(value), schema, "Items", "elements", path, errors)
            items = schema.get("items", True)
            return [fit(v, items, root=root, path=f"{path}[{n}]", errors=errors) for n, v in enumerate(value)]
        case str():
            return _fit_text(value, schema, path, errors)
        case int() | float() if not isinstance(value, bool):
            return _fit_number(value, schema, path, errors)
    return value


def _is(kind: str, value: Any) -> bool:
    try:
        return _TYPES[kind](value)
    except (OverflowError, ValueError):  # infinity is no integer
        return False


def _fit_any(value: Any, branches: Any, root: Any, path: str, errors: list[str]) -> Any:
    """By the first branch that fits; else the errors of the branch that is nearest."""
    nearest: list[str] | None = None
    for branch in branches:
        found: list[str] = []
        fitted = fit(value, branch, root=root, path=path, errors=found)
        if not found:
            return fitted
        only_null = value is not None and resolve(branch, root) == {"type": "null"}
        if not only_null and (nearest is None or len(found) < len(nearest)):
            nearest = found
    errors.extend(nearest or [_at(path, f"{_shown(value)} fits none of the allowed forms")])
    return value


def _fit_object(value: Mapping[str, Any], schema: Any, root: Any, path: str, errors: list[str]) -> dict[str, Any]:
    properties = schema.get("properties", {})
    more = schema.get("additionalProperties", True)
    fitted = {}
    for name, inner in properties.items():
        if name in value:
            fitted[name] = fit(value[name], inner, root=root, path=f"{path}.{name}", errors=errors)
        elif nullable(resolve(inner, root)):
            fitted[name] = None
        elif name in schema.get("required", ()):
            errors.append(_at(f"{path}.{name}", "is missing"))
    for name in value:
        if name in properties:
            continue
        if more is False:
            errors.append(_at(f"{path}.{name}", f"is no field; there are {', '.join(properties)}"))
        else:
            fitted[name] = fit(value[name], more, root=root, path=f"{path}.{name}", errors=errors)
    return fitted


def _fit_text(value: str, schema: Any, path: str, errors: list[str]) -> str:
    _in_bounds(len(value), schema, "Length", "characters", path, errors)
    if "pattern" in schema and not re.search(schema["pattern"], value):
        errors.append(_at(path, f"{_shown(value)} does not match {schema['pattern']}"))
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which no file can hold
        return value.encode("utf-8", "replace").decode()
    return value


def _fit_number(value: float, schema: Any, path: str, errors: list[str]) -> float:
    bounds: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
        ("minimum", lambda bound: value < bound, "under"),
        ("maximum", lambda bound: value > bound, "over"),
        ("exclusiveMinimum", lambda bound: value <= bound, "not over"),
        ("exclusiveMaximum", lambda bound: value >= bound, "not under"),
    )
    for name, broken, word in bounds:
        if name in schema and broken(schema[name]):
            errors.append(_at(path, f"{value} is {word} {schema[name]}"))
    kinds = schema.get("type")
    return int(value) if kinds == "integer" or (isinstance(kinds, list) and "integer" in kinds) else value


def _in_bounds(count: int, schema: Any, what: str, unit: str, path: str, errors: list[str]) -> None:
    if count < schema.get(f"min{what}", 0):
        errors.append(_at(path, f"has {count} {unit}, under {schema[f'min{what}']}"))
    if count > schema.get(f"max{what}", count):
        errors.append(_at(path, f"has {count} {unit}, over {schema[f'max{what}']}"))


def _at(path: str, message: str) -> str:
    path = path.lstrip(".")
    return f"{path}: {message}" if path else message


def _shown(value: Any) -> str:
    match value:
        case str():
            return f"'{value}'" if len(value) <= 40 else f"'{value[:37]}...'"
        case Mapping():
            return "an object"
        case list() | tuple():
            return "a list"
        case _:
            return json.dumps(value, default=repr)

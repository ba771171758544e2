"""What is known of a value before it exists: enough to say that `item.clam` will not be there."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic.errors import PydanticUserError

from ..agents.fields import fields_schema
from ..agents.output import OutputType
from ..agents.schema import resolve
from ..references import ELEMENT

__all__ = ["ANY", "TEXT", "NoSuchField", "Shape", "collection_of", "shape_of_data", "shape_of_result", "standings_of"]


class NoSuchField(LookupError):
    """No value of this shape has such a field. `candidates` are those it has."""

    def __init__(self, message: str, word: str = "", candidates: Sequence[str] = ()) -> None:
        self.word, self.candidates = word, tuple(candidates)
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Shape:
    """A JSON Schema (True: anything), and whether it is a task's collection of such values or its standings of them."""

    schema: Any
    root: Any = None
    role: Literal["value", "collection", "standings"] = "value"

    def step(self, step: str) -> Shape:
        """What stands one step of a reference's path below. Raises NoSuchField."""
        if self.role == "collection":
            if step == ELEMENT or step.startswith('["'):
                return replace(self, role="value")
            if step == "failed":
                return Shape({"type": "array", "items": _OUTCOME})
            raise NoSuchField("is a list of items, not one", step, ["failed"])
        if self.role == "standings":
            if step == ELEMENT:
                return self._row()
            raise NoSuchField(f"is a list of rows and has no field '{step}'; top(..., n) gives the first rows")
        return self._step(self._resolved(), step[2:-2] if step.startswith('["') else step)

    def _row(self) -> Shape:
        known = (self.root or {}).get("$defs", {})
        name = f"entrant{len(known)}"  # an entrant may itself be the row of a tournament
        row = {**_STANDING, "properties": {**_STANDING["properties"], "item": {"$ref": f"#/$defs/{name}"}}}
        definitions = {**known, name: self.schema}
        return Shape(row, {"$defs": definitions})

    def _resolved(self) -> Any:
        try:
            return resolve(self.schema, self.root if self.root is not None else self.schema)
        except LookupError:
            return True

    def _step(self, schema: Any, step: str) -> Shape:
        if not isinstance(schema, Mapping):
            return ANY
        if "anyOf" in schema:
            return self._step_any(schema["anyOf"], step)
        root = self.root if self.root is not None else schema
        match schema.get("type"):
            case "array" if step == ELEMENT:
                return Shape(schema.get("items", True), root)
            case "object":
                return _field(schema, root, step)
            case "string" if step == ELEMENT:
                return TEXT
            case "array":
                raise NoSuchField(f"is a list and has no field '{step}'")
            case str() as kind:
                what = f"field '{step}'" if step != ELEMENT else "elements"
                raise NoSuchField(f"is {_WORDS.get(kind, kind)} and has no {what}")
        return ANY

    def _step_any(self, branches: Sequence[Any], step: str) -> Shape:
        """Some branch must have it; if several have, nothing more is known."""
        found, missing = [], None
        root = self.root if self.root is not None else self.schema
        for branch in branches:
            try:
                found.append(replace(self, schema=branch, root=root).step(step))
            except NoSuchField as error:
                missing = missing if missing and missing.candidates else error
        if not found and missing is not None:
            raise missing
        return found[0] if len(found) == 1 else ANY

    @property
    def is_list(self) -> bool | None:
        """Whether it has elements to go through; None where that is not known."""
        if self.role != "value":
            return True
        schema = self._resolved()
        kind = schema.get("type") if isinstance(schema, Mapping) else None
        return None if not isinstance(kind, str) else kind == "array"

    def __str__(self) -> str:
        schema = self._resolved()
        kind = schema.get("type") if isinstance(schema, Mapping) else None
        return _WORDS.get(str(kind), "something")


def _field(schema: Mapping[str, Any], root: Any, step: str) -> Shape:
    properties, more = schema.get("properties", {}), schema.get("additionalProperties", True)
    if step in properties:
        return Shape(properties[step], root)
    if step == ELEMENT:
        return ANY
    if more is False:
        raise NoSuchField(f"has no field '{step}'; there are {', '.join(properties) or 'none'}", step, list(properties))
    return Shape(more, root)


_WORDS = {
    "string": "text", "integer": "a number", "number": "a number", "boolean": "a boolean", "null": "nothing",
    "array": "a list", "object": "one value",
}  # fmt: skip
ANY = Shape(True)
TEXT = Shape({"type": "string"})
_STANDING = fields_schema({
    "rank": "integer", "key": "text", "item": "text", "rating": "number", "low": "number", "high": "number",
    "matches": "integer",
})  # fmt: skip
_OUTCOME: dict[str, Any] = fields_schema({
    "task": "text", "key": {"type": "text", "optional": True}, "sample": {"type": "integer", "optional": True},
    "state": "text", "item": "text", "value": "text", "finish": "text", "model": "text", "attempts": "integer",
    "seconds": "number", "usd": {"type": "number", "optional": True}, "usage": "text",
    "error": {"fields": {"kind": "text", "message": "text", "status": "integer", "retryable": "boolean"}},
})  # fmt: skip
_OUTCOME["properties"] |= {"item": True, "value": True, "usage": True}


def collection_of(shape: Shape) -> Shape:
    """A task's items of this shape."""
    return replace(shape, role="collection")


def standings_of(shape: Shape) -> Shape:
    """The rows of a tournament between entrants of this shape."""
    return replace(shape, role="standings")


def shape_of_data(value: Any) -> Shape:
    """The shape of data that is already there. A list of maps has the fields that any of them has."""
    return Shape(_schema_of(value))


def _schema_of(value: Any) -> Any:
    match value:
        case None:
            return True
        case bool():
            return {"type": "boolean"}
        case str():
            return {"type": "string"}
        case int() | float():
            return {"type": "number"}
        case Mapping():
            properties = {str(name): _schema_of(inner) for name, inner in value.items()}
            return {"type": "object", "properties": properties, "additionalProperties": False}
        case list() | tuple() if value and all(isinstance(inner, Mapping) for inner in value):
            kinds: dict[str, Any] = {}
            for row in value:
                for name, inner in row.items():
                    kinds.setdefault(str(name), _schema_of(inner) if isinstance(inner, str) else True)
                    if not isinstance(inner, str):
                        kinds[str(name)] = True
            return {"type": "array", "items": {"type": "object", "properties": kinds, "additionalProperties": False}}
        case list() | tuple() if value and all(isinstance(inner, str) for inner in value):
            return {"type": "array", "items": {"type": "string"}}
        case list() | tuple():
            return {"type": "array"}
        case _:
            return True


def shape_of_result(function: Callable[..., Any]) -> Shape:
    """The shape of what a Python function returns, as far as its annotation tells."""
    try:
        hint = typing.get_type_hints(function).get("return", Any)
    except Exception:  # noqa: BLE001  # annotations are evaluated here, and may raise anything
        return ANY
    if hint is Any or hint is type(None):
        return ANY
    try:
        schema = OutputType.of_type(hint).value_schema
    except (PydanticUserError, TypeError):
        return ANY
    return Shape(schema)

"""The type of an agent's reply: the JSON Schema that is asked for, and the check of what came."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from ..explain import explain
from .fields import FieldProblem, FieldsProblem, fields_schema
from .schema import check_schema, fit, resolve

__all__ = ["InvalidOutput", "OutputType"]


class InvalidOutput(ValueError):
    """A reply does not fit its type. `errors` say where and why, as `score: 11 is over 10`."""

    def __init__(self, errors: list[str]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(errors))


class OutputType:
    """What a reply must be. `schema` is a JSON Schema of an object; `adapter` makes instances of a Python type.

    `wrapped`: the type is no object (a list, a number), so it is asked for as the one field `value` of an object, which
    is what providers can enforce, and taken out again.
    """

    def __init__(
        self, schema: Mapping[str, Any], *, adapter: TypeAdapter[Any] | None = None, wrapped: bool = False
    ) -> None:
        self.schema = dict(schema)
        self.wrapped = wrapped
        self._adapter = adapter

    def __repr__(self) -> str:
        return f"<OutputType {', '.join(self.schema.get('properties', {}))}>"

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> OutputType:
        """Plain dicts with these fields: `{"title": "text", "score": {"type": "number", "maximum": 10}}`.

        Raises FieldsProblem.
        """
        return cls(fields_schema(fields))

    @classmethod
    def of_schema(cls, schema: Mapping[str, Any]) -> OutputType:
        """Plain dicts that fit a JSON Schema. Raises FieldsProblem where it is no object or cannot be checked."""
        check_schema(schema)
        if resolve(schema, schema).get("type") != "object":
            raise FieldsProblem([FieldProblem(("type",), "the outermost type must be object")])
        return cls(schema)

    @classmethod
    def of_type(cls, kind: Any) -> OutputType:
        """Instances of a Python type that pydantic knows: a model, a dataclass, `list[Model]`, `Literal[...]`.

        Raises pydantic.PydanticUserError for a type that has no JSON Schema.
        """
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        schema = _strict(adapter.json_schema())
        if resolve(schema, schema).get("type") == "object":
            return cls(schema, adapter=adapter)
        definitions = schema.pop("$defs", None)
        wrapper = {
            "type": "object",
            "properties": {"value": schema},
            "required": ["value"],
            "additionalProperties": False,
        }
        return cls(wrapper | ({"$defs": definitions} if definitions else {}), adapter=adapter, wrapped=True)

    @property
    def value_schema(self) -> dict[str, Any]:
        """The schema of the value itself, taken out of its wrapper."""
        if not self.wrapped:
            return self.schema
        definitions = {"$defs": self.schema["$defs"]} if "$defs" in self.schema else {}
        return {**self.schema["properties"]["value"], **definitions}

    def revive(self, value: Any) -> Any:
        """The value that was written as this JSON. Raises pydantic.ValidationError where it does not fit."""
        return value if self._adapter is None else self._adapter.validate_python(value)

    def validate(self, reply: Any) -> Any:
        """The value that a reply (its text, or data) holds: plain data, or an instance of the Python type.

        Raises InvalidOutput.
        """
        data = _read(reply) if isinstance(reply, str) else reply
        if self._adapter is None:
            errors: list[str] = []
            value = fit(data, self.schema, errors=errors)
            if errors:
                raise InvalidOutput(errors)
            return value
        if self.wrapped:
            if not isinstance(data, Mapping) or "value" not in data:
                raise InvalidOutput(["value: is missing"])
            data = data["value"]
        try:
            return self._adapter.validate_python(data)
        except ValidationError as error:
            raise InvalidOutput([_in_words(found) for found in explain(error, data)]) from None


def _in_words(found: Any) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in found.path).lstrip(".")
    return f"{path}: {found.message}" if path else str(found.message)


_FENCE = re.compile(r"\s*```\w*\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


def _read(text: str) -> Any:
    """The JSON in a reply, which may stand in a fence of Markdown."""
    fenced = _FENCE.fullmatch(text)
    try:
        return json.loads(fenced[1] if fenced else text, parse_constant=_no_constant)
    except RecursionError:
        raise InvalidOutput(["the JSON is nested too deep"]) from None
    except json.JSONDecodeError as error:
        if not text.strip():
            raise InvalidOutput(["the reply is empty, where JSON was asked for"]) from None
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidOutput([f"this is not JSON: {error.msg} at {where}"]) from None
    except ValueError as error:
        raise InvalidOutput([f"this is not JSON: {error}"]) from None


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _strict(schema: Any) -> Any:
    """A schema of pydantic in the strict form: every field required, no others, no defaults, `anyOf` for `oneOf`."""
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        kept = {"$ref": schema["$ref"]}
        return kept | ({"$defs": {k: _strict(v) for k, v in schema["$defs"].items()}} if "$defs" in schema else {})
    found = {name: value for name, value in schema.items() if name not in ("title", "default", "discriminator")}
    if "oneOf" in found:
        found["anyOf"] = found.pop("oneOf")
    for name in ("properties", "$defs"):
        if name in found:
            found[name] = {key: _strict(inner) for key, inner in found[name].items()}
    for name in ("anyOf", "allOf", "prefixItems"):
        if name in found:
            found[name] = [_strict(inner) for inner in found[name]]
    for name in ("items", "additionalProperties"):
        if name in found:
            found[name] = _strict(found[name])
    if "properties" in found:
        found["required"] = list(found["properties"])
        found["additionalProperties"] = False
    return found

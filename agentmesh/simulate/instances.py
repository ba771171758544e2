"""Makes an instance of a JSON Schema: a plausible value that fits it, drawn from one seeded generator.

Understood are the keywords that structured output and typed tools use: type, enum, const, properties, required,
additionalProperties, items, prefixItems, minItems, maxItems, uniqueItems, minimum and maximum (also exclusive),
multipleOf, minLength, maxLength, anyOf, oneOf, allOf, $ref with $defs, and default. `format` and `pattern` are not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from .words import Writer

__all__ = ["instance"]

Schema = Mapping[str, Any]

_DEEP = 6  # levels after which optional parts are left out, so that recursive schemas end
_HOPELESS = 60  # levels after which a schema that requires itself, and so has no finite instance, is given up
_ANY_RANGE = 100.0  # numbers without bounds lie between 0 and this
_OPTIONAL = 0.8  # share of optional values that are there
_TITLES = frozenset(
    {"title", "name", "heading", "headline", "label", "topic", "subject", "keyword", "tag", "city", "query"}
)


def instance(schema: Schema, writer: Writer, *, verdict: str | None = None) -> Any:
    """A plain value that fits `schema`. Enumerations that have `verdict` among their values take it."""
    return _Maker(schema, writer, verdict=verdict).make(schema)


class _Maker:
    def __init__(self, root: Schema, writer: Writer, *, verdict: str | None) -> None:
        self._root = root
        self._writer = writer
        self._rng = writer.rng
        self._verdict = verdict

    def make(self, schema: Any, name: str = "", *, depth: int = 0) -> Any:
        """A value for one part of the schema; `name` is the property it belongs to."""
        if depth > _HOPELESS:
            return None
        if not isinstance(schema, Mapping):  # `true` allows anything
            return self._writer.title()
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if values := schema.get("enum"):
            return self._one_of(values)
        for key in ("anyOf", "oneOf"):
            if options := schema.get(key):
                rest = {k: v for k, v in schema.items() if k not in ("anyOf", "oneOf", "default", "title")}
                return self.make(_merged(rest, self._option(options, depth)), name, depth=depth + 1)
        match self._type(schema):
            case "object":
                return self._object(schema, depth=depth)
            case "array":
                return self._array(schema, name, depth=depth)
            case "integer":
                return self._integer(schema)
            case "number":
                return self._number(schema)
            case "boolean":
                return self._rng.random() < 0.5
            case "null":
                return None
            case _:
                return self._string(schema, name)

    def _resolved(self, schema: Schema) -> Schema:
        for _ in range(32):  # a reference may lead to a reference
            if "$ref" in schema:
                target = self._find(str(schema["$ref"]))
                schema = _merged(target, {k: v for k, v in schema.items() if k != "$ref"})
            elif parts := schema.get("allOf"):
                merged: Schema = {k: v for k, v in schema.items() if k != "allOf"}
                for part in parts:
                    merged = _merged(merged, self._resolved(part))
                schema = merged
            else:
                return schema
        return {}

    def _find(self, reference: str) -> Schema:
        found: Any = self._root
        for part in reference.removeprefix("#").split("/"):
            if part:
                key = part.replace("~1", "/").replace("~0", "~")
                found = found.get(key, {}) if isinstance(found, Mapping) else {}
        return found if isinstance(found, Mapping) else {}

    def _one_of(self, values: Sequence[Any]) -> Any:
        if self._verdict is not None and self._verdict in values:
            return self._verdict
        return values[int(self._rng.random() * len(values))]

    def _option(self, options: Sequence[Schema], depth: int) -> Schema:
        resolved = [self._resolved(option) for option in options]
        nulls = [option for option in resolved if option.get("type") == "null"]
        others = [option for option in resolved if option.get("type") != "null"]
        if nulls and (not others or depth > _DEEP or self._rng.random() > _OPTIONAL):
            return nulls[0]
        if depth > _DEEP:  # what ends soonest
            return min(
                others, key=lambda option: len(json.dumps(option, default=str)) + 10**6 * ("properties" in option)
            )
        chosen: Schema = self._one_of(others)
        return chosen

    def _type(self, schema: Schema) -> str:
        kind = schema.get("type")
        if isinstance(kind, Sequence) and not isinstance(kind, str):
            kinds = [one for one in kind if one != "null"]
            if "null" in kind and (not kinds or self._rng.random() > _OPTIONAL):
                return "null"
            return str(kinds[0])
        if kind is not None:
            return str(kind)
        if "properties" in schema or "additionalProperties" in schema:
            return "object"
        return "array" if "items" in schema or "prefixItems" in schema else "string"

    def _object(self, schema: Schema, *, depth: int) -> dict[str, Any]:
        required = schema.get("required") or ()
        properties: Schema = schema.get("properties") or {}
        made = {
            key: self.make(part, key, depth=depth + 1)
            for key, part in properties.items()
            if key in required or (depth <= _DEEP and self._rng.random() < _OPTIONAL)
        }
        more = schema.get("additionalProperties")
        for key in required:
            if key not in made:
                made[key] = self.make(more if isinstance(more, Mapping) else True, key, depth=depth + 1)
        if isinstance(more, Mapping) and not properties and depth <= _DEEP:
            for _ in range(1 + int(self._rng.random() * 2)):
                made[self._writer.topic()] = self.make(more, depth=depth + 1)
        if not made and depth == 0 and not properties and more is not False:
            made["answer"] = self._writer.sentence()  # any object was asked for: say something
        return made

    def _array(self, schema: Schema, name: str, *, depth: int) -> list[Any]:
        made = [self.make(part, name, depth=depth + 1) for part in schema.get("prefixItems") or ()]
        items = schema.get("items", not made)
        least = int(schema.get("minItems", 0))
        most = int(schema.get("maxItems", max(least + 2, 3)))
        wanted = (
            least
            if depth > _DEEP or items is False
            else max(min(most, max(1, least) + int(self._rng.random() * 3)), least)
        )
        unique = bool(schema.get("uniqueItems"))
        for _ in range(20 * max(1, wanted)):
            if len(made) >= wanted:
                break
            value = self.make(items, name, depth=depth + 1)
            if not (unique and value in made):
                made.append(value)
        return made

    def _bounds(self, schema: Schema, step: float) -> tuple[float, float]:
        low, high = schema.get("minimum"), schema.get("maximum")
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        if above is not None:
            low = above + step if low is None else max(low, above + step)
        if below is not None:
            high = below - step if high is None else min(high, below - step)
        if low is None:
            low = 0.0 if high is None or high > 0 else high - _ANY_RANGE
        if high is None:
            high = max(_ANY_RANGE, low + _ANY_RANGE) if low >= 0 else low + _ANY_RANGE
        return low, high

    def _integer(self, schema: Schema) -> int:
        step = int(schema.get("multipleOf", 1)) or 1
        low, high = self._bounds(schema, 1)
        first, last = math.ceil(low / step), math.floor(high / step)
        return step * (first + int(self._rng.random() * (last - first + 1)))

    def _number(self, schema: Schema) -> float:
        if step := schema.get("multipleOf"):
            low, high = self._bounds(schema, step)
            first, last = math.ceil(low / step), math.floor(high / step)
            return float(step * (first + int(self._rng.random() * (last - first + 1))))
        low, high = self._bounds(schema, 1e-9)
        drawn = low + (high - low) * self._rng.random()
        rounded = round(drawn, 2)
        return rounded if low <= rounded <= high else drawn

    def _string(self, schema: Schema, name: str) -> str:
        text = self._writer.title() if name.lower() in _TITLES else self._writer.sentence()
        least = int(schema.get("minLength", 0))
        if len(text) < least:
            text = self._writer.paragraph(least)
        most = schema.get("maxLength")
        return text if most is None or len(text) <= most else text[:most]


def _merged(base: Schema, over: Schema) -> Schema:
    """Both schemas as one: properties and required keys are joined, otherwise `over` wins."""
    merged = {**base, **over}
    for key in ("properties", "$defs"):
        if key in base and key in over:
            merged[key] = {**base[key], **over[key]}
    if "required" in base and "required" in over:
        merged["required"] = [*base["required"], *(key for key in over["required"] if key not in base["required"])]
    return merged

"""JSON Schemas in the forms that providers accept: OpenAI's strict rules, Anthropic's closed subset, plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .json_text import write_json

__all__ = ["closed_schema", "in_words", "meets_strict_rules"]

_STRICT_KEYWORDS = frozenset({
    "$defs", "definitions", "$ref", "$schema", "type", "title", "description", "properties", "required",
    "additionalProperties", "items", "anyOf", "enum", "const", "pattern", "format", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems",
})  # fmt: skip
_CLOSED_KEYWORDS = frozenset({"$defs", "definitions", "$ref", "type", "title", "enum", "const", "required"})
_CLOSED_FORMATS = frozenset({
    "date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid",
})  # fmt: skip


def in_words(schema: Mapping[str, Any]) -> str:
    """An instruction for models that can only be told in the prompt what JSON to write."""
    return (
        "Answer with one JSON value and nothing around it. It must fit this JSON Schema:\n"
        + write_json(schema).decode()
    )


def meets_strict_rules(schema: Mapping[str, Any]) -> bool:
    """Whether OpenAI's strict mode takes this schema: else it answers 400, and the schema must be sent without.

    At the root an object; in every object all properties required and no others allowed; only keywords that the mode
    knows. In doubt the answer is no: the schema then still guides, without the guarantee.
    """
    return schema.get("type") == "object" and "anyOf" not in schema and _strict(schema)


def _strict(node: Any) -> bool:
    if not isinstance(node, Mapping) or not node.keys() <= _STRICT_KEYWORDS:
        return False
    if "$ref" in node and len(node) > 1 and not node.keys() <= {"$ref", "$defs", "definitions"}:
        return False  # nothing may stand beside a reference
    if not ("type" in node or "$ref" in node or "anyOf" in node):
        return False
    kind = node.get("type")
    if kind == "object" or "properties" in node:
        properties = node.get("properties", {})
        if node.get("additionalProperties") is not False or set(node.get("required", ())) != set(properties):
            return False
    if (kind == "array" or (isinstance(kind, list) and "array" in kind)) and "items" not in node:
        return False
    return all(_strict(child) for child in _children(node))


def _children(node: Mapping[str, Any]) -> list[Any]:
    found: list[Any] = [*node.get("anyOf", ())]
    for key in ("properties", "$defs", "definitions"):
        found += node.get(key, {}).values()
    if "items" in node:
        found.append(node["items"])
    return found


def closed_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """The schema in the subset that Anthropic compiles, or None where it cannot be said in it (maps of any keys).

    Objects are closed; bounds, patterns and other keywords that the subset lacks are told in the description, where
    the model reads them; the reply is checked against the whole schema afterwards, as always.
    """
    try:
        return _closed(schema)
    except _NotClosed:
        return None


class _NotClosed(Exception):
    """A schema, or a part of one, that the closed subset cannot say."""


def _closed(node: Any) -> dict[str, Any]:
    if not isinstance(node, Mapping):
        raise _NotClosed
    out: dict[str, Any] = {}
    said: list[str] = []
    for key, value in node.items():
        if key in ("$defs", "definitions", "properties"):
            out[key] = {name: _closed(child) for name, child in value.items()}
        elif key in ("anyOf", "oneOf", "allOf"):
            out["allOf" if key == "allOf" else "anyOf"] = [_closed(child) for child in value]
        elif key == "items":
            out[key] = _closed(value)
        elif (
            key in _CLOSED_KEYWORDS
            or (key == "format" and value in _CLOSED_FORMATS)
            or (key == "minItems" and value in (0, 1))
        ):
            out[key] = value
        elif key not in ("additionalProperties", "description", "$schema"):
            said.append(f"{key}: {write_json(value).decode()}")
    if not out.keys() & {"type", "$ref", "anyOf", "allOf", "enum", "const"}:
        raise _NotClosed  # anything at all
    if out.get("type") == "object":
        if "properties" not in out and node.get("additionalProperties") is not False:
            raise _NotClosed
        if isinstance(node.get("additionalProperties"), Mapping):
            raise _NotClosed
        out["additionalProperties"] = False
    if "$ref" in out:  # nothing but definitions may stand beside a reference
        return {key: out[key] for key in ("$ref", "$defs", "definitions") if key in out}
    described = [node["description"]] if node.get("description") else []
    if said:
        described.append(f"({', '.join(said)})")
    if described:
        out["description"] = " ".join(described)
    return out

"""JSON Schemas: which ones strict mode takes, and how others are closed or told in words."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest

from agentmesh.dialects.schemas import closed_schema, in_words, meets_strict_rules


def obj(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


TEXT = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (obj(a=TEXT), True),
        (obj(a={"type": "number", "minimum": 0, "maximum": 10}), True),
        (obj(a={"type": "array", "items": obj(b=TEXT)}), True),
        (obj(a={"anyOf": [TEXT, {"type": "null"}]}), True),
        (obj(a={"type": ["string", "null"], "enum": ["x", None]}), True),
        (obj(a={"$ref": "#/$defs/B"}) | {"$defs": {"B": obj(c=TEXT)}}, True),
        (obj(), True),
        (obj(a=TEXT) | {"required": []}, False),
        ({"type": "object", "properties": {"a": TEXT}, "required": ["a"]}, False),
        (obj(a=TEXT) | {"additionalProperties": True}, False),
        (obj(a={"type": "object"}), False),
        (obj(a={"type": "array"}), False),
        (obj(a={"type": "array", "items": {"type": "object"}}), False),
        (obj(a={}), False),
        (obj(a={"enum": ["x"]}), False),
        (obj(a={"type": "string", "minLength": 1}), False),
        (obj(a={"type": "string", "default": "x"}), False),
        (obj(a={"oneOf": [TEXT]}), False),
        (obj(a={"$ref": "#/$defs/B", "description": "d"}) | {"$defs": {"B": obj()}}, False),
        (obj(a={"$ref": "#/$defs/B"}) | {"$defs": {"B": {"type": "object"}}}, False),
        ({"anyOf": [obj()], "type": "object"}, False),
        ({"type": "array", "items": TEXT}, False),
        (obj(a=True), False),
    ],
)
def test_strict_rules(schema: dict[str, Any], strict: bool) -> None:
    assert meets_strict_rules(schema) is strict


def test_a_pydantic_model_is_strict_only_if_it_forbids_extras_and_has_no_defaults() -> None:
    class Loose(pydantic.BaseModel):
        title: str

    class Tight(Loose, extra="forbid"):
        pass

    assert not meets_strict_rules(Loose.model_json_schema())
    assert meets_strict_rules(Tight.model_json_schema())


def test_closed_schemas_tell_in_words_what_they_cannot_say() -> None:
    schema = {
        "type": "object",
        "description": "A review.",
        "properties": {
            "score": {"type": "number", "minimum": 0, "maximum": 10, "description": "How good."},
            "tags": {"type": "array", "items": {"type": "string", "format": "slug"}, "minItems": 3},
            "kind": {"oneOf": [{"const": "a"}, {"enum": ["b"]}]},
            "when": {"type": "string", "format": "date"},
            "more": {"$ref": "#/$defs/More", "description": "gone"},
        },
        "$defs": {"More": {"type": "object", "properties": {}, "additionalProperties": True}},
    }
    assert closed_schema(schema) == {
        "type": "object",
        "description": "A review.",
        "properties": {
            "score": {"type": "number", "description": "How good. (minimum: 0, maximum: 10)"},
            "tags": {
                "type": "array",
                "items": {"type": "string", "description": '(format: "slug")'},
                "description": "(minItems: 3)",
            },
            "kind": {"anyOf": [{"const": "a"}, {"enum": ["b"]}]},
            "when": {"type": "string", "format": "date"},
            "more": {"$ref": "#/$defs/More"},
        },
        "$defs": {"More": {"type": "object", "properties": {}, "additionalProperties": False}},
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {},
        obj(a={"type": "object", "additionalProperties": {"type": "integer"}}),
        obj(a=True),
        obj(a={"description": "anything"}),
    ],
)
def test_what_cannot_be_closed(schema: dict[str, Any]) -> None:
    assert closed_schema(schema) is None


def test_a_schema_in_words() -> None:
    words = in_words(TEXT)
    assert "JSON" in words
    assert words.endswith('{"type":"string"}')

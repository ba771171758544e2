"""Types of replies: the schema that is asked for, what fits it, and the words for what does not."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import pydantic
import pytest

from agentmesh.agents.fields import FieldsProblem, field_schema
from agentmesh.agents.output import InvalidOutput, OutputType

REVIEW = {
    "title": "text",
    "flaws": ["text"],
    "score": {"type": "number", "minimum": 0, "maximum": 10},
    "rounds": "integer",
    "good": "boolean",
    "kind": {"enum": ["a", "b"], "optional": True, "description": "Which."},
    "sub": {"fields": {"n": "integer"}, "optional": True},
}
FITTING: dict[str, Any] = {
    "title": "t", "flaws": ["x"], "score": 3.5, "rounds": 2, "good": True, "kind": "a", "sub": {"n": 1},
}  # fmt: skip


def test_fields_become_a_strict_schema() -> None:
    schema = OutputType.of({"t": "text", "k": {"enum": ["a"], "optional": True, "description": "Which."}}).schema
    assert schema == {
        "type": "object",
        "properties": {
            "t": {"type": "string"},
            "k": {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null"}], "description": "Which."},
        },
        "required": ["t", "k"],
        "additionalProperties": False,
    }


def test_what_fits_comes_back_as_plain_data() -> None:
    kind = OutputType.of(REVIEW)
    assert kind.validate(FITTING) == FITTING
    assert kind.validate('```json\n{"title": "t", "flaws": [], "score": 3, "rounds": 2.0, "good": false}\n```') == {
        "title": "t", "flaws": [], "score": 3, "rounds": 2, "good": False, "kind": None, "sub": None,
    }  # fmt: skip


WRONG: list[tuple[dict[str, Any], list[str]]] = [
    ({"score": 11}, ["score: 11 is over 10"]),
    ({"score": -0.5}, ["score: -0.5 is under 0"]),
    ({"score": "9"}, ["score: '9' is not a number"]),
    ({"score": True}, ["score: true is not a number"]),
    ({"score": float("inf")}, ["score: Infinity is not a number"]),
    ({"rounds": 1.5}, ["rounds: 1.5 is not a whole number"]),
    ({"good": "yes"}, ["good: 'yes' is not true or false"]),
    ({"title": None}, ["title: null is not text"]),
    ({"flaws": "x"}, ["flaws: 'x' is not a list"]),
    ({"flaws": ["a", 2, {}]}, ["flaws[1]: 2 is not text", "flaws[2]: an object is not text"]),
    ({"kind": "c"}, ["kind: 'c' is none of a, b"]),
    ({"sub": {"n": "x", "m": 1}}, ["sub.n: 'x' is not a whole number", "sub.m: is no field; there are n"]),
    ({"extra": 1}, ["extra: is no field; there are title, flaws, score, rounds, good, kind, sub"]),
]


@pytest.mark.parametrize(("change", "errors"), WRONG)
def test_what_does_not_fit_is_said(change: dict[str, Any], errors: list[str]) -> None:
    with pytest.raises(InvalidOutput) as raised:
        OutputType.of(REVIEW).validate({**FITTING, **change})
    assert list(raised.value.errors) == errors


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "the reply is empty, where JSON was asked for"),
        ("Sure! Here it is.", "this is not JSON: Expecting value at line 1, column 1"),
        ('{"a": 1,\n "b": }', "this is not JSON: Expecting value at line 2, column 7"),
        ('{"n": NaN}', "this is not JSON: NaN is no number of JSON"),
        ("[" * 100_000, "the JSON is nested too deep"),
        ("[1]", "a list is not an object"),
        ("{}", "n: is missing"),
    ],
)
def test_texts_that_hold_no_such_value(text: str, error: str) -> None:
    with pytest.raises(InvalidOutput) as raised:
        OutputType.of({"n": "integer"}).validate(text)
    assert raised.value.errors == (error,)


def test_half_a_surrogate_pair_is_replaced_since_no_file_can_hold_it() -> None:
    assert OutputType.of({"t": "text"}).validate('{"t": "a\\ud800"}') == {"t": "a?"}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("string", "there is no type 'string'"),
        ("textt", "there is no type 'textt'"),
        ([], "a list type has one type in it"),
        (["text", "text"], "a list type has one type in it"),
        (3, "a type is a word, a list with one type, or a map"),
        ({"enum": []}, "must be a list of values"),
        ({"enum": [True]}, "values of an enum are texts"),
        ({"type": "text", "minimum": 1}, "minimum is for numbers"),
        ({"type": "number", "minimum": "a"}, "must be a number"),
        ({"type": "number", "minimum": 2, "maximum": 1}, "2 is over maximum 1"),
        ({"type": "text", "optional": "yes"}, "must be true or false"),
        ({"type": "text", "enum": ["a"]}, "says either type, enum or fields"),
        ({"titel": "text"}, "unknown key"),
        ({"fields": {}}, "must be a map of names to types"),
        ({"type": "text", "description": 1}, "must be a text"),
    ],
)
def test_types_that_do_not_exist(kind: Any, message: str) -> None:
    with pytest.raises(FieldsProblem) as raised:
        field_schema(kind)
    assert message in [problem.message for problem in raised.value.problems]


def test_all_mistakes_in_fields_are_told_with_their_path() -> None:
    with pytest.raises(FieldsProblem) as raised:
        OutputType.of({"a": "str", "b": [{"fields": {"c": "int"}}]})
    assert [(p.path, p.hint) for p in raised.value.problems] == [
        (("a",), "write text"), (("b", 0, "fields", "c"), "write integer"),
    ]  # fmt: skip


def test_a_json_schema_is_checked_by_what_it_says() -> None:
    kind = OutputType.of_schema({
        "type": "object",
        "$defs": {"tag": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3}},
        "properties": {
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 1, "maxItems": 2},
            "x": {"type": ["number", "null"], "exclusiveMinimum": 0},
            "v": {"const": 1},
        },
        "required": ["tags", "x"],
        "additionalProperties": {"type": "boolean"},
    })  # fmt: skip
    assert kind.validate({"tags": ["a"], "more": True}) == {"tags": ["a"], "x": None, "more": True}
    with pytest.raises(InvalidOutput) as raised:
        kind.validate({"tags": ["A", "long", "c"], "x": 0, "v": 2, "more": 1})
    assert raised.value.errors == (
        "tags: has 3 elements, over 2", "tags[0]: 'A' does not match ^[a-z]+$", "tags[1]: has 4 characters, over 3",
        "x: 0 is not over 0", "v: 2 is not 1", "more: 1 is not true or false",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "path", "message"),
    [
        ({"type": "array"}, ("type",), "the outermost type must be object"),
        ({"type": "object", "oneOf": []}, ("oneOf",), "the keyword oneOf of JSON Schema is not supported"),
        ({"type": "object", "properties": {"a": {"type": "text"}}}, ("properties", "a", "type"),
         "there is no type 'text' in JSON Schema"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}}, ("properties", "a", "$ref"),
         "nothing is found at #/$defs/x"),
        ({"type": "object", "properties": {"a": {"pattern": "("}}}, ("properties", "a", "pattern"),
         "this is no regular expression: missing ), unterminated subpattern at position 0"),
        ({"type": "object", "properties": {"a": {"minimum": "1"}}}, ("properties", "a", "minimum"), "must be a number"),
        ({"type": "object", "properties": []}, ("properties",), "must be a map"),
        ({"type": "object", "properties": {"a": 3}}, ("properties", "a"), "a schema must be a map"),
    ],
)  # fmt: skip
def test_schemas_that_cannot_be_checked(schema: Any, path: tuple[str, ...], message: str) -> None:
    with pytest.raises(FieldsProblem) as raised:
        OutputType.of_schema(schema)
    assert (path, message) in [(problem.path, problem.message) for problem in raised.value.problems]


class Claim(pydantic.BaseModel):
    title: str
    strength: int = pydantic.Field(default=1, le=3)
    note: str | None = None


@dataclasses.dataclass
class Point:
    x: int


def test_a_model_gives_instances_and_its_schema_is_strict() -> None:
    kind = OutputType.of_type(Claim)
    assert kind.schema["required"] == ["title", "strength", "note"]
    assert kind.schema["additionalProperties"] is False
    assert "default" not in kind.schema["properties"]["strength"]
    assert "title" in kind.schema["properties"]
    assert kind.validate('{"title": "t"}') == Claim(title="t")
    with pytest.raises(InvalidOutput) as raised:
        kind.validate('{"title": "t", "strength": 9}')
    assert raised.value.errors == ("strength: must be at most 3, not 9",)


@pytest.mark.parametrize(
    ("kind", "data", "value"),
    [
        (list[Claim], [{"title": "t"}], [Claim(title="t")]),
        (Literal["yes", "no"], "yes", "yes"),
        (int, 3, 3),
        (Claim | Point, {"x": 1}, Point(1)),
    ],
)
def test_what_is_no_object_is_asked_for_as_one_field(kind: Any, data: Any, value: Any) -> None:
    output = OutputType.of_type(kind)
    assert output.wrapped
    assert list(output.schema["properties"]) == ["value"]
    assert output.validate({"value": data}) == value
    with pytest.raises(InvalidOutput, match="value: is missing"):
        output.validate({})


def test_a_dataclass_is_an_object() -> None:
    output = OutputType.of_type(Point)
    assert not output.wrapped
    assert output.validate('{"x": 1}') == Point(1)
    assert output.value_schema is output.schema

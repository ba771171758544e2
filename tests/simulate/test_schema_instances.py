"""Instances of JSON Schemas: pydantic models are the judges of whether they fit."""

from __future__ import annotations

import enum
import random
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from agentmesh.simulate.instances import instance
from agentmesh.simulate.words import Writer


class Grade(enum.Enum):
    LOW = "low"
    HIGH = "high"


class Review(BaseModel):
    model_config = ConfigDict(extra="forbid")

    flaws: list[str] = Field(min_length=1, max_length=3)
    score: Annotated[float, Field(ge=0, le=10)]
    rank: Annotated[int, Field(gt=2, lt=5)]
    even: Annotated[int, Field(ge=0, le=9, multiple_of=2)]
    grade: Grade
    kind: Literal["review"]
    note: str | None
    sure: bool
    short: Annotated[str, Field(max_length=12)]
    long: Annotated[str, Field(min_length=200)]
    pair: tuple[int, str]
    tags: set[Literal["a", "b", "c"]] = Field(min_length=2)
    counts: dict[str, int]
    nested: list[Step]
    either: Step | int


class Step(BaseModel):
    title: str
    below: Annotated[float, Field(lt=-3)]


class Tree(BaseModel):
    name: str
    children: list[Tree]
    twin: Tree | None = None


def made(schema: dict[str, Any], seed: int, **kwargs: Any) -> Any:
    return instance(schema, Writer(random.Random(seed), ["bacteria", "antibiotics"]), **kwargs)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("model", [Review, Step, Tree])
def test_instances_validate(model: type[BaseModel], seed: int) -> None:
    model.model_validate(made(model.model_json_schema(), seed), strict=False)


@pytest.mark.parametrize(
    "wanted",
    [
        list[int],
        dict[str, list[float]],
        int | None,
        Literal[1, "x"] | None,
        Annotated[int, Field(ge=7, le=7)],
        bool,
        None,
    ],
)
def test_plain_types_validate(wanted: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(wanted)
    for seed in range(20):
        adapter.validate_python(made(adapter.json_schema(), seed))


def test_the_same_seed_makes_the_same_instance_and_another_makes_another() -> None:
    schema = Review.model_json_schema()
    assert made(schema, 1) == made(schema, 1)
    assert made(schema, 1) != made(schema, 2)


def test_a_verdict_takes_its_place_in_the_enumeration_that_has_it() -> None:
    schema = {"type": "object", "properties": {"winner": {"enum": ["first", "second"]}, "mood": {"enum": ["calm"]}}}
    schema["required"] = ["winner", "mood"]
    for seed in range(10):
        assert made(schema, seed, verdict="second") == {"winner": "second", "mood": "calm"}


def test_all_of_and_references_with_siblings_are_joined() -> None:
    schema = {
        "$defs": {"base": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}},
        "allOf": [{"$ref": "#/$defs/base"}, {"properties": {"b": {"const": 4}}, "required": ["b"]}],
    }
    value = made(schema, 0)
    assert isinstance(value["a"], int)
    assert value["b"] == 4


def test_any_object_says_something() -> None:
    assert made({"type": "object"}, 0)["answer"]


def test_a_required_key_without_description_is_there() -> None:
    assert made({"type": "object", "required": ["x"]}, 0)["x"]


def test_a_reference_to_nothing_and_one_to_itself_end() -> None:
    assert made({"$ref": "#/$defs/missing"}, 0) is not None
    assert made({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, 0) is not None


@pytest.mark.parametrize("part", [{"anyOf": [{"$ref": "#"}]}, {"properties": {"a": {"$ref": "#"}}, "required": ["a"]}])
def test_a_schema_without_finite_instance_ends_too(part: dict[str, Any]) -> None:
    assert len(str(made(part, 0))) < 2000

"""The shape of a workflow file: every key that can be written, with a description that editors show."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from ..errors import ErrorKind
from .units import parse_duration, parse_share

__all__ = [
    "NAME", "AgentSpec", "BudgetSpec", "DefaultOnFailure", "Fallback", "FallbackOnFailure", "FileText", "HeaderSpec",
    "InputSpec", "OutputSpec", "RawText", "RetrySpec", "RouteSpec", "SettingsSpec", "StopSpec", "TaskSpec", "ToolSpec",
    "WorkflowSpec",
]  # fmt: skip

NAME = r"[a-z][a-z0-9_]*"
_NAMED: Any = {"propertyNames": {"pattern": f"^{NAME}$"}}


def _require(value: Any) -> Any:
    if value in ("any", "all"):
        return value
    try:
        parse_share(value)
    except ValueError as error:
        raise ValueError(f"must be any, all or a percentage such as 95%: {error}") from None
    return str(value)


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?\s*(ms|s|m|h|d)$", "examples": ["60s", "5m", "2h"]}),
]
RequireText = Annotated[
    str,
    BeforeValidator(_require),
    WithJsonSchema({"type": "string", "pattern": r"^(any|all|\d+(\.\d+)?\s*%)$", "examples": ["any", "all", "95%"]}),
]
Priority = Literal["high", "normal", "low"] | Annotated[float, Field(allow_inf_nan=False)]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


class BudgetSpec(_Spec):
    """What may be spent: reserved before a call at its highest possible cost, and never overshot."""

    usd: float | None = Field(None, ge=0, description="Dollars.")
    calls: int | None = Field(None, ge=0, description="Calls, each attempt counted.")
    tokens: int | None = Field(None, ge=0, description="Input and output tokens together.")
    time: Duration | None = Field(None, description="Time from the start, such as 15m.")


class RetrySpec(_Spec):
    """How often a call is tried. A push-back by a rate limit is no attempt."""

    attempts: int | None = Field(None, ge=1, le=100, description="Attempts of one call, the first one included.")
    on: list[ErrorKind] | None = Field(None, description="The kinds of error after which it is tried again.")


class SettingsSpec(_Spec):
    """How a model shall answer. The nearer wins: a task's over an agent's over the workflow's."""

    max_tokens: int | None = Field(None, ge=1, description="The most tokens of a reply.")
    temperature: float | None = Field(None, ge=0)
    top_p: float | None = Field(None, ge=0, le=1)
    seed: int | None = None
    stop: str | list[str] | None = Field(None, description="Texts at which a reply ends.")
    reasoning_effort: str | None = None
    extra: dict[str, Any] | None = Field(None, description="Passed to the provider's request body as it stands.")


class FileText(_Spec):
    """A template in a file, looked for beside the workflow, then in the working directory."""

    file: str


class RawText(_Spec):
    """A text that is taken as it is: braces in it mean nothing."""

    raw: str


class InputSpec(_Spec):
    """One input: `--input NAME=VALUE` or `--input NAME=@file`."""

    type: Any = Field(
        None, description="text, integer, number, boolean, rows (csv, json or jsonl), a list such as [text]."
    )
    enum: list[str] | None = Field(None, description="The values that are allowed.")
    fields: dict[str, Any] | None = Field(None, description="The fields of a map, each with its type.")
    default: Any = Field(None, description="The value where none is given.")
    minimum: int | float | None = None
    maximum: int | float | None = None
    optional: bool = Field(False, description="May be left out: then it is none.")
    description: str | None = None


class RouteSpec(_Spec):
    """Several models one of which serves a call."""

    of: list[str] = Field(min_length=1, description="Models, the preferred one first.")
    route: Literal["fallback", "weighted", "least_wait"] = Field(
        "fallback", description="fallback: the first that can answer. The others are not supported yet."
    )


class ToolSpec(_Spec):
    """A tool that an agent may call."""

    python: str | None = Field(None, description="A typed function, as module:function.")
    mcp: Any = Field(None, description="Not supported yet.")


class AgentSpec(_Spec):
    """Who answers: a model with instructions, tools and a type of reply."""

    description: str | None = None
    model: str | None = Field(None, description="A name under models, or provider/model.")
    instructions: str | FileText | RawText | None = Field(None, description="The system message; may use inputs.")
    output: dict[str, Any] | None = Field(None, description="Fields of the reply with their types: {score: number}.")
    output_schema: str | None = Field(None, description="A file with the JSON Schema of the reply.")
    output_model: str | None = Field(None, description="A pydantic class, as module:Class.")
    tools: list[ToolSpec] | None = None
    max_turns: int | None = Field(None, ge=1, description="The most calls of one task, tool calls answered in between.")
    repairs: int | None = Field(None, ge=0, description="How often a reply that does not fit its type may be mended.")
    settings: SettingsSpec | None = None
    budget: BudgetSpec | None = None
    retry: RetrySpec | None = None
    timeout: Duration | None = Field(None, description="Of one attempt, from its admission.")
    priority: Priority | None = None
    weight: float | None = Field(
        None, gt=0, allow_inf_nan=False,
        description="Its own share of a lane, times the run's (1), beside the run's other agents and other runs.",
    )  # fmt: skip


class Fallback(_Spec):
    """What is tried when a task failed: another task in its place, or another model."""

    task: str | None = None
    model: str | None = None


class FallbackOnFailure(_Spec):
    """Try something else."""

    fallback: Fallback


class DefaultOnFailure(_Spec):
    """End done with this value; the error is kept."""

    default: Any


class StopSpec(_Spec):
    """When a tournament is over, whichever comes first."""

    regret: float | None = Field(0.05, ge=0, description="Expected regret of the leader.")
    matches: int | None = Field(None, ge=1, description="The most matches.")


class TaskSpec(_Spec):
    """One task, or a collection of them: exactly one of agent, python, value and rank says what it does."""

    description: str | None = None
    agent: str | None = Field(None, description="The agent that answers the prompt.")
    prompt: str | FileText | RawText | None = Field(None, description="What is asked, with {{ expressions }}.")
    model: str | None = Field(None, description='In place of the agent\'s; may be a text such as "{{ model }}".')
    settings: SettingsSpec | None = None
    python: str | None = Field(None, description="A Python function, as module:function.")
    with_: dict[str, Any] | None = Field(None, alias="with", description="Its arguments: expressions by name.")
    version: str | int | None = Field(None, description="Change it when the function gives other results than before.")
    value: Any = Field(None, description="An expression, or a map of expressions.")
    rank: str | list[Any] | None = Field(None, description="The entrants of a tournament: an expression.")
    judge: str | None = Field(None, description="The agent that compares two entrants.")
    criteria: str | None = Field(None, description="What makes one better than the other.")
    entrant: str | None = Field(None, description="What the judge sees of each entrant, which is `item`.")
    stop: StopSpec | None = None
    for_each: str | list[Any] | dict[str, str | list[Any]] | None = Field(
        None, description="One task per element, called `item`; a map makes the product, under its names."
    )
    samples: int | str | None = Field(None, description="The same again and again: `sample` counts from 0.")
    key: str | None = Field(None, description="An expression: the key of each element.")
    if_: str | bool | None = Field(None, alias="if", description="An expression: where it is false, nothing is done.")
    needs: str | list[str] | None = Field(None, description="Tasks that must have ended first, for order without data.")
    require: RequireText | None = Field(None, description="How much of each collection that is read must be there.")
    on_failure: Literal["fail", "skip"] | DefaultOnFailure | FallbackOnFailure | None = None
    timeout: Duration | None = Field(None, description="Over all attempts, from admission.")
    retry: RetrySpec | None = None
    budget: BudgetSpec | None = None
    priority: Priority | None = None


class OutputSpec(_Spec):
    """An output that is written to a file too."""

    value: Any = Field(description="An expression.")
    file: str | None = Field(None, description="Where it is written, below the working directory.")


class HeaderSpec(_Spec):
    """What a file says of the workflow as a whole."""

    agentmesh: Literal[1] = Field(description="The version of this language.")
    name: str | None = Field(None, pattern=f"^{NAME}$", description="By default the file's name.")
    description: str | None = None
    settings: SettingsSpec | None = None
    budget: BudgetSpec | None = None
    timeout: Duration | None = Field(None, description="Of the whole run.")
    retry: RetrySpec | None = None
    priority: Priority | None = None
    on_uncertain: Literal["resend", "fail", "ask"] | None = Field(
        None, description="What becomes of calls that were in flight when a run ended, and may have been paid."
    )


class WorkflowSpec(HeaderSpec):
    """Agents and tasks: what is asked of which model, and what needs what."""

    inputs: dict[str, str | list[Any] | InputSpec] = Field({}, json_schema_extra=_NAMED)
    models: dict[str, str | RouteSpec] = Field({}, description="Short names of models.", json_schema_extra=_NAMED)
    agents: dict[str, AgentSpec] = Field({}, json_schema_extra=_NAMED)
    tasks: dict[str, TaskSpec] = Field(json_schema_extra=_NAMED)
    outputs: dict[str, Any] = Field({}, description="Expressions, or {value: EXPRESSION, file: NAME}.")

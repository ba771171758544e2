"""The shape of a provider file, as pydantic models; the JSON Schema for editors is made from them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator

from ..rates import (
    Limit,
    Reserves,
    Settles,
    Shape,
    Unit,
    impractical,
    limit_name_meant,
    limit_names,
    parse_limit_name,
)
from .prices import LaxDate, Price

__all__ = [
    "AccountSpec", "AuthHeader", "AuthQuery", "DialectName", "Failure", "Latency", "LimitSpec", "Limits", "ModelSpec",
    "ProviderSpec", "Simulate", "Supports", "Variable", "json_schema", "limit_records",
]  # fmt: skip

DialectName = Literal["openai-chat", "anthropic"]
Failure = Literal["500", "503", "529", "drop", "reset", "truncate", "stall"]
"""An error status; the connection closed, or reset, before the reply; the reply cut off in the middle; no answer."""
PROVIDER_NAME = r"^[a-z][a-z0-9_-]*$"
_URL_START = re.compile(r"(https?|inprocess)://|\{")
_VARIABLE_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")

Share = Annotated[float, Field(ge=0, le=1)]
Quirk = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _variable_names(value: object) -> object:
    """One name or several. What is no name is not repeated in the message: it may be the key itself."""
    names = [value] if isinstance(value, str) else value
    if isinstance(names, list) and not all(isinstance(n, str) and _VARIABLE_NAME.fullmatch(n) for n in names):
        raise ValueError("must be the name of an environment variable in capitals, never a key itself")
    return names


VariableNames = Annotated[
    list[str],
    BeforeValidator(_variable_names, json_schema_input_type=str | list[str]),
    Field(min_length=1),
]


def _url(value: str) -> str:
    if not _URL_START.match(value):
        raise ValueError("must begin with http:// or https://")
    return value.rstrip("/")


Url = Annotated[str, AfterValidator(_url)]


def _empty_map(value: object) -> object:
    """`"*":` with nothing behind it is an entry with nothing to say."""
    return {} if value is None else value


class LimitSpec(_Part):
    """A limit in its record form: `tokens_per_minute: {limit: 200000, burst: 30000, reserves: sum}`."""

    limit: float = Field(gt=0, allow_inf_nan=False)
    burst: float | None = Field(default=None, ge=1, allow_inf_nan=False)
    shape: Shape | None = Field(default=None, description="bucket up to a minute, sliding for hours and days")
    reserves: Reserves | None = None
    settles: Settles = "actual"
    debt: bool = True


LimitValue = Annotated[float, Field(gt=0, allow_inf_nan=False)] | LimitSpec


class _LimitsBase(_Part):
    """Limits by name; a number is short for `{limit: number}`."""

    @model_validator(mode="before")
    @classmethod
    def _names_of_other_programs(cls, value: object) -> object:
        for word in value if isinstance(value, dict) else ():
            if meant := limit_name_meant(str(word)):
                raise ValueError(f"'{word}' is no limit here (did you mean '{meant}'?)")
        return value


def _sound(name: str) -> Callable[[float | LimitSpec | None], float | LimitSpec | None]:
    """A check of what is written for the limit of this name."""
    unit, window = parse_limit_name(name)

    def check(value: float | LimitSpec | None) -> float | LimitSpec | None:
        if value is None:
            return None
        said = value.model_fields_set - {"limit"} if isinstance(value, LimitSpec) else set()
        if unit == "in_flight" and said:
            raise ValueError("is a number of calls at once: it has no burst, shape, reserves or settles")
        if unit == "requests" and said & {"reserves", "settles"}:
            raise ValueError("counts requests, one by one: only limits of tokens have reserves and settles")
        if reason := impractical(_record(unit, window, value)):
            raise ValueError(reason)
        return value

    return check


def _record(unit: Unit, window: float, value: float | LimitSpec) -> Limit:
    said = value.model_dump(exclude_unset=True) if isinstance(value, LimitSpec) else {"limit": value}
    return Limit(unit, window=window, **said)


_limit_fields: dict[str, Any] = {
    name: (Annotated[LimitValue | None, AfterValidator(_sound(name))], None) for name in limit_names()
}
Limits = create_model("Limits", __base__=_LimitsBase, __doc__=_LimitsBase.__doc__, **_limit_fields)


def limit_records(limits: _LimitsBase | None) -> tuple[Limit, ...]:
    """The limits of a file as records, in the order of their names in `rates.limit_names()`."""
    found = {name: getattr(limits, name) for name in limit_names()} if limits else {}
    return tuple(_record(*parse_limit_name(name), value) for name, value in found.items() if value is not None)


class AuthHeader(_Part):
    """The key is sent in this header."""

    header: str = Field(min_length=1)


class AuthQuery(_Part):
    """The key is sent as this parameter of the URL."""

    query: str = Field(min_length=1)


def _auth_form(value: object) -> object:
    """A text that is not `bearer` is not repeated in the message: it may be the key itself."""
    if isinstance(value, str) and value != "bearer":
        raise ValueError("must be bearer, {header: NAME} or {query: NAME}")
    return value


Auth = Annotated[Literal["bearer"] | AuthHeader | AuthQuery, BeforeValidator(_auth_form)]


class Variable(_Part):
    """What fills a hole of the base URL: the first of these environment variables that is set, else the default."""

    env: VariableNames | None = None
    default: str | None = None


class Supports(_Part):
    """What a model can do; what is not said is not known, and is tried."""

    tools: bool | None = None
    forced_tools: bool | None = Field(default=None, description="tool_choice may be required or name a tool")
    json_schema: bool | None = None
    temperature: bool | None = None
    stream: bool | None = None
    reasoning_effort: list[str] | None = Field(default=None, description="the efforts that may be asked for")


class Latency(_Part):
    """Seconds to the first token, and from each to the next; both vary evenly by the share `jitter` up and down."""

    first_token: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.25
    per_token: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.004
    jitter: Share = 0.5


class Simulate(_Part):
    """How a simulated model behaves; a model's own block wins over the provider's.

    `length` is the mean number of tokens of a plain text, `failures` the share of requests that meet each kind of
    failure, `stall` the seconds after which one without an answer is cut off, `skill` how well a verdict follows the
    planted strength of what it compares (0 is a coin), `order_bias` how much it favours what it reads first, in logits.
    """

    seed: int = 0
    latency: Latency = Latency()
    length: int = Field(default=120, ge=1)
    failures: dict[Failure, Share] = {}
    stall: float = Field(default=600.0, gt=0, allow_inf_nan=False)
    skill: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    order_bias: float = Field(default=0.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _no_more_than_all(self) -> Simulate:
        if sum(self.failures.values()) > 1:
            raise ValueError("the shares of failures add up to more than 1")
        return self

    def over(self, base: Simulate | None) -> Simulate:
        """This block, and where it is silent, `base`."""
        if base is None:
            return self
        said: dict[str, Any] = {name: getattr(self, name) for name in self.model_fields_set}
        if "latency" in said:
            of_latency = {name: getattr(self.latency, name) for name in self.latency.model_fields_set}
            said["latency"] = base.latency.model_copy(update=of_latency)
        return base.model_copy(update=said)


class ModelSpec(_Part):
    """One model. The model "*" stands for every other name, which is passed through."""

    title: str | None = None
    context: int | None = Field(default=None, gt=0, description="tokens of input and output together")
    max_output: int | None = Field(default=None, gt=0)
    pool: str | None = Field(default=None, description="its calls also count in the limits of this pool")
    quirks: list[Quirk] = Field(default=[], description="beside those of the provider")
    limits: Limits | None = None
    supports: Supports = Supports()
    prices: Literal["free"] | Price | list[Price] | None = Field(
        default=None, description="dollars per million tokens; of a list the last one counts whose conditions hold"
    )
    simulate: Simulate | None = None


class _Keys(_Part):
    """How a key is found, and what may differ between the accounts of a provider."""

    base_url: Url | None = Field(default=None, description="{holes} are filled from `variables`")
    base_url_env: str | None = Field(default=None, description="this environment variable wins over base_url")
    variables: dict[str, str | Variable] = {}
    api_key_env: VariableNames | None = Field(default=None, description="the first that is set has the key")
    api_key_file: str | None = Field(default=None, description="a file that holds the key and nothing else")
    api_key_command: str | list[str] | None = Field(default=None, description="a program that prints the key")
    api_key_optional: bool = Field(default=False, description="without a key, calls are sent without one")
    headers: dict[str, str] = Field(default={}, description="${NAME} is replaced by the environment variable")
    query: dict[str, str] = {}
    limits: Limits | None = None


class AccountSpec(_Keys):
    """One key of several; what it does not say is as the provider says."""


class ProviderSpec(_Keys):
    """A provider: where it is, how it is spoken to, what it allows and what it costs."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["extends"]}, {"required": ["dialect", "base_url"]}]}
    )

    provider: str = Field(pattern=PROVIDER_NAME, description="names of models begin with it: provider/model")
    title: str | None = None
    extends: str | None = Field(default=None, description="the same as this provider but for what is said here")
    dialect: DialectName | None = None
    auth: Auth = "bearer"
    quirks: list[Quirk] = Field(default=[], description="named switches of the dialect")
    checked: LaxDate | None = Field(default=None, description="when limits and prices were last looked up")
    source: str | list[str] | None = Field(default=None, description="where they were looked up")
    accounts: dict[Annotated[str, Field(pattern=PROVIDER_NAME)], AccountSpec] = {}
    pools: dict[str, Limits] = {}
    models: dict[str, Annotated[ModelSpec, BeforeValidator(_empty_map, json_schema_input_type=ModelSpec | None)]] = {}
    simulate: Simulate | None = None


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a provider file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:agentmesh:schema:provider:1",
        **ProviderSpec.model_json_schema(by_alias=True),
        "title": "agentmesh provider",
    }

"""What a model's name stands for: one endpoint, with everything a client must know, as a frozen value."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..errors import UserError
from ..marked_yaml import did_you_mean
from ..rates import Limit, impractical, limit_name_meant, limit_names, parse_limit_name
from .environment import Secret, key_from_command, key_from_file
from .prices import Price, Prices
from .source import ProviderFile
from .spec import (
    AccountSpec,
    AuthHeader,
    AuthQuery,
    DialectName,
    Limits,
    ModelSpec,
    ProviderSpec,
    Simulate,
    Supports,
    Variable,
    limit_records,
)

__all__ = [
    "RateOverride", "ResolvedModel", "Surroundings", "accounts_of", "override_rate", "rate_scope", "resolve_endpoint",
]  # fmt: skip

_HOLE = re.compile(r"\{([A-Za-z][A-Za-z0-9_]*)\}")
_EXAMPLE = "openai/gpt-6-luna.requests_per_minute=300"
_DOLLAR = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """One endpoint: a model of an account.

    `name` is as people write it (`provider/model`), `model` as it goes over the wire. `limits` are (scope, limit), the
    scope being `account`, `pool:NAME` or `model`. `key_problem` says what is missing before calls can be sent (a key,
    a hole of the address, a variable of a header), `key_source` where the key was found. `listed` is false for a name
    that is passed through by "*"; `secrets` are what headers have of the environment. Nothing that may be secret is in
    `repr`.
    """

    name: str
    account: str
    provider: str
    model: str
    dialect: DialectName
    base_url: str = field(repr=False)
    auth: Literal["bearer"] | AuthHeader | AuthQuery
    headers: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    quirks: frozenset[str]
    limits: tuple[tuple[str, Limit], ...]
    pool: str | None
    prices: Prices
    context: int | None
    max_output: int | None
    supports: Supports
    key: Secret | None
    key_source: str | None
    key_problem: str | None
    simulate: Simulate | None
    checked: datetime.date | None
    title: str
    file: str
    listed: bool
    secrets: tuple[Secret, ...] = ()

    @property
    def simulated(self) -> bool:
        return self.simulate is not None

    def limits_of(self, scope: str) -> tuple[Limit, ...]:
        """The limits of one scope: `account`, `model`, or `pool`, which is the model's own pool."""
        wanted = f"pool:{self.pool}" if scope == "pool" else scope
        return tuple(limit for where, limit in self.limits if where == wanted)

    def request_headers(self) -> dict[str, str]:
        """The headers of every request, the key among them."""
        headers = dict(self.headers)
        if self.key is not None and self.auth == "bearer":
            headers["authorization"] = f"Bearer {self.key.reveal()}"
        elif self.key is not None and isinstance(self.auth, AuthHeader):
            headers[self.auth.header.lower()] = self.key.reveal()
        return headers

    def request_query(self) -> dict[str, str]:
        """The parameters of every request's URL, the key among them where it belongs there."""
        query = dict(self.query)
        if self.key is not None and isinstance(self.auth, AuthQuery):
            query[self.auth.query] = self.key.reveal()
        return query


class RateOverride(NamedTuple):
    """A limit set from outside: `target` is a provider, an account (`acme#team`) or a model of either.

    Where a model has the limit only by its pool, it is the pool's that is set.
    """

    target: str
    limit: str
    value: float

    def __str__(self) -> str:
        return f"{self.target}.{self.limit}={self.value:g}"


def override_rate(text: str) -> RateOverride:
    """Read `TARGET.requests_per_minute=300`. Raises UserError for anything else."""
    left, equals, number = text.rpartition("=")
    target, dot, name = left.rpartition(".")
    if not (equals and dot and target):
        raise UserError(f"'{text}' is no rate: write TARGET.requests_per_minute=300, such as {_EXAMPLE}")
    if name not in limit_names():
        meant = limit_name_meant(name)
        hint = f"did you mean '{meant}'?" if meant else did_you_mean(name, limit_names())
        raise UserError(
            f"'{name}' is no limit{f' ({hint})' if hint else ''}: write requests, tokens, input_tokens or "
            "output_tokens, each with _per_second, _per_minute, _per_hour or _per_day, or in_flight"
        )
    try:
        value = Limit(parse_limit_name(name)[0], float(number)).limit
    except ValueError:
        raise UserError(f"the limit in '{text}' must be a number above 0, not '{number}'") from None
    return RateOverride(re.sub(r"[/:]", "/", target, count=1), name, value)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a provider file refers to: the environment, the working directory, and whether keys shall be read."""

    environ: Mapping[str, str] = field(repr=False)
    folder: Path
    keys: bool = True
    overrides: tuple[RateOverride, ...] = ()


def accounts_of(spec: ProviderSpec) -> dict[str, ProviderSpec]:
    """The accounts by name; of each the provider as it is for this key."""
    if not spec.accounts:
        return {spec.provider: spec}
    if len(spec.accounts) == 1:
        return {spec.provider: _for_account(spec, next(iter(spec.accounts.values())))}
    return {f"{spec.provider}#{name}": _for_account(spec, one) for name, one in spec.accounts.items()}


def _for_account(spec: ProviderSpec, account: AccountSpec) -> ProviderSpec:
    """The provider with what the account says; one that says where its key is, does not look elsewhere."""
    said: dict[str, Any] = {name: getattr(account, name) for name in account.model_fields_set}
    if any(name.startswith("api_key_") for name in said):
        said = {"api_key_env": None, "api_key_file": None, "api_key_command": None, "api_key_optional": False} | said
    for name in ("variables", "headers", "query"):
        if name in said:
            said[name] = {**getattr(spec, name), **said[name]}
    if account.limits is not None:
        own = {name: getattr(account.limits, name) for name in account.limits.model_fields_set}
        said["limits"] = (spec.limits or Limits()).model_copy(update=own)
    return spec.model_copy(update=said)


def resolve_endpoint(
    account: str, spec: ProviderSpec, *, model: str, around: Surroundings, file: ProviderFile
) -> ResolvedModel:
    """The endpoint `model` of an account. The model is in the file, or the file passes any name through."""
    entry = spec.models.get(model) or spec.models["*"]
    base_url, url_problem = _base_url(spec, around.environ)
    headers, header_problem = _headers(spec, around.environ)
    key, key_source, key_problem = _key(spec, around)
    problems = [text for text in (key_problem, url_problem, header_problem) if text]
    assert spec.dialect is not None  # the file was checked
    return ResolvedModel(
        name=f"{account}/{model}", account=account, provider=spec.provider, model=model, dialect=spec.dialect,
        base_url=base_url, auth=spec.auth, headers=headers, query=spec.query,
        quirks=frozenset([*spec.quirks, *entry.quirks]),
        limits=_limits(account, spec, model=model, entry=entry, overrides=around.overrides), pool=entry.pool,
        prices=_prices(entry), context=entry.context, max_output=entry.max_output, supports=entry.supports,
        key=key, key_source=key_source, key_problem="; ".join(problems) or None, checked=spec.checked,
        simulate=entry.simulate.over(spec.simulate) if entry.simulate else spec.simulate,
        title=entry.title or spec.title or spec.provider, file=file.path, listed=model in spec.models,
        secrets=_secrets(spec, around.environ),
    )  # fmt: skip


def _prices(entry: ModelSpec) -> Prices:
    match entry.prices:
        case None:
            return Prices(None)
        case "free":
            return Prices(())
        case Price() as price:
            return Prices((price,))
        case prices:
            return Prices(tuple(prices))


def _limits(
    account: str, spec: ProviderSpec, *, model: str, entry: ModelSpec, overrides: Iterable[RateOverride]
) -> tuple[tuple[str, Limit], ...]:
    scopes = {"account": spec.limits, "model": entry.limits}
    if entry.pool is not None:
        scopes[f"pool:{entry.pool}"] = spec.pools[entry.pool]
    found = {(scope, limit.name): limit for scope, limits in scopes.items() for limit in limit_records(limits)}
    for override in overrides:
        scope = rate_scope(override, account, spec=spec, model=model)
        if scope is not None:
            found[scope, override.limit] = _set(found.get((scope, override.limit)), override)
    return tuple((scope, limit) for (scope, _), limit in found.items())


def rate_scope(override: RateOverride, account: str, *, spec: ProviderSpec, model: str) -> str | None:
    """Whose limit an override sets, as far as it concerns the calls of `model`; None if it does not."""
    where, slash, named = override.target.partition("/")
    if where not in (account, spec.provider):
        return None
    if not slash:
        return "account"
    entry, other = (spec.models.get(name) or spec.models.get("*") for name in (model, named))
    if entry is None or other is None:
        return None
    of_pool = getattr(spec.pools.get(other.pool or ""), override.limit, None)
    if of_pool is not None and getattr(other.limits, override.limit, None) is None:
        return f"pool:{other.pool}" if entry.pool == other.pool else None
    return "model" if named == model else None


def _set(limit: Limit | None, override: RateOverride) -> Limit:
    """A limit of the same kind with another figure; a burst that the file names changes in proportion."""
    value = override.value
    if limit is None:
        unit, window = parse_limit_name(override.limit)
        changed = Limit(unit, value, window, ceiling=True)
    else:
        burst = None if limit.burst is None else max(1.0, limit.burst * value / limit.limit)
        changed = replace(limit, limit=value, burst=burst, ceiling=True)
    if reason := impractical(changed):
        raise UserError(f"{override.limit} {reason}")
    return changed


def _base_url(spec: ProviderSpec, environ: Mapping[str, str]) -> tuple[str, str | None]:
    """The address with its holes filled, and what is missing to fill them."""
    if spec.base_url_env and environ.get(spec.base_url_env):
        return environ[spec.base_url_env].rstrip("/"), None
    missing = []

    def fill(match: re.Match[str]) -> str:
        hole = match[1]
        variable = spec.variables.get(hole, Variable(env=[f"{spec.provider}_{hole}".upper().replace("-", "_")]))
        if isinstance(variable, str):
            return variable
        value = next((environ[name] for name in variable.env or () if environ.get(name)), variable.default)
        if value is None:
            missing.append(f"base_url needs {{{hole}}}: set {_one_of(variable.env or [])}")
        return value or match[0]

    return _HOLE.sub(fill, spec.base_url or ""), "; ".join(missing) or None


def _headers(spec: ProviderSpec, environ: Mapping[str, str]) -> tuple[dict[str, str], str | None]:
    """The fixed headers with their variables filled, and which of these are not set."""
    missing = [
        f"header {name} needs {variable}, which is not set"
        for name, value in spec.headers.items()
        for variable in _DOLLAR.findall(value)
        if not environ.get(variable)
    ]
    filled = {name: _DOLLAR.sub(lambda m: environ.get(m[1], ""), value) for name, value in spec.headers.items()}
    return {name.lower(): value for name, value in filled.items()}, "; ".join(missing) or None


def _secrets(spec: ProviderSpec, environ: Mapping[str, str]) -> tuple[Secret, ...]:
    """What the headers have of the environment: it may be a key as well as the name of a team."""
    named = {variable for value in spec.headers.values() for variable in _DOLLAR.findall(value)}
    return tuple(Secret(environ[variable]) for variable in sorted(named) if environ.get(variable))


def _key(spec: ProviderSpec, around: Surroundings) -> tuple[Secret | None, str | None, str | None]:
    """The key, where it was found, and what is wrong if it was not."""
    if not around.keys:
        return None, None, None
    names = spec.api_key_env or []
    problems = []
    for name in names:
        if value := around.environ.get(name):
            return Secret(value.strip()), name, None
    if names:
        problems.append(f"{_one_of(names)} is not set" if len(names) == 1 else f"none of {_one_of(names)} is set")
    if spec.api_key_file:
        found = key_from_file(spec.api_key_file, folder=around.folder)
        if isinstance(found, Secret):
            return found, "api_key_file", None
        problems.append(found)
    if spec.api_key_command:
        found = key_from_command(spec.api_key_command, folder=around.folder, environ=around.environ)
        if isinstance(found, Secret):
            return found, "api_key_command", None
        problems.append(found)
    return None, None, None if spec.api_key_optional else "; ".join(problems) or None


def _one_of(names: Iterable[str]) -> str:
    return " or ".join(names)

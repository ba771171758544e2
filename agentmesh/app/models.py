"""The command `models`: which providers and models can be named, where each was found, what it allows and costs."""

from __future__ import annotations

import json as jsonlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

import typer
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..catalog import Catalog, Price, Prices, ProviderFile, ProviderSpec, ResolvedModel
from ..catalog.environment import read_environment
from ..catalog.resolve import accounts_of
from ..catalog.spec import limit_records
from ..errors import UserError
from ..marked_yaml import did_you_mean
from ..rates import WINDOW_SECONDS, Limit
from .options import JsonFlag, ProviderFileOption, RateOption
from .settings import Options
from .wording import clean, count

__all__ = ["models_command"]

_WINDOWS = {"second": "s", "minute": "min", "hour": "h", "day": "day"}
_WINDOW_OF = {seconds: _WINDOWS[name] for name, seconds in WINDOW_SECONDS.items()}
_PIPE_WIDTH = 10_000  # into a pipe nothing is cut


@dataclass(frozen=True, slots=True)
class _Key:
    """Where the key of an account is, in words, and whether it was found; None where finding it runs a program."""

    words: str
    found: bool | None


def models_command(
    provider: Annotated[str | None, typer.Argument(help="Only this provider.")] = None,
    json: JsonFlag = False,
    provider_file: ProviderFileOption = None,
    rate: RateOption = None,
) -> int:
    """List providers and models: where each was found, limits, prices, and whether its key is set.

    Prices are dollars per million tokens. Keys are never shown, and no program is run to find one.

    Example: agentmesh models sim
    """
    catalog = Options.load(provider_file=provider_file, rate=rate).catalog()
    environ = read_environment(Path.cwd())
    found, problems = catalog.providers()
    if provider is not None:
        found = [catalog.provider(provider)] if provider in catalog.names() else _none(provider, catalog)
        problems = []
    if json:
        listed = [_as_json(file, catalog, environ=environ) for file in found]
        typer.echo(jsonlib.dumps({"format": 1, "providers": listed}, indent=2, ensure_ascii=False))
    else:
        console = Console(highlight=False, markup=False, emoji=False)
        if not console.is_terminal:
            console.width = _PIPE_WIDTH
        for place, file in enumerate(found):
            if place:
                console.print()
            _print(console, file, catalog=catalog, environ=environ)
    for problem in problems:
        typer.echo(str(problem), err=True)
    return 2 if problems else 0


def _none(provider: str, catalog: Catalog) -> list[ProviderFile]:
    hint = did_you_mean(provider, catalog.names())
    raise UserError(
        f"no provider is called '{provider}'{f' ({hint})' if hint else ''}; known are {', '.join(catalog.names())}"
    )


# --- what there is to tell


def _key(spec: ProviderSpec, environ: Mapping[str, str]) -> _Key:
    """Where an account's key is, by names alone."""
    names = spec.api_key_env or []
    if (name := next((name for name in names if environ.get(name)), None)) is not None:
        return _Key(f"{name} is set", True)
    if spec.api_key_file is not None:
        there = Path(spec.api_key_file).expanduser().is_file()
        return _Key(f"in the file {spec.api_key_file}" + ("" if there else ", which is not there"), there)
    if spec.api_key_command is not None:
        return _Key("printed by a program, which was not run", None)
    if not names:
        return _Key("none is needed", True)
    missing = f"{names[0]} is not set" if len(names) == 1 else f"none of {', '.join(names)} is set"
    return _Key(missing + ("; it works without" if spec.api_key_optional else ""), spec.api_key_optional)


def _models(file: ProviderFile, catalog: Catalog) -> list[ResolvedModel]:
    """The models that the file lists, each at its first account: accounts differ in keys, not in models."""
    name = next(iter(accounts_of(file.spec)))
    return [catalog.resolve(f"{name}/{model}", keys=False)[0] for model in file.spec.models if model != "*"]


def _account_limits(account: str, spec: ProviderSpec, catalog: Catalog) -> Sequence[Limit]:
    """The limits of an account, with those set from outside."""
    if not spec.models:
        return limit_records(spec.limits)
    name = next(iter(spec.models))
    return catalog.resolve(f"{account}/{'any' if name == '*' else name}", keys=False)[0].limits_of("account")


def _pool_limits(pool: str, file: ProviderFile, catalog: Catalog) -> Sequence[Limit]:
    member = next((model for model in _models(file, catalog) if model.pool == pool), None)
    return member.limits_of("pool") if member is not None else limit_records(file.spec.pools[pool])


def _address(spec: ProviderSpec, environ: Mapping[str, str]) -> str:
    """The base URL without what could be a secret in it."""
    name = spec.base_url_env
    if name and environ.get(name):
        parts = urlsplit(environ[name])
        host = parts.netloc.rpartition("@")[2]
        return f"{urlunsplit((parts.scheme, host, parts.path, '', ''))}  (from {name})"
    return re.sub(r"://[^/\s]*@", "://", spec.base_url or "")


def _limit_words(limits: Sequence[Limit]) -> str:
    """`600 requests/min, 200,000 tokens/min, 64 in flight`."""
    words = []
    for limit in limits:
        unit = limit.unit.replace("_", " ")
        window = "" if limit.unit == "in_flight" else "/" + _WINDOW_OF.get(limit.window, f"{limit.window:g}s")
        figure = count(limit.limit) if limit.limit == int(limit.limit) else f"{limit.limit:g}"
        words.append(f"{figure} {unit}{window}")
    return ", ".join(words)


def _price_words(prices: Prices) -> tuple[str, str, str]:
    """Dollars per million tokens: input, cached input, output; a span where they depend on day, hour or length."""
    if not prices.known:
        return "?", "?", "?"
    entries = prices.entries or ()
    if not entries:
        return "free", "", "free"
    cached = [price.cached_input for price in entries if price.cached_input is not None]
    return _span([price.input for price in entries]), _span(cached), _span([price.output for price in entries])


def _span(numbers: Sequence[float]) -> str:
    if not numbers:
        return ""
    low, high = min(numbers), max(numbers)
    return _figure(low) if low == high else f"{_figure(low)} to {_figure(high)}"


def _figure(number: float) -> str:
    return f"{number:.2f}" if round(number, 2) == number else f"{number:g}"


# --- for people


def _print(console: Console, file: ProviderFile, *, catalog: Catalog, environ: Mapping[str, str]) -> None:
    spec = file.spec
    title = clean(spec.title or "")
    if spec.simulate is not None and "simulated" not in title.lower():
        title += " (simulated)"
    console.print(Text.assemble((spec.provider, "bold"), "  ", title), soft_wrap=True)
    for label, words, style in _facts(file, catalog, environ=environ):
        console.print(Text.assemble((f"  {label:9}", "dim"), (words, style)), soft_wrap=True)
    models = _models(file, catalog)
    if models:
        console.print(Padding(_table(models), (0, 0, 0, 2), expand=False))
    if "*" in spec.models:
        console.print(Text("  any other name is passed through; " + _passed_price(spec), "dim"), soft_wrap=True)


def _facts(file: ProviderFile, catalog: Catalog, *, environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    spec = file.spec
    yield "found", f"{file.origin}: {file.path}", ""
    yield "at", _address(spec, environ), ""
    accounts = accounts_of(spec)
    for name, account in accounts.items():
        key = _key(account, environ)
        label = "key" if len(accounts) == 1 else ""
        words = key.words if len(accounts) == 1 else f"{name}: key: {key.words}"
        yield label, words, "green" if key.found else "yellow"
        limits = _limit_words(_account_limits(name, account, catalog))
        yield "limits" if label else "", limits or "none are written down", ""
    for pool in spec.pools:
        yield "pool", f"{pool}: {_limit_words(_pool_limits(pool, file, catalog))}", ""
    if spec.checked is not None:
        yield "checked", spec.checked.isoformat(), ""


def _passed_price(spec: ProviderSpec) -> str:
    prices = spec.models["*"].prices
    return "it is free" if prices == "free" else "its price is unknown" if prices is None else "it is priced as '*'"


def _table(models: Sequence[ResolvedModel]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    table.add_column("model", overflow="fold", min_width=12)
    for title in ("context", "output", "$ in", "$ cached", "$ out"):
        table.add_column(title, justify="right")
    limited = any(model.limits_of("model") or model.pool for model in models)
    if limited:
        table.add_column("limits of its own", overflow="fold")
    for model in models:
        sizes = ["" if size is None else count(size) for size in (model.context, model.max_output)]
        cells = [model.name, *sizes, *_price_words(model.prices)]
        if limited:
            own = [_limit_words(model.limits_of("model"))] + ([f"pool {model.pool}"] if model.pool else [])
            cells.append(", ".join(word for word in own if word))
        table.add_row(*(Text(clean(cell)) for cell in cells))
    return table


# --- for programs


def _as_json(file: ProviderFile, catalog: Catalog, *, environ: Mapping[str, str]) -> dict[str, Any]:
    spec = file.spec
    accounts = []
    for name, account in accounts_of(spec).items():
        key = _key(account, environ)
        limits = [_limit_json("account", limit) for limit in _account_limits(name, account, catalog)]
        accounts.append({"account": name, "key": key.words, "key_found": key.found, "limits": limits})
    return {
        "provider": spec.provider, "title": spec.title, "origin": file.origin, "file": file.path,
        "dialect": spec.dialect, "base_url": _address(spec, environ).partition("  ")[0],
        "simulated": spec.simulate is not None, "passes_other_names": "*" in spec.models,
        "checked": spec.checked.isoformat() if spec.checked else None, "accounts": accounts,
        "models": [_model_json(model) for model in _models(file, catalog)],
    }  # fmt: skip


def _model_json(model: ResolvedModel) -> dict[str, Any]:
    entries = model.prices.entries
    return {
        "name": model.name, "context": model.context, "max_output": model.max_output, "pool": model.pool,
        "limits": [_limit_json(scope, limit) for scope, limit in model.limits if scope != "account"],
        "prices": None if entries is None else [_price_json(price) for price in entries],
        "supports": model.supports.model_dump(exclude_none=True),
    }  # fmt: skip


def _limit_json(scope: str, limit: Limit) -> dict[str, Any]:
    return {"scope": scope, "name": limit.name, "limit": limit.limit, "burst": limit.capacity, "shape": limit.shape}


def _price_json(price: Price) -> dict[str, Any]:
    return price.model_dump(mode="json", by_alias=True, exclude_none=True)

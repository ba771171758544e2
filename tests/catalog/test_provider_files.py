"""The shape of provider files: what is refused and in which words, what is extended, and the shipped ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from agentmesh.catalog import Catalog, json_schema
from agentmesh.catalog.spec import DialectName
from agentmesh.dialects import DIALECTS
from agentmesh.errors import InputProblems, UserError
from agentmesh.rates import Limit

HEAD = "provider: acme\ndialect: openai-chat\nbase_url: https://api.acme.example/v1\n"


def catalog(tmp_path: Path, *texts: str, environ: dict[str, str] | None = None) -> Catalog:
    """A catalogue of these files alone, beside the shipped ones; the files are `0.yaml`, `1.yaml`, ..."""
    folder = tmp_path / "providers"
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"{number}.yaml").write_text(text, encoding="utf-8")
    return Catalog.load(project=tmp_path, user_dir=tmp_path / "user", environ=environ or {})


BAD = [
    (HEAD + "modles: {}", "4:1: modles: unknown key (did you mean 'models'?)"),
    ("provider: acme\nbase_url: https://a", "1:1: dialect is missing"),
    ("provider: acme\ndialect: openai-chat", "1:1: base_url is missing"),
    (
        "provider: acme\ndialect: openai\nbase_url: https://a",
        "2:10: dialect: must be openai-chat or anthropic, not 'openai' (did you mean 'openai-chat'?)",
    ),
    (
        "provider: acme\ndialect: openai-chat\nbase_url: api.acme.example",
        "3:11: base_url: must begin with http:// or https://",
    ),
    (
        HEAD + "limits: {request_per_minute: 5}",
        "4:10: limits.request_per_minute: unknown key (did you mean 'requests_per_minute'?)",
    ),
    (HEAD + "limits: {requests_per_minute: 0}", "4:31: limits.requests_per_minute: must be above 0, not 0"),
    (
        HEAD + "limits: {requests_per_minute: many}",
        "4:31: limits.requests_per_minute: must be a number or a map, not 'many'",
    ),
    (
        HEAD + "limits: {in_flight: {limit: 5, shape: buckt}}",
        "4:39: limits.in_flight.shape: must be bucket, fixed or sliding, not 'buckt' (did you mean 'bucket'?)",
    ),
    (
        HEAD + "limits: {requests_per_minute: {burst: 5}}",
        "4:10: limits.requests_per_minute: limit is missing",
    ),
    (
        HEAD + "limits: {in_flight: {limit: 5, burst: 2}}",
        "4:21: limits.in_flight: is a number of calls at once: it has no burst, shape, reserves or settles",
    ),
    (HEAD + "limits: {in_flight: 2.5}", "4:21: limits.in_flight: must be a whole number of calls, not 2.5"),
    (HEAD + "limits: {in_flight: 0.5}", "4:21: limits.in_flight: must be a whole number of calls, not 0.5"),
    (HEAD + "limits: {requests_per_minute: -5}", "4:31: limits.requests_per_minute: must be above 0, not -5"),
    (
        HEAD + "limits: {requests_per_minute: 1e400}",
        "4:31: limits.requests_per_minute: must be a finite number, not inf",
    ),
    (
        HEAD + "limits: {requests_per_minute: 1e300}",
        ("4:31: limits.requests_per_minute: must be at most 1,000,000,000,000, not 1e+300: leave out a limit that "
         "there is not"),
    ),
    (
        HEAD + "limits: {requests_per_minute: 1e-9}",
        "4:31: limits.requests_per_minute: must let something through in a year, not 1e-09",
    ),
    (
        HEAD + "limits: {requests_per_day: 0.5}",
        ("4:28: limits.requests_per_day: must be at least 1, not 0.5: nothing fits into less than one, write it for a "
        "longer window"),
    ),
    (
        HEAD + "limits: {requests_per_minute: true}",
        "4:31: limits.requests_per_minute: must be a number or a map, not true",
    ),
    (
        HEAD + "limits: {tokens_per_minute: {limit: {limit: 5}}}",
        "4:37: limits.tokens_per_minute.limit: must be a number, not a map",
    ),
    (
        HEAD + "limits: {tokens_per_minute: {limit: 5, burst: 0.5}}",
        "4:47: limits.tokens_per_minute.burst: must be at least 1, not 0.5",
    ),
    (
        HEAD + "limits: {tokens_per_day: {limit: 5, burst: 2, shape: fixed}}",
        ("4:26: limits.tokens_per_day: must have no burst, which only buckets have: a fixed window lets all of it "
         "go at once"),
    ),
    (
        HEAD + "limits: {requests_per_minute: {limit: 5, reserves: sum}}",
        ("4:31: limits.requests_per_minute: counts requests, one by one: only limits of tokens have reserves and "
        "settles"),
    ),
    (HEAD + "limits: {rpm: 5}", "4:9: limits: 'rpm' is no limit here (did you mean 'requests_per_minute'?)"),
    (
        HEAD + "models: {a: {limits: {itpd: 5}}}",
        "4:22: models.a.limits: 'itpd' is no limit here (did you mean 'input_tokens_per_day'?)",
    ),
    (
        HEAD + "pools: {p: {max_concurrency: 5}}",
        "4:12: pools.p: 'max_concurrency' is no limit here (did you mean 'in_flight'?)",
    ),
    (
        HEAD + "limits: {tokens_per_week: 5}",
        "4:10: limits.tokens_per_week: unknown key (did you mean 'tokens_per_day'?)",
    ),
    (
        HEAD + "pools: {big: {tokens_per_minute: 5}}\nmodels:\n  a: {pool: bigg}",
        "6:13: models.a.pool: no pool is called 'bigg' (did you mean 'big'?)",
    ),
    (HEAD + "models:\n  a: {prices: {input: 1}}", "5:7: models.a.prices: output is missing"),
    (
        HEAD + "models:\n  a: {prices: fre}",
        "5:15: models.a.prices: must be free, a map or a list, not 'fre' (did you mean 'free'?)",
    ),
    (
        HEAD + "models:\n  a:\n    prices:\n      - {input: 1, output: 2, hours_utc: 25:00-26:00}",
        "7:42: models.a.prices[0].hours_utc: must be hours such as 01:00-04:00, not '25:00-26:00'",
    ),
    (
        HEAD + "models:\n  a:\n    prices:\n      - {input: 1, output: 2, from: 2027-01-02, until: 2027-01-01}",
        "7:9: models.a.prices[0]: from is later than until",
    ),
    (HEAD + "models:\n  a: {context: big}", "5:16: models.a.context: must be a whole number, not 'big'"),
    (HEAD + "auth: sk-planted-1234", "4:7: auth: must be bearer, {header: NAME} or {query: NAME}"),
    (
        HEAD + "api_key_env: sk-planted-1234",
        "4:14: api_key_env: must be the name of an environment variable in capitals, never a key itself",
    ),
    (HEAD + "checked: lately", "4:10: checked: must be a date such as 2026-11-20, not 'lately'"),
    (HEAD + "extends: nobody", "4:10: extends: no provider is called 'nobody'"),
    (HEAD + "extends: acme", "4:10: extends: no provider is called 'acme' in a later place"),
    (
        HEAD + "simulate: {failures: {'500': 0.7, drop: 0.7}}",
        "4:11: simulate: the shares of failures add up to more than 1",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD)
def test_mistakes_are_told_with_place_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    found = catalog(tmp_path, text)
    with pytest.raises(InputProblems) as caught:
        found.provider("acme")
    assert str(caught.value).replace(str(tmp_path / "providers" / "0.yaml") + ":", "") == message
    assert "planted" not in str(caught.value)


def test_every_key_of_the_language_is_read(tmp_path: Path) -> None:
    text = """
provider: acme
title: Acme AI
dialect: openai-chat
base_url: https://{region}.acme.example/v1/
base_url_env: ACME_BASE_URL
api_key_env: [ACME_API_KEY, ACME_KEY]
auth: {header: api-key}
headers: {x-team: "${ACME_TEAM}-9"}
query: {api-version: "2026-05-01"}
variables: {region: eu}
quirks: [no_stream_usage]
checked: 2026-11-20
source: [https://acme.example/prices]
limits:
  requests_per_minute: 600
  tokens_per_minute: {limit: 200000, burst: 30000, shape: bucket, reserves: sum, settles: actual, debt: false}
  in_flight: 64
pools: {large: {output_tokens_per_minute: 50000}}
models:
  acme-large: {context: 200000, max_output: 32000, pool: large, supports: {tools: true}, quirks: [no_sampling],
    prices: {input: 1.25, cached_input: 0.125, output: 10.00}}
  acme-small: {limits: {requests_per_day: 20000}, prices: {input: 0.10, output: 0.40}}
  "*":
"""
    found = catalog(tmp_path, text, environ={"ACME_KEY": "k1", "ACME_TEAM": "seven"})
    [large] = found.resolve("acme/acme-large")
    assert (large.name, large.account, large.model) == ("acme/acme-large", "acme", "acme-large")
    assert large.base_url == "https://eu.acme.example/v1"
    assert large.request_headers() == {"x-team": "seven-9", "api-key": "k1"}
    assert large.request_query() == {"api-version": "2026-05-01"}
    assert large.quirks == {"no_stream_usage", "no_sampling"}
    assert (large.key_source, large.key_problem) == ("ACME_KEY", None)
    assert large.limits == (
        ("account", Limit("in_flight", 64, 1.0)),
        ("account", Limit("requests", 600)),
        ("account", Limit("tokens", 200000, burst=30000, debt=False)),
        ("pool:large", Limit("output_tokens", 50000)),
    )
    assert large.limits_of("pool") == (Limit("output_tokens", 50000),)
    [small] = found.resolve("acme:acme-small")
    assert small.limits_of("model") == (Limit("requests", 20000, 86400.0),)
    [other] = found.resolve("acme/org/other")
    assert (other.model, other.listed, other.prices.known) == ("org/other", False, False)


def test_extends_is_the_same_but_for_what_it_says(tmp_path: Path) -> None:
    base = HEAD + (
        "title: Acme\napi_key_env: ACME_API_KEY\nauth: {header: x-key}\nheaders: {a: '1', b: '2'}\n"
        "limits: {requests_per_minute: 600, in_flight: 4}\n"
        "models:\n  one: {context: 5, prices: {input: 1, cached_input: 0.5, output: 2}}\n  two: {}\n"
    )
    child = (
        "provider: child\nextends: acme\nauth: {query: key}\nheaders: {b: '3'}\nlimits: {in_flight: }\n"
        "api_key_file: ~/none\nmodels:\n  one: {prices: {input: 3, output: 4}}\n  two:\n"
    )
    [one] = catalog(tmp_path, base, child).resolve("child/one", keys=False)
    assert one.base_url == "https://api.acme.example/v1"
    assert one.headers == {"a": "1", "b": "3"}
    assert one.request_query() == {}
    assert one.limits == (("account", Limit("requests", 600)),)
    assert (one.context, one.title) == (5, "child")
    assert one.prices.highest(1_000_000, 0) == 3.0
    assert catalog(tmp_path).provider("child").spec.api_key_env is None
    with pytest.raises(UserError, match="child has no model called 'two'"):
        catalog(tmp_path).resolve("child/two")


def test_a_file_may_extend_its_own_name_of_a_later_place(tmp_path: Path) -> None:
    found = catalog(tmp_path, "provider: sim\nextends: sim\nlimits: {requests_per_minute: 7}\n")
    [large] = found.resolve("sim/large")
    assert found.provider("sim").origin == "project"
    assert large.limits_of("account") == (Limit("requests", 7),)
    assert large.limits_of("model")


def test_a_circle_of_extends_is_told(tmp_path: Path) -> None:
    found = catalog(tmp_path, "provider: a\nextends: b\n", "provider: b\nextends: a\n")
    with pytest.raises(InputProblems, match=r"1\.yaml:2:10: extends: a extends this provider in turn"):
        found.provider("a")


def test_mistakes_of_a_base_are_told_in_its_own_file(tmp_path: Path) -> None:
    found = catalog(tmp_path, HEAD + "limits: 5", "provider: child\nextends: acme\n")
    with pytest.raises(InputProblems, match=r"0\.yaml:4:9: limits: must be a map, not 5"):
        found.provider("child")


SHIPPED = ["anthropic", "groq", "ollama", "openai", "openrouter", "sim", "vllm"]


def test_the_shipped_files_load(tmp_path: Path) -> None:
    found, problems = catalog(tmp_path).providers()
    assert problems == []
    assert [file.spec.provider for file in found] == SHIPPED
    assert {file.origin for file in found} == {"shipped"}


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "sim"])
def test_real_providers_say_when_they_were_checked(tmp_path: Path, name: str) -> None:
    spec = catalog(tmp_path).provider(name).spec
    assert spec.checked is not None
    assert spec.source
    assert "*" in spec.models
    assert spec.base_url is not None
    assert "localhost" in spec.base_url or spec.api_key_env


def test_dialects_and_quirks_of_the_shipped_files_exist(tmp_path: Path) -> None:
    assert set(get_args(DialectName)) == set(DIALECTS)
    for file in catalog(tmp_path).providers()[0]:
        known = DIALECTS[str(file.spec.dialect)].known_quirks
        used = {*file.spec.quirks, *(quirk for model in file.spec.models.values() for quirk in model.quirks)}
        assert used <= set(known)


def test_the_simulated_provider_needs_nothing(tmp_path: Path) -> None:
    [large] = catalog(tmp_path).resolve("sim/large")
    [small] = catalog(tmp_path).resolve("sim/small")
    assert large.base_url == "inprocess://sim"
    assert large.key_problem is None
    assert large.simulated
    assert "simulated" in large.title.lower()
    assert large.simulate is not None
    assert small.simulate is not None
    assert large.simulate.skill > small.simulate.skill
    assert small.simulate.latency.per_token == large.simulate.latency.per_token
    assert sum(large.simulate.failures.values()) == 0.0


def forms(schema: dict[str, Any]) -> set[str]:
    """The types, and the names of the definitions, that a schema allows."""
    if "anyOf" in schema:
        return {form for branch in schema["anyOf"] for form in forms(branch)}
    return {schema.get("type") or schema["$ref"].rpartition("/")[2]}


def test_the_schema_knows_short_forms() -> None:
    schema: dict[str, Any] = json_schema()
    assert schema["title"] == "agentmesh provider"
    json.dumps(schema)
    limits = schema["$defs"]["Limits"]
    assert limits["additionalProperties"] is False
    assert {"number", "null", "LimitSpec"} <= forms(limits["properties"]["requests_per_minute"])
    assert {"string", "array"} <= forms(schema["properties"]["api_key_env"])
    assert {"string", "array"} <= forms(schema["$defs"]["Price"]["properties"]["hours_utc"])
    assert {"null", "ModelSpec"} <= forms(schema["properties"]["models"]["additionalProperties"])
    assert "from" in schema["$defs"]["Price"]["properties"]
    assert schema["anyOf"] == [{"required": ["extends"]}, {"required": ["dialect", "base_url"]}]

"""What names stand for: search order, accounts, keys, holes, limits set from outside; and that keys stay hidden."""

from __future__ import annotations

import pickle
import sys
import traceback
from pathlib import Path

import pytest

from agentmesh.catalog import Catalog, RateOverride, Secret, override_rate
from agentmesh.catalog.environment import parse_dotenv
from agentmesh.errors import InputProblems, UserError
from agentmesh.rates import Limit

HEAD = "provider: acme\ndialect: openai-chat\nbase_url: https://api.acme.example/v1\n"
KEY = "sk-planted-0123456789"


def load(tmp_path: Path, text: str, **environ: str) -> Catalog:
    folder = tmp_path / "providers"
    folder.mkdir(exist_ok=True)
    (folder / "acme.yaml").write_text(text, encoding="utf-8")
    return Catalog.load(project=tmp_path, user_dir=tmp_path / "user", environ=environ)


def test_the_first_place_wins_and_broken_neighbours_stop_nobody(tmp_path: Path) -> None:
    for where, title in (("named", "N"), ("providers", "P"), ("user", "U")):
        (tmp_path / where).mkdir()
        (tmp_path / where / "x.yaml").write_text(HEAD.replace("acme\n", f"{title.lower()}\n"), encoding="utf-8")
        (tmp_path / where / "openai.yaml").write_text(HEAD.replace("acme\n", f"openai\ntitle: {title}\n"))
    (tmp_path / "providers" / "broken.yaml").write_text("provider: broken\na: [", encoding="utf-8")

    def found_title(*files: str) -> str | None:
        found = Catalog.load([tmp_path / f for f in files], tmp_path, user_dir=tmp_path / "user", environ={})
        return found.provider("openai").spec.title

    assert found_title("named") == "N"
    assert found_title("named/openai.yaml") == "N"
    assert found_title("named/x.yaml") == "P"
    (tmp_path / "providers" / "openai.yaml").unlink()
    assert found_title() == "U"
    (tmp_path / "user" / "openai.yaml").unlink()
    assert found_title() == "OpenAI"
    found, problems = Catalog.load(project=tmp_path, user_dir=tmp_path / "user", environ={}).providers()
    assert {"p", "u", "openai"} <= {file.spec.provider for file in found}
    assert [problem.line for problem in problems] == [2]


def test_a_file_that_was_named_is_never_passed_over(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("title: Mine\n", encoding="utf-8")
    with pytest.raises(InputProblems, match="provider is missing"):
        Catalog.load([tmp_path / "mine.yaml"], tmp_path, user_dir=tmp_path, environ={})
    with pytest.raises(UserError, match=r"--provider-file .*gone\.yaml: there is no such file"):
        Catalog.load([tmp_path / "gone.yaml"], tmp_path, user_dir=tmp_path, environ={})


def test_two_files_for_one_provider_in_one_place_are_refused(tmp_path: Path) -> None:
    load(tmp_path, HEAD)
    (tmp_path / "providers" / "other.yaml").write_text(HEAD, encoding="utf-8")
    found = Catalog.load(project=tmp_path, user_dir=tmp_path / "user", environ={})
    with pytest.raises(UserError, match=r"provider acme is described twice: in .*acme\.yaml and in .*other\.yaml"):
        found.provider("acme")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("acm/a", r"no provider is called 'acm' \(did you mean 'acme'\?\); searched .*providers, .*user and what is"),
        ("acme/larg", r"acme has no model called 'larg' \(did you mean 'large'\?\); .*acme\.yaml has large, small"),
        ("acme/*", r"acme has no model called '\*'"),
        ("acme/", "acme has no model called ''"),
        ("acme", "'acme' names no model: write provider/model, such as acme/large"),
        ("gpt-5", "'gpt-5' names no model: write provider/model, such as sim/large"),
        ("acme#team/large", "no account is called 'acme#team'"),
    ],
)
def test_unknown_names_are_told_with_what_is_near(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(tmp_path, HEAD + "models: {large: {}, small: {}}").resolve(name)


def test_accounts_are_endpoints_of_their_own(tmp_path: Path) -> None:
    text = HEAD + (
        "api_key_env: SHARED\nheaders: {a: '1'}\nlimits: {requests_per_minute: 60, in_flight: 5}\nmodels: {large: {}}\n"
        "accounts:\n  one: {api_key_env: KEY_ONE}\n"
        "  two: {base_url: 'https://eu.acme.example', headers: {b: '2'}, limits: {requests_per_minute: 30}}\n"
    )
    one, two = load(tmp_path, text, KEY_ONE="k1", SHARED="k2").resolve("acme/large")
    assert (one.account, one.name) == ("acme#one", "acme#one/large")
    assert one.request_headers() == {"a": "1", "authorization": "Bearer k1"}
    assert two.request_headers() == {"a": "1", "b": "2", "authorization": "Bearer k2"}
    assert two.base_url == "https://eu.acme.example"
    assert [limit.limit for limit in two.limits_of("account")] == [5, 30]
    assert load(tmp_path, text).resolve("acme#two/large", keys=False) != []
    assert [m.account for m in load(tmp_path, text).resolve("acme#two/large")] == ["acme#two"]
    [single] = load(tmp_path, HEAD + "models: {large: {}}\naccounts: {one: {api_key_env: KEY_ONE}}").resolve(
        "acme/large"
    )
    assert (single.account, single.key_problem) == ("acme", "KEY_ONE is not set")


KEYS = [
    ("", None, None),
    ("api_key_env: A_KEY", None, "A_KEY is not set"),
    ("api_key_env: [A_KEY, B_KEY]", None, "none of A_KEY or B_KEY is set"),
    ("api_key_env: EMPTY", None, "EMPTY is not set"),
    ("api_key_env: A_KEY\napi_key_optional: true", None, None),
    ("api_key_env: [A_KEY, PLANTED]", "PLANTED", None),
    ("api_key_env: FROM_DOTENV", "FROM_DOTENV", None),
    ("api_key_file: key.txt", "api_key_file", None),
    ("api_key_env: A_KEY\napi_key_file: key.txt", "api_key_file", None),
    ("api_key_file: gone.txt", None, "api_key_file gone.txt: there is no such file"),
    ("api_key_file: two.txt", None, "api_key_file two.txt: it does not hold one line with a key"),
    (f"api_key_command: ['{sys.executable}', -c, 'print(\"{KEY}\")']", "api_key_command", None),
    (f"api_key_command: ['{sys.executable}', -c, 'print(\"{KEY}\"); exit(3)']", None, "api_key_command exited with 3"),
    ("api_key_command: no-such-program-here", None, "api_key_command cannot be run: FileNotFoundError"),
    ("headers: {x-team: '${TEAM}'}", None, "header x-team needs TEAM, which is not set"),
]


@pytest.mark.parametrize(("text", "source", "problem"), KEYS)
def test_where_keys_are_found_and_what_is_missing(
    tmp_path: Path, text: str, source: str | None, problem: str | None
) -> None:
    (tmp_path / "key.txt").write_text(KEY + "\n", encoding="utf-8")
    (tmp_path / "two.txt").write_text(f"{KEY}\n{KEY}\n", encoding="utf-8")
    (tmp_path / ".env").write_text(f"FROM_DOTENV='{KEY}'\nPLANTED=not-this\n", encoding="utf-8")
    [model] = load(tmp_path, HEAD + text + "\nmodels: {large: {}}", PLANTED=KEY, EMPTY="").resolve("acme/large")
    assert (model.key_source, model.key_problem) == (source, problem)
    assert (model.key.reveal() if model.key else None) == (KEY if source else None)
    assert KEY not in f"{model!r} {model} {model.key!r} {model.key} {model.key_problem}"


def test_keys_are_not_read_when_nobody_asks(tmp_path: Path) -> None:
    text = HEAD + "api_key_command: no-such-program-here\nmodels: {large: {}}"
    [model] = load(tmp_path, text).resolve("acme/large", keys=False)
    assert (model.key, model.key_problem) == (None, None)


def test_a_secret_shows_itself_to_nobody(tmp_path: Path) -> None:
    secret = Secret(KEY)
    assert KEY not in f"{secret} {secret!r} {secret!s} {[secret]} {dir(secret)}"
    assert (secret == Secret(KEY), secret == Secret("other"), secret == KEY) == (True, False, False)
    with pytest.raises(TypeError, match="not written"):
        pickle.dumps(secret)
    found = load(tmp_path, HEAD + "api_key_env: PLANTED\nauth: {query: key}\nmodels: {large: {}}", PLANTED=KEY)
    [model] = found.resolve("acme/large")
    assert model.request_query() == {"key": KEY}
    try:
        found.resolve("acme/larg")
    except UserError as error:
        told = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        assert "larg" in told
        assert KEY not in told
    else:
        pytest.fail("the name is unknown")


def test_holes_of_the_address_are_filled(tmp_path: Path) -> None:
    text = "provider: acme\ndialect: openai-chat\nbase_url: https://{region}.acme.example/{kind}\nmodels: {a: {}}\n"

    def url(more: str = "", **environ: str) -> tuple[str, str | None]:
        [model] = load(tmp_path, text + more, **environ).resolve("acme/a")
        return model.base_url, model.key_problem

    assert url("variables: {region: eu, kind: v1}") == ("https://eu.acme.example/v1", None)
    assert url(ACME_REGION="us", ACME_KIND="v2") == ("https://us.acme.example/v2", None)
    variables = "variables: {kind: v1, region: {env: [AWS_REGION, OTHER], default: us}}"
    assert url(variables) == ("https://us.acme.example/v1", None)
    assert url(variables, OTHER="ap") == ("https://ap.acme.example/v1", None)
    assert url("variables: {kind: v1}")[1] == "base_url needs {region}: set ACME_REGION"
    assert url("base_url_env: URL", URL="http://localhost:1/") == ("http://localhost:1", None)


def test_dotenv_lines() -> None:
    text = (
        '# a remark\nexport A=1\nB = two words # remark\nC="x \\"y\\" # z\\n" # remark\nD=\'$raw # \\n\'\n'
        "E=\nF=a#b\nnot a line\n1X=2\r\nG=#all\n"
    )
    assert parse_dotenv(text) == {
        "A": "1", "B": "two words", "C": 'x "y" # z\n', "D": "$raw # \\n", "E": "", "F": "a#b", "G": "",
    }  # fmt: skip


RATES = [
    ("openai.requests_per_minute=300", RateOverride("openai", "requests_per_minute", 300.0)),
    ("openai/gpt-6.1-sol.tokens_per_day=1e6", RateOverride("openai/gpt-6.1-sol", "tokens_per_day", 1e6)),
    ("groq:openai/gpt-oss.in_flight=4", RateOverride("groq/openai/gpt-oss", "in_flight", 4.0)),
]


@pytest.mark.parametrize(("text", "expected"), RATES)
def test_rates_are_read(text: str, expected: RateOverride) -> None:
    assert override_rate(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("openai", "'openai' is no rate: write TARGET.requests_per_minute=300, such as openai/gpt-6-luna"),
        ("requests_per_minute=3", "'requests_per_minute=3' is no rate: write TARGET.requests_per_minute=300"),
        ("", "'' is no rate"),
        (".in_flight=3", "is no rate"),
        ("openai.requests_per_minute", "is no rate"),
        ("openai.rpm=3", r"'rpm' is no limit \(did you mean 'requests_per_minute'\?\): write requests, tokens"),
        ("openai.=3", "'' is no limit: write"),
        ("openai.in_flight=", "must be a number above 0, not ''"),
        ("openai.in_flight=1e400", "must be a number above 0, not '1e400'"),
        ("openai.in_flight=true", "must be a number above 0, not 'true'"),
        ("openai.request_per_minute=3", r"'request_per_minute' is no limit \(did you mean 'requests_per_minute'\?\)"),
        ("openai.in_flight=lots", "the limit in 'openai.in_flight=lots' must be a number above 0"),
        ("openai.in_flight=-1", "must be a number above 0"),
        ("openai.in_flight=nan", "must be a number above 0"),
    ],
)
def test_bad_rates_are_told(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        override_rate(text)


def test_limits_set_from_outside(tmp_path: Path) -> None:
    text = HEAD + (
        "limits: {requests_per_minute: 60}\nmodels:\n  large:\n    limits:\n"
        "      tokens_per_minute: {limit: 1000, burst: 100, reserves: max}\n  small: {}\n"
    )
    before = load(tmp_path, text)
    rates = ["acme.requests_per_minute=6", "acme/large.tokens_per_minute=500", "acme/small.in_flight=2"]
    after = before.with_rates([override_rate(rate) for rate in rates])
    [large], [small] = after.resolve("acme/large"), after.resolve("acme/small")
    assert large.limits == (
        ("account", Limit("requests", 6, ceiling=True)),
        ("model", Limit("tokens", 500, burst=50, reserves="max", ceiling=True)),
    )
    assert small.limits == (
        ("account", Limit("requests", 6, ceiling=True)),
        ("model", Limit("in_flight", 2, 1.0, ceiling=True)),
    )
    assert before.resolve("acme/small")[0].limits == (("account", Limit("requests", 60)),)
    for target in ("nobody", "acme/nothing", "acme#nobody"):
        with pytest.raises(UserError):
            before.with_rates([RateOverride(target, "in_flight", 1.0)])


def test_a_rate_of_a_model_is_that_of_its_pool_where_the_pool_has_the_limit(tmp_path: Path) -> None:
    text = HEAD + (
        "pools: {big: {requests_per_minute: 60, tokens_per_minute: 900}}\nmodels:\n"
        "  one: {pool: big}\n  two: {pool: big, limits: {tokens_per_minute: 500}}\n  other: {}\n"
    )
    rates = ["acme/one.requests_per_minute=6", "acme/two.tokens_per_minute=5", "acme/one.in_flight=2"]
    after = load(tmp_path, text).with_rates([override_rate(rate) for rate in rates])
    found = {name: after.resolve(f"acme/{name}")[0].limits for name in ("one", "two", "other")}
    pool = (
        ("pool:big", Limit("requests", 6, ceiling=True)),
        ("pool:big", Limit("tokens", 900)),
    )
    assert found["one"] == (*pool, ("model", Limit("in_flight", 2, 1.0, ceiling=True)))
    assert set(found["two"]) == {*pool, ("model", Limit("tokens", 5, ceiling=True))}
    assert found["other"] == ()


def test_the_last_rate_of_a_limit_holds(tmp_path: Path) -> None:
    rates = [override_rate(f"acme.requests_per_day={figure}") for figure in (5, 7)]
    [model] = load(tmp_path, HEAD + "models: {'*': }").with_rates(rates).resolve("acme/any")
    assert model.limits == (("account", Limit("requests", 7, 86400.0, shape="sliding", ceiling=True)),)


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        ("acm.in_flight=3", r"the rate acm\.in_flight=3: no provider is called 'acm' \(did you mean 'acme'\?\)"),
        ("acme/smal.in_flight=3", r"the rate acme/smal\.in_flight=3: acme has no model called 'smal' \(did you mean"),
        ("acme#one.in_flight=3", "the rate acme#one.in_flight=3: no account is called 'acme#one'"),
        ("acme/.in_flight=3", "acme has no model called ''"),
        ("acme.in_flight=0.5", "the rate acme.in_flight=0.5: in_flight must be a whole number of calls, not 0.5"),
        ("acme.requests_per_day=0.5", "requests_per_day must be at least 1, not 0.5"),
        ("acme/small.requests_per_minute=0.5", "requests_per_minute must be at least 1, not 0.5"),
        ("acme.requests_per_hour=1e300", "requests_per_hour must be at most 1,000,000,000,000"),
    ],
)
def test_rates_that_make_no_sense_are_told_before_they_are_used(tmp_path: Path, rate: str, message: str) -> None:
    text = HEAD + "models: {small: {limits: {requests_per_minute: {limit: 9, shape: sliding}}}}"
    with pytest.raises(UserError, match=message):
        load(tmp_path, text).with_rates([override_rate(rate)])


def test_a_rate_for_a_model_that_does_not_exist_beside_one_that_does(tmp_path: Path) -> None:
    catalog = Catalog.load(project=tmp_path, environ={})
    rates = [override_rate(f"sim/{name}.in_flight=1") for name in ("small", "smol")]
    with pytest.raises(UserError, match=r"the rate sim/smol\.in_flight=1: sim has no model called 'smol'"):
        catalog.with_rates(rates)


def test_keys_that_are_known_are_not_read_again_for_another_rate(tmp_path: Path) -> None:
    file = tmp_path / "acme.yaml"
    file.write_text(
        "provider: acme\ndialect: openai-chat\nbase_url: https://acme.invalid/v1\n"
        "api_key_command: 'date +%N'\nmodels: {m: {}}\n"
    )
    catalog = Catalog.load([file], project=tmp_path, environ={})
    (before,) = catalog.resolve("acme/m")
    changed = catalog.with_rates([override_rate("acme.in_flight=3")])
    assert changed.has_resolved("acme/m")
    (after,) = changed.resolve("acme/m")
    assert after.key == before.key
    assert [limit.limit for _, limit in after.limits] == [3]

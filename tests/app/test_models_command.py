"""The command `models`: what it tells of providers, and that it tells no key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentmesh.app.cli import main

ACME = """
provider: acme
title: Acme AI
dialect: openai-chat
base_url: https://api.acme.example/v1
base_url_env: ACME_BASE_URL
api_key_env: ACME_API_KEY
checked: 2026-11-20
limits: {requests_per_minute: 600, tokens_per_minute: 200000, in_flight: 64}
pools: {large: {output_tokens_per_minute: 50000}}
models:
  acme-large: {context: 200000, max_output: 32000, pool: large, prices: {input: 1.25, cached_input: 0.125, output: 10.00}}
  acme-small: {limits: {requests_per_day: 20000}, prices: [{input: 0.10, output: 0.40}, {above_input: 9000, input: 0.20, output: 0.40}]}
  acme-free: {prices: free}
  "*": {}
"""  # noqa: E501
SECRET = "sk-very-secret"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "providers").mkdir()
    (tmp_path / "providers" / "acme.yaml").write_text(ACME)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("ACME_API_KEY", "ACME_BASE_URL", "AGENTMESH_PROVIDER_FILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_what_is_told_of_a_provider(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "acme"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:7] == [
        "acme  Acme AI",
        f"  found    project: {project / 'providers' / 'acme.yaml'}",
        "  at       https://api.acme.example/v1",
        "  key      ACME_API_KEY is not set",
        "  limits   64 in flight, 600 requests/min, 200,000 tokens/min",
        "  pool     large: 50,000 output tokens/min",
        "  checked  2026-11-20",
    ]
    table = {line.split()[0]: line.split() for line in lines[9:]}
    assert table["acme/acme-large"] == [
        "acme/acme-large",
        "200,000",
        "32,000",
        "1.25",
        "0.125",
        "10.00",
        "pool",
        "large",
    ]
    assert table["acme/acme-small"] == ["acme/acme-small", "0.10", "to", "0.20", "0.40", "20,000", "requests/day"]
    assert table["acme/acme-free"] == ["acme/acme-free", "free", "free"]
    assert lines[-1] == "  any other name is passed through; its price is unknown"


def test_a_key_is_told_by_its_variable_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ACME_API_KEY", SECRET)
    monkeypatch.setenv("ACME_BASE_URL", f"https://user:{SECRET}@proxy.example/v1?token={SECRET}")
    for arguments in (["models", "acme"], ["models", "acme", "--json"]):
        assert main(arguments) == 0
        text = capsys.readouterr().out
        assert "ACME_API_KEY is set" in text
        assert "https://proxy.example/v1" in text
        assert SECRET not in text


def test_no_program_is_run_to_find_a_key(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = ACME.replace("api_key_env: ACME_API_KEY", "api_key_command: touch was-run")
    (project / "providers" / "acme.yaml").write_text(text)
    assert main(["models"]) == 0
    assert "  key      printed by a program, which was not run\n" in capsys.readouterr().out
    assert not (project / "was-run").exists()


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "acme", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["format"] == 1
    (acme,) = found["providers"]
    assert acme["accounts"][0]["key_found"] is False
    assert [model["name"] for model in acme["models"]] == ["acme/acme-large", "acme/acme-small", "acme/acme-free"]
    assert acme["models"][0]["limits"] == [
        {
            "scope": "pool:large",
            "name": "output_tokens_per_minute",
            "limit": 50000,
            "burst": 50000 / 6,
            "shape": "bucket",
        }
    ]
    assert acme["models"][2]["prices"] == []


def test_a_provider_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "acmee"]) == 2
    assert capsys.readouterr().err.startswith("no provider is called 'acmee' (did you mean 'acme'?); known are ")


def test_a_broken_file_hides_no_other(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "providers" / "broken.yaml").write_text("provider: broken\nbase_ulr: x\n")
    assert main(["models"]) == 2
    out, err = capsys.readouterr()
    assert "acme  Acme AI" in out
    assert "broken.yaml:2" in err


def test_an_account_for_each_key(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    accounts = "accounts: {one: {api_key_env: ACME_ONE}, two: {api_key_file: key.txt}}"
    (project / "providers" / "acme.yaml").write_text(ACME.replace("api_key_env: ACME_API_KEY", accounts))
    (project / "key.txt").write_text(SECRET)
    assert main(["models", "acme"]) == 0
    text = capsys.readouterr().out
    assert "acme#one: key: ACME_ONE is not set" in text
    assert "acme#two: key: in the file key.txt\n" in text
    assert SECRET not in text


@pytest.mark.parametrize(("kind", "key"), [("provider", "base_url"), ("workflow", "tasks")])
def test_the_schema_of_files(kind: str, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", kind]) == 0
    assert key in json.loads(capsys.readouterr().out)["properties"]

"""`agentmesh perf admission`: what one admission costs at a small scale, its verdicts, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentmesh.app.perf import admission
from agentmesh.app.perf.admission import SCENARIOS, Cost, Parts, Scenario, measure
from agentmesh.app.perf.cli import app
from agentmesh.errors import UserError


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_an_admission_is_timed(scenario: Scenario) -> None:
    parts = measure(scenario, waiting=50, admissions=20, rounds=1)
    assert all(seconds > 1e-7 for seconds in (parts.enqueue, parts.admit, parts.settle))
    assert parts.sum == parts.enqueue + parts.admit + parts.settle


def test_the_limit_that_is_named_is_the_one_that_binds() -> None:
    for scenario in SCENARIOS:
        traffic = admission._Traffic(scenario, 1000)
        for _ in range(100):
            traffic.step()
        limits = traffic._lane.statistics(0.1).limits
        binding = max(limits, key=lambda one: one.bound_s)
        assert binding.name == f"{scenario.by}_per_minute", scenario
        assert (binding.scope == "measured") is not scenario.own


@pytest.mark.parametrize(
    ("seconds", "ok"),
    [({1000: 10e-6, 100_000: 12e-6}, True), ({1000: 5e-6, 100_000: 12e-6}, False), ({1000: 21e-6}, False)],
)
def test_what_is_slow_or_grows_is_missed(seconds: dict[int, float], ok: bool) -> None:
    cost = Cost(SCENARIOS[0], {waiting: Parts(1.0, admit, 1.0) for waiting, admit in seconds.items()})
    assert cost.ok is ok
    assert cost.as_json()["ok"] is ok


def test_the_command_prints_a_table_and_writes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(scenario: Scenario, *, waiting: int, rounds: int) -> Parts:
        return Parts(5e-6, waiting * 1e-9 if scenario.rows > 1 else 15e-6, 7e-6)

    monkeypatch.setattr(admission, "measure", measured)
    out = tmp_path / "admission.json"
    result = CliRunner().invoke(app, ["admission", "-o", str(out)])
    assert result.exit_code == 0, result.output
    written = json.loads(out.read_text())
    assert (written["format"], written["benchmark"], written["quick"]) == (1, "admission", False)
    assert [row["ok"] for row in written["rows"]] == [True, True, False, False, False, False]
    assert written["rows"][2]["admit_us"] == pytest.approx({"1000": 1.0, "10000": 10.0, "100000": 100.0})
    assert written["rows"][2]["sum_us"] == pytest.approx({"1000": 13.0, "10000": 22.0, "100000": 112.0})
    assert "100,000 waiting" in result.stdout
    assert result.stdout.count("missed") == 4


def test_json_goes_to_stdout_and_a_file_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "measure", lambda scenario, *, waiting, rounds: Parts(1e-6, 1e-6, 1e-6))
    result = CliRunner().invoke(app, ["admission", "--quick", "--json"])
    assert {"1000", "10000"} == set(json.loads(result.stdout)["rows"][0]["admit_us"])
    tmp_path.joinpath("file").touch()
    result = CliRunner().invoke(app, ["admission", "-o", str(tmp_path / "file" / "out.json")])
    assert isinstance(result.exception, UserError)

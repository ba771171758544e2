"""`agentmesh perf throughput`: a scenario end to end in virtual and in real time, its figures, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentmesh.app.cli import main
from agentmesh.app.perf import throughput
from agentmesh.app.perf.cli import app
from agentmesh.app.perf.throughput_client import Attempt, Found
from agentmesh.app.perf.throughput_jobs import MODEL, Job, request_of
from agentmesh.app.perf.throughput_run import run_in_real_time, run_in_virtual_time
from agentmesh.app.perf.throughput_scenarios import SCENARIOS
from agentmesh.app.perf.throughput_score import Row, Score, score
from agentmesh.rates import Limit
from agentmesh.simulate.behaviour import Behaviour, Served, ServedModel
from agentmesh.simulate.strict import ServerStatistics


def test_a_client_in_virtual_time_stands_beside_the_queue() -> None:
    found = run_in_virtual_time(SCENARIOS["burst"], seconds=40.0, seed=1)
    assert found.answered == found.calls == found.attempts
    assert found.refused <= 0.01 * found.calls
    assert 0.99 <= found.makespan / found.bound < 1.05
    assert found.makespan >= found.clairvoyant
    assert found.quota > 0.95
    assert found.cpu is None
    assert run_in_virtual_time(SCENARIOS["burst"], seconds=40.0, seed=1) == found  # virtual time repeats itself


def test_faults_are_met_again_by_the_same_calls() -> None:
    found = run_in_virtual_time(SCENARIOS["faults"], seconds=20.0, seed=1)
    assert found.attempts > 1.05 * found.calls
    assert found.answered >= 0.98 * found.calls


def test_server_and_client_in_processes_of_their_own() -> None:
    found = run_in_real_time(SCENARIOS["requests"], seconds=0.2, seed=0)
    assert found.answered == found.calls <= found.attempts  # a machine that stands still may cause refusals
    assert found.cpu is not None
    assert found.peak is not None
    assert found.peak > 10e6
    assert found.makespan > 0.9 * found.bound


def figures(**changed: Any) -> Score:
    figures: dict[str, Any] = {
        "seed": 0, "calls": 100, "answered": 100, "attempts": 100, "refused": 0, "makespan": 100.0, "bound": 100.0,
        "clairvoyant": 90.0, "after": 1.0, "quota": 1.0, "wait_largest": 9.0, "wait_rest": 10.0, "late": 0.0,
        "waits": {}, "cpu": 0.001, "peak": 50e6, "bounded_by": None, "failures": (), **changed,
    }  # fmt: skip
    return Score(**figures)


@pytest.mark.parametrize(
    ("scenario", "changed", "verdict"),
    [
        ("requests", {}, "ok"),
        ("requests", {"after": 1.02, "refused": 1}, "missed: makespan, refused"),
        ("requests", {"cpu": 0.003, "peak": 90e6}, "missed: CPU, memory"),
        ("tokens", {"late": 10.5}, "missed: largest late"),
        ("faults", {"answered": 99}, "missed: unanswered"),
        ("unknown", {"refused": 3}, "ok"),
        ("unknown", {"after": None}, "too short to tell"),
    ],
)
def test_verdicts(scenario: str, changed: dict[str, Any], verdict: str) -> None:
    assert Row(SCENARIOS[scenario], "virtual", 600.0, (figures(), figures(**changed))).verdict == (
        # of two seeds the makespan counts on average, refusals of all calls
        verdict if scenario != "requests" or "after" not in changed else "missed: refused"
    )
    assert Row(SCENARIOS[scenario], "virtual", 600.0, (figures(**changed),)).verdict == verdict


def test_in_real_time_faults_may_cost_more() -> None:
    assert Row(SCENARIOS["faults"], "real", 50.0, (figures(after=1.19),)).missed == ()
    assert Row(SCENARIOS["faults"], "virtual", 600.0, (figures(after=1.19),)).missed == ("makespan",)


def test_figures_are_made_from_attempts() -> None:
    served = Served({MODEL: ServedModel(MODEL, Behaviour(first_token_s=1.0))}, (Limit("requests", 60),))
    jobs = [Job(0, 500, 0, 10), Job(1, 10, 0, 10, faults=("500",)), Job(2, 10, 0, 10, at=1.0)]
    tries = [(1, 0, 0, "failed"), (0, 6, 6, "pushed_back"), (2, 2, 3, "ok"), (1, 4, 5, "ok"), (0, 7, 8, "ok")]
    found = Found(8.0, 3, attempts=[Attempt(*one) for one in tries])
    counted = ServerStatistics(5, 4, 1, 3, 0, 1, 0, 0.0, 7.0)
    one = score(found, counted, scenario=SCENARIOS["requests"], jobs=jobs, served=served)
    assert (one.calls, one.attempts, one.refused) == (3, 4, 1)
    assert (one.bound, one.clairvoyant, one.after) == pytest.approx((4.0, 4.0, 2.0))
    assert one.quota == pytest.approx(4 / 8)  # of one at once and one each second
    assert (one.wait_largest, one.wait_rest, one.late) == pytest.approx((7.0, 4.0, 7.0))
    assert one.waits == {"0": pytest.approx(((7 + 4 + 1) / 3, (0 + 2 + 2) / 3))}


def test_a_prompt_has_its_length_and_tells_the_server_alone_who_it_is() -> None:
    request = request_of(Job(17, 100, 10, 371, max_tokens=20))
    assert request.text_length() == 371
    assert request.messages[0].text.startswith("00000017")
    assert request.settings.max_tokens == 20


def test_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(throughput, "_QUICK_VIRTUAL_S", 20.0)
    arguments = ["throughput", "--quick", "--virtual", "--seeds", "2", "--scenario", "tokens", "--scenario", "cap"]
    found = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "found.json")], catch_exceptions=False)
    assert found.exit_code == 0
    assert "simulated provider, in virtual time (20 s, 2 seeds)" in found.stdout
    assert "tokens-bound" in found.stdout
    assert "an untold cap of 64 in flight" in found.stdout
    written = json.loads((tmp_path / "found.json").read_text())
    assert (written["format"], written["provider"], written["quick"]) == (1, "simulated", True)
    assert [(row["scenario"], row["time"], row["seeds"]) for row in written["rows"]] == [
        ("tokens", "virtual", 2), ("cap", "virtual", 2),
    ]  # fmt: skip
    run = written["rows"][0]["runs"][1]
    assert run["makespan"] / run["bound"] == pytest.approx(1.0, abs=0.1)


def test_json_goes_to_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "_QUICK_VIRTUAL_S", 10.0)
    arguments = ["throughput", "--quick", "--virtual", "--seeds", "1", "--scenario", "tokens", "--json"]
    found = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert json.loads(found.stdout)["rows"][0]["missed"] is not None


def test_a_scenario_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["perf", "throughput", "--scenario", "token"]) == 2
    assert "did you mean" in capsys.readouterr().err

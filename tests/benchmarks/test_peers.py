"""`benchmarks/peers`: the runner with agentmesh alone, clients that break, figures and table."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from agentmesh.app.perf.bounds import first_in_first_out
from agentmesh.app.perf.throughput_scenarios import SCENARIOS, jobs_of, served_of
from agentmesh.simulate.strict import ServerStatistics

FOLDER = Path(__file__).parents[2] / "benchmarks" / "peers"
REQUESTS = SCENARIOS["requests"]


@pytest.fixture(autouse=True)
def on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def load(name: str) -> Any:
    return importlib.import_module(name)


def test_the_runner_measures_agentmesh_in_processes_of_their_own(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    command = [
        sys.executable,
        str(FOLDER / "run.py"),
        "--only",
        "agentmesh",
        "--scenario",
        "requests",
        "--seconds",
        "1",
    ]
    done = subprocess.run([*command, "-o", str(out)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "| agentmesh |" in done.stdout
    (result,) = json.loads(out.read_text(encoding="utf-8"))["results"]
    assert result["error"] is None, done.stderr
    (figures,) = result["figures"]["runs"]
    assert figures["answered"] == figures["calls"] == figures["attempts"]
    assert 0.9 < result["figures"]["makespan_to_bound"] < 10.0
    assert figures["late"] < figures["makespan"]
    assert figures["cpu"] > 0.0
    assert figures["peak"] > 10e6


def test_a_client_that_breaks_has_a_row_that_says_so() -> None:
    broken = load("peers").Peer("none", "nothing", "no settings")  # has no script
    result = load("measuring").measure(broken, REQUESTS, seconds=0.2, seed=0)
    assert result.row is None
    assert "broke off" in result.error
    assert "by_none.py" in result.error
    assert "broke off" in load("table").markdown([result], quick=True)


def test_a_client_that_cannot_be_installed_has_a_row_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "agentmesh-peers").write_text("where a folder should be")
    peer = load("peers").Peer("absent", "absent", "no settings", ("absent==1",))
    result = load("measuring").measure(peer, REQUESTS, seconds=0.2, seed=0)
    assert result.row is None
    assert result.error.startswith("not installed: ")


def result(*, refused: int = 0, answered: int | None = None, cut: bool = False, slow: float = 1.0) -> Any:
    """What comes of a client that admits as the queue does, but so many times slower."""
    jobs, served = jobs_of(REQUESTS, seconds=2.0, seed=0), served_of(REQUESTS, seconds=2.0, seed=0)
    queue = first_in_first_out(jobs, served)
    statistics = ServerStatistics(len(jobs) + refused, len(jobs), refused, len(jobs), 0, 10, 1000, 0.0, 2.0)
    found = {
        "began": 100.0, "ended": 100.0 + slow * queue.makespan, "cpu": 0.003 * len(jobs), "peak": 64_000_000,
        "answered": len(jobs) if answered is None else answered, "failures": [], "cut": cut, "versions": {"it": "1.2"},
    }  # fmt: skip
    admitted = [(job.number, 100.0 + slow * at) for job, at in zip(jobs, queue.admitted, strict=True)]
    return load("measuring").result_of(
        load("peers").PEERS["openai"], REQUESTS, found=found,
        served={"statistics": asdict(statistics), "admitted": admitted}, load=0.5, seconds=2.0, seed=0,
    )  # fmt: skip


def test_figures_are_those_of_perf_throughput() -> None:
    same, slower = result(), result(slow=1.5, refused=9)
    assert same.row.ratio == pytest.approx(1.0)
    assert same.row.scores[0].late == pytest.approx(0.0)
    assert slower.row.ratio == pytest.approx(1.5)
    assert slower.row.scores[0].late > 0.1
    assert slower.row.refused == pytest.approx(9 / slower.row.scores[0].calls)


def test_the_table_says_what_happened() -> None:
    calls = result().row.scores[0].calls
    text = load("table").markdown([result(slow=1.25, refused=2), result(answered=5, cut=True)], quick=True)
    good, cut = (line for line in text.splitlines() if line.startswith("| OpenAI client"))
    assert [cell.strip() for cell in good.split("|")[2:5]] == ["1.250", f"2 / {calls}", "all"]
    assert [cell.strip() for cell in good.split("|")[6:8]] == ["3.0 ms", "64 MB"]
    assert "| cut at " in cut.replace("  ", "")
    assert "|        5 |" in cut
    assert "too short to compare" in text
    assert "(it 1.2)" in text


def test_a_client_knows_the_limits_and_how_calls_turn_out() -> None:
    given = load("measuring").given_to(REQUESTS, "http://127.0.0.1:1/v1", seconds=20.0, seed=0)
    told = load("clients.asking").Given(
        **{**given, "calls": [load("clients.asking").Call(**c) for c in given["calls"]]}
    )
    assert told.requests_per_minute == 900
    assert told.tokens_per_minute is None
    assert told.per_second == pytest.approx(15.0)
    assert told.slots in (14, 15, 16)
    given = load("measuring").given_to(SCENARIOS["tokens"], "http://127.0.0.1:1/v1", seconds=20.0, seed=0)
    told = load("clients.asking").Given(
        **{**given, "calls": [load("clients.asking").Call(**c) for c in given["calls"]]}
    )
    assert told.per_second * told.tokens == pytest.approx(10_000)
    assert told.slots > told.per_second * told.latency_s

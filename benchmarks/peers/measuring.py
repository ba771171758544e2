"""Runs one client against one scenario's server, a process each, and works out its figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from peers import CannotInstall, Peer, python_of

from agentmesh.app.perf.throughput_client import Attempt, Found
from agentmesh.app.perf.throughput_jobs import MODEL, Job, request_of
from agentmesh.app.perf.throughput_scenarios import Scenario, jobs_of, served_of
from agentmesh.app.perf.throughput_score import Row, score
from agentmesh.simulate.strict import ServerStatistics

__all__ = ["Result", "given_to", "measure", "result_of"]

_PATIENCE, _PATIENCE_S = 2.0, 20.0  # times the length of a scenario, at least so long, then a client is cut short
_GRACE_S = 60.0  # for its imports, and to print


@dataclass(frozen=True)
class Result:
    """What came of a client in a scenario; without a `row`, `error` says why. `load` is the machine's before it."""

    peer: Peer
    scenario: Scenario
    seconds: float
    load: float
    row: Row | None = None
    error: str | None = None
    cut: bool = False
    versions: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """All figures, in plain data."""
        return {
            "client": self.peer.name, "scenario": self.scenario.name, "seconds": self.seconds, "load": self.load,
            "settings": self.peer.settings, "versions": self.versions, "cut": self.cut, "error": self.error,
            "figures": None if self.row is None else self.row.as_json(),
        }  # fmt: skip


class _Broken(Exception):
    """A server or a client broke off; the message says how."""


def measure(peer: Peer, scenario: Scenario, *, seconds: float, seed: int) -> Result:
    """One client, one scenario. Never raises for what goes wrong in a client: its result says so."""
    load = os.getloadavg()[0]
    try:
        found, served = _ask(python_of(peer), peer, scenario=scenario, seconds=seconds, seed=seed)
        return result_of(peer, scenario, found=found, served=served, load=load, seconds=seconds, seed=seed)
    except (_Broken, CannotInstall) as error:
        return Result(peer, scenario, seconds, load, error=str(error))


def given_to(scenario: Scenario, base_url: str, *, seconds: float, seed: int) -> dict[str, Any]:
    """What a client is told, as `clients/asking.py` reads it."""
    jobs = jobs_of(scenario, seconds=seconds, seed=seed)
    behaviour = served_of(scenario, seconds=seconds, seed=seed).models[MODEL].behaviour
    return {
        "base_url": base_url, "model": MODEL, "patience_s": _patience(seconds),
        "latency_s": fmean(job.seconds(0, behaviour) for job in jobs),
        "output_tokens": fmean(job.output_tokens for job in jobs),
        "calls": [_call(job) for job in jobs],
        **{limit.name: limit.limit for limit in scenario.known(seconds)},
    }  # fmt: skip


def _patience(seconds: float) -> float:
    return max(_PATIENCE * seconds, _PATIENCE_S)


def _call(job: Job) -> dict[str, Any]:
    prompt = request_of(job).messages[-1].text
    return {"number": job.number, "prompt": prompt, "max_tokens": job.max_tokens, "tokens": job.input_tokens}


def _ask(
    python: str, peer: Peer, *, scenario: Scenario, seconds: float, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the client printed and what its server did."""
    serve = [sys.executable, str(Path(__file__).with_name("noting_server.py")), scenario.name, repr(seconds), str(seed)]
    with (
        TemporaryDirectory(prefix="agentmesh-peers-") as folder,
        subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server,
    ):
        assert server.stdout is not None
        try:
            started = server.stdout.readline()
            if not started:
                raise _Broken("the server did not start")
            given = given_to(scenario, json.loads(started)["base_url"], seconds=seconds, seed=seed)
            file = Path(folder, "given.json")
            file.write_text(json.dumps(given), encoding="utf-8")
            found = _run([python, str(peer.script), str(file)], folder, timeout=_patience(seconds) + _GRACE_S)
        finally:
            server.terminate()
        return found, json.loads(server.stdout.readline())


def _run(command: list[str], folder: str, *, timeout: float) -> dict[str, Any]:
    # What it remembers of earlier runs, or writes beside the way, is nobody else's and goes with the folder.
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": folder,
        "XDG_DATA_HOME": folder,
        "TMPDIR": folder,
        "NO_PROXY": "127.0.0.1",
    }
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise _Broken(f"did not end within {timeout:g} s") from None
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise _Broken(f"broke off: {''.join(last)}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def result_of(
    peer: Peer, scenario: Scenario, *, found: dict[str, Any], served: dict[str, Any], load: float, seconds: float,
    seed: int,
) -> Result:  # fmt: skip
    """The figures of `agentmesh perf throughput`, from what the client printed and what the server noted."""
    began = found["began"]
    attempts = [Attempt(number, at - began, at - began, "ok") for number, at in served["admitted"]]
    scored = score(
        Found(
            makespan=found["ended"] - began, answered=found["answered"], failures=found["failures"],
            attempts=attempts, cpu=found["cpu"], peak=found["peak"],
        ),
        ServerStatistics(**served["statistics"]),
        scenario=scenario,
        jobs=jobs_of(scenario, seconds=seconds, seed=seed),
        served=served_of(scenario, seconds=seconds, seed=seed),
    )  # fmt: skip
    row = Row(scenario, "real", seconds, (scored,))
    return Result(peer, scenario, seconds, load, row, cut=found["cut"], versions=found["versions"])

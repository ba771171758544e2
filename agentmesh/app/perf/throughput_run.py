"""Runs a throughput scenario: in real time against a server in another process, or in virtual time in this one."""

from __future__ import annotations

import json
import subprocess
import sys

from ...errors import UserError
from ...simulate.strict import ServerStatistics
from .throughput_client import Attempt, Found, ask_in_process
from .throughput_scenarios import Scenario, jobs_of, served_of
from .throughput_score import Score, score

__all__ = ["run_in_real_time", "run_in_virtual_time"]

_MODULES = "agentmesh.app.perf.throughput_"
_GRACE_S = 120.0  # for a client beside its own patience: to start, to be cut short, to print


def run_in_real_time(scenario: Scenario, *, seconds: float, seed: int) -> Score:
    """Server and client in a process each, over HTTP. Raises UserError where one of them breaks off."""
    arguments = [scenario.name, repr(seconds), str(seed)]
    with subprocess.Popen(_command("server", *arguments), stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        assert server.stdout is not None
        try:
            started = server.stdout.readline()
            if not started:
                raise UserError(f"the server of {scenario.name} did not start")
            client = subprocess.run(  # noqa: S603
                _command("client", *arguments, json.loads(started)["base_url"]),
                stdout=subprocess.PIPE, text=True, check=False, timeout=3 * seconds + _GRACE_S,
            )  # fmt: skip
        finally:
            server.terminate()
        if client.returncode:
            raise UserError(f"the client of {scenario.name} ended with exit code {client.returncode}")
        statistics = ServerStatistics(**json.loads(server.stdout.readline()))
    found = Found(**json.loads(client.stdout))
    found.attempts = [Attempt(**one) for one in found.attempts]  # type: ignore[arg-type]  # dicts until now
    return _score(scenario, found, statistics, seconds=seconds, seed=seed)


def run_in_virtual_time(scenario: Scenario, *, seconds: float, seed: int) -> Score:
    """Server and client in this process, on a virtual clock."""
    found, statistics = ask_in_process(scenario, seconds=seconds, seed=seed)
    return _score(scenario, found, statistics, seconds=seconds, seed=seed)


def _score(scenario: Scenario, found: Found, server: ServerStatistics, *, seconds: float, seed: int) -> Score:
    jobs = jobs_of(scenario, seconds=seconds, seed=seed)
    served = served_of(scenario, seconds=seconds, seed=seed)
    return score(found, server, scenario=scenario, jobs=jobs, served=served)


def _command(role: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", _MODULES + role, *arguments]

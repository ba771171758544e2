"""One trial: a run that is ended at seeded random instants, gone on with, and ended again, until it is let finish.

The server goes on all the while: its log is the truth that the run's file is held against.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import anyio
from proof_checks import Baseline, charged_usd, check_leg, check_trial, read_log
from proof_graph import FAULTS, Leg, provider_text, take_part
from proof_server import REPLIES

from agentmesh.journal import list_runs
from agentmesh.simulate.virtual import VirtualLoop

__all__ = ["Plan", "Trial", "baseline_of", "carry_out"]

_HERE = Path(__file__).parent
_PATIENCE_S = 120.0  # for one process: on a loaded machine ten times what it takes
_LINE = 75  # bytes of the server's log for each request: two lines
_ENDS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}


@dataclass(frozen=True)
class Plan:
    """What a trial does: how large the graph is, how its processes end (`kill`, `term`, `int`), and its first budget.

    `usd_share` is the budget of the first processes as a share of what an undisturbed run costs; it is doubled when it
    has stopped the run.
    """

    seed: int
    calls: int = 2000
    ends: Sequence[str] = ("kill",)
    most_ends: int = 5
    usd_share: float = 3.0


@dataclass
class Trial:
    """What happened: how the processes ended, and the figures of the whole."""

    plan: Plan
    ended: list[str] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        told = ", ".join(f"{name} {value}" for name, value in self.figures.items())
        return f"seed {self.plan.seed}: {' '.join(self.ended)}; {told}; {self.seconds:.1f} s"


@cache
def baseline_of(calls: int) -> Baseline:
    """What an undisturbed run of that size comes to, on a virtual clock."""
    with tempfile.TemporaryDirectory() as folder:
        leg = _leg(Path(folder), calls=calls, base_url="inprocess://proof")
        anyio.run(take_part, leg, backend_options={"loop_factory": VirtualLoop})
        (run,) = list_runs(Path(folder) / "journal")
        return Baseline.read(run, json.loads(Path(leg.result).read_text()))


def _leg(folder: Path, *, calls: int, base_url: str, usd: float | None = None) -> Leg:
    provider = folder / "provider.yaml"
    provider.write_text(provider_text(base_url))
    return Leg(str(folder), str(provider), str(folder / "result.json"), calls, seed=REPLIES, usd=usd)


@contextmanager
def _server(folder: Path, *, seed: int) -> Iterator[str]:
    described = folder / "served.yaml"
    described.write_text(provider_text("http://127.0.0.1:1/v1", failures=FAULTS))
    command = [sys.executable, *map(str, (_HERE / "proof_server.py", described, folder / "server.log", seed))]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            yield json.loads(server.stdout.readline())["base_url"]
        finally:
            server.terminate()


def carry_out(plan: Plan, folder: Path) -> Trial:
    """Do it in an empty folder. Raises AssertionError for the first thing that does not hold."""
    trial, rng, began = Trial(plan), random.Random(plan.seed), time.monotonic()
    baseline = baseline_of(plan.calls)
    usd = baseline.usd * plan.usd_share
    (folder / "server.log").touch()
    with _server(folder, seed=plan.seed) as base_url:
        for number in range(plan.most_ends + 20):
            leg = _leg(folder, calls=plan.calls, base_url=base_url, usd=usd)
            ending = rng.choice(plan.ends) if number < plan.most_ends else None
            trial.ended.append(_work(leg, trial, rng=rng, ending=ending))
            check_leg(folder, usd=usd)
            begun = [one for one in list_runs(folder / "journal") if one.name]
            assert len(begun) <= 1, f"another run was begun: {begun}"
            status = begun[0].status if begun else None
            if status in ("done", "partial"):
                break
            if status == "stopped":
                usd *= 2
        else:
            raise AssertionError(f"the run has not come to its end: {trial}")
    trial.figures = check_trial(folder, baseline, pids=trial.pids, orderly="kill" not in plan.ends)
    trial.figures["usd"] = f"{charged_usd(read_log(folder)):.4f} of {usd:.4f}"
    trial.seconds = time.monotonic() - began
    return trial


def _work(leg: Leg, trial: Trial, *, rng: random.Random, ending: str | None) -> str:
    """One process, to its own end or to the one that it is given. Returns how it ended."""
    log, folder = Path(leg.folder) / "server.log", Path(leg.folder)
    Path(leg.result).unlink(missing_ok=True)
    left = max(0, trial.plan.calls * _LINE * 2 - log.stat().st_size)
    at_once, seconds = rng.random() < 0.2, rng.random()
    until = log.stat().st_size + int(left * 0.7 * rng.random())
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONFAULTHANDLER": "1"}
    with (folder / "stderr.txt").open("ab") as errors:
        command = [sys.executable, str(_HERE / "proof_graph.py"), json.dumps(asdict(leg))]
        process = subprocess.Popen(command, stderr=errors, env=environment)
    trial.pids.append(process.pid)
    deadline = time.monotonic() + _PATIENCE_S
    try:
        if ending is not None:
            began = time.monotonic()
            while process.poll() is None and time.monotonic() < deadline:
                if log.stat().st_size >= until if not at_once else time.monotonic() - began >= 2 * seconds:
                    break
                time.sleep(0.002)
            time.sleep(0.03 * seconds)
            process.send_signal(_ENDS[ending])
        code = process.wait(timeout=max(1.0, deadline - time.monotonic()))
    finally:
        process.kill()
        process.wait()
    said = (folder / "stderr.txt").read_text()
    # A process that a signal meets before it listens, or after it has ended, ends as any other program does.
    assert code in (0, -_ENDS.get(ending or "", 0)) or "KeyboardInterrupt" in said, f"{ending}: {code}\n{said}"
    return f"{ending or 'end'}:{code}@{log.stat().st_size // (2 * _LINE)}"

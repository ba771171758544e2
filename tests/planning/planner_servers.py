"""A job of two models in real processes: recorded replies served under limits, and what the servers say of it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentmesh.rates import WINDOW_SECONDS, Limit, parse_limit_name

AGENTMESH = (sys.executable, "-m", "agentmesh")


@dataclass(frozen=True)
class Side:
    """One model of the job: its name, its recorded rows, and its limits a minute (`requests`, `tokens`)."""

    provider: str
    model: str
    recorded: Path
    limits: Mapping[str, float]

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True)
class Serving:
    """A side that is being served: the provider file that leads there, and where its statistics are."""

    side: Side
    provider_file: Path
    stats_url: str

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.stats_url, timeout=10) as reply:
            found: dict[str, Any] = json.load(reply)
            return found

    def used(self) -> dict[str, float]:
        """Of each limit the share that was used of what it allowed from the first call to the last."""
        stats = self.stats()
        amounts = {"requests": stats["accepted"], "tokens": stats["tokens"]}
        shares = {}
        for name, value in self.side.limits.items():
            unit, window = parse_limit_name(name)
            assert window == WINDOW_SECONDS["minute"]
            limit = Limit(unit, value, window)
            shares[name] = amounts[unit] / (limit.capacity + limit.per_second * (stats["last_s"] - stats["first_s"]))
        return shares


@contextlib.contextmanager
def serving(sides: Sequence[Side], folder: Path, *, latency: str) -> Iterator[list[Serving]]:
    """All sides, each served by a process of its own."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(_server(side, latency)) for side in sides]  # they start side by side
        yield [_ready(side, server, folder) for side, server in zip(sides, servers, strict=True)]


@contextlib.contextmanager
def _server(side: Side, latency: str) -> Iterator[subprocess.Popen[str]]:
    rates = [word for name, value in side.limits.items() for word in ("--rate", f"{name}={value:g}")]
    command = [*AGENTMESH, "serve", "replay", str(side.recorded), "--latency", latency, *rates]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _ready(side: Side, server: subprocess.Popen[str], folder: Path) -> Serving:
    assert server.stdout is not None
    told = json.loads(server.stdout.readline())
    file = folder / f"{side.provider}.yaml"
    spec = {
        "provider": side.provider, "dialect": "openai-chat", "base_url": told["base_url"],
        "limits": dict(side.limits), "models": {side.model: {"prices": "free"}},
    }  # fmt: skip
    file.write_text(json.dumps(spec))  # which is YAML too
    return Serving(side, file, told["stats"])


def run_agentmesh(*arguments: object, folder: Path, timeout: float = 60) -> str:
    """What the command prints; it must succeed."""
    ended = subprocess.run(
        [*AGENTMESH, *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=timeout
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout

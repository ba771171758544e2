"""The strict server of a throughput scenario in a process of its own, over HTTP.

Run as `python -m agentmesh.app.perf.throughput_server SCENARIO SECONDS SEED`: prints one line of JSON with its
base_url when it accepts connections, and one with its statistics when it is told to end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from ...simulate.provider import SimulatedProvider
from ..serve import serve_provider
from .throughput_jobs import JobReplies
from .throughput_scenarios import SCENARIOS, jobs_of, served_of

__all__ = ["main"]


def main(arguments: Sequence[str]) -> None:
    """Serve a scenario until SIGTERM."""
    name, seconds, seed = arguments
    scenario, long, drawn = SCENARIOS[name], float(seconds), int(seed)
    replies = JobReplies(jobs_of(scenario, seconds=long, seed=drawn))
    served = served_of(scenario, seconds=long, seed=drawn)
    provider = SimulatedProvider(served, replies, fates=replies.fate)
    serve_provider(provider, host="127.0.0.1", port=0)
    sys.stdout.write(json.dumps(asdict(provider.statistics())) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

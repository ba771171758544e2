"""The strict server of a scenario, as `agentmesh perf throughput` has it, which also notes when it admitted each call.

Run as `python noting_server.py SCENARIO SECONDS SEED`: prints a line of JSON with its base_url when it accepts
connections, and one with its statistics and the admissions when it is told to end. Times are of the monotonic clock,
which all processes of a machine share, so that no client is taken at its word.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from agentmesh.app.perf.throughput_jobs import Job, JobReplies
from agentmesh.app.perf.throughput_scenarios import SCENARIOS, jobs_of, served_of
from agentmesh.app.serve import serve_provider
from agentmesh.clock import monotonic
from agentmesh.messages import Request
from agentmesh.simulate.behaviour import Fate
from agentmesh.simulate.provider import SimulatedProvider


class NotingReplies(JobReplies):
    """Notes each admission as (number of the job, when)."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        super().__init__(jobs)
        self.admitted: list[tuple[int, float]] = []

    def fate(self, request: Request) -> Fate:
        self.admitted.append((self._find(request).number, monotonic()))
        return super().fate(request)


def main(name: str, seconds: float, seed: int) -> None:
    """Serve a scenario until SIGTERM."""
    scenario = SCENARIOS[name]
    replies = NotingReplies(jobs_of(scenario, seconds=seconds, seed=seed))
    provider = SimulatedProvider(served_of(scenario, seconds=seconds, seed=seed), replies, fates=replies.fate)
    serve_provider(provider, host="127.0.0.1", port=0)
    print(json.dumps({"statistics": asdict(provider.statistics()), "admitted": replies.admitted}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))

"""One call of a throughput scenario: what is asked, and what the server will make of it, known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...catalog.spec import Failure
from ...messages import Message, Reply, Request, Settings, Tokens
from ...rates import Limit
from ...simulate.behaviour import Behaviour, Fate, ServedModel

__all__ = ["MODEL", "Job", "JobReplies", "request_of"]

MODEL = "served"
"""The name of the only model of a scenario's server."""

_NUMBER = 8  # characters of a prompt that say which job it is
_FILLER = "Some of it was said before and more of it will be said again. "
_AT_ONCE = frozenset({"500", "503", "529", "drop", "reset"})  # failures that are there as soon as the call is
_REPLY = "This reply is simulated. "


@dataclass(frozen=True, slots=True)
class Job:
    """One call. `at` is when it is there to be sent, in seconds since the start; `slowness` multiplies its latency.

    `faults` are what its first attempts meet; the one after them succeeds.
    """

    number: int
    input_tokens: int
    output_tokens: int
    characters: int
    slowness: float = 1.0
    at: float = 0.0
    priority: float = 0.0
    max_tokens: int | None = None
    faults: tuple[Failure, ...] = ()

    @property
    def attempts(self) -> int:
        """How many attempts it takes."""
        return len(self.faults) + 1

    def failure(self, attempt: int) -> Failure | None:
        """What goes wrong with this attempt, counted from 0."""
        return self.faults[attempt] if attempt < len(self.faults) else None

    def seconds(self, attempt: int, behaviour: Behaviour) -> float:
        """How long an admitted attempt takes."""
        failure = self.failure(attempt)
        if failure == "stall":
            return behaviour.stall_s
        return 0.0 if failure in _AT_ONCE else sum(behaviour.seconds(self.output_tokens, self.slowness))

    def use(self, limit: Limit, attempt: int) -> float:
        """Units of a limit that an attempt costs in the end."""
        if limit.settles == "reserved" and limit.unit.endswith("tokens"):
            return limit.reserved(self.input_tokens, self.max_tokens or self.output_tokens)
        wrote = self.failure(attempt) in (None, "truncate")
        return limit.used(self.input_tokens, self.output_tokens if wrote else 0)


def request_of(job: Job) -> Request:
    """The call as a client sends it. The server finds the job by its number; the client learns nothing from it."""
    size = job.characters - _NUMBER
    prompt = f"{job.number:0{_NUMBER}d}" + (_FILLER * (size // len(_FILLER) + 1))[:size]
    return Request(MODEL, (Message("user", prompt),), settings=Settings(max_tokens=job.max_tokens))


class JobReplies:
    """What the server answers: each job's own number of tokens, and its own faults, whoever asks and when."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs
        self._admitted = [0] * len(jobs)

    def __repr__(self) -> str:
        return f"<JobReplies to {len(self._jobs)} calls>"

    def _find(self, request: Request) -> Job:
        return self._jobs[int(request.messages[-1].text[:_NUMBER])]

    def weigh(self, request: Request) -> tuple[int, int | None]:
        """The input, and the most that the reply may have."""
        return self._find(request).input_tokens, request.settings.max_tokens

    def answer(self, request: Request, model: ServedModel, *, input_tokens: int) -> Reply:
        """A reply of the job's length."""
        output = self._find(request).output_tokens
        text = (_REPLY * (4 * output // len(_REPLY) + 1))[: 4 * output]
        return Reply(text, "stop", tokens=Tokens(input_tokens, 0, output=output, reasoning=0), model=request.model)

    def fate(self, request: Request) -> Fate:
        """What is in store for the job's next attempt."""
        job = self._find(request)
        attempt = self._admitted[job.number]
        self._admitted[job.number] += 1
        return Fate(job.failure(attempt), job.slowness)

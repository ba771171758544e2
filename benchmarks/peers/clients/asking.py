"""What every client script shares: the calls to make, and what came of them as one line of JSON on stdout.

It runs in each client's own environment, so it needs nothing but the standard library. A script is run as
`python by_NAME.py GIVEN.json`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["Call", "Given", "Notes", "ask_each", "main"]

_FAILURES = 5  # that are kept in words


@dataclass(frozen=True)
class Call:
    """One call. `tokens` is what a tokenizer would count in the prompt."""

    number: int
    prompt: str
    max_tokens: int
    tokens: int


@dataclass(frozen=True)
class Given:
    """What a user would know of the account: its limits per minute, and from a trial how calls turn out on average.

    `requests_per_minute` and `tokens_per_minute` are None where there is no such limit. `latency_s` and `output_tokens`
    are means. `patience_s` is when to give up.
    """

    base_url: str
    model: str
    latency_s: float
    output_tokens: float
    patience_s: float
    calls: tuple[Call, ...]
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    api_key: str = "none-needed"

    @property
    def tokens(self) -> float:
        """The mean size of a call, input and output."""
        return sum(call.tokens for call in self.calls) / len(self.calls) + self.output_tokens

    @property
    def per_second(self) -> float:
        """Calls that the limits let through in a second, on average."""
        rates = [self.requests_per_minute] if self.requests_per_minute else []
        rates += [self.tokens_per_minute / self.tokens] if self.tokens_per_minute else []
        return min(rates) / 60.0

    @property
    def slots(self) -> int:
        """Calls in flight that keep the limits busy: rate times latency; half as many again where sizes differ."""
        return max(1, round(self.per_second * self.latency_s * (1.5 if self.tokens_per_minute else 1.0)))


class Notes:
    """What a client found. Times are of the monotonic clock, which all processes of a machine share."""

    def __init__(self) -> None:
        self._began = self._ended = self._cpu_before = 0.0
        self._answered, self._failures = 0, list[str]()

    def start(self) -> None:
        """All is prepared and the first call can be sent. What came before is nobody's cost."""
        self._began = self._ended = time.monotonic()
        self._cpu_before = time.process_time()

    def answer(self, text: str | None) -> None:
        """A call was answered with this text."""
        if not text:
            self.fail("an empty reply")
            return
        self._answered += 1
        self._ended = time.monotonic()

    def fail(self, error: object) -> None:
        """A call was given up."""
        self._ended = time.monotonic()
        if len(self._failures) < _FAILURES:
            text = f"{type(error).__name__}: {error}" if isinstance(error, Exception) else str(error)
            self._failures.append(text[:300])

    def cut(self) -> None:
        """Patience is at its end, with calls unanswered."""
        self._ended = time.monotonic()

    def as_json(self) -> dict[str, Any]:
        """Seconds of the monotonic clock and of the process, bytes, counts."""
        return {
            "began": self._began, "ended": self._ended, "cpu": time.process_time() - self._cpu_before,
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            "answered": self._answered, "failures": self._failures,
        }  # fmt: skip


Ask = Callable[[Given, Notes], Awaitable[None]]


def main(ask: Ask, *packages: str) -> None:
    """Ask all calls, cut short when patience ends, and print what was found. `packages` are those to name."""
    told: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    given = Given(**{**told, "calls": tuple(Call(**call) for call in told["calls"])})
    notes = Notes()

    async def watched() -> bool:
        asking = asyncio.ensure_future(ask(given, notes))
        await asyncio.wait([asking], timeout=given.patience_s)
        if asking.done():
            await asking  # if it broke, so do we
            return False
        notes.cut()
        return True

    with contextlib.redirect_stdout(sys.stderr):  # some clients print
        cut = asyncio.Runner().run(watched())
    found = {**notes.as_json(), "cut": cut, "versions": {name: version(name) for name in packages}}
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    os._exit(0)  # what a client that was cut short has in flight holds nobody up


async def ask_each(given: Given, notes: Notes, ask_one: Callable[[Call], Awaitable[str | None]]) -> None:
    """A task for each call, all at once, in their order."""

    async def one(call: Call) -> None:
        try:
            notes.answer(await ask_one(call))
        except Exception as error:  # noqa: BLE001  # whatever a client raises in the end, the call has failed
            notes.fail(error)

    notes.start()
    async with asyncio.TaskGroup() as tasks:
        for call in given.calls:
            tasks.create_task(one(call))

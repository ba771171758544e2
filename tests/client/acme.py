"""A provider that does what a test says, and all that a call needs to reach it: lane, endpoints, caller, clock."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import httpx

from agentmesh.catalog import ResolvedModel
from agentmesh.catalog.environment import Secret
from agentmesh.catalog.prices import Price, Prices
from agentmesh.catalog.spec import Supports
from agentmesh.client.caller import Caller
from agentmesh.client.endpoint import Endpoint
from agentmesh.client.transport import Timeouts, Transport
from agentmesh.clock import monotonic
from agentmesh.dialects import dialect
from agentmesh.events import CallEnded, Event
from agentmesh.limits.lane import Lane
from agentmesh.messages import Message, Reply, Request, Settings, Tokens

__all__ = ["KEY", "Acme", "acme", "question", "refused", "said", "streamed"]

KEY = "planted/sown+reaped"  # of no form by which a key is known
Answer = Callable[[httpx.Request], Awaitable[httpx.Response]]


def question(text: str = "How are you?", max_tokens: int | None = 50) -> Request:
    return Request("", (Message("user", text),), settings=Settings(max_tokens=max_tokens))


def said(text: str = "fine", *, input_tokens: int | None = 10, output_tokens: int | None = 5) -> httpx.Response:
    reply = Reply(text, "stop", tokens=Tokens(input_tokens, output=output_tokens), model="m", id="1")
    return httpx.Response(200, content=dialect("openai-chat").write_reply(reply, created=0))


def streamed(text: str, *, whole: bool = True) -> httpx.Response:
    reply = Reply(text, "stop", tokens=Tokens(10, output=5), model="m", id="1")
    chunks = list(dialect("openai-chat").write_stream(reply, text.split(), created=0))

    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks if whole else chunks[:2]:
            yield chunk

    return httpx.Response(200, content=body())


def refused(status: int, message: str = "no", **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=names, json={"error": {"message": message}})


class Acme:
    """Endpoints of one account whose server is `answer`, with all events and requests that there were."""

    def __init__(self, group: anyio.abc.TaskGroup, answer: Answer, options: dict[str, Any]) -> None:
        self.events: list[Event] = []
        self.asked: list[tuple[float, str, str]] = []  # when, model, text
        self.began = monotonic()
        self._answer = answer
        self._options = options
        self._rng = random.Random(1)
        self._number = itertools.count(1)
        self.transport = Transport(httpx.MockTransport(self._serve))
        self.lane = Lane("acme", options.get("account_limits", ()))
        group.start_soon(self.lane.serve)
        self.endpoint = self.make("m")

    def make(self, model: str, **changes: Any) -> Endpoint:
        limits = tuple(("model", limit) for limit in self._options.get("limits", ()))
        resolved: dict[str, Any] = {
            "name": f"acme/{model}", "account": "acme", "provider": "acme", "model": model, "dialect": "openai-chat",
            "base_url": "http://acme.invalid/v1", "auth": "bearer", "headers": {}, "query": {}, "quirks": frozenset(),
            "limits": limits, "pool": None, "prices": Prices((Price(input=1.0, output=2.0),)), "context": None,
            "max_output": 1000, "supports": Supports(), "key": Secret(KEY), "key_source": None, "key_problem": None,
            "simulate": None, "checked": None, "title": "Acme", "file": "acme.yaml", "listed": True,
        }  # fmt: skip
        resolved |= self._options.get("model", {}) | changes
        timeouts = self._options.get("timeouts", Timeouts())
        return Endpoint(ResolvedModel(**resolved), self.lane, self.transport, timeouts=timeouts)

    async def _serve(self, request: httpx.Request) -> httpx.Response:
        body = dialect("openai-chat").parse_request(request.content)
        self.asked.append((monotonic() - self.began, body.model, body.messages[-1].text))
        return await self._answer(request)

    def caller(self, age: int = 0, **options: Any) -> Caller:
        async def durable() -> None:
            await anyio.lowlevel.checkpoint()

        plain: dict[str, Any] = {
            "address": f"t/{age}", "kind": "t", "order": (0.0, 0.0, age), "emit": self.events.append,
            "durable": durable, "number": self._number.__next__, "rng": self._rng,
        }  # fmt: skip
        return Caller(**(plain | options))

    @property
    def ended(self) -> list[CallEnded]:
        return [event for event in self.events if isinstance(event, CallEnded)]

    @property
    def seconds(self) -> float:
        return monotonic() - self.began

    def at_rest(self) -> bool:
        """Whether nothing waits, is in flight, or is held of any slot."""
        statistics = self.lane.statistics()
        return (statistics.in_flight, statistics.waiting) == (0, 0)


@asynccontextmanager
async def acme(
    *answers: httpx.Response | Exception | Answer, seconds: float = 1.0, **options: Any
) -> AsyncIterator[Acme]:
    """Serve these answers one after the other, the last again and again, each after so many seconds."""
    left = list(answers)

    async def answer(request: httpx.Request) -> httpx.Response:
        found = left.pop(0) if len(left) > 1 else left[0]
        await anyio.sleep(seconds)
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, httpx.Response) else await found(request)

    async with anyio.create_task_group() as group:
        world = Acme(group, answer, options)
        yield world
        group.cancel_scope.cancel()

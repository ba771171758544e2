"""Answers that nobody should get: pages of proxies, nothing, garbage in headers, clocks that are wrong."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import anyio
import anyio.abc
import httpx
import pytest
from acme import Acme, acme, question, refused, said

from agentmesh.client.caller import Caller, Retry
from agentmesh.client.endpoint import Endpoint
from agentmesh.client.transport import Transport, default_http
from agentmesh.dialects import dialect
from agentmesh.errors import CallFailed, ErrorInfo
from agentmesh.events import LaneFrozen, Notice
from agentmesh.messages import Reply, Tokens
from agentmesh.rates import Limit

pytestmark = pytest.mark.anyio
virtual = pytest.mark.virtual_time

GOOD = Reply("fine", "stop", tokens=Tokens(10, output=5), model="m", id="1")
SIGN_IN = b"<!DOCTYPE html><html><head><title>Sign in</title><style>p{color:red}</style></head><p>first</p></html>"
BAD_GATEWAY = b"<html>\r\n<head><title>502 Bad Gateway</title></head><center><h1>502</h1></center></html>"
BLOCKED = b"<html><body><h1>You are blocked</h1><script>track()</script></body></html>"
IS_IT = r"is base_url right\? is there a proxy that asks for a sign-in\?"
WHAT = {"openai-chat": "a chat completion", "anthropic": "a message"}


def answer_of(body: bytes, status: int = 200, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", *headers, f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


@asynccontextmanager
async def loopback(name: str, bad: bytes) -> AsyncIterator[str]:
    """A server on a real socket that answers well, but to requests with the word `bad` in them. Yields its base URL."""
    speaks = dialect(name)

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            try:
                while True:
                    await stream.send(await answer(stream))
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass

    async def answer(stream: anyio.abc.SocketStream) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive()
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = int(next(line for line in lines if line.startswith(b"content-length")).split()[1])
        while len(body) < length:
            body += await stream.receive()
        if b"bad" in body:
            return bad
        if speaks.parse_request(body).stream:
            return answer_of(b"".join(speaks.write_stream(GOOD, ["fi", "ne"], created=0)))
        return answer_of(speaks.write_reply(GOOD, created=0))

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        yield f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}/v1"
        group.cancel_scope.cancel()


@asynccontextmanager
async def real(name: str, bad: bytes) -> AsyncIterator[tuple[Acme, Endpoint]]:
    async with loopback(name, bad) as base_url, acme(said()) as world:
        world.transport = Transport(default_http())
        try:
            yield world, world.make("m", dialect=name, base_url=base_url)
        finally:
            await world.transport.aclose()


Ask = Callable[[str, Caller], Awaitable[Reply]]


async def three(world: Acme, ask: Ask) -> tuple[ErrorInfo, Caller]:
    """Ask three times at once, one of them badly. The others are answered; what became of the bad one."""
    callers = {text: world.caller(age, retry=Retry(1)) for age, text in enumerate(("one", "bad", "two"))}
    ended: dict[str, Reply | ErrorInfo] = {}

    async def one(text: str) -> None:
        try:
            ended[text] = await ask(text, callers[text])
        except CallFailed as failure:
            ended[text] = failure.error

    async with anyio.create_task_group() as group:
        for text in callers:
            group.start_soon(one, text)
    assert [isinstance(ended[text], Reply) for text in ("one", "two")] == [True, True]
    assert world.at_rest()
    error = ended["bad"]
    assert isinstance(error, ErrorInfo)
    return error, callers["bad"]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", sorted(WHAT))
@pytest.mark.parametrize(
    ("bad", "shown", "uncertain"),
    [
        (answer_of(SIGN_IN), rf'a 200 with an HTML page: "Sign in", where {{what}} was expected \({IS_IT}\)', True),
        (answer_of(b""), "a 200 with an empty body, where {what} was expected", True),
        (answer_of(b"{}"), 'a 200 with "{{}}", where {what} was expected', True),
        (answer_of(b"Welcome!"), 'a 200 with "Welcome!", where {what} was expected', True),
        (answer_of(b'{"id": "x", "cho'), r'a 200 with "{{"id": "x", "cho", where {what} was expected', True),
        (answer_of(BAD_GATEWAY, 502), 'HTTP 502 Bad Gateway, with an HTML page: "502 Bad Gateway"', True),
        (answer_of(BLOCKED, 403), r'HTTP 403 Forbidden, with an HTML page: "You are blocked" \(a firewall or a', False),
        (answer_of(b"", 504), "HTTP 504 Gateway Timeout, with an empty body", True),
        (answer_of(b"", 302, "location: /sign-in"), "HTTP 302 Found, which sends us to /sign-in", False),
    ],
    ids=["page", "empty", "braces", "text", "cut", "502", "403", "504", "302"],
)  # fmt: skip
async def test_one_bad_answer_is_told_and_the_others_go_on(
    name: str, streamed: bool, bad: bytes, shown: str, uncertain: bool
) -> None:
    pieces: list[str] = []
    async with real(name, bad) as (world, endpoint):

        async def ask(text: str, caller: Caller) -> Reply:
            return await endpoint.call(question(text), caller, on_text=pieces.append if streamed else None)

        error, caller = await three(world, ask)
    assert re.search(shown.format(what=WHAT[name]), error.message)
    assert error.message.startswith("acme/m: ")
    assert "<" not in error.message
    assert caller.tally.usage.uncertain == int(uncertain)
    assert endpoint.stopped is None
    assert sorted(pieces) == (["fi", "fi", "ne", "ne"] if streamed else [])
    if uncertain:
        assert error.status in (200, 502, 504)


GARBAGE = ["-1", "nan", "1e400", "many", "", "9" * 60, "0x10", "1970-01-01T00:00:00Z", "5h", "soon", "\xff"]
NAMES = [
    "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens",
    "anthropic-ratelimit-input-tokens-limit", "anthropic-ratelimit-input-tokens-remaining",
    "anthropic-ratelimit-input-tokens-reset", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset",
    "x-ratelimit-limit-tokens-minute", "date", "retry-after", "retry-after-ms",
]  # fmt: skip


@virtual
@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_in_every_header_of_limits_changes_nothing(garbage: str) -> None:
    headers = [(name.encode(), garbage.encode("latin-1")) for name in NAMES]

    async def answer(request: httpx.Request) -> httpx.Response:
        response = said()
        response.headers = httpx.Headers([*headers, (b"content-type", b"application/json")])
        return response

    async with acme(answer, limits=[Limit("requests", 60, burst=1)]) as world:
        async with anyio.create_task_group() as group:
            for age in range(5):
                group.start_soon(world.endpoint.call, question(), world.caller(age))
        assert len(world.asked) == 5
        assert world.seconds < 8.0  # one each second, as the file says
        assert [event for event in world.events if isinstance(event, Notice)] == []
        assert world.at_rest()


@virtual
@pytest.mark.parametrize("garbage", [*GARBAGE, "0", "Tue, 20 May 1997 12:00:00 GMT", "99999999999"])
async def test_a_wait_that_makes_no_sense_is_none(garbage: str) -> None:
    first = httpx.Response(429, headers=[(b"retry-after", garbage.encode("latin-1"))], json={})
    if garbage == "5h":  # a wait of a sort
        first = httpx.Response(429, json={})
    async with acme(first, first, said()) as world:
        caller = world.caller()
        await world.endpoint.call(question(), caller)
        assert (caller.tally.attempts, caller.tally.usage.pushed_back) == (1, 2)
        assert 3.0 < world.seconds < 12.0
        assert world.at_rest()


@virtual
@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_server_whose_clock_is_an_hour_off_is_waited_for_as_long_as_it_means(hours: int) -> None:
    theirs = datetime(2031, 5, 20, 12 + hours, tzinfo=UTC)
    headers = {"date": f"{theirs:%a, %d %b %Y %H:%M:%S} GMT", "retry-after": f"{theirs:%a, %d %b %Y %H:%M}:25 GMT"}
    first = httpx.Response(429, headers=headers, json={"error": {"message": "Slower."}})
    async with acme(first, said()) as world:
        await world.endpoint.call(question(), world.caller())
        (frozen,) = [event for event in world.events if isinstance(event, LaneFrozen)]
        assert 25.0 <= frozen.seconds <= 25.0 * 1.2
        assert 26.0 <= world.asked[1][0] <= 32.0


@virtual
@pytest.mark.parametrize("hours", [-1, 0, 1])
async def test_resets_of_a_server_whose_clock_is_an_hour_off(hours: int) -> None:
    theirs = datetime(2031, 5, 20, 12 + hours, tzinfo=UTC)
    headers = {
        "date": f"{theirs:%a, %d %b %Y %H:%M:%S} GMT",
        "anthropic-ratelimit-requests-limit": "60",
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": f"{theirs:%Y-%m-%dT%H:%M}:40Z",
    }
    first = httpx.Response(429, headers=headers, json={"error": {"message": "Slower."}})
    async with acme(first, said()) as world:
        await world.endpoint.call(question(), world.caller())
        assert 41.0 <= world.asked[1][0] <= 50.0


@virtual
async def test_who_asks_for_a_day_is_told_so_and_nobody_sits_and_waits() -> None:
    async with acme(refused(429, "Enough for today.", retry_after="86400")) as world:
        with pytest.raises(CallFailed) as raised:
            await world.endpoint.call(question(), world.caller())
        assert raised.value.error.kind == "quota"
        assert "Enough for today. (it may answer again in 24 h)" in raised.value.error.message
        (notice,) = [event for event in world.events if isinstance(event, Notice)]
        assert re.match(r"acme/m stopped until [\d-]{10} \d\d:\d\d: quota: Enough for today\.", notice.text)
        assert "24 h" in notice.text
        assert world.seconds < 2.0
        assert world.at_rest()


@virtual
async def test_the_limit_headers_of_another_dialect_are_believed() -> None:
    """A gateway that speaks one dialect passes on the headers of another."""

    async def answer(request: httpx.Request) -> httpx.Response:
        response = said()
        response.headers["anthropic-ratelimit-requests-limit"] = "60"
        response.headers["anthropic-ratelimit-requests-remaining"] = "59"
        return response

    async with acme(answer, limits=[Limit("requests", 6000, burst=1)]) as world:
        for age in range(4):
            await world.endpoint.call(question(), world.caller(age))
        assert world.at_rest()
        assert 60 in [level.limit for level in world.lane.statistics().limits]


@virtual
@pytest.mark.parametrize("status", [413, 429, 400])
async def test_what_can_never_pass_fails_at_once_and_says_by_how_much(status: int) -> None:
    too_large = refused(status, "Request too large for m on tokens per minute (TPM): Limit 8000, Requested 20480.")
    async with acme(too_large) as world:
        caller = world.caller()
        with pytest.raises(CallFailed) as raised:
            await world.endpoint.call(question(), caller)
        error = raised.value.error
        assert (error.kind, error.status, error.retryable) == ("bad_request", status, False)
        assert "12,480 tokens too many: send a shorter prompt or ask for fewer max_tokens" in error.message
        assert caller.tally.usage.uncertain == 0
        assert world.at_rest()

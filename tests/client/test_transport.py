"""The transport against servers that misbehave in every way, over real loopback sockets, on asyncio and trio."""

from __future__ import annotations

import gzip
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import aiohttp
import anyio
import anyio.abc
import httpx
import pytest
from aiohttp.client_reqrep import ConnectionKey, RequestInfo
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from agentmesh.client import transport as module
from agentmesh.client.transport import Answer, Timeouts, Transport, TransportFailed, default_http
from agentmesh.clock import on_asyncio

pytestmark = pytest.mark.anyio
both = pytest.mark.both_backends

Handler = Callable[[anyio.abc.SocketStream], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
STALL_S = 0.15
PATIENT = Timeouts(connect=5.0, first_byte=5.0, between_bytes=5.0, whole=20.0)
LATE_S = 3.0  # for what has to get somewhere before, on a loaded machine too
NO_BYTE = Timeouts(first_byte=LATE_S)
NO_NEXT = Timeouts(between_bytes=STALL_S)


async def read_request(stream: anyio.abc.SocketStream) -> bytes:
    """One whole request. Raises EndOfStream when the client is gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += await stream.receive()
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")).split()[1])
    while len(body) < length:
        body += await stream.receive()
    return head + b"\r\n\r\n" + body


def says(*pieces: bytes, then: Handler | None = None, keep: bool = False) -> Handler:
    """Answer each request with these pieces, then do something else, or close."""

    async def handle(stream: anyio.abc.SocketStream) -> None:
        while True:
            await read_request(stream)
            for piece in pieces:
                await stream.send(piece)
                await anyio.sleep(0.002)  # so that the pieces leave as several
            if then is not None:
                await then(stream)
            if not keep:
                return

    return handle


async def stall(stream: anyio.abc.SocketStream) -> None:
    await anyio.sleep_forever()


async def drip(stream: anyio.abc.SocketStream) -> None:
    while True:
        await stream.send(b"1\r\n \r\n")
        await anyio.sleep(STALL_S / 5)


def whole(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, *headers, b"content-length: %d" % len(body), b"", body])


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[httpx.URL]:
    """A server that gives each connection to `handler`; an exception there closes the connection."""

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            try:
                await handle_connection(stream)
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass

    handle_connection = handler
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", backlog=2048)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        yield httpx.URL(f"http://127.0.0.1:{port}/v1/chat?key=hidden")
        group.cancel_scope.cancel()


@asynccontextmanager
async def real_transport(**options: Any) -> AsyncIterator[Transport]:
    transport = Transport(default_http(), **options)
    try:
        yield transport
    finally:
        await transport.aclose()


async def post(url: httpx.URL, timeouts: Timeouts = PATIENT, **options: Any) -> Answer:
    async with real_transport() as transport:
        return await transport.post(url, b'{"a": 1}', headers=[("x-own", "1")], timeouts=timeouts, **options)


# --- what comes through


@both
async def test_an_answer_and_what_was_sent_for_it() -> None:
    seen: list[bytes] = []

    async def answer(stream: anyio.abc.SocketStream) -> None:
        seen.append(await read_request(stream))
        await stream.send(whole(b'{"ok": true}', b"X-RateLimit-Remaining: 7"))

    async with serving(answer) as url:
        got = await post(url)
    assert (got.status, got.body) == (200, b'{"ok": true}')
    assert got.headers["x-ratelimit-remaining"] == "7"
    assert got.headers.get("retry-after") is None
    (request,) = seen
    assert request.startswith(b"POST /v1/chat?key=hidden HTTP/1.1\r\n")
    assert request.endswith(b'\r\n\r\n{"a": 1}')
    names = [line.partition(b":")[0].lower() for line in request.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]]
    assert sorted(set(names) - {b"connection", b"accept", b"user-agent"}) == [b"content-length", b"host", b"x-own"]
    assert len(set(names)) == len(names)


@both
async def test_html_with_200_is_an_answer_like_any_other() -> None:
    page = b"<!doctype html><html><body>Sign in</body></html>"
    async with serving(says(whole(page, b"content-type: text/html"))) as url:
        assert (await post(url)).body == page


@both
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # httpx on trio leaves its own unclosed then
async def test_a_gzipped_body_is_unpacked_and_a_broken_one_told() -> None:
    packed = gzip.compress(b'{"text": "' + b"a" * 5000 + b'"}')
    async with serving(says(whole(packed, b"content-encoding: gzip"))) as url:
        assert (await post(url)).body == gzip.decompress(packed)
        pieces: list[bytes] = []
        answer = await post(url, on_bytes=pieces.append)
        assert (b"".join(pieces), answer.body) == (gzip.decompress(packed), b"")
    async with serving(says(whole(b"no gzip at all", b"content-encoding: gzip"))) as url:
        with pytest.raises(TransportFailed, match="could not be decoded") as raised:
            await post(url)
    assert raised.value.sent


@both
async def test_pieces_come_as_they_are_sent_and_only_of_a_success() -> None:
    chunks = [b"4\r\nabcd\r\n", b"2\r\nef\r\n", b"0\r\n\r\n"]
    pieces: list[bytes] = []
    async with serving(says(HEAD + b"transfer-encoding: chunked\r\n\r\n", *chunks)) as url:
        answer = await post(url, on_bytes=pieces.append)
    assert (pieces, answer.body) == ([b"abcd", b"ef"], b"")
    async with serving(says(whole(b"busy", b"retry-after: 3", status=b"429 Too Many Requests"))) as url:
        answer = await post(url, on_bytes=pieces.append)
    assert (answer.status, answer.body, answer.headers["retry-after"]) == (429, b"busy", "3")
    assert len(pieces) == 2


@both
async def test_hooks_see_the_request_and_the_response() -> None:
    seen: list[str] = []

    async def before(request: httpx.Request) -> None:
        seen.append(f"{request.method} {request.url.path} {request.content.decode()}")

    async def after(response: httpx.Response) -> None:
        await response.aread()
        seen.append(f"{response.status_code} {response.text} to {response.request.url.path}")

    async with (
        serving(says(whole(b"{}"))) as url,
        real_transport(event_hooks={"request": [before], "response": [after]}) as transport,
    ):
        answer = await transport.post(url, b"[]", headers=[], timeouts=PATIENT)
    assert answer.body == b"{}"
    assert seen == ["POST /v1/chat []", "200 {} to /v1/chat"]


@both
async def test_connections_are_used_again_and_closed_ones_replaced() -> None:
    connections = count()
    used: list[int] = []

    async def answer(stream: anyio.abc.SocketStream) -> None:
        number = next(connections)
        for _ in range(3):
            await read_request(stream)
            used.append(number)
            await stream.send(whole(b"{}", *[b"connection: close"] * (len(used) % 3 == 0)))

    async with serving(answer) as url, real_transport() as transport:
        for _ in range(7):
            await transport.post(url, b"{}", headers=[], timeouts=PATIENT)
    assert used == [0, 0, 0, 1, 1, 1, 2]


@both
async def test_a_thousand_requests_at_once() -> None:
    """All of them are at the server at the same time: it answers none before it has the last."""
    everybody, waiting = anyio.Event(), 0
    answers: Counter[int] = Counter()
    crowd = 1000 if on_asyncio() else 150  # httpx's own pool is slow

    async def answer(stream: anyio.abc.SocketStream) -> None:
        nonlocal waiting
        await read_request(stream)
        waiting += 1
        if waiting == crowd:
            everybody.set()
        await everybody.wait()
        await stream.send(whole(b"{}"))

    async def ask(transport: Transport, url: httpx.URL) -> None:
        answers[(await transport.post(url, b"{}", headers=[], timeouts=Timeouts(60, 60, 60, 60))).status] += 1

    async with serving(answer) as url, real_transport() as transport, anyio.create_task_group() as group:
        for _ in range(crowd):
            group.start_soon(ask, transport, url)
    assert answers == {200: crowd}


# --- what goes wrong


async def refused_url() -> httpx.URL:
    async with serving(stall) as url:
        return url  # whose port nobody listens on any more


@both
async def test_a_refused_connection_was_never_sent() -> None:
    told: list[bool] = []
    with pytest.raises(TransportFailed, match="no connection") as raised:
        await post(await refused_url(), on_sent=lambda: told.append(True))
    assert (raised.value.sent, raised.value.timeout, told) == (False, False, [])


@both
async def test_a_name_that_nobody_has_was_never_sent() -> None:
    with pytest.raises(TransportFailed, match="no connection") as raised:
        await post(httpx.URL("http://nobody.invalid/v1"))
    assert not raised.value.sent


@both
@pytest.mark.parametrize("timeouts", [Timeouts(connect=STALL_S), Timeouts(whole=STALL_S), Timeouts(first_byte=STALL_S)])
async def test_a_connection_that_does_not_come_about_was_never_sent(timeouts: Timeouts) -> None:
    """A listener whose queue is full lets nobody in, and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        try:
            with pytest.raises(TransportFailed, match="no connection") as raised:
                await post(httpx.URL(f"http://127.0.0.1:{listener.getsockname()[1]}/"), timeouts)
        finally:
            for one in waiting:
                one.close()
    assert (raised.value.sent, raised.value.timeout) == (False, True)


CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
LONG = HEAD + b"content-length: 100\r\n\r\n"


@both
@pytest.mark.parametrize(
    ("handler", "words"),
    [
        pytest.param(says(), "the connection broke", id="closes before headers"),
        pytest.param(says(b"HTTP/1.1 200"), "the connection broke", id="closes within the status"),
        pytest.param(says(LONG, b'{"half'), "a 200 that did not end", id="closes mid-body"),
        pytest.param(says(CHUNKED, b"5\r\nhello\r\n"), "a 200 that did not end", id="chunked without its end"),
        pytest.param(says(CHUNKED, b"ff\r\nhello"), "a 200 that did not end", id="closes mid-chunk"),
        pytest.param(says(b"220 mail.example ESMTP\r\n\r\n"), "the connection broke", id="another protocol"),
    ],
)
async def test_a_broken_answer_may_have_been_paid_for(handler: Handler, words: str) -> None:
    told: list[bool] = []
    async with serving(handler) as url:
        with pytest.raises(TransportFailed, match=words) as raised:
            await post(url, on_sent=lambda: told.append(True))
    assert (raised.value.sent, raised.value.timeout, told) == (True, False, [True])
    assert "hidden" not in str(raised.value)


STALLS: list[tuple[Handler, Timeouts, str]] = [
    (says(then=stall), NO_BYTE, "no answer after"),
    (says(b"HTTP/1.1 200", then=stall), NO_BYTE, "no answer after"),
    (says(LONG, then=stall), NO_BYTE, "a 200 that did not end after"),
    (says(LONG, b"{", then=stall), NO_NEXT, "a 200 that did not end after"),
    (says(CHUNKED, then=drip), Timeouts(whole=LATE_S), "a 200 that did not end after"),
]


@both
async def test_a_stall_ends_at_its_timeout() -> None:
    """Before the headers, within them, after them, within the body; or the body never ends."""

    async def ask(handler: Handler, timeouts: Timeouts, words: str) -> None:
        async with serving(handler) as url:
            with pytest.raises(TransportFailed, match=words) as raised, anyio.fail_after(20.0):
                await post(url, timeouts)
        assert (raised.value.sent, raised.value.timeout) == (True, True)

    async with anyio.create_task_group() as group:  # all at once: each waits for its timeout
        for each in STALLS:
            group.start_soon(ask, *each)


@both
async def test_a_chunk_of_no_size_is_told_or_ends_as_a_stall() -> None:
    async with serving(says(CHUNKED, b"zz\r\nhello\r\n")) as url:
        with pytest.raises(TransportFailed, match="a 200 that did not end") as raised:
            await post(url, Timeouts(first_byte=LATE_S, between_bytes=STALL_S))
    assert raised.value.sent


class Dripping(httpx.AsyncBaseTransport):
    """Answers at once, with a body of eight bytes that come 50 s apart."""

    class Body(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for _ in range(8):
                yield b" "
                await anyio.sleep(50.0)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=self.Body())


@both
@pytest.mark.virtual_time
async def test_drips_within_the_time_between_bytes_go_on() -> None:
    transport = Transport(Dripping())
    answer = await transport.post(httpx.URL("http://x/"), b"", headers=[], timeouts=Timeouts(between_bytes=60.0))
    assert answer.body == b" " * 8
    with pytest.raises(TransportFailed, match=r"did not end after 40\.0 s"):
        await transport.post(httpx.URL("http://x/"), b"", headers=[], timeouts=Timeouts(between_bytes=40.0))


@both
async def test_cancelling_closes_the_connection_and_stays_a_cancellation() -> None:
    at_server, gone = anyio.Event(), anyio.Event()

    async def wait_for_the_end(stream: anyio.abc.SocketStream) -> None:
        at_server.set()
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.receive()
        gone.set()

    async with serving(says(CHUNKED, then=wait_for_the_end)) as url, real_transport() as transport:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: transport.post(url, b"{}", headers=[], timeouts=PATIENT))
                await at_server.wait()
                await anyio.sleep(0.02)
                scope.cancel()
        assert scope.cancelled_caught
        with anyio.fail_after(5.0):
            await gone.wait()


# --- foreign errors


def all_below(kind: type[Exception]) -> list[type[Exception]]:
    return [kind, *(found for below in kind.__subclasses__() for found in all_below(below))]


HTTPX_ERRORS = sorted(set(all_below(httpx.RequestError) + all_below(httpx.StreamError)), key=lambda kind: kind.__name__)
NEVER_SENT = {
    "ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "ProxyError", "LocalProtocolError",
}  # fmt: skip
IN_TIME = {"TimeoutException", "ConnectTimeout", "ReadTimeout", "WriteTimeout"}


class Raising(httpx.AsyncBaseTransport):
    def __init__(self, error: Exception) -> None:
        self.error = error

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise self.error


async def failure_of(http: httpx.AsyncBaseTransport) -> TransportFailed:
    with pytest.raises(TransportFailed) as raised:
        await Transport(http).post(httpx.URL("http://x/"), b"", headers=[], timeouts=PATIENT)
    return raised.value


@pytest.mark.parametrize("kind", HTTPX_ERRORS, ids=lambda kind: kind.__name__)
async def test_each_error_of_httpx_becomes_ours(kind: type[Exception]) -> None:
    error = kind.__new__(kind)
    Exception.__init__(error, "words")
    failure = await failure_of(Raising(error))
    assert failure.sent == (kind.__name__ not in NEVER_SENT)
    assert failure.timeout == (kind.__name__ in IN_TIME)
    assert "words" in str(failure)
    assert failure.__cause__ is error


@pytest.mark.parametrize("error", [LookupError("a bug"), httpx.HTTPStatusError("x", request=None, response=None)])  # type: ignore[arg-type]  # made up
async def test_what_is_no_transport_error_passes_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        await Transport(Raising(error)).post(httpx.URL("http://x/"), b"", headers=[], timeouts=PATIENT)
    assert raised.value is error
    assert raised.value.__cause__ is None


REQUEST_INFO = RequestInfo(URL("http://x/"), "POST", CIMultiDictProxy(CIMultiDict()), URL("http://x/"))
KEY = ConnectionKey("x", 80, False, True, None, None, None)  # type: ignore[call-arg,unused-ignore]  # by version
ARGUMENTS: dict[type[Exception], tuple[Any, ...]] = {
    aiohttp.ClientResponseError: (REQUEST_INFO, ()),
    aiohttp.ClientConnectorCertificateError: (KEY, ValueError("words")),
    aiohttp.ClientConnectorError: (KEY, OSError(111, "words")),
    aiohttp.ServerFingerprintMismatch: (b"a", b"b", "x", 80),
    aiohttp.InvalidURL: ("http://x/",),
}
AIOHTTP_ERRORS = sorted(set(all_below(aiohttp.ClientError)), key=lambda kind: kind.__name__)


def made(kind: type[Exception]) -> Exception:
    if kind.__name__ == "UnixClientConnectorError":
        return kind("/path", *ARGUMENTS[aiohttp.ClientConnectorError])
    arguments = next((found for base, found in ARGUMENTS.items() if issubclass(kind, base)), ("words",))
    return kind(*arguments)


@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize("kind", [*AIOHTTP_ERRORS, TimeoutError, OSError, ValueError], ids=lambda kind: kind.__name__)
async def test_each_error_of_aiohttp_becomes_ours(
    kind: type[Exception], sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = made(kind)

    async def request(session: Any, *args: Any, data: Any, **options: Any) -> None:
        if sent:
            data.sent.note()
        raise error

    http = default_http()
    monkeypatch.setattr(aiohttp.ClientSession, "request", request)
    failure = await failure_of(http)
    await http.aclose()
    assert failure.sent == sent
    assert failure.timeout == isinstance(error, TimeoutError)


async def test_errors_within_a_body_were_sent() -> None:
    class Content:
        def __init__(self, error: Exception) -> None:
            self.error = error

        async def iter_any(self) -> AsyncIterator[bytes]:
            yield b"{"
            raise self.error

        def at_eof(self) -> bool:
            return False

    class Response:
        closed = 0

        def __init__(self, error: Exception) -> None:
            self.content = Content(error)

        def close(self) -> None:
            self.closed += 1

    class Answering(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, stream=module._Body(response))

    for kind in [*AIOHTTP_ERRORS, TimeoutError, OSError]:
        response = Response(made(kind))
        failure = await failure_of(Answering())
        assert failure.sent, kind
        assert response.closed == 1

"""The in-process transport: streams, passes cancellation on, and maps a closed connection; on asyncio and trio."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest

from agentmesh.simulate.provider import HANG_UP, ASGIApp, Receive, Scope, Send
from agentmesh.simulate.transport import InProcessTransport

pytestmark = [pytest.mark.anyio, pytest.mark.both_backends, pytest.mark.virtual_time]


def client(app: ASGIApp, **kwargs: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=InProcessTransport(app), base_url="http://sim", **{"timeout": None, **kwargs})


async def start(send: Send, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"x-told", b"yes")]})


async def test_the_application_sees_the_request_and_the_caller_the_reply() -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        seen.extend(
            [scope["method"], scope["path"], scope["query_string"], dict(scope["headers"])[b"x-a"], message["body"]]
        )
        await start(send, 418)
        await send({"type": "http.response.body", "body": b"tea", "more_body": True})
        await send({"type": "http.response.body", "body": b"pot"})
        seen.append("finished")

    async with client(app) as http:
        reply = await http.post("/v1/chat%20x?q=1", content=b"body", headers={"X-A": "b"})
    assert (reply.status_code, reply.content, reply.headers["x-told"]) == (418, b"teapot", "yes")
    assert seen == ["POST", "/v1/chat x", b"q=1", b"b", b"body", "finished"]


async def test_headers_and_pieces_arrive_when_they_are_sent() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await anyio.sleep(1)
        await start(send)
        for number in range(3):
            await anyio.sleep(2)
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": number < 2})

    began = anyio.current_time()
    arrived: list[tuple[float, bytes]] = []
    async with client(app) as http, http.stream("GET", "/") as reply:
        arrived.append((anyio.current_time() - began, b"headers"))
        arrived += [(anyio.current_time() - began, piece) async for piece in reply.aiter_raw()]
    assert [at for at, _ in arrived] == pytest.approx([1, 3, 5, 7])
    assert [piece for _, piece in arrived] == [b"headers", b"0", b"1", b"2"]


async def test_cancelling_the_request_cancels_the_application() -> None:
    ended: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await anyio.sleep(3600)
        except BaseException as error:
            ended.append(type(error).__name__)
            raise

    async with client(app) as http:
        with anyio.move_on_after(5):
            await http.get("/")
    assert ended in (["CancelledError"], ["Cancelled"])


async def test_closing_an_unfinished_reply_ends_the_application() -> None:
    ended: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await start(send)
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
        finally:
            ended.append("ended")

    reply = await InProcessTransport(app).handle_async_request(httpx.Request("GET", "http://sim/"))
    assert isinstance(reply.stream, httpx.AsyncByteStream)
    assert await anext(aiter(reply.stream)) == b"x"
    assert ended == []
    await reply.aclose()
    assert ended == ["ended"]


@pytest.mark.parametrize("after", ["nothing", "headers", "half", "hang_up", "hang_up_after_headers"])
async def test_an_application_that_stops_early_is_a_closed_connection(after: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if after == "hang_up":
            scope["extensions"][HANG_UP]()
            assert (await receive())["type"] == "http.disconnect"
        if after in ("nothing", "hang_up"):
            return
        await start(send)
        if after == "hang_up_after_headers":
            scope["extensions"][HANG_UP]()
            await send({"type": "http.response.body", "body": b"whole"})
        if after == "half":
            await send({"type": "http.response.body", "body": b"ha", "more_body": True})

    async with client(app) as http:
        with pytest.raises(httpx.RemoteProtocolError, match="closed the connection"):
            await http.get("/")


async def test_the_read_timeout_of_a_request_holds_for_each_part() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await anyio.sleep(4)
        await start(send)
        await anyio.sleep(4)
        await send({"type": "http.response.body", "body": b"in time"})

    async with client(app) as http:
        assert (await http.get("/", timeout=5)).content == b"in time"
        began = anyio.current_time()
        with pytest.raises(httpx.ReadTimeout):
            await http.get("/", timeout=3)
        assert anyio.current_time() - began == pytest.approx(3)


async def test_an_error_of_the_application_reaches_the_caller() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("a bug")

    async with client(app) as http:
        with pytest.raises(LookupError, match="a bug"):
            await http.get("/")


async def test_many_requests_at_once_do_not_wait_for_each_other() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await anyio.sleep(10)
        await start(send)
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    began = anyio.current_time()
    bodies: list[bytes] = []
    async with client(app) as http:

        async def get(number: int) -> None:
            bodies.append((await http.get(f"/{number}")).content)

        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(get, number)
    assert anyio.current_time() - began == pytest.approx(10)
    assert sorted(bodies) == sorted(f"/{number}".encode() for number in range(50))

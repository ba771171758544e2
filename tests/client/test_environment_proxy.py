"""Which proxy a request takes: what the environment says, asked once for each host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from agentmesh.client.transport import DEFAULT_TIMEOUTS, Transport, default_http

pytestmark = pytest.mark.anyio
REPLY = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@asynccontextmanager
async def listening(heads: list[bytes]) -> AsyncIterator[str]:
    """A server that answers everything with `{}` and keeps the head of each request; gives its address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        await reader.readexactly(2)
        writer.write(REPLY)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def post(url: str, *, trust_env: bool = True) -> int:
    transport = Transport(default_http(trust_env=trust_env))
    try:
        answer = await transport.post(
            httpx.URL(url), b"{}", headers=[("authorization", "Bearer key")], timeouts=DEFAULT_TIMEOUTS
        )
        return answer.status
    finally:
        await transport.aclose()


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
async def test_a_proxy_of_the_environment_is_used(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[bytes] = []
    async with listening(heads) as address:
        monkeypatch.delenv("REQUEST_METHOD", raising=False)
        monkeypatch.setenv(variable.lower(), f"http://user:secret@{address}")
        assert await post("http://models.invalid/v1/chat") == 200
    (head,) = heads
    assert head.startswith(b"POST http://models.invalid/v1/chat HTTP/1.1\r\n")
    assert b"proxy-authorization: basic" in head.lower()  # the proxy's own credentials, for the proxy
    assert b"authorization: Bearer key" in head


async def test_a_proxy_without_a_scheme_speaks_http(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[bytes] = []
    async with listening(heads) as address:
        monkeypatch.setenv("http_proxy", address)
        assert await post("http://models.invalid/v1/chat") == 200
    assert len(heads) == 1


async def test_what_no_proxy_names_is_reached_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[bytes] = []
    async with listening(heads) as address:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody listens there
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert await post(f"http://{address}/v1/chat") == 200
    assert heads[0].startswith(b"POST /v1/chat HTTP/1.1\r\n")


async def test_the_environment_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[bytes] = []
    async with listening(heads) as address:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert await post(f"http://{address}/v1/chat", trust_env=False) == 200
    assert len(heads) == 1

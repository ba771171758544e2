"""The in-process way to an ASGI application: an httpx transport that streams, and starts no task of its own.

The application's coroutine is driven by whoever reads the reply, as a generator is: it runs until it sends a message,
stays suspended there, and goes on when the next part of the body is asked for. Everything else that it waits for
(timers, locks, threads) passes through to the event loop, whichever that is, and cancelling the reader cancels the
application where it waits. So a call costs a few switches between coroutines and nothing needs to be cleaned up behind
anybody's back. The price: an application must not hold a cancel scope or task group open while it sends.
"""

from __future__ import annotations

import types
from collections.abc import AsyncIterator, Coroutine, Generator, MutableMapping
from typing import Any

import anyio
import httpx

from .provider import HANG_UP, RESET, ASGIApp

__all__ = ["InProcessTransport"]

Message = MutableMapping[str, Any]


class _Sent:
    """What the application yields to its driver when it sends a message, told apart from what event loops yield."""

    __slots__ = ("message",)

    def __init__(self, message: Message) -> None:
        self.message = message


@types.coroutine
def _hand_over(message: Message) -> Generator[_Sent, None, None]:
    yield _Sent(message)


@types.coroutine
def _next_message(app: Coroutine[Any, Any, None]) -> Generator[Any, Any, Message | None]:
    """Run the application up to the next message that it sends; None when it has returned."""
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            waits_for = app.send(value) if error is None else app.throw(error)
        except StopIteration:
            return None
        if type(waits_for) is _Sent:
            return waits_for.message
        value = error = None
        try:
            value = yield waits_for
        except GeneratorExit:
            app.close()
            raise
        except BaseException as thrown:  # noqa: BLE001  # cancellation among them: the application must see it
            error = thrown


class _Exchange(httpx.AsyncByteStream):
    """One request and its reply, which is read by iterating."""

    def __init__(self, app: ASGIApp, request: httpx.Request, body: bytes) -> None:
        self._body = body
        self._received = False
        self._more = True
        self._hung_up = False
        self._reset = False
        self._read_s: float | None = request.extensions.get("timeout", {}).get("read")
        self._request = request
        self._app: Coroutine[Any, Any, None] = app(self._scope(), self._receive, _hand_over)  # type: ignore[assignment]  # an async function

    def _scope(self) -> dict[str, Any]:
        request = self._request
        raw_path, _, query = request.url.raw_path.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": request.url.scheme,
            "path": request.url.path,
            "raw_path": raw_path,
            "root_path": "",
            "query_string": query,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "server": (request.url.host, request.url.port),
            "client": ("127.0.0.1", 0),
            "extensions": {HANG_UP: self._hang_up, RESET: self._reset_it},
        }

    async def _receive(self) -> Message:
        if not self._received:
            self._received = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        if not self._hung_up:
            await anyio.sleep_forever()  # a caller that goes away cancels
        return {"type": "http.disconnect"}

    def _hang_up(self) -> None:
        self._hung_up = True

    def _reset_it(self) -> None:
        self._hung_up = self._reset = True

    async def _next(self) -> Message:
        """The next message. Raises what an httpx transport does: RemoteProtocolError, ReadError, ReadTimeout."""
        message: Message | None = None
        if self._read_s is None:
            message = await _next_message(self._app)
        else:
            with anyio.move_on_after(self._read_s) as scope:
                message = await _next_message(self._app)
            if scope.cancelled_caught:
                raise httpx.ReadTimeout(f"nothing came for {self._read_s:g} s", request=self._request)
        if self._reset:
            raise httpx.ReadError("the server reset the connection", request=self._request)
        if message is None or self._hung_up:
            raise httpx.RemoteProtocolError(
                "the server closed the connection before its reply was complete", request=self._request
            )
        return message

    async def begin(self) -> httpx.Response:
        """The status and headers, as soon as the application has sent them."""
        message = await self._next()
        return httpx.Response(message["status"], headers=message.get("headers", []), stream=self, request=self._request)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while self._more:
            message = await self._next()
            self._more = message.get("more_body", False)
            if not self._more:
                await _next_message(self._app)  # let it finish what it does after its last message
            if body := message.get("body", b""):
                piece: bytes = body
                return piece
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self._app.close()


class InProcessTransport(httpx.AsyncBaseTransport):
    """Sends requests to an ASGI application in this process.

    The reply begins as soon as its headers are sent and streams as the application sends it. The `read` timeout of a
    request holds for each part; there is nothing to connect to. An application that hangs up, or returns before its
    reply is complete, is a closed connection: httpx.RemoteProtocolError; one that resets it is httpx.ReadError.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __repr__(self) -> str:
        return f"<InProcessTransport to {self.app!r}>"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request. Raises httpx.RemoteProtocolError, httpx.ReadError and httpx.ReadTimeout."""
        return await _Exchange(self.app, request, await request.aread()).begin()

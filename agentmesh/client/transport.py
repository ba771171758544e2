"""The only HTTP: one request in, status, headers and body out, under four timeouts, with errors told apart by money.

On asyncio connections are aiohttp's, behind httpx's transport interface: its pool finds a free connection without
looking at all of them, which at a thousand calls in flight is most of a call's cost. On trio it is plain httpx. Any
`httpx.AsyncBaseTransport` can take its place, and httpx's event hooks are called as usual.

What went wrong is told by whether bytes had left: *never sent* costs nothing, *sent* may have been paid for.
"""

from __future__ import annotations

import re
import ssl
import urllib.request
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import anyio
import httpx

from ..clock import monotonic, on_asyncio

__all__ = ["DEFAULT_TIMEOUTS", "Answer", "Timeouts", "Transport", "TransportFailed", "default_http"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to connect, to the first byte of the answer's body, between its bytes, and for the whole call.

    Headers are no news: a server may send them at once, and think for minutes.
    """

    connect: float = 10.0
    first_byte: float = 300.0
    between_bytes: float = 60.0
    whole: float = 600.0


DEFAULT_TIMEOUTS = Timeouts()

_USER = re.compile(r"://[^/\s@]+@")  # of a proxy's address, or of the provider's: it may have a password
_SENT = "agentmesh.sent"  # an extension of a request: whom to tell when its first bytes leave


class TransportFailed(Exception):
    """No complete answer came. `sent` says whether bytes had left, so that the call may have been paid for."""

    def __init__(self, message: str, *, sent: bool, timeout: bool = False) -> None:
        self.sent = sent
        self.timeout = timeout
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers (lower-case names) and the whole body. A streamed success has an empty body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Sends requests through any httpx transport. Close it with `aclose`."""

    def __init__(
        self, http: httpx.AsyncBaseTransport, *, event_hooks: Mapping[str, Sequence[Callable[..., Any]]] | None = None
    ) -> None:
        self._http = http
        self._before = tuple((event_hooks or {}).get("request", ()))
        self._after = tuple((event_hooks or {}).get("response", ()))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def post(
        self, url: httpx.URL, body: bytes, *, headers: Sequence[tuple[str, str]], timeouts: Timeouts,
        on_bytes: Callable[[bytes], None] | None = None, on_sent: Callable[[], None] | None = None,
    ) -> Answer:  # fmt: skip
        """POST `body`. `on_bytes` gets the pieces of a 2xx body as they come. Raises TransportFailed.

        `on_sent` is called when the first bytes leave; where the transport cannot tell, when it is given the request.
        """
        request = _request(url, body, headers=headers, connect=timeouts.connect)
        began = monotonic()
        sent = _Sent(on_sent)
        progress = "no answer"
        scope = anyio.CancelScope(deadline=began + min(timeouts.first_byte, timeouts.whole))
        try:
            with scope:
                for hook in self._before:
                    await hook(request)
                self._follow(request, sent)
                response = await self._http.handle_async_request(request)
                response.request = request
                try:
                    for hook in self._after:
                        await hook(response)
                    progress = f"a {response.status_code} that did not end"
                    streamed = on_bytes if response.is_success else None
                    return await _read(response, scope, began + timeouts.whole, timeouts.between_bytes, streamed)
                finally:
                    if scope.cancel_called:
                        with anyio.CancelScope(shield=True):
                            await response.aclose()
                    else:
                        await response.aclose()
        except Exception as error:
            if (failure := _failure(error, progress)) is None:
                raise
            raise failure from error
        progress = progress if sent.noted else "no connection"
        raise TransportFailed(f"{progress} after {monotonic() - began:.1f} s", sent=sent.noted, timeout=True)

    def _follow(self, request: httpx.Request, sent: _Sent) -> None:
        """Have it noted when the request's first bytes leave; at once where the transport cannot tell."""
        match self._http:
            case _AiohttpTransport():
                request.extensions[_SENT] = sent
            case httpx.AsyncHTTPTransport():
                request.extensions["trace"] = sent.trace
            case _:
                sent.note()


async def _read(
    response: httpx.Response, scope: anyio.CancelScope, deadline: float, between: float,
    on_bytes: Callable[[bytes], None] | None,
) -> Answer:  # fmt: skip
    pieces: list[bytes] = []
    async for piece in _pieces(response):
        scope.deadline = min(deadline, monotonic() + between)
        if on_bytes is not None:
            on_bytes(piece)
        else:
            pieces.append(piece)
    return Answer(response.status_code, response.headers, b"".join(pieces))


def _pieces(response: httpx.Response) -> AsyncIterable[bytes]:
    """The body as it comes. Only what is encoded, or what a hook has read, goes through httpx's slower iterator."""
    if response.is_stream_consumed or "content-encoding" in response.headers:
        return response.aiter_bytes()
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return response.stream


def _request(url: httpx.URL, body: bytes, *, headers: Sequence[tuple[str, str]], connect: float) -> httpx.Request:
    """The request, its body read. Made from its parts, a request is three times as fast as from `content`."""
    common = _headers(url.netloc, tuple(headers))  # copied by the request
    request = httpx.Request(
        "POST", url, headers=common, stream=httpx.ByteStream(body), extensions={"timeout": {"connect": connect}}
    )
    request.headers["Content-Length"] = str(len(body))
    request.read()
    return request


@lru_cache(maxsize=64)
def _headers(host: bytes, headers: tuple[tuple[str, str], ...]) -> httpx.Headers:
    """What all requests to an endpoint begin with."""
    made = httpx.Headers(list(headers))
    made.setdefault("Host", host.decode("ascii"))
    return made


def _failure(error: Exception, progress: str) -> TransportFailed | None:
    """The one place where foreign errors become ours; None for what is no transport error."""
    text = _USER.sub("://[key]@", str(error)) or type(error).__name__
    match error:
        case httpx.ConnectTimeout():
            return TransportFailed(f"no connection in time: {text}", sent=False, timeout=True)
        case httpx.ConnectError() | httpx.PoolTimeout() | httpx.UnsupportedProtocol() | httpx.ProxyError():
            return TransportFailed(f"no connection: {text}", sent=False)
        case httpx.LocalProtocolError() | httpx.InvalidURL():
            return TransportFailed(f"the request could not be written: {text}", sent=False)
        case httpx.TimeoutException():
            return TransportFailed(f"{progress} in time: {text}", sent=True, timeout=True)
        case httpx.DecodingError():
            return TransportFailed(f"the answer could not be decoded: {text}", sent=True)
        case httpx.RequestError() | httpx.StreamError():
            return TransportFailed(f"the connection broke ({progress}): {text}", sent=True)
        case _:
            return None


def default_http(*, verify: ssl.SSLContext | None = None, trust_env: bool = True) -> httpx.AsyncBaseTransport:
    """The transport for real networks: aiohttp's connections on asyncio, httpx's own elsewhere."""
    if on_asyncio():
        return _AiohttpTransport(verify=verify, trust_env=trust_env)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncHTTPTransport(verify=verify or ssl.create_default_context(), limits=limits, trust_env=trust_env)


class _AiohttpTransport(httpx.AsyncBaseTransport):
    """httpx's transport interface over one aiohttp session, without a cap on connections."""

    def __init__(self, *, verify: ssl.SSLContext | None, trust_env: bool) -> None:
        import aiohttp  # here, because it takes 0.2 s that in-process runs need not pay

        self._aiohttp = aiohttp
        self._body = _telling_body()
        self._timeout = lru_cache(lambda connect: aiohttp.ClientTimeout(total=None, sock_connect=connect))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=verify or True, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=None),
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type"),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._proxy = lru_cache(_environment_proxy) if trust_env else _no_proxy

    async def aclose(self) -> None:
        await self._session.close()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        aiohttp = self._aiohttp
        connect = request.extensions.get("timeout", {}).get("connect")
        sent = request.extensions.get(_SENT) or _Sent(None)
        url = request.url
        try:
            response = await self._session.request(
                request.method,
                _yarl(str(url)),
                proxy=self._proxy(url.scheme, url.host),
                data=self._body(request.content, sent),
                headers=[(name.decode(), value.decode("latin-1")) for name, value in request.headers.raw],
                allow_redirects=False,
                timeout=self._timeout(connect),
            )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _as_httpx(error, sent=sent.noted) from error
        return httpx.Response(response.status, headers=response.raw_headers, stream=_Body(response))


def _environment_proxy(scheme: str, host: str) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY (or the system's settings) name for a host.

    Asked once for each host. aiohttp would ask twice for each request, in threads, which costs more than to send it.
    """
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _no_proxy(scheme: str, host: str) -> None:
    return None


class _Sent:
    """Whether the first bytes of a request have left, and who wants to hear of it."""

    __slots__ = ("_tell", "noted")

    def __init__(self, tell: Callable[[], None] | None) -> None:
        self.noted = False
        self._tell = tell

    def note(self) -> None:
        self.noted = True
        if self._tell is not None:
            self._tell()

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Hears what httpx's own connections do."""
        if event.endswith("send_request_headers.started"):
            self.note()


@cache
def _telling_body() -> Any:
    """A class of bodies that tell when they are written: aiohttp keeps the headers back until then.

    Its own way to tell, traces, takes six calls for each request.
    """
    from aiohttp.payload import BytesPayload

    class TellingBody(BytesPayload):
        def __init__(self, body: bytes, sent: _Sent) -> None:
            super().__init__(body)
            self.sent = sent

        async def write_with_length(self, writer: Any, content_length: int | None) -> None:
            self.sent.note()
            await super().write_with_length(writer, content_length)

    return TellingBody


@lru_cache(maxsize=64)
def _yarl(url: str) -> Any:
    """The URL as aiohttp takes it; an endpoint has but one."""
    from yarl import URL

    return URL(url, encoded=True)


def _as_httpx(error: Exception, *, sent: bool) -> httpx.TransportError:
    text = getattr(error, "message", "") or str(error)  # the text of some has the whole URL, and that may have a key
    text = text or type(error).__name__
    if sent:
        return httpx.ReadTimeout(text) if isinstance(error, TimeoutError) else httpx.ReadError(text)
    return httpx.ConnectTimeout(text) if isinstance(error, TimeoutError) else httpx.ConnectError(text)


class _Body(httpx.AsyncByteStream):
    """The body of an aiohttp response, piece by piece as it comes."""

    def __init__(self, response: Any) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._response.content.iter_any():
                yield piece
        except Exception as error:
            raise _as_httpx(error, sent=True) from error

    async def aclose(self) -> None:
        self._response.close() if not self._response.content.at_eof() else self._response.release()

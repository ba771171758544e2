"""The simulated provider: one small ASGI application that serves every dialect, under strict limits and seeded faults.

Requests for replies go to `/v1` + the dialect's path (or without `/v1`); `GET /v1/models` lists the models and
`GET /stats` tells what was served, with `keys` of each key by itself where there were several: a key is an account, and
each has the limits for itself. Where replies come from is a `ReplySource`: made up, or recorded ones.

Two ASGI extensions are used where the server offers them: `scope["extensions"]["agentmesh.hang_up"]` is a function that
closes the connection at once, `"agentmesh.reset"` one that resets it. Without them a broken connection is left to what
the server makes of a missing reply.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import anyio

from .. import clock
from ..catalog.source import ProviderFile
from ..catalog.spec import Failure
from ..dialects import DIALECTS
from ..dialects.base import Dialect, LimitLevel, RequestRejected
from ..errors import ErrorInfo
from ..messages import Reply, Request
from .behaviour import Fate, Served, ServedModel, served_by
from .replies import NoReply, ReplySource, SimulatedReplies
from .strict import Admitted, KeyedLimits, Refused, ServerStatistics, StrictLimits

__all__ = ["HANG_UP", "RESET", "ASGIApp", "Fates", "Receive", "Scope", "Send", "SimulatedProvider"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

Fates = Callable[[Request], Fate]
"""What is in store for an admitted request, where that shall not be left to chance."""

HANG_UP = "agentmesh.hang_up"
RESET = "agentmesh.reset"
_JSON = (b"content-type", b"application/json")
_EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
_PIECE_S = 0.02  # pieces of a stream are not sent faster than this: what a screen can show
_PIECE_TOKENS = 16  # where tokens take no time at all


@dataclass(slots=True)
class _Exchange:
    """One request being answered: its connection, its account's limits, its dialect and model, and the headers every
    reply to it has."""

    scope: Scope
    receive: Receive
    send: Send
    limits: StrictLimits
    dialect: Dialect
    request: Request
    model: ServedModel
    headers: list[tuple[bytes, bytes]]

    async def refuse(self, status: int, error: ErrorInfo) -> None:
        """Answer with an error in the dialect's form."""
        body = self.dialect.write_refusal(status, error)
        await _send(self.send, status, body=body, headers=(_JSON, *self.headers))

    async def hang_up(self, how: str = HANG_UP) -> None:
        """Close or reset the connection, if the server lets us, and wait until it is closed."""
        hang_up = (self.scope.get("extensions") or {}).get(how)
        if hang_up is not None:
            hang_up()
            await self.receive()


class SimulatedProvider:
    """An ASGI 3 application. Time, for limits and statistics, starts with `start` or the first request."""

    def __init__(self, served: Served, replies: ReplySource | None = None, *, fates: Fates | None = None) -> None:
        self.served = served
        self._replies = SimulatedReplies(served) if replies is None else replies
        self._fates = fates
        self._rng = random.Random(served.seed)
        self._limits: KeyedLimits | None = None
        self._dialects = {prefix + one.path: one for one in DIALECTS.values() for prefix in ("", "/v1")}

    @classmethod
    def of(cls, file: ProviderFile, *, seed: int = 0) -> SimulatedProvider:
        """The simulation of a provider file; `seed` is added to the file's own."""
        return cls(served_by(file.spec, seed=seed))

    def __repr__(self) -> str:
        return f"<SimulatedProvider {self.served.title} {self._limits or 'not started'}>"

    def start(self) -> KeyedLimits:
        """Let time begin, if it has not; needs a running event loop."""
        if self._limits is None:
            self._limits = KeyedLimits(self.served, clock.monotonic())
        return self._limits

    def statistics(self) -> ServerStatistics:
        """What was served since the start."""
        return (self._limits or KeyedLimits(self.served, 0.0)).statistics()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        limits = self.start()
        method, path = scope["method"], scope["path"]
        if method == "POST" and (spoken := self._dialects.get(path)) is not None:
            await self._chat(spoken, scope=scope, receive=receive, send=send)
        elif path == "/stats" and method == "GET":
            told = asdict(limits.statistics())
            if len(each := limits.each()) > 1:
                told["keys"] = [asdict(one) for one in each]
            await _send(send, 200, body=json.dumps(told).encode())
        elif path in ("/models", "/v1/models") and method == "GET":
            await _send(send, 200, body=json.dumps(_model_list(self.served.models)).encode())
        else:
            known = path in self._dialects or path in ("/stats", "/models", "/v1/models")
            status, message = (405, f"{method} is not served here") if known else (404, f"nothing is served at {path}")
            error = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
            await _send(send, status, body=json.dumps(error).encode())

    async def _chat(self, spoken: Dialect, *, scope: Scope, receive: Receive, send: Send) -> None:
        limits = self.start().of(_key(scope))
        limits.note_received()
        try:
            request = spoken.parse_request(await _body(receive))
        except RequestRejected as rejected:
            error = ErrorInfo("bad_request", str(rejected), 400)
            await _send(send, 400, body=spoken.write_refusal(400, error, param=rejected.param))
            return
        model = self.served.model(request.model)
        if model is None:
            error = ErrorInfo("bad_request", f"no model is called {request.model!r} here", 404)
            await _send(send, 404, body=spoken.write_refusal(404, error, param="model"))
            return
        exchange = _Exchange(scope, receive, send, limits, spoken, request, model, [])
        try:
            input_tokens, output_tokens = self._replies.weigh(request)
        except NoReply as missing:
            await exchange.refuse(404, ErrorInfo("bad_request", str(missing), 404))
            return
        now = clock.monotonic()
        admitted = limits.admit(model, request.model, input_tokens=input_tokens, output_tokens=output_tokens, now=now)
        exchange.headers = self._limit_headers(exchange, now)
        if isinstance(admitted, Refused):
            await _refuse(exchange, admitted, tells_wait=self.served.tells_wait)
            return
        self.start().note_peak()
        await self._serve(exchange, admitted)

    async def _serve(self, exchange: _Exchange, admitted: Admitted) -> None:
        """Answer an admitted request, well or badly, and settle it whatever happens."""
        produced, completed = 0, False
        try:
            behaviour = exchange.model.behaviour
            fate = behaviour.fate(self._rng) if self._fates is None else self._fates(exchange.request)
            match failure := fate.failure:
                case "500" | "503" | "529":
                    return await _fail(exchange, int(failure))
                case "drop":
                    return await exchange.hang_up()
                case "reset":
                    return await exchange.hang_up(RESET)
                case "stall":
                    return await _stall(exchange)
            reply = self._replies.answer(exchange.request, exchange.model, input_tokens=admitted.input_tokens)
            produced = reply.tokens.output or 0
            first_s, rest_s = behaviour.seconds(produced, fate.slowness)
            send = self._stream if exchange.request.stream else self._whole
            completed = await send(exchange, reply, failure=failure, first_s=first_s, rest_s=rest_s)
        finally:
            exchange.limits.settle(admitted, clock.monotonic(), output_tokens=produced, completed=completed)

    async def _whole(
        self, exchange: _Exchange, reply: Reply, *, failure: Failure | None, first_s: float, rest_s: float
    ) -> bool:
        await clock.sleep(first_s + rest_s)  # of no time, too: in one process, nobody else gets a turn otherwise
        body = exchange.dialect.write_reply(reply, created=int(clock.wall()))
        headers = [_JSON, (b"content-length", b"%d" % len(body)), *exchange.headers]
        await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
        if failure == "truncate":
            await exchange.send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            return False
        await exchange.send({"type": "http.response.body", "body": body})
        return True

    async def _stream(
        self, exchange: _Exchange, reply: Reply, *, failure: Failure | None, first_s: float, rest_s: float
    ) -> bool:
        began = clock.monotonic()
        usage = (exchange.request.settings.extra.get("stream_options") or {}).get("include_usage", False)
        pieces = _pieces(reply.text, max(1, reply.tokens.output or 1), seconds=rest_s)
        chunks = list(exchange.dialect.write_stream(reply, pieces, created=int(clock.wall()), usage=bool(usage)))
        send = exchange.send
        await send({"type": "http.response.start", "status": 200, "headers": [_EVENTS, *exchange.headers]})
        for number, chunk in enumerate(chunks):
            if failure == "truncate" and 2 * number >= len(chunks):
                return False
            # Chunks are due at fixed times, so that what sending takes does not add up.
            due = began + first_s + rest_s * number / max(1, len(chunks) - 1)
            if due > began and (wait := due - clock.monotonic()) > 0.0:
                await clock.sleep(wait)
            await send({"type": "http.response.body", "body": chunk, "more_body": number + 1 < len(chunks)})
        return True

    def _limit_headers(self, exchange: _Exchange, now: float) -> list[tuple[bytes, bytes]]:
        if not self.served.tells_limits:
            return []
        levels = exchange.limits.levels(exchange.model, exchange.request.model, now=now)
        if not levels:
            return []
        told = exchange.dialect.limit_headers([LimitLevel(*level) for level in levels], now=clock.wall())
        return [(name.lower().encode(), value.encode()) for name, value in told.items()]


def _key(scope: Scope) -> str:
    """The key of a request, however it is sent; "" for none."""
    headers = dict(scope["headers"])
    found = headers.get(b"authorization") or headers.get(b"x-api-key") or headers.get(b"api-key") or b""
    return str(found, "latin-1")


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
    return body


async def _send(send: Send, status: int, *, body: bytes, headers: Sequence[tuple[bytes, bytes]] = (_JSON,)) -> None:
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _refuse(exchange: _Exchange, refused: Refused, *, tells_wait: bool) -> None:
    """429, with the time to wait if that is told, or 400 for what no wait would help."""
    limit = refused.limit
    name = limit.name.replace("_", " ")
    if refused.wait == math.inf:
        most = limit.limit if refused.need > limit.limit else limit.capacity
        text = f"Request too large for {name} of {refused.scope}: limit {most:.0f}, requested {refused.need:.0f}."
        await exchange.refuse(400, ErrorInfo("bad_request", text, 400))
        return
    text = f"Rate limit reached for {name} of {refused.scope}."
    if tells_wait:
        # Whole seconds, as the standard has them, and exactly beside them; never less than the truth.
        exchange.headers.append((b"retry-after", b"%d" % max(1, math.ceil(refused.wait))))
        exchange.headers.append((b"retry-after-ms", b"%d" % max(1, math.ceil(refused.wait * 1000))))
        text += f" Please try again in {refused.wait:.3f}s."
    await exchange.refuse(429, ErrorInfo("rate", text, 429, retryable=True))


async def _fail(exchange: _Exchange, status: int) -> None:
    said = "a simulated failure of the server" if status == 500 else "the server is overloaded (simulated)"
    await exchange.refuse(status, ErrorInfo("server", said, status, retryable=True))


async def _stall(exchange: _Exchange) -> None:
    with anyio.move_on_after(exchange.model.behaviour.stall_s):
        await exchange.receive()  # the client gave up
        return
    await exchange.hang_up()


def _pieces(text: str, tokens: int, *, seconds: float) -> list[str]:
    """The text in pieces of whole tokens, as many as may be shown in this time."""
    per_piece = math.ceil(_PIECE_S * tokens / seconds) if seconds > 0.0 else _PIECE_TOKENS
    size = 4 * max(1, per_piece)
    return [text[start : start + size] for start in range(0, len(text), size)]


def _model_list(models: Iterable[str]) -> dict[str, Any]:
    """The models in a form that clients of both dialects read."""
    data = [
        {
            "id": name, "object": "model", "created": 0, "owned_by": "agentmesh",
            "type": "model", "display_name": name, "created_at": "1970-01-01T00:00:00Z",
        }
        for name in models
        if name != "*"
    ]  # fmt: skip
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {"object": "list", "data": data, "has_more": False, **ends}

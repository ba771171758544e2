"""One model of one account: encode, reserve, admit, journal the intent, send, settle, decode.

What is too fast goes back into its place in the lane and is no attempt; what may work another time is tried again,
through the lane, after a wait that grows and is spread by chance; what can never work fails at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from urllib.parse import quote_plus

import anyio
import httpx

from ..catalog import ResolvedModel
from ..clock import monotonic, sleep, wall
from ..dialects import dialect
from ..dialects.base import MalformedReply, Refusal, StreamRefused, Wire
from ..errors import CallFailed, ErrorInfo, ErrorKind
from ..events import CallEnded, CallIntent, LaneFrozen, Notice
from ..limits.admission import Row, Ticket
from ..limits.lane import Lane
from ..messages import Reply, Request
from ..outcome import Usage
from .budget import Reservation
from .caller import Caller, Halted
from .transport import DEFAULT_TIMEOUTS, Timeouts, Transport, TransportFailed

__all__ = ["DEFAULT_MAX_TOKENS", "Endpoint"]

DEFAULT_MAX_TOKENS = 4096
"""Stated on the wire when a budget counts what replies cost and nobody said how long one may be."""

_BACKOFF_S, _BACKOFF_MAX_S = 0.5, 30.0
_PATIENCE_S = 300.0  # a provider that asks to wait longer than this will not answer for the run
_JITTER = 0.1
_FRAME_TOKENS, _TOOLS_TOKENS = 10, 500  # of a chat template for each message, and of a preface about tools
_SECRET = 6  # characters of a key from which on it is kept out of texts: a shorter one would be found in every word


@dataclass(frozen=True, slots=True)
class _Result:
    """What came of one attempt."""

    reply: Reply | None = None
    refusal: Refusal | None = None
    uncertain: bool = False
    sent: bool = True


class Endpoint:
    """Sends requests to one model of one account, through the account's lane."""

    def __init__(
        self, model: ResolvedModel, lane: Lane, transport: Transport, *, timeouts: Timeouts = DEFAULT_TIMEOUTS
    ) -> None:
        self.model = model
        self.lane = lane
        self.name = model.name
        self.stopped: ErrorInfo | None = None
        self._transport = transport
        self._timeouts = timeouts
        self._dialect = dialect(model.dialect)
        self._url = httpx.URL(model.base_url.rstrip("/") + self._dialect.path, params=model.request_query() or None)
        self._headers = tuple(model.request_headers().items())
        self._row = _row(lane, model)
        self._said: set[tuple[str, str]] = set()  # limits of which a user knows that their figures are the provider's
        key = "" if model.key is None else model.key.reveal()
        self._secrets = (key, quote_plus(key)) if len(key) >= _SECRET else ()
        if model.key_problem is not None:
            self.stopped = ErrorInfo("auth", f"{model.name}: {model.key_problem}")

    def __repr__(self) -> str:
        return f"<Endpoint {self.name}>"

    @property
    def row(self) -> Row:
        """Where its calls wait in the lane."""
        return self._row

    async def call(
        self, request: Request, caller: Caller, *, on_text: Callable[[str], None] | None = None,
        guest: object | None = None,
    ) -> Reply:  # fmt: skip
        """Ask, until there is a reply or no hope of one. `on_text` makes it a stream and gets its pieces.

        Raises CallFailed; BudgetExceeded when a budget has no room for the next attempt; Elsewhere when the lane was
        told to send this `guest` on before the first attempt.
        """
        request = self._bounded(request, caller, stream=on_text is not None)
        wire = self._dialect.encode(request, self.model.quirks)
        characters = request.text_length()
        most_input = _most_input_tokens(request, wire, characters) if caller.budgets.bound_size else 0
        number, attempt, pushes = caller.number(), 0, 0
        ticket: Ticket | None = None
        caller.tally.model = self.name
        while True:
            if self.stopped is not None:
                raise CallFailed(self.stopped)
            if caller.stopwatch is not None and caller.stopwatch.left <= 0.0:
                raise CallFailed(ErrorInfo("timeout", f"the {caller.stopwatch.limit:g} s of {caller.kind} are over"))
            reservation = await caller.budgets.reserve(
                usd=self._highest_usd(request, most_input, caller),
                tokens=most_input + (request.settings.max_tokens or 0),
            )
            ticket, waited = await self._admit(
                request, characters, caller, ticket, reservation, guest=None if attempt else guest
            )
            result = await self._attempt(
                request, wire, caller, ticket, reservation,
                on_text=on_text, number=number, attempt=attempt + 1, waited=waited,
            )  # fmt: skip
            if result.reply is not None:
                return result.reply
            assert result.refusal is not None
            if result.refusal.verdict == "pushed_back":
                pushes += 1
                self._freeze(ticket, result.refusal, pushes, caller)
                continue
            ticket, attempt, pushes = None, attempt + 1, 0
            await self._again(result.refusal, attempt, caller)

    def _bounded(self, request: Request, caller: Caller, *, stream: bool) -> Request:
        """The request with this model's own name, and an explicit max_tokens where a budget needs one."""
        settings = request.settings
        if settings.max_tokens is None and caller.budgets.bound_size:
            settings = replace(
                settings, max_tokens=min(DEFAULT_MAX_TOKENS, self.model.max_output or DEFAULT_MAX_TOKENS)
            )
        if caller.budgets.bound_usd and not self.model.prices.known:
            message = f"the price of {self.name} is unknown, so a budget in dollars cannot be kept: give it `prices:`"
            raise CallFailed(ErrorInfo("budget", message))
        return Request(
            self.model.model, request.messages, request.tools, request.tool_choice, schema=request.schema,
            schema_name=request.schema_name, settings=settings, stream=stream,
        )  # fmt: skip

    def _highest_usd(self, request: Request, most_input: int, caller: Caller) -> float:
        if not caller.budgets.bound_usd:
            return 0.0
        return self.model.prices.highest(most_input, request.settings.max_tokens or 0) or 0.0

    async def _admit(
        self, request: Request, characters: int, caller: Caller, ticket: Ticket | None, reservation: Reservation, *,
        guest: object | None,
    ) -> tuple[Ticket, float]:  # fmt: skip
        began, left = monotonic(), caller.budgets.time_left
        admitted: Ticket | None = None
        try:
            with nullcontext() if left is None else anyio.move_on_after(left):
                if ticket is None:
                    admitted = await self.lane.admit(
                        self._row, characters=characters, kind=caller.kind,
                        max_tokens=request.settings.max_tokens, order=caller.order, share=caller.share,
                        guest=guest,
                    )  # fmt: skip
                else:
                    await self.lane.admit_again(ticket)
                    admitted = ticket
            caller.budgets.check_time()
            if admitted is None or caller.halted():
                raise Halted
            if self.stopped is not None:  # meanwhile, by what another call was told
                raise CallFailed(self.stopped)
        except BaseException:
            if admitted is not None:
                self.lane.cancel(admitted)
            reservation.cancel()
            raise
        return admitted, monotonic() - began

    async def _attempt(
        self, request: Request, wire: Wire, caller: Caller, ticket: Ticket, reservation: Reservation, *,
        on_text: Callable[[str], None] | None, number: int, attempt: int, waited: float,
    ) -> _Result:  # fmt: skip
        """One attempt, from the intent to the settlement; every way out leaves lane, budget and journal in order."""
        began: float | None = None
        result = _Result(refusal=_cancelled(), uncertain=True)
        try:
            caller.emit(
                CallIntent(
                    at=wall(), call=number, attempt=attempt, address=caller.address, agent=caller.agent,
                    account=self.lane.account, model=self.model.model, waited=waited,
                    request=request if caller.keep_content else None,
                )
            )  # fmt: skip
            await caller.durable()
            began = monotonic()
            if caller.stopwatch is not None:
                caller.stopwatch.start()
            result = self._without_key(await self._send(request, wire, caller, ticket, on_text=on_text))
        except Exception as error:  # of a hook, of who takes the text, of the journal
            info = ErrorInfo("internal", f"{type(error).__name__}: {error}")
            result = self._without_key(_Result(refusal=Refusal("fail", info), uncertain=True))
            raise
        finally:
            seconds = 0.0 if began is None else monotonic() - began
            if caller.stopwatch is not None and began is not None:
                caller.stopwatch.stop()
            if began is None:
                result = _Result(refusal=result.refusal, sent=False)
            usd = self._usd(result)
            self._settle(result, ticket, reservation, usd=usd)
            self._record(result, caller, usd=usd, number=number, attempt=attempt, seconds=seconds)
        return result

    async def _send(
        self, request: Request, wire: Wire, caller: Caller, ticket: Ticket, *, on_text: Callable[[str], None] | None
    ) -> _Result:
        timeouts = self._timeouts
        allowed = [t for t in (caller.timeout, caller.stopwatch.left if caller.stopwatch else None) if t is not None]
        if allowed:
            timeouts = replace(timeouts, whole=min(timeouts.whole, *allowed))
        headers = [*wire.headers.items(), *self._headers]
        reader = self._dialect.read_stream(self.model.quirks, model=request.model) if on_text is not None else None
        spoken = False

        def on_bytes(data: bytes) -> None:
            nonlocal spoken
            assert reader is not None
            assert on_text is not None
            for delta in reader.feed(data):
                spoken = True
                on_text(delta.text)

        def failed(refusal: Refusal, *, uncertain: bool, sent: bool = True) -> _Result:
            if spoken and refusal.verdict != "stop":  # another attempt would say it all once more
                refusal = Refusal("fail", replace(refusal.error, retryable=False))
            return _Result(refusal=refusal, uncertain=uncertain, sent=sent)

        try:
            answer = await self._transport.post(
                self._url, wire.body, headers=headers, timeouts=timeouts,
                on_bytes=on_bytes if reader else None, on_sent=lambda: self.lane.sent(ticket),
            )  # fmt: skip
            self._hear(answer.headers, ticket, caller)
            if not 200 <= answer.status < 300:
                refusal = self._dialect.read_refusal(answer.status, answer.headers, answer.body, now=wall())
                return _Result(refusal=refusal)
            decoded = (
                reader.close() if reader else self._dialect.decode(answer.body, self.model.quirks, model=request.model)
            )
        except StreamRefused as error:
            return failed(error.refusal, uncertain=True)
        except MalformedReply as error:
            return failed(_retry("server", f"{self.name} answered what is no reply: {error}"), uncertain=True)
        except TransportFailed as error:
            kind: ErrorKind = "timeout" if error.timeout else "connection"
            return failed(_retry(kind, f"{self.name}: {error}"), uncertain=error.sent, sent=error.sent)
        return _Result(refusal=decoded) if isinstance(decoded, Refusal) else _Result(reply=decoded)

    def _settle(self, result: _Result, ticket: Ticket, reservation: Reservation, *, usd: float | None) -> None:
        if result.reply is not None:
            tokens = result.reply.tokens
            self.lane.settle(ticket, input_tokens=tokens.input, output_tokens=tokens.output)
            if tokens.total is None:
                reservation.settle_whole()
            else:
                reservation.settle(usd=reservation.need[0] if usd is None else usd, tokens=tokens.total)
            return
        assert result.refusal is not None
        if not result.sent:
            self.lane.cancel(ticket)
            reservation.cancel()
        elif result.refusal.verdict == "pushed_back":
            # The lane hears of it when it is known for how long.
            reservation.settle_whole() if result.uncertain else reservation.cancel()
        else:
            self.lane.settle(ticket, outcome="load" if result.refusal.load else "ignored")
            reservation.settle_whole() if result.uncertain else reservation.settle()

    def _usd(self, result: _Result) -> float | None:
        if result.reply is None:
            return 0.0
        if result.reply.tokens.usd is not None:
            return result.reply.tokens.usd
        return self.model.prices.cost(result.reply.tokens, at=wall())

    def _record(
        self, result: _Result, caller: Caller, *, usd: float | None, number: int, attempt: int, seconds: float
    ) -> None:
        pushed = result.refusal is not None and result.refusal.verdict == "pushed_back"
        if result.reply is not None:
            usage = Usage.of_reply(result.reply.tokens)
            caller.tally.finish = result.reply.finish
        else:
            usage = Usage(
                calls=int(result.sent and not pushed), pushed_back=int(pushed), uncertain=int(result.uncertain)
            )
        caller.tally.attempts += not pushed
        caller.tally.add(usage, usd)
        caller.emit(
            CallEnded(
                at=wall(), call=number, attempt=attempt, address=caller.address, agent=caller.agent,
                account=self.lane.account, model=self.model.model, seconds=seconds, usage=usage, usd=usd,
                result="ok" if result.reply else "pushed_back" if pushed else "failed",
                reply=result.reply if caller.keep_content else None,
                error=result.refusal.error if result.refusal else None, uncertain=result.uncertain,
            )
        )  # fmt: skip

    def _hear(self, headers: Mapping[str, str], ticket: Ticket, caller: Caller) -> None:
        """Believe what an answer tells of limits; say once where it is not what the file says."""
        told = self._dialect.read_levels(headers, now=wall(), quirks=self.model.quirks)
        for one in self.lane.hear(ticket, told) if told else ():
            place = (one.scope, one.limit.name)
            if one.before is None or place in self._said:
                continue
            self._said.add(place)
            text = (
                f"{self.lane.account} allows {one.limit.limit:,.0f} {one.limit.name.replace('_', ' ')}, as its answers "
                f"say, and not {one.before.limit:,.0f}, as its file says: its own figure holds from now on"
            )
            caller.emit(Notice(at=wall(), level="warning", text=text))

    def _freeze(self, ticket: Ticket, refusal: Refusal, pushes: int, caller: Caller) -> None:
        wait = refusal.wait
        if wait is not None:
            wait *= 1 + _JITTER * caller.rng.random()
        if wait is not None and wait > _PATIENCE_S:
            self.lane.settle(ticket, outcome="ignored")
            message = f"{self.name} asks to wait for {wait:,.0f} s: {refusal.error.message}"
            self.stopped = ErrorInfo("quota", message, status=refusal.error.status)
            caller.emit(Notice(at=wall(), level="warning", text=f"{message}; it gets no more calls in this run"))
            return
        frozen = self.lane.push_back(ticket, wait, unit=refusal.unit, times=pushes)
        for model in frozen.models:
            caller.emit(
                LaneFrozen(
                    at=wall(), account=self.lane.account, concerns=model, seconds=frozen.seconds,
                    reason=refusal.error.message,
                )
            )  # fmt: skip

    async def _again(self, refusal: Refusal, attempt: int, caller: Caller) -> None:
        """Wait before the next attempt, or raise if there is none."""
        if refusal.verdict == "stop" and self.stopped is None:
            self.stopped = refusal.error
            key = f" (its key is from {self.model.key_source})" if self.model.key_source else ""
            caller.emit(Notice(at=wall(), level="warning", text=f"{self.name} stopped: {refusal.error}{key}"))
        out_of_time = caller.stopwatch is not None and caller.stopwatch.left <= 0
        if refusal.verdict != "retry" or out_of_time or not caller.retry.allows(attempt, refusal.error.kind):
            error = refusal.error
            if attempt > 1:
                error = replace(error, message=f"{error.message} (after {attempt} attempts)")
            raise CallFailed(error)
        backoff = min(_BACKOFF_MAX_S, _BACKOFF_S * 2.0 ** (attempt - 1)) * (0.5 + caller.rng.random())
        await sleep(min(_PATIENCE_S, max(refusal.wait or 0.0, backoff)))

    def _without_key(self, result: _Result) -> _Result:
        """The same, where a server or an exception has quoted our key, without it."""
        if result.refusal is None or not self._secrets:
            return result
        message = result.refusal.error.message
        for secret in self._secrets:
            message = message.replace(secret, "[key]")
        return replace(result, refusal=replace(result.refusal, error=replace(result.refusal.error, message=message)))


def _row(lane: Lane, model: ResolvedModel) -> Row:
    return lane.row(model.model, model.limits_of("model"), pool=model.pool, pool_limits=model.limits_of("pool"))


def _most_input_tokens(request: Request, wire: Wire, characters: int) -> int:
    """Input tokens at most: one for each byte of text, and what the provider's template puts around it."""
    more_bytes = 0 if wire.body.isascii() else len(wire.body) - len(wire.body.decode("utf-8", "replace"))
    frame = _FRAME_TOKENS * len(request.messages) + (_TOOLS_TOKENS if request.tools else 0)
    return characters + more_bytes + frame


def _retry(kind: ErrorKind, message: str) -> Refusal:
    return Refusal("retry", ErrorInfo(kind, message, retryable=True))


def _cancelled() -> Refusal:
    return Refusal("fail", ErrorInfo("cancelled", "the run was cancelled while this call was in flight"))

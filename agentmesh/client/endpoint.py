"""One model of one account: encode, reserve, admit, journal the intent, send, settle, decode.

What is too fast goes back into its place in the lane and is no attempt; what may work another time is tried again,
through the lane, after a wait that grows and is spread by chance; what can never work fails at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace

import anyio
import httpx

from ..catalog import ResolvedModel
from ..clock import monotonic, sleep, wall
from ..dialects import dialect
from ..dialects.base import MalformedReply, Refusal, StreamRefused
from ..dialects.refusals import PARK_AFTER
from ..dialects.told import over_limit_hint
from ..errors import CallFailed, ErrorInfo
from ..events import CallEnded, CallIntent, LaneFrozen, Notice
from ..limits.admission import Frozen, Row, Ticket
from ..limits.lane import Elsewhere, Lane
from ..messages import Reply, Request
from . import notices
from .asking import DEFAULT_MAX_TOKENS, Asking, begin
from .budget import Reservation
from .caller import Caller, Halted
from .fitting import fewer_tokens
from .patience import Stop, is_bearable, pause
from .pausing import Paused
from .result import Result, cancelled, may_have_generated, to_retry
from .secrets import Secrets
from .transport import DEFAULT_TIMEOUTS, Timeouts, Transport, TransportFailed

__all__ = ["DEFAULT_MAX_TOKENS", "Endpoint"]

_BACKOFF_S, _BACKOFF_MAX_S, _MOST_DOUBLINGS = 0.5, 30.0, 6


class Endpoint:
    """Sends requests to one model of one account, through the account's lane."""

    def __init__(
        self, model: ResolvedModel, lane: Lane, transport: Transport, *, timeouts: Timeouts = DEFAULT_TIMEOUTS
    ) -> None:
        self.model = model
        self.lane = lane
        self.name = model.name
        self._stop: Stop | None = None
        self._transport = transport
        self._timeouts = timeouts
        self._dialect = dialect(model.dialect)
        self._url = httpx.URL(model.base_url.rstrip("/") + self._dialect.path, params=model.request_query() or None)
        self._headers = tuple(model.request_headers().items())
        self._row = _row(lane, model)
        self._said: set[tuple[str, str]] = set()  # what users know already
        self._waits_until = 0.0  # monotonic: of which a user knows
        self._secrets = Secrets(model)
        if model.key_problem is not None:
            self._stop = Stop(ErrorInfo("auth", f"{model.name}: {model.key_problem}"))

    def __repr__(self) -> str:
        return f"<Endpoint {self.name}>"

    @property
    def row(self) -> Row:
        """Where its calls wait in the lane."""
        return self._row

    @property
    def stopped(self) -> ErrorInfo | None:
        """Why it serves no calls now; None if it does. It serves again at the instant that the provider told."""
        return None if self._stop is None or self._stop.is_over else self._stop.error

    def key_of(self, key: str | None) -> str | None:
        """What a request is found by that was asked of this model, whichever account has served it."""
        return None if key is None else f"{self.model.provider}/{self.model.model} {key}"

    async def call(
        self, request: Request, caller: Caller, *, on_text: Callable[[str], None] | None = None,
        guest: object | None = None, key: str | None = None,
    ) -> Reply:  # fmt: skip
        """Ask, until there is a reply or no hope of one. `on_text` makes it a stream and gets its pieces.

        `key` is what the request is found by, whoever serves it.

        Raises CallFailed; BudgetExceeded when a budget has no room for the next attempt; Elsewhere when the lane was
        told to send this `guest` on before the first attempt.
        """
        asking = begin(
            request, caller, on_text=on_text, model=self.model, dialect=self._dialect, key=self.key_of(key)
        )  # fmt: skip
        caller.tally.model = self.name
        ticket: Ticket | None = None
        while True:
            if caller.pause.on:
                await caller.pause.wait_over()
                if caller.halted():
                    raise Halted
            if (stopped := self.stopped) is not None:
                raise CallFailed(stopped)
            if caller.stopwatch is not None and caller.stopwatch.left <= 0.0:
                raise CallFailed(ErrorInfo("timeout", f"the {caller.stopwatch.limit:g} s of {caller.kind} are over"))
            if ticket is None:
                self._lower(asking)
            most_output = asking.request.settings.max_tokens or 0
            reservation = await caller.budgets.reserve(
                usd=self._highest_usd(asking.most_input, most_output, caller), tokens=asking.most_input + most_output
            )
            visitor = None if asking.tried else guest
            try:
                ticket, waited = await self._admit(asking, ticket, reservation, guest=visitor)
            except (Paused, Elsewhere) as left:  # the run is paused or cancelled, or a guest was sent on
                if caller.halted():
                    raise Halted from None
                if visitor is not None and isinstance(left, Elsewhere):
                    raise
                ticket = None
                continue
            result = await self._attempt(asking, ticket, reservation, waited=waited)
            if result.reply is not None:
                return result.reply
            assert result.refusal is not None
            if not result.pushed_back:
                ticket = None
                await self._again(asking, result.refusal)

    def _highest_usd(self, most_input: int, most_output: int, caller: Caller) -> float:
        return (self.model.prices.highest(most_input, most_output) or 0.0) if caller.budgets.bound_usd else 0.0

    def _lower(self, asking: Asking, *, excess: int = 0) -> bool:
        """Ask for fewer max_tokens, if the request is too large by these alone. Returns whether it is smaller now."""
        asked = asking.request.settings.max_tokens
        fits = fewer_tokens(asked, self._row, characters=asking.characters, excess=excess)
        if asked is None or fits is None:
            return False
        asking.request = replace(asking.request, settings=replace(asking.request.settings, max_tokens=fits))
        asking.wire = self._dialect.encode(asking.request, self.model.quirks)
        if ("", "max_tokens") not in self._said:
            self._said.add(("", "max_tokens"))
            self._tell(asking.caller, notices.lowered(self.name, asked=asked, fits=fits))
        return True

    # --- one attempt

    async def _admit(
        self, asking: Asking, ticket: Ticket | None, reservation: Reservation, *, guest: object | None
    ) -> tuple[Ticket, float]:
        caller = asking.caller
        began, left = monotonic(), caller.budgets.time_left
        admitted: Ticket | None = None
        try:
            with nullcontext() if left is None else anyio.move_on_after(left):
                if ticket is None:
                    admitted = await self.lane.admit(
                        self._row, characters=asking.characters, kind=caller.kind,
                        max_tokens=asking.request.settings.max_tokens, order=caller.order, share=caller.share,
                        guest=guest,
                    )  # fmt: skip
                else:
                    await self.lane.admit_again(ticket)
                    admitted = ticket
            caller.budgets.check_time()
            if caller.halted():
                raise Halted
            if admitted is None or caller.pause.on:  # without a pause the time would have been over
                raise Paused
            if (stopped := self.stopped) is not None:  # meanwhile, by what another call was told
                raise CallFailed(stopped)
        except BaseException:
            if admitted is not None:
                self.lane.cancel(admitted)
            reservation.cancel()
            raise
        return admitted, monotonic() - began

    async def _attempt(self, asking: Asking, ticket: Ticket, reservation: Reservation, *, waited: float) -> Result:
        """One attempt, from the intent to the settlement; every way out leaves lane, budget and journal in order."""
        caller, began = asking.caller, None
        result = cancelled()
        try:
            caller.emit(
                CallIntent(
                    at=wall(), call=asking.number, attempt=asking.tried + 1, address=caller.address,
                    agent=caller.agent, account=self.lane.account, model=self.model.model, waited=waited,
                    request=asking.request if caller.keep_content else None, key=asking.key,
                    reserved_usd=reservation.need[0], reserved_tokens=reservation.need[1],
                )
            )  # fmt: skip
            await caller.durable()
            began = monotonic()
            if caller.stopwatch is not None:
                caller.stopwatch.start()
            result = self._judged(await self._send(asking, ticket))
        except Exception as error:  # of a hook, of who takes the text, of the journal
            text = f"{type(error).__name__}: {error}"
            info = ErrorInfo("internal", self._secrets.hide(text))
            result = Result(refusal=Refusal("fail", info), uncertain=True)
            if info.message != text:  # whoever hears of it shall not see what it quotes
                raise CallFailed(info) from None
            raise
        finally:
            seconds = 0.0 if began is None else monotonic() - began
            if caller.stopwatch is not None and began is not None:
                caller.stopwatch.stop()
            if began is None:
                result = Result(refusal=result.refusal, sent=False)
            usd = result.usd(self.model.prices, at=wall())
            frozen = self._settle(asking, result, ticket)
            result.settle(reservation, usd=usd)
            self._record(asking, result, reservation, usd=usd, seconds=seconds)
            self._tell_frozen(asking, result, frozen)
        return result

    async def _send(self, asking: Asking, ticket: Ticket) -> Result:
        caller, on_text = asking.caller, asking.on_text
        timeouts = self._timeouts
        allowed = [t for t in (caller.timeout, caller.stopwatch.left if caller.stopwatch else None) if t is not None]
        if allowed:
            timeouts = replace(timeouts, whole=min(timeouts.whole, *allowed))
        headers = [*asking.wire.headers.items(), *self._headers]
        model, quirks = asking.request.model, self.model.quirks
        reader = self._dialect.read_stream(quirks, model=model) if on_text is not None else None
        spoken, status = False, 200  # of what is read while it comes

        def on_bytes(data: bytes) -> None:
            nonlocal spoken
            assert reader is not None
            assert on_text is not None
            for delta in reader.feed(self._secrets.hide_bytes(data)):
                spoken = True
                on_text(delta.text)

        try:
            answer = await self._transport.post(
                self._url, asking.wire.body, headers=headers, timeouts=timeouts,
                on_bytes=on_bytes if reader else None, on_sent=lambda: self.lane.sent(ticket),
            )  # fmt: skip
            status, body = answer.status, self._secrets.hide_bytes(answer.body)
            self._hear(answer.headers, ticket, caller)
            if not 200 <= status < 300:
                refusal = self._dialect.read_refusal(status, answer.headers, body, now=wall())
                return Result(refusal=refusal, uncertain=may_have_generated(status, body))
            decoded = reader.close() if reader else self._dialect.decode(body, quirks, model=model)
        except StreamRefused as error:
            return Result(refusal=error.refusal, uncertain=True, spoken=spoken)
        except MalformedReply as error:
            refusal = to_retry("server", f"no usable reply: {error}", status=status)
            return Result(refusal=refusal, uncertain=True, spoken=spoken)
        except TransportFailed as error:
            refusal = to_retry("timeout" if error.timeout else "connection", str(error))
            return Result(refusal=refusal, uncertain=error.sent, sent=error.sent, spoken=spoken)
        if isinstance(decoded, Refusal):
            return Result(refusal=decoded)
        return Result(reply=decoded, loaded=over_limit_hint(answer.headers))

    def _judged(self, result: Result) -> Result:
        """The same in our own view: which waits are too long, what must not be said twice, and who it was."""
        refusal = result.refusal
        if refusal is None:
            return result
        error, verdict, load = refusal.error, refusal.verdict, refusal.load
        if verdict in ("pushed_back", "stop") and refusal.wait is not None:
            waiting = self._waits_until - monotonic()
            verdict = "pushed_back" if is_bearable(refusal, self._row.gauges, waiting=waiting) else "stop"
        if result.spoken and verdict != "stop":  # another attempt would say it all once more
            load = load or verdict == "pushed_back"
            verdict, error = "fail", replace(error, retryable=False)
        error = replace(error, message=f"{self.name}: {error.message}")
        refusal = replace(refusal, verdict=verdict, load=load, error=error)
        return replace(result, refusal=refusal).without(self._secrets)

    # --- what comes of it

    def _settle(self, asking: Asking, result: Result, ticket: Ticket) -> Frozen:
        """Tell the lane. Returns what is frozen because of it."""
        refusal = result.refusal
        if result.reply is not None:
            tokens = result.reply.tokens
            self.lane.settle(
                ticket, input_tokens=tokens.input, output_tokens=tokens.output,
                outcome="load" if result.loaded else "success",
            )  # fmt: skip
        elif not result.sent:
            self.lane.cancel(ticket)
        elif refusal is not None and result.pushed_back:
            asking.pushes += 1
            wait = refusal.wait
            if wait is not None:
                wait = pause(wait, times=asking.pushes, rng=asking.caller.rng)
            return self.lane.push_back(ticket, wait, unit=refusal.unit, times=asking.pushes)
        else:
            self.lane.settle(ticket, outcome="load" if refusal is not None and refusal.load else "ignored")
        return Frozen()

    def _record(
        self, asking: Asking, result: Result, reservation: Reservation, *, usd: float | None, seconds: float
    ) -> None:  # fmt: skip
        caller, usage, pushed = asking.caller, result.usage, result.pushed_back
        if result.reply is not None:
            caller.tally.finish = result.reply.finish
        caller.tally.attempts += not pushed
        caller.tally.add(usage, usd)
        caller.emit(
            CallEnded(
                at=wall(), call=asking.number, attempt=asking.tried + 1, address=caller.address, agent=caller.agent,
                account=self.lane.account, model=self.model.model, seconds=seconds, usage=usage, usd=usd,
                result="ok" if result.reply else "pushed_back" if pushed else "failed",
                reply=result.reply if caller.keep_content else None,
                error=result.refusal.error if result.refusal else None, uncertain=result.uncertain,
                spent_usd=reservation.paid[0], spent_tokens=reservation.paid[1],
                simulated=self.model.simulated,
            )
        )  # fmt: skip
        for warning in caller.budgets.warnings() if caller.budgets else ():
            self._tell(caller, warning)

    def _tell_frozen(self, asking: Asking, result: Result, frozen: Frozen) -> None:
        if result.refusal is None or not frozen.models:
            return
        error, seconds, now = result.refusal.error, frozen.seconds, monotonic()
        if seconds > PARK_AFTER and now >= self._waits_until:
            self._waits_until = now + seconds
            self._tell(asking.caller, notices.waiting(self.name, error, wait=seconds))
        reason = error.message.removeprefix(f"{self.name}: ")
        for model in frozen.models:
            asking.caller.emit(
                LaneFrozen(at=wall(), account=self.lane.account, concerns=model, seconds=seconds, reason=reason)
            )

    def _hear(self, headers: Mapping[str, str], ticket: Ticket, caller: Caller) -> None:
        """Believe what an answer tells of limits; say once where it is not what the file says."""
        told = self._dialect.read_levels(headers, now=wall(), quirks=self.model.quirks)
        for one in self.lane.hear(ticket, told) if told else ():
            if one.before is None or (one.scope, one.limit.name) in self._said:
                continue
            self._said.add((one.scope, one.limit.name))
            place = {self.model.model: self.name, self.lane.account: one.scope}.get(
                one.scope, f"{self.lane.account}, {one.scope}"
            )
            self._tell(caller, notices.adopted(place, one, file=self.model.file))

    async def _again(self, asking: Asking, refusal: Refusal) -> None:
        """Wait before the next attempt, or raise if there is none."""
        caller, error = asking.caller, refusal.error
        asking.tried += 1
        asking.pushes = 0
        if refusal.verdict == "stop" and self.stopped is None:
            self._stop_for(refusal, caller)
        if refusal.excess is not None and not asking.lowered and asking.tried < caller.retry.attempts:
            asking.lowered = self._lower(asking, excess=refusal.excess.by)
            if asking.lowered:
                return
        out_of_time = caller.stopwatch is not None and caller.stopwatch.left <= 0
        if refusal.verdict != "retry" or out_of_time or not caller.retry.allows(asking.tried, error.kind):
            if asking.tried > 1:
                error = replace(error, message=f"{error.message} (after {asking.tried} attempts)")
            raise CallFailed(error)
        doublings = min(asking.tried - 1, _MOST_DOUBLINGS)
        backoff = min(_BACKOFF_MAX_S, _BACKOFF_S * 2.0**doublings) * (0.5 + caller.rng.random())
        await sleep(min(PARK_AFTER, max(refusal.wait or 0.0, backoff)))

    def _stop_for(self, refusal: Refusal, caller: Caller) -> None:
        error, wait = refusal.error, refusal.wait
        self._tell(caller, notices.stopped(self.name, error, wait=wait, key_source=self.model.key_source))
        if wait is not None:  # those who are told later must not take "in 2 h" for two hours from then
            error = replace(error, message=f"{error.message}: no calls to it until {notices.clock_time(wait)}")
        self._stop = Stop.of(error, wait)

    def _tell(self, caller: Caller, text: str) -> None:
        caller.emit(Notice(at=wall(), level="warning", text=text))


def _row(lane: Lane, model: ResolvedModel) -> Row:
    return lane.row(model.model, model.limits_of("model"), pool=model.pool, pool_limits=model.limits_of("pool"))

"""What came of one attempt, and what that means for the budget and the tally."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..catalog.prices import Prices
from ..dialects.base import Refusal
from ..dialects.excerpts import is_page
from ..errors import ErrorInfo, ErrorKind
from ..messages import Reply
from ..outcome import Usage
from .budget import Reservation
from .secrets import Secrets

__all__ = ["Result", "cancelled", "may_have_generated", "to_retry"]

_GAVE_UP = frozenset({504, 520, 524})
"""What gateways answer when a request had reached the provider, and no whole answer came back."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one attempt: a reply or a refusal.

    `uncertain`: it may have been paid for although there is no reply. `sent`: bytes had left. `spoken`: a piece of its
    stream has been handed on. `loaded`: it was answered, with the remark that the provider is busy.
    """

    reply: Reply | None = None
    refusal: Refusal | None = None
    uncertain: bool = False
    sent: bool = True
    spoken: bool = False
    loaded: bool = False

    @property
    def pushed_back(self) -> bool:
        return self.refusal is not None and self.refusal.verdict == "pushed_back"

    @property
    def usage(self) -> Usage:
        """What it counts as."""
        if self.reply is not None:
            return Usage.of_reply(self.reply.tokens)
        pushed = self.pushed_back
        return Usage(calls=int(self.sent and not pushed), pushed_back=int(pushed), uncertain=int(self.uncertain))

    def usd(self, prices: Prices, *, at: float) -> float | None:
        """What it cost at `at` (wall time), in dollars; None if nobody knows."""
        if self.reply is None:
            return 0.0
        tokens = self.reply.tokens
        return tokens.usd if tokens.usd is not None else prices.cost(tokens, at=at)

    def settle(self, reservation: Reservation, *, usd: float | None) -> None:
        """Settle what budgets had reserved: at its real cost, or at the highest possible one where nobody knows it."""
        if self.reply is not None and self.reply.tokens.total is not None:
            reservation.settle(usd=reservation.need[0] if usd is None else usd, tokens=self.reply.tokens.total)
        elif not self.sent:
            reservation.cancel()
        elif self.reply is not None or self.uncertain:
            reservation.settle_whole()
        elif self.pushed_back:
            reservation.cancel()
        else:
            reservation.settle()

    def without(self, secrets: Secrets) -> Result:
        """The same, where a server or an exception has quoted one of these, without it."""
        if self.refusal is None:
            return self
        message = secrets.hide(self.refusal.error.message)
        return replace(self, refusal=replace(self.refusal, error=replace(self.refusal.error, message=message)))


def may_have_generated(status: int, body: bytes) -> bool:
    """Whether a gateway answered for a provider that may have written, and charged, a reply that never came back."""
    return status in _GAVE_UP or (status == 502 and is_page(body))


def to_retry(kind: ErrorKind, message: str, *, status: int | None = None) -> Refusal:
    """What may work another time."""
    return Refusal("retry", ErrorInfo(kind, message, status, retryable=True))


def cancelled() -> Result:
    """What an attempt is until something else is known of it."""
    error = ErrorInfo("cancelled", "the run was cancelled while this call was in flight")
    return Result(refusal=Refusal("fail", error), uncertain=True)

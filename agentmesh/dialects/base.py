"""What a dialect is: a wire format, both ways; requests and replies to bytes and back, without any I/O.

The client half writes requests and reads replies; the server half, used by the simulated provider, reads requests and
writes replies. Both halves are pure: they hold no connection and read no clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from ..errors import ErrorInfo
from ..messages import Reply, Request
from ..rates import Limit, Told

__all__ = [
    "Delta",
    "Dialect",
    "Excess",
    "LimitLevel",
    "MalformedReply",
    "Refusal",
    "RequestRejected",
    "StreamReader",
    "StreamRefused",
    "Wire",
]


@dataclass(frozen=True, slots=True)
class Wire:
    """A request in bytes: POST `body` to the provider's base URL + `path`, with these headers beside the key's."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Excess:
    """A request that is larger than a limit can ever admit: tokens that are allowed, tokens that were `requested`.

    Input and `max_tokens` are counted together (or the latter alone), so a `max_tokens` that is smaller by `by` fits.
    """

    limit: int
    requested: int

    @property
    def by(self) -> int:
        """Tokens above the limit."""
        return self.requested - self.limit


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a reply that is no success means.

    `verdict`: `pushed_back` (too fast: wait, no attempt is spent), `retry` (an attempt, and a sign of load if `load`),
    `stop` (this endpoint will not answer for the run: key, quota), `fail` (this request can never succeed).
    `wait` is seconds until the provider may accept again, if that is known, at a `stop` too; `unit` is what there was
    too much of, if it told: requests or tokens (of input, output or both) in a window, or calls at once. `excess` is
    there where the same request with fewer `max_tokens` may pass.
    """

    verdict: Literal["pushed_back", "retry", "stop", "fail"]
    error: ErrorInfo
    wait: float | None = None
    load: bool = False
    unit: Literal["requests", "tokens", "in_flight"] | None = None
    excess: Excess | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed reply: text that came."""

    text: str


class MalformedReply(Exception):
    """A body that is no reply of this dialect. It may have been paid for."""


class StreamRefused(Exception):
    """An error came in the middle of a stream that had begun with a 200."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.error.message)


class RequestRejected(Exception):
    """A request body that is none of this dialect; the server half answers it with 400 and this message."""

    def __init__(self, message: str, param: str | None = None) -> None:
        self.param = param
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class LimitLevel:
    """How a limit stands at the server: `remaining` units now, seconds until it is full (`reset`)."""

    limit: Limit
    remaining: float
    reset: float


class StreamReader(Protocol):
    """Reads one streamed reply piece by piece."""

    def feed(self, data: bytes) -> Sequence[Delta]:
        """What these bytes completed. Raises MalformedReply and StreamRefused."""
        ...

    def close(self) -> Reply:
        """The whole reply, after the last byte.

        Raises MalformedReply if the end mark of the dialect is missing, StreamRefused if the reply ended in an error.
        A body that is no stream at all, but a whole reply, is read as one.
        """
        ...


class Dialect(Protocol):
    """One wire format. Stateless; `quirks` are the provider file's named switches."""

    name: str
    path: str
    """Below the base URL, where requests go: `/chat/completions`."""
    known_quirks: Mapping[str, str]
    """The switches this dialect understands, and what each does. Others are ignored."""

    # --- client half
    def encode(self, request: Request, quirks: frozenset[str] = frozenset()) -> Wire:
        """The request in this dialect."""
        ...

    def decode(self, body: bytes, quirks: frozenset[str] = frozenset(), *, model: str = "") -> Reply | Refusal:
        """The reply in a 200 body; a Refusal where a provider hides an error in a 200. Raises MalformedReply.

        `model` is the one that was asked: providers answer with the name of a snapshot, and `Opaque` state goes back
        only to the model it is marked with. Without it the provider's name is taken.
        """
        ...

    def read_stream(self, quirks: frozenset[str] = frozenset(), *, model: str = "") -> StreamReader:
        """A reader for one streamed reply; `model` as in `decode`."""
        ...

    def read_refusal(self, status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> Refusal:
        """What a status other than 2xx means. `headers` have lower-case names; `now` is wall time. Never raises."""
        ...

    def read_levels(
        self, headers: Mapping[str, str], *, now: float, quirks: Collection[str] = frozenset()
    ) -> tuple[Told, ...]:
        """What the headers of any reply tell of limits. `headers` have lower-case names; `now` is wall time.

        Never raises: what makes no sense is not told.
        """
        ...

    # --- server half
    def parse_request(self, body: bytes) -> Request:
        """The neutral request in a body. Raises RequestRejected."""
        ...

    def write_reply(self, reply: Reply, *, created: int) -> bytes:
        """The body of a 200."""
        ...

    def write_stream(self, reply: Reply, pieces: Sequence[str], *, created: int, usage: bool = True) -> Iterator[bytes]:
        """The same reply as server-sent events: one opening chunk, one per piece of text, then calls and end mark.

        `pieces` joined are the reply's text. `usage` false leaves the tokens out, where clients must ask for them.
        """
        ...

    def write_refusal(self, status: int, error: ErrorInfo, *, param: str | None = None) -> bytes:
        """The body of an error in the provider's own form; `param` is the place in the request, if known."""
        ...

    def limit_headers(self, levels: Sequence[LimitLevel], *, now: float) -> dict[str, str]:
        """The provider's own rate limit headers for these levels; `now` is wall time."""
        ...

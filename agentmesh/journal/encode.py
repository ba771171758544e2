"""An event as a row of the journal: what it is, whom it concerns, and its body as JSON."""

from __future__ import annotations

import dataclasses
import json
import reprlib
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from zstandard import ZstdCompressor, ZstdDecompressor, ZstdError

from ..errors import ErrorInfo
from ..events import (
    EVENT_TYPES,
    CallEnded,
    CallIntent,
    CallSpared,
    CollectionClosed,
    Event,
    LaneFrozen,
    MatchEnded,
    RunResumed,
    RunStarted,
    StandingsChanged,
    TaskAdded,
    TaskEnded,
    ToolEnded,
    read_event,
    write_event,
)
from ..outcome import Address

__all__ = ["KIND_NUMBERS", "Row", "body_of", "compress", "decode", "encode", "kind_name", "storable", "without_content"]

KIND_NUMBERS = MappingProxyType({kind: number for number, kind in enumerate(EVENT_TYPES, start=1)})

_PLAIN, _ZSTD = 0, 1
_COMPRESS_FROM = 1000  # bytes; below it zstd saves little and a page holds several rows anyway
_LEFT_OUT = "(left out: this run keeps no content)"
_OWN_KINDS = frozenset({"budget", "dependency", "cancelled", "timeout", "connection", "rate", "quota", "auth"})
"""Errors that are of no request's content: our own words, or what a provider says of limits and keys."""
_QUOTING_OPTIONS = frozenset({"system"})
_DEEPEST = 100  # levels of a value that JSON cannot carry as it is: far below where recursion ends


class Row(NamedTuple):
    """One row of the event table; `at` in seconds since 1970, `codec` says how `body` is packed."""

    number: int
    at: float
    kind: int
    task: str | None
    attempt: int | None
    codec: int
    body: bytes


def encode(number: int, event: Event, *, content: bool = True) -> Row:
    """The row of an event, its body not yet compressed. Never raises, whatever a task's value is made of."""
    if not content:
        event = without_content(event)
    attempt = event.attempt if isinstance(event, (CallIntent, CallEnded)) else None
    return Row(number, event.at, KIND_NUMBERS[type(event)], _task_of(event), attempt, _PLAIN, _body(event))


def compress(row: Row, compressor: ZstdCompressor) -> Row:
    """The same row with a body of 1 kB and more packed by zstd: for the writing thread, never the event loop."""
    if len(row.body) < _COMPRESS_FROM:
        return row
    number, at, kind, task, attempt, _, body = row
    return Row(number, at, kind, task, attempt, _ZSTD, compressor.compress(body))


def decode(kind: int, codec: int, body: bytes) -> Event:
    """The event of a row. Raises ValueError for a row that this version cannot read."""
    return read_event(kind_name(kind), body_of(codec, body))


def kind_name(kind: int) -> str:
    """The name of a kind of event by its number. Raises ValueError for one that this version does not know."""
    if not 1 <= kind <= len(EVENT_TYPES):
        raise ValueError(f"unknown kind {kind}")
    return EVENT_TYPES[kind - 1].__name__


def body_of(codec: int, body: bytes) -> bytes:
    """The JSON in a row's body. Raises ValueError for a row that this version cannot read."""
    if codec not in (_PLAIN, _ZSTD):
        raise ValueError(f"unknown codec {codec}")
    try:
        return ZstdDecompressor().decompress(body) if codec == _ZSTD else body
    except ZstdError as error:
        raise ValueError(str(error)) from None


def without_content(event: Event) -> Event:
    """The event without prompts, replies, inputs and values, and without error texts that may quote them."""
    match event:
        case RunStarted():
            return replace(event, inputs={}, spec=None, options=_without_quotes(event.options), content=False)
        case RunResumed():
            return replace(event, spec=None, options=_without_quotes(event.options))
        case ToolEnded():
            return replace(event, call_id="", arguments="", result="")
        case CallIntent():
            return replace(event, request=None)
        case CallEnded():
            return replace(event, reply=None, error=_quotes_nothing(event.error))
        case CallSpared():
            return replace(event, request=None, reply=None)
        case MatchEnded():
            return replace(event, error=_quotes_nothing(event.error))
        case TaskEnded(outcome=outcome):
            bare = replace(outcome, item=None, value=None, error=_quotes_nothing(outcome.error))
            # Without its hash nobody takes the value that is not there for the answer.
            return replace(event, outcome=bare, asked=None if outcome.ok else event.asked)
        case LaneFrozen():
            return replace(event, reason=_LEFT_OUT)
        case StandingsChanged():
            return replace(event, top=tuple(replace(standing, item=None) for standing in event.top))
        case _:
            return event


def _without_quotes(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is None or name not in _QUOTING_OPTIONS}


def _quotes_nothing(error: ErrorInfo | None) -> ErrorInfo | None:
    return replace(error, message=_LEFT_OUT) if error is not None and error.kind not in _OWN_KINDS else error


def storable(text: str) -> str:
    """The text as UTF-8 can carry it: names of files and items may have bytes or half surrogates that it cannot."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _task_of(event: Event) -> str | None:
    """Whom it concerns, as a text that SQLite takes."""
    address = _address_of(event)
    return None if address is None else storable(address)


def _address_of(event: Event) -> str | None:
    match event:
        case TaskAdded():
            return str(Address(event.task, event.key, event.sample))
        case TaskEnded():
            return str(event.outcome.address)
        case CollectionClosed() | StandingsChanged():
            return event.task
        case _:
            return getattr(event, "address", None)


def _body(event: Event) -> bytes:
    try:
        return write_event(event)
    except Exception:  # noqa: BLE001 - half a surrogate, a cycle, bytes, or whatever a value's own repr may raise
        return json.dumps(_plain(event, ())).encode()


def _plain(value: Any, above: tuple[int, ...]) -> Any:
    """What JSON and UTF-8 can carry of any value at all; a cycle or a depth without end is cut with dots."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return storable(value)
        case _ if id(value) in above or len(above) > _DEEPEST:
            return "..."
    above = (*above, id(value))
    match value:
        case Mapping():
            return {str(_plain(key, above)): _plain(item, above) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item, above) for item in value]
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: _plain(getattr(value, f.name), above) for f in dataclasses.fields(value)}
        case _:
            return reprlib.repr(value)

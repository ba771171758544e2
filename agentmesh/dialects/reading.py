"""What the server halves read from a request in the same way, so that each mistake is named with its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..messages import Message
from .base import RequestRejected
from .json_text import read_json

__all__ = [
    "check_tool_turns",
    "need_list",
    "need_map",
    "need_text",
    "read_body",
    "take_flag",
    "take_number",
    "take_texts",
    "take_whole",
    "text_of",
]


def read_body(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body. What the `take_` functions take out of it is no longer in it."""
    try:
        value = read_json(body)
    except ValueError as error:
        raise RequestRejected(f"the body is not valid JSON: {error}") from None
    return dict(need_map(value, "body"))


def need_map(value: Any, place: str) -> Mapping[str, Any]:
    """An object. Raises RequestRejected."""
    if not isinstance(value, Mapping):
        raise RequestRejected(f"{place} must be an object, not {_kind(value)}", place)
    return value


def need_list(value: Any, place: str, *, empty: bool = True) -> Sequence[Any]:
    """A list, which may be empty unless `empty` is false. Raises RequestRejected."""
    if not isinstance(value, list | tuple):
        raise RequestRejected(f"{place} must be a list, not {_kind(value)}", place)
    if not value and not empty:
        raise RequestRejected(f"{place} must not be empty", place)
    return value


def need_text(value: Any, place: str) -> str:
    """A text that is not empty. Raises RequestRejected."""
    if not isinstance(value, str) or not value:
        raise RequestRejected(f"{place} must be a text that is not empty, not {_kind(value)}", place)
    return value


def _kind(value: Any) -> str:
    if value is None:
        return "missing or null"
    names = {str: "a text", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__) if value != "" else "an empty text"


def take_whole(body: dict[str, Any], key: str, *, low: int | None = None) -> int | None:
    """A whole number of at least `low`, or None where there is none. Raises RequestRejected."""
    value = body.pop(key, None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or (low is not None and value < low):
        least = "" if low is None else f" of at least {low}"
        raise RequestRejected(f"{key} must be a whole number{least}, not {value!r}", key)
    return value


def take_number(body: dict[str, Any], key: str, *, low: float, high: float) -> float | None:
    """A number from `low` to `high`, or None where there is none. Raises RequestRejected."""
    value = body.pop(key, None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise RequestRejected(f"{key} must be a number from {low:g} to {high:g}, not {value!r}", key)
    return value


def take_flag(body: dict[str, Any], key: str) -> bool:
    """True or false; false where there is none. Raises RequestRejected."""
    value = body.pop(key, None)
    if not (value is None or isinstance(value, bool)):
        raise RequestRejected(f"{key} must be true or false, not {value!r}", key)
    return bool(value)


def take_texts(body: dict[str, Any], key: str) -> tuple[str, ...] | None:
    """A text or several, or None where there is none. Raises RequestRejected."""
    value = body.pop(key, None)
    if value is None:
        return None
    texts = (value,) if isinstance(value, str) else tuple(need_list(value, key))
    return tuple(need_text(text, f"{key}[{number}]") for number, text in enumerate(texts)) or None


def text_of(content: Any, place: str) -> str:
    """The text of a content: a text, null, or a list of parts, all of them text."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for number, part in enumerate(need_list(content, place)):
        here = f"{place}[{number}]"
        kind = need_map(part, here).get("type")
        if kind not in ("text", "refusal") or not isinstance(part.get(kind), str):
            raise RequestRejected(f"{here}: only parts of type text can be taken, not {kind!r}", here)
        texts.append(part[kind])
    return "".join(texts)


def check_tool_turns(messages: Sequence[Message]) -> None:
    """Every tool call is answered, once, before anybody else speaks; every answer belongs to a call."""
    open_calls: set[str] = set()
    for number, message in enumerate(messages):
        place = f"messages[{number}]"
        if message.role == "tool":
            if message.tool_call_id not in open_calls:
                raise RequestRejected(f"{place} answers {message.tool_call_id!r}, which no open tool call has", place)
            open_calls.discard(message.tool_call_id)
            continue
        if open_calls:
            break
        open_calls = {call.id for call in message.tool_calls}
    if open_calls:
        missing = ", ".join(sorted(open_calls))
        raise RequestRejected(f"tool calls must be answered by tool messages; without an answer: {missing}", "messages")

"""A provider's words about an error, in whatever shape they come: an object, a flat one, a text, a list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .json_text import read_json, write_json

__all__ = ["Said", "read_error"]


@dataclass(frozen=True, slots=True)
class Said:
    """A provider's words about an error. `everything` is the whole of it as text, to look for signs in."""

    message: str = ""
    type: str = ""
    code: str = ""
    everything: str = ""


def read_error(value: Any) -> Said:
    """The words in an error body, already parsed, of any shape; empty ones where there are none."""
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, str):
        return Said(value, everything=value)
    if not isinstance(value, Mapping):
        return Said()
    inner = value.get("error")
    if isinstance(inner, str):
        return Said(inner, code=_word(value, "code"), everything=write_json(value).decode())
    if not isinstance(inner, Mapping):
        inner = value
    message = inner.get("message") or inner.get("detail")
    if isinstance(message, list):  # validation errors: [{"loc": ["body", "model"], "msg": "field required"}]
        message = "; ".join(_validation_error(one) for one in message)
    elif isinstance(message, Mapping):
        message = message.get("message") or message.get("error")
    message = str(message or "") + _passed_on(inner.get("metadata"))
    kind = _word(inner, "type") or _word(inner, "__type")
    return Said(message, kind, _word(inner, "code"), write_json(inner).decode())


def _word(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    return str(found) if isinstance(found, str | int) else ""


def _validation_error(one: Any) -> str:
    if not isinstance(one, Mapping):
        return str(one)
    place = one.get("loc")
    shown = ".".join(str(part) for part in place) if isinstance(place, list) else ""
    return f"{shown}: {one.get('msg')}" if shown else str(one.get("msg"))


def _passed_on(metadata: Any) -> str:
    """What the provider behind a gateway said, whose own message is no more than that there was an error."""
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
    if not raw:
        return ""
    try:
        text = read_error(read_json(raw) if isinstance(raw, str) else raw).message or str(raw)
    except ValueError:
        text = str(raw)
    return f" ({metadata.get('provider_name') or 'the provider behind it'}: {text})"

"""JSON to bytes and back: fast, and without lone surrogates, which neither providers nor files can hold."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import from_json, to_json

__all__ = ["read_json", "write_json"]


def _whole(text: str) -> str:
    """The text with surrogate pairs joined, and lone halves replaced by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def read_json(body: bytes | str) -> Any:
    """The value in a JSON text. Raises ValueError for anything else, whatever is wrong with it."""
    try:
        return from_json(body)
    except ValueError:
        pass
    try:
        # Models cut emoji in half: the standard library reads such escapes, and here they are mended.
        return from_json(_whole(json.dumps(json.loads(body), ensure_ascii=False)))
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


def write_json(value: Any) -> bytes:
    """A plain value as compact JSON in UTF-8. Raises ValueError for what has no JSON form."""
    try:
        return to_json(value)
    except ValueError:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)
        return _whole(text).encode()


def _plain(value: Any) -> Any:
    """Mappings and tuples of any kind as dict and list, for `json.dumps`."""
    try:
        return dict(value)
    except (TypeError, ValueError):
        raise ValueError(f"a {type(value).__name__} has no JSON form") from None

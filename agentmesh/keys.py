"""Keys: the text by which an item of a collection is found again, whatever its place in the input."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from .data import MissingField, plain, read_field
from .messages import digest

__all__ = ["Keys", "encode_key", "key_of"]

_SHORT = 40  # characters of a scalar that may stand for itself


def encode_key(key: Any) -> str:
    """One key as addresses have it: characters beyond `[A-Za-z0-9._-]` are %-encoded."""
    if type(key) is str and key.isascii() and key.isalnum():
        return key
    return quote(str(key), safe="", errors="surrogatepass").replace("~", "%7E") or "%00"


def key_of(element: Any) -> str:
    """The encoded key of an element: its `id`, itself if it is a short scalar, else 8 hex digits of its hash."""
    if isinstance(element, bool):
        return str(element).lower()
    if isinstance(element, int | float | str):
        text = str(element)
        return encode_key(text) if text and len(text) <= _SHORT and "\n" not in text else digest(element)
    try:
        own = read_field(element, "id")
    except MissingField:
        return digest(plain(element))
    return encode_key(own) if isinstance(own, int | str) and str(own) else digest(plain(element))


class Keys:
    """Tells equal keys of one task apart: the second is `KEY~2`, the third `KEY~3`."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def unique(self, key: str) -> str:
        """The key itself the first time, with its number after that; one that came with a number is passed over."""
        count = self._seen[key] = self._seen.get(key, 0) + 1
        if count == 1:
            return key
        while f"{key}~{count}" in self._seen:
            count += 1
        self._seen[key], self._seen[f"{key}~{count}"] = count, 1
        return f"{key}~{count}"

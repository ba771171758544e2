"""What must not be shown of an account: its key, and whatever else it is recognised by, in the forms it travels in."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote, urlsplit

from ..catalog import ResolvedModel

__all__ = ["Secrets"]

_LEAST = 6  # characters from which on a text is kept out of others: a shorter one would be found in every word
_SHOWN = "[key]"


class Secrets:
    """Takes what is secret of a model's account out of texts. Shows nothing of it itself."""

    __slots__ = ("_bytes", "_forms")

    def __init__(self, model: ResolvedModel) -> None:
        found = {form for text in _texts(model) if len(text) >= _LEAST for form in _forms(text)}
        self._forms = tuple(sorted(found, key=len, reverse=True))  # the longest first: others may be parts of it
        self._bytes = tuple(form.encode() for form in self._forms)

    def __repr__(self) -> str:
        return "<Secrets>"

    def hide(self, text: str) -> str:
        """The text without them."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, _SHOWN)
        return text

    def hide_bytes(self, body: bytes) -> bytes:
        """The same for what a server has sent, before anybody cuts a piece out of it."""
        for form in self._bytes:
            if form in body:
                body = body.replace(form, _SHOWN.encode())
        return body


def _texts(model: ResolvedModel) -> Iterator[str]:
    if model.key is not None:
        yield model.key.reveal()
    for secret in model.secrets:
        yield secret.reveal()
    user, at, _ = urlsplit(model.base_url).netloc.rpartition("@")
    if at:
        yield unquote(user)
        yield unquote(user).partition(":")[2]
        yield base64.b64encode(unquote(user).encode()).decode()


def _forms(text: str) -> Iterator[str]:
    """As it is, and as URLs, JSON and pages write it."""
    as_json = json.dumps(text)[1:-1]
    yield from (text, quote_plus(text), quote(text, safe=""), quote(text), as_json, as_json.replace("/", "\\/"))
    yield from (html.escape(text), html.escape(text).replace("/", "&#x2F;"))

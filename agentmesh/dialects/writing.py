"""What the client halves put into a request in the same way: a reply's schema in words, and settings as they stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..messages import Message, Request
from .schemas import in_words

__all__ = ["add_extra", "own_state", "with_schema_in_words"]


def add_extra(body: dict[str, Any], extra: Mapping[str, Any]) -> None:
    """Put a user's own settings into the body. They win; where both have a map, the two are joined."""
    for name, value in extra.items():
        have = body.get(name)
        body[name] = {**have, **value} if isinstance(have, Mapping) and isinstance(value, Mapping) else value


def own_state(message: Message, request: Request, *, dialect: str) -> Any:
    """The provider's own form of this message, if it may go back: same dialect, same model; else None."""
    own = message.opaque
    return own.content if own is not None and own.dialect == dialect and own.model == request.model else None


def with_schema_in_words(request: Request) -> tuple[Message, ...]:
    """The messages, with the schema told in the system message: for models that have no other way to take it."""
    assert request.schema is not None
    words = in_words(request.schema)
    first, *rest = request.messages or (Message("user"),)
    if first.role == "system":
        return (Message("system", f"{first.text}\n\n{words}"), *rest)
    return (Message("system", words), *request.messages)

"""Wire formats by name: each turns neutral requests and replies into bytes and back, and does no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..errors import UserError
from .anthropic import Anthropic
from .base import Dialect
from .openai_chat import OpenAIChat

__all__ = ["DIALECTS", "dialect"]

DIALECTS: Mapping[str, Dialect] = MappingProxyType({one.name: one for one in (OpenAIChat(), Anthropic())})
"""Every dialect by the name that provider files use."""


def dialect(name: str) -> Dialect:
    """The dialect of that name. Raises UserError with the known names."""
    try:
        return DIALECTS[name]
    except KeyError:
        raise UserError(f"there is no dialect {name!r}; known are {', '.join(sorted(DIALECTS))}") from None

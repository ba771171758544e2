"""By how much a request is larger than any limit allows, as providers put it into their messages."""

from __future__ import annotations

import re

from .base import Excess

__all__ = ["about_input_alone", "read_excess", "requested_tokens"]

_N = r"\d[\d,]{0,15}"
# Each names the limit and one or two figures whose sum was asked for.
_FORMS = tuple(
    re.compile(form.replace("<N>", _N), re.IGNORECASE | re.DOTALL | re.ASCII)
    for form in (
        # tokens per minute: Limit 8000, Requested 20480
        r"\blimit:? (?P<limit><N>).{0,60}?\brequested:? (?P<asked><N>)",
        # maximum context length is 4096 tokens. However, you requested about 5000 tokens
        r"context length is (?P<limit><N>) tokens.{0,40}?you requested (?:about )?(?P<asked><N>) tokens",
        # max_tokens is too large: 5000. ... context length is 4096 tokens and your request has 200 input tokens
        r"too large: (?P<asked><N>)\..{0,80}?length is (?P<limit><N>) tokens and your request has (?P<more><N>) input",
        # max_tokens is too large: 9000. This model supports at most 4096 completion tokens
        r"max_\w*tokens\W{0,2} is too large: (?P<asked><N>)\..{0,80}?at most (?P<limit><N>)",
        # must be <= 4097. Given: 3000 input tokens and 2000 max_new_tokens
        r"must be <= (?P<limit><N>)\. Given: (?P<asked><N>) .{0,60}? and (?P<more><N>) \W?max_",
        # input length and max_tokens exceed the limit: 188240 + 21333 > 200000
        r"(?P<asked><N>) \+ (?P<more><N>) > (?P<limit><N>)",
        # max_tokens: 9000 > 8192
        r"max_tokens: (?P<asked><N>) > (?P<limit><N>)",
    )
)
_ASKED = re.compile(rf"\brequested:? ({_N})", re.IGNORECASE | re.ASCII)
_INPUT_ALONE = re.compile(r"\binput tokens? per\b|\bITP[SMHD]\b", re.IGNORECASE)


def read_excess(message: str) -> Excess | None:
    """The limit and what was asked for, in tokens, if the message has both and the request is above the limit."""
    for form in _FORMS:
        if found := form.search(message):
            figures = {name: int(text.replace(",", "")) for name, text in found.groupdict("0").items()}
            excess = Excess(figures["limit"], figures["asked"] + figures.get("more", 0))
            return excess if excess.by > 0 else None
    return None


def about_input_alone(message: str) -> bool:
    """Whether the limit counts input only, so that a smaller `max_tokens` would change nothing."""
    return _INPUT_ALONE.search(message) is not None


def requested_tokens(message: str) -> float | None:
    """The size of the request as the message has it, in tokens."""
    return float(found[1].replace(",", "")) if (found := _ASKED.search(message)) else None

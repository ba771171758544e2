"""A call under way: the request as this model gets it, for whom, and how often it was tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePath

from ..catalog import ResolvedModel
from ..dialects.base import Dialect, Wire
from ..errors import CallFailed, ErrorInfo
from ..messages import Request
from .caller import Caller

__all__ = ["DEFAULT_MAX_TOKENS", "Asking", "begin", "price_problem"]

DEFAULT_MAX_TOKENS = 4096
"""Stated on the wire when a budget counts what replies cost and nobody said how long one may be."""

_FRAME_TOKENS, _TOOLS_TOKENS = 10, 500  # of a chat template for each message, and of a preface about tools


@dataclass(eq=False, slots=True)
class Asking:
    """One call. `most_input` is in tokens, 0 where no budget counts them; `key` what it is found by, if anybody looks.

    `tried` are its attempts so far, `pushes` the push-backs since the last one; `lowered` says that a provider has
    found it too large, and that it asks for fewer max_tokens since then.
    """

    request: Request
    wire: Wire
    characters: int
    most_input: int
    caller: Caller
    on_text: Callable[[str], None] | None
    number: int
    key: str | None = None
    tried: int = 0
    pushes: int = 0
    lowered: bool = False


def begin(
    request: Request, caller: Caller, *, on_text: Callable[[str], None] | None, model: ResolvedModel, dialect: Dialect,
    key: str | None = None,
) -> Asking:  # fmt: skip
    """The call of a request to this model. Raises CallFailed where a dollar budget meets a price that nobody knows."""
    request = _bounded(request, caller, model=model, stream=on_text is not None)
    wire, characters = dialect.encode(request, model.quirks), request.text_length()
    most_input = _most_input_tokens(request, wire, characters) if caller.budgets.bound_size else 0
    return Asking(request, wire, characters, most_input, caller, on_text, caller.number(), key)


def price_problem(model: ResolvedModel) -> str | None:
    """Why a budget in dollars cannot be kept with a model, and what to write; None if it can."""
    if model.prices.highest(0, 0) is not None:
        return None
    what = "is unknown" if not model.prices.known else "is known under some conditions only"
    return (
        f"the price of {model.name} {what}, so a budget in dollars cannot be kept: give the model "
        f"`prices: {{input: 1.25, output: 10}}` (dollars per million tokens) in {PurePath(model.file).name}, or "
        "`prices: free`, or set no budget in dollars"
    )


def _bounded(request: Request, caller: Caller, *, model: ResolvedModel, stream: bool) -> Request:
    """The request with this model's own name, and an explicit max_tokens where a budget needs one."""
    settings = request.settings
    if settings.max_tokens is None and caller.budgets.bound_size:
        settings = replace(settings, max_tokens=min(DEFAULT_MAX_TOKENS, model.max_output or DEFAULT_MAX_TOKENS))
    if caller.budgets.bound_usd and (problem := price_problem(model)) is not None:
        raise CallFailed(ErrorInfo("budget", problem))
    return Request(
        model.model, request.messages, request.tools, request.tool_choice, schema=request.schema,
        schema_name=request.schema_name, settings=settings, stream=stream,
    )  # fmt: skip


def _most_input_tokens(request: Request, wire: Wire, characters: int) -> int:
    """Input tokens at most: one for each byte of text, and what the provider's template puts around it."""
    more_bytes = 0 if wire.body.isascii() else len(wire.body) - len(wire.body.decode("utf-8", "replace"))
    frame = _FRAME_TOKENS * len(request.messages) + (_TOOLS_TOKENS if request.tools else 0)
    return characters + more_bytes + frame

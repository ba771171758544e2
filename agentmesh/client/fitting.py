"""A request that is too large only by what its reply may take: with how many `max_tokens` it would fit."""

from __future__ import annotations

import math

from ..limits.row import Row

__all__ = ["fewer_tokens"]

_LEAST, _SHARE = 16, 0.25  # tokens, and of what was asked for: a reply that is cut that short helps nobody


def fewer_tokens(asked: int | None, row: Row, *, characters: int, excess: int = 0) -> int | None:
    """The `max_tokens` with which a request of so many characters fits; None if it fits as it is, or if it never will.

    It must become smaller by `excess`, and fit into what the provider itself has told of its limits. Limits that were
    known before the first call are none of this: what does not fit into them is a mistake, and fails.
    """
    if asked is None:
        return None
    fits, tokens = asked - excess, row.estimate.input(characters)
    for gauge in row.gauges:
        limit = gauge.limit
        if gauge.told and limit.reserves in ("sum", "max"):
            if limit.reserved(tokens, 0) > limit.largest:
                return None
            fits -= max(0, math.ceil(limit.reserved(tokens, fits) - limit.largest))
    return fits if max(_LEAST, _SHARE * asked) <= fits < asked else None

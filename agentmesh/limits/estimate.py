"""How many tokens a call will use, learned from what earlier calls of the same endpoint and kind really used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["EstimateState", "TokenEstimate"]

_CHARACTERS_PER_TOKEN = 4.0  # what English text comes to with today's tokenizers; a start, corrected by the first reply
_OUTPUT_GUESS = 400.0  # tokens of a reply of a kind not seen yet, where no max_tokens is set
_SPREAD = 0.05  # how differently texts come to tokens, as a share, before anything is known
_MEMORY = 0.1  # weight of the newest observation: about the last twenty calls count


@dataclass(frozen=True, slots=True)
class EstimateState:
    """What an estimate has learned: characters per token, tokens of a reply by kind ("" is all kinds), and the rest.

    Raises ValueError for figures that nothing can have taught.
    """

    ratio: float
    outputs: Mapping[str, float]
    variance: float
    seen: int
    spread: float = 0.0

    def __post_init__(self) -> None:
        if not (
            self.ratio > 0
            and min(self.variance, self.spread) >= 0
            and self.seen >= 0
            and min(self.outputs.values(), default=0) >= 0
        ):
            raise ValueError("an estimate of tokens is made of numbers above 0")


class TokenEstimate:
    """What one endpoint's calls cost in tokens.

    Input: characters divided by a calibrated ratio. Output: the mean of the same kind of call before (or of all calls
    of the endpoint, for a kind not seen yet), never more than `max_tokens`. `variance` is the mean square of how far
    estimates were below the truth, in proportion to the input and as such for the output: what a lane keeps spare for
    each call in flight.
    """

    __slots__ = ("_outputs", "_ratio", "_spread", "_square", "seen")

    def __init__(self) -> None:
        self._ratio = _CHARACTERS_PER_TOKEN
        self._outputs: dict[str, float] = {}
        self.seen = 0  # replies that it has learned from: while they are the same, it expects the same
        self._square = 0.0  # of tokens of output
        self._spread = _SPREAD * _SPREAD  # of shares of the input

    def __repr__(self) -> str:
        return f"<TokenEstimate {self._ratio:.2f} characters per token, {self.seen} replies seen>"

    @classmethod
    def restore(cls, state: EstimateState) -> TokenEstimate:
        """An estimate that goes on with what an earlier one has learned."""
        estimate = cls()
        estimate._ratio, estimate._square, estimate.seen = state.ratio, state.variance, state.seen
        estimate._outputs, estimate._spread = dict(state.outputs), state.spread
        return estimate

    def state(self) -> EstimateState:
        """What was learned, to be kept."""
        return EstimateState(self._ratio, dict(self._outputs), self._square, self.seen, self._spread)

    def input(self, characters: int) -> float:
        """Tokens of a request of this many characters."""
        return math.ceil(characters / self._ratio)

    def output(self, kind: str, max_tokens: int | None) -> float:
        """Tokens of the reply to a call of this kind."""
        learned = self._outputs.get(kind, self._outputs.get("", _OUTPUT_GUESS))
        return learned if max_tokens is None else min(learned, max_tokens)

    def variance(self, input_tokens: float) -> float:
        """The mean square of the tokens by which a call with so much input exceeds its estimate."""
        return self._square + self._spread * input_tokens * input_tokens

    @property
    def blind(self) -> bool:
        """Whether no reply has been seen yet: then all estimates may be wrong in the same direction."""
        return self.seen == 0

    def observe(
        self, kind: str, characters: int, *, estimated: float, input_tokens: int | None, output_tokens: int | None
    ) -> None:
        """Learn from a reply. `estimated` are the tokens that were expected of the whole call."""
        weight = 1.0 if self.blind else _MEMORY
        over_input = 0.0
        if input_tokens and characters:
            expected = characters / self._ratio
            over_input = max(0.0, input_tokens - expected)
            if not self.blind:
                self._spread += _MEMORY * ((over_input / expected) ** 2 - self._spread)
            self._ratio += weight * (characters / input_tokens - self._ratio)
        if output_tokens is not None:
            for name in (kind, ""):
                known = self._outputs.get(name)
                self._outputs[name] = output_tokens if known is None else known + _MEMORY * (output_tokens - known)
        if input_tokens is not None and output_tokens is not None:
            over = max(0.0, input_tokens + output_tokens - estimated - over_input)
            self._square += weight * (over * over - self._square)
        self.seen += 1

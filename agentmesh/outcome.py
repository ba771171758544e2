"""How a task ended: its value or its error, with what it cost; and the address it is found by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from .errors import ErrorInfo
from .messages import Finish, Tokens

__all__ = ["Address", "Outcome", "State", "Usage"]

State = Literal["done", "failed", "skipped", "cancelled"]


class Address(NamedTuple):
    """Where a task is found: `task`, `task/key` or `task/key/sample`; safe in any shell.

    `key` is already encoded. Over another task's items it is the whole address of the item below that task's name,
    so it may have slashes of its own.
    """

    task: str
    key: str | None = None
    sample: int | None = None

    def __str__(self) -> str:
        text = self.task
        if self.key is not None:
            text += "/" + self.key
        if self.sample is not None:
            text += f"/{self.sample}"
        return text

    @property
    def tail(self) -> str | None:
        """The address below the task's name: what an item over this item takes as its key."""
        return None if self.key is None else self.key if self.sample is None else f"{self.key}/{self.sample}"


def _add(a: int | None, b: int | None) -> int | None:
    """Sum of what is known: unknown plus unknown stays unknown."""
    return b if a is None else a if b is None else a + b


@dataclass(frozen=True, slots=True)
class Usage:
    """What calls used, over all their attempts. Tokens that nobody told are None, never 0.

    `calls` were sent, pushed back ones included in `pushed_back` only; `uncertain` may have been paid without an
    answer reaching us.
    """

    calls: int = 0
    pushed_back: int = 0
    uncertain: int = 0
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.pushed_back + other.pushed_back,
            self.uncertain + other.uncertain,
            _add(self.input_tokens, other.input_tokens),
            _add(self.cached_tokens, other.cached_tokens),
            _add(self.output_tokens, other.output_tokens),
            _add(self.reasoning_tokens, other.reasoning_tokens),
        )

    @classmethod
    def of_reply(cls, tokens: Tokens) -> Usage:
        """The usage of one call that was answered."""
        return cls(1, 0, 0, tokens.input, tokens.cached, tokens.output, tokens.reasoning)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one task ended.

    `item` is the element that the task was about; `seconds` counts from its start to its end, waiting included;
    `usd` is None where a price is unknown. `attempts` are those of its calls, without the ones pushed back.
    """

    task: str
    key: str | None = None
    sample: int | None = None
    state: State = "done"
    item: Any = None
    value: Any = None
    error: ErrorInfo | None = None
    finish: Finish | None = None
    model: str | None = None
    attempts: int = 0
    seconds: float = 0.0
    usage: Usage = Usage()
    usd: float | None = 0.0

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.state == "done"

    @property
    def address(self) -> Address:
        return Address(self.task, self.key, self.sample)

    def holding(self, *, item: Any, value: Any) -> Outcome:
        """The same outcome with this item and value: `dataclasses.replace` would take three times as long."""
        return Outcome(
            self.task, self.key, self.sample, self.state, item, value, self.error, self.finish, self.model,
            self.attempts, self.seconds, self.usage, self.usd,
        )  # fmt: skip

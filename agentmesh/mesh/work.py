"""What a task of the graph carries: how it is performed, on what terms, and what its failure means."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ..agents.context import Context
from ..client.budget import Budget
from ..client.caller import Caller, Retry
from ..errors import ErrorInfo, UserError
from ..flow.graph import Node

if TYPE_CHECKING:
    from .run import Run

__all__ = ["FAIL", "Job", "OnFailure", "Perform", "SkipTask", "Work", "priority_number"]


class SkipTask(Exception):
    """Ends the task as skipped; without an error where its `if` is false."""

    def __init__(self, error: ErrorInfo | None = None) -> None:
        self.error = error
        super().__init__()


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One task while it is being performed."""

    run: Run
    node: Node
    caller: Caller
    context: Context


Perform = Callable[[Job], Awaitable[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class OnFailure:
    """What the failure of a task leads to.

    `fail` makes the run partial; `skip` ends the task as skipped, with its error; `default` ends it as done with
    `value`, its error kept; `fallback` performs `work` instead, whose own failure is then the task's.
    """

    mode: Literal["fail", "skip", "default", "fallback"] = "fail"
    value: Any = None
    work: Work | None = None


FAIL = OnFailure()


@dataclass(slots=True, eq=False)
class Work:
    """What a node carries. `timeout` in seconds counts from admission, over all attempts; budgets innermost first.

    `is_call` says that the work asks models, so that its retries and its timeout are those of its calls. `weight` is
    that of its agent, if this has a share of its own. `asked` is a hash of what is asked, as far as it is known before;
    `revive` makes a value of what was recorded of one; `joins` says whether all that joins while it runs was recalled.
    """

    perform: Perform
    is_call: bool = True
    item: Any = None
    agent: str | None = None
    weight: float | None = None
    retry: Retry | None = None
    timeout: float | None = None
    attempt_timeout: float | None = None
    budgets: Sequence[Budget] = ()
    on_failure: OnFailure = FAIL
    asked: str | None = None
    revive: Callable[[Any], Any] | None = None
    joins: Callable[[], bool] | None = None

    def of_item(self, perform: Perform, *, item: Any, asked: str | None) -> Work:
        """The work of one item on these terms: `dataclasses.replace` would take four times as long."""
        return Work(  # in the order of the fields
            perform, self.is_call, item, self.agent, self.weight, self.retry, self.timeout, self.attempt_timeout,
            self.budgets, self.on_failure, asked, self.revive, self.joins,
        )  # fmt: skip

    def with_on_failure(self, on_failure: OnFailure) -> Work:
        """The same work, whose failure leads to something else."""
        return replace(self, on_failure=on_failure)


PRIORITIES = {"low": -1.0, "normal": 0.0, "high": 1.0}


def priority_number(priority: str | float | None) -> float:
    """`low`, `normal`, `high` or a number, as a number. Raises UserError for anything else."""
    if priority is None:
        return 0.0
    if isinstance(priority, str) and priority in PRIORITIES:
        return PRIORITIES[priority]
    if isinstance(priority, int | float) and not isinstance(priority, bool) and math.isfinite(priority):
        return float(priority)
    raise UserError(f"a priority is low, normal, high or a number, not {priority!r}")

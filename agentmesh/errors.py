"""Every exception of agentmesh, as one tree.

::

    AgentmeshError
    ├── UserError             bad input; the command line prints it and exits with 2
    │   └── InputProblems     several mistakes in files, each with its place
    ├── CallFailed            a call or task could not be done; carries an ErrorInfo
    ├── TaskFailed            raised by `await task`; carries the outcome
    ├── RunFailed             raised at the end of a run in which tasks failed
    ├── BudgetExceeded        what was asked does not fit into what is left of a budget
    ├── HandleMisuse          a task's handle was used as if it were its value
    └── InvalidTransition     a bug in the state machine; carries the story of the task
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .outcome import Outcome

__all__ = [
    "AgentmeshError",
    "BudgetExceeded",
    "CallFailed",
    "ErrorInfo",
    "ErrorKind",
    "HandleMisuse",
    "InputProblems",
    "InvalidTransition",
    "Problem",
    "RunFailed",
    "TaskFailed",
    "UserError",
]

ErrorKind = Literal[
    "rate", "quota", "timeout", "connection", "server", "auth", "bad_request", "invalid_output", "truncated",
    "refused", "filtered", "tool", "budget", "dependency", "cancelled", "internal",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """Why something did not succeed, in words that files, tables and Python share.

    `status` is the HTTP status, if an answer came; `retryable` says whether trying again could help.
    """

    kind: ErrorKind
    message: str
    status: int | None = None
    retryable: bool = False

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


class AgentmeshError(Exception):
    """The root of the tree."""


class UserError(AgentmeshError):
    """Something a person gave is wrong: one clear message, exit code 2."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a file: where it is (1-based line and column), what is wrong, and what would be right."""

    message: str
    file: str | None = None
    line: int | None = None
    column: int | None = None
    key: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        parts = [part for part in (place, self.key, self.message) if part]
        return ": ".join(parts) + (f" ({self.hint})" if self.hint else "")


class InputProblems(UserError):
    """All mistakes that were found in what a person wrote, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class CallFailed(AgentmeshError):
    """A call or a task could not be done; `error` says why."""

    def __init__(self, error: ErrorInfo) -> None:
        self.error = error
        super().__init__(str(error))


class TaskFailed(AgentmeshError):
    """The task that was awaited did not succeed. `outcome` has the cause, the attempts and the cost."""

    def __init__(self, outcome: Outcome, story: Sequence[str] = ()) -> None:
        self.outcome = outcome
        self.story = tuple(story)
        super().__init__(f"{outcome.address} {outcome.state}: {outcome.error or 'no reason recorded'}")


class RunFailed(AgentmeshError):
    """At least one task of the run failed; `failures` has the outcome of each."""

    def __init__(self, run: str, failures: Sequence[Outcome]) -> None:
        self.run = run
        self.failures = tuple(failures)
        shown = "; ".join(f"{outcome.address}: {outcome.error}" for outcome in self.failures[:3])
        more = f"; and {len(self.failures) - 3} more" if len(self.failures) > 3 else ""
        super().__init__(f"{len(self.failures)} of the tasks of run {run} failed: {shown}{more}")


class BudgetExceeded(AgentmeshError):
    """What was asked does not fit into what is left of a budget.

    `unit` is usd, calls, tokens or time; `budget` is the Budget that has ended, `need` what the next call could have
    needed of it.
    """

    def __init__(self, message: str, *, unit: str, budget: object = None, need: float = 0.0) -> None:
        self.unit = unit
        self.budget = budget
        self.need = need
        super().__init__(message)


class HandleMisuse(AgentmeshError, TypeError):
    """The handle of a task was formatted, iterated or tested, where its value was meant."""


class InvalidTransition(AgentmeshError):
    """The state machine was told something that cannot be; `story` is what it was told of this task before."""

    def __init__(self, message: str, story: Sequence[str] = ()) -> None:
        self.story = tuple(story)
        super().__init__("\n  ".join([message, *self.story]))

"""The handle of a task: what `run.start` gives at once, and what waits for the value."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ..agents.agent import Handle
from ..errors import ErrorInfo, TaskFailed
from ..flow.graph import Node
from ..outcome import Address, Outcome

if TYPE_CHECKING:
    from .run import Run

__all__ = ["Task"]

T_co = TypeVar("T_co", covariant=True)


class Task(Handle, Generic[T_co]):
    """A task of a run. Awaiting it gives its value; given to another call as an argument it is a dependency.

    The value lives as long as its handle, and calls that it was given to hold that until they have ended.
    """

    __slots__ = ("_node", "_run")

    def __init__(self, run: Run, node: Node) -> None:
        self._run = run
        self._node = node
        node.take()

    def __del__(self) -> None:
        self._node.drop()

    def __repr__(self) -> str:
        return f"<Task {self._node.address} {self._node.state}>"

    @property
    def address(self) -> Address:
        """Where it is found in the run."""
        return self._node.address

    @property
    def ended(self) -> bool:
        """Whether it has an end state."""
        return self._node.ended

    @property
    def settled(self) -> Outcome | None:
        """How it ended, if it has."""
        return self._node.outcome

    def __await__(self) -> Generator[Any, Any, T_co]:
        return self._value().__await__()

    async def _value(self) -> T_co:
        outcome = await self.outcome()
        if not outcome.ok:
            raise TaskFailed(outcome, self._run.runner.state.story(self._node))
        return cast("T_co", outcome.value)

    async def outcome(self) -> Outcome:
        """How it ended; never raises for a failure. A task that a stop left unfinished comes out as cancelled.

        Raises UserError where the task that awaits it is one that it waits for itself.
        """
        outcome = await self._run.runner.wait_ended(self._node)
        if outcome is not None:
            return outcome
        address, reason = self.address, self._run.reason or "the run ended before this task"
        error = ErrorInfo("budget" if self._run.status == "stopped" else "cancelled", reason)
        return Outcome(address.task, address.key, address.sample, state="cancelled", error=error)

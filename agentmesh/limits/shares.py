"""What each share of a lane has used, among the calls of one priority: whoever used least by weight is next.

This is start-time fair queueing (Goyal, Vin and Cheng 1996). A share that was away begins where the others stand: what
it did not use is not owed to it. Priorities are kept apart, since what is urgent takes what it needs: those who share
what it leaves are not to wait until they have used as much.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .row import Ticket

__all__ = ["Shares"]

_FEW = 16  # shares that may be known while they have nothing waiting


@dataclass(slots=True)
class _Priority:
    """The shares that have calls of one priority waiting, and what they and others have used, in seconds by weight.

    `level` is what the share that went last had used.
    """

    waiting: dict[str, int] = field(default_factory=dict)
    used: dict[str, float] = field(default_factory=dict)
    level: float = 0.0
    enough: int = _FEW

    def forget(self) -> None:
        """Runs come and go: what they have used is of interest while they wait, or have used more than others."""
        if len(self.used) > self.enough:
            self.used = {name: s for name, s in self.used.items() if name in self.waiting or s > self.level}
            self.enough = max(_FEW, 2 * len(self.used))


class Shares:
    """Told of calls that begin to wait, go and leave; knows what their shares have used."""

    __slots__ = ("_priorities",)

    def __init__(self) -> None:
        self._priorities: dict[float, _Priority] = {}

    def __repr__(self) -> str:
        waiting = {priority: one.waiting for priority, one in self._priorities.items()}
        return f"<Shares waiting by -priority: {waiting}>"

    def used(self, ticket: Ticket) -> float:
        """What the share of a waiting call has used at its priority, in seconds of its binding limits by weight."""
        return self._priorities[ticket.order[0]].used[ticket.share.name]

    def wait(self, ticket: Ticket) -> None:
        """A call waits from now on."""
        name, priority = ticket.share.name, ticket.order[0]
        if (one := self._priorities.get(priority)) is None:
            one = self._priorities[priority] = _Priority()
        if name not in one.waiting:
            one.waiting[name] = 0
            one.used[name] = max(one.used.get(name, 0.0), one.level)
        one.waiting[name] += 1

    def go(self, ticket: Ticket, seconds: float, *, in_order: bool) -> None:
        """A waiting call goes, and takes so many seconds of its binding limit; `in_order` as the next of its share."""
        one = self._priorities[ticket.order[0]]
        if in_order:
            one.level = one.used[ticket.share.name]
        one.used[ticket.share.name] += seconds / ticket.share.weight
        self.leave(ticket)

    def leave(self, ticket: Ticket) -> None:
        """A call waits no more. When nobody does, there is nothing to be fair about, and all is forgotten."""
        name, priority = ticket.share.name, ticket.order[0]
        one = self._priorities[priority]
        one.waiting[name] -= 1
        if not one.waiting[name]:
            del one.waiting[name]
            one.forget()
        if not one.waiting:
            del self._priorities[priority]

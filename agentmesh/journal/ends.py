"""How the tasks of a run ended in earlier processes, read when it is asked for.

What answers a run was given may be large, so they are not held: for each task only the number of its record is known,
and whoever asks reads that from the file, which was gone through a moment before. A resume asks for tasks about in the
order in which they ended, so their records are read some hundreds at a time; what was read ahead and not asked for soon
is let go, and read by itself if it is asked for after all. Thus no order costs more than one reading too many.

This is done in the event loop, in which tasks are started without waiting: some hundred records of a local file, which
is what sending one call takes. A thread would have to be waited for at each task.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice

from ..events import TaskEnded
from .read import RunFile

__all__ = ["Ends"]

_SLICE = 128  # records read at once: half a millisecond, with large answers two
_AHEAD = 8192  # records held: more than tasks were in flight, as their ends are out of order by that much


class Ends:
    """The last end of each task by its address. `file` is read in the event loop, by nobody else."""

    def __init__(self, file: RunFile) -> None:
        self._file = file
        self._numbers: dict[str, int] = {}
        self._earlier: dict[str, list[int]] = {}  # of those that ended more than once, ascending
        self._of_task: dict[str, list[int]] = {}  # what was ever noted of each, ascending
        self._ahead: dict[int, TaskEnded] = {}  # the longest read first
        self._read: set[tuple[str, int]] = set()  # slices

    def __repr__(self) -> str:
        return f"<Ends of {len(self._numbers)} tasks, {len(self._ahead)} read ahead>"

    def __contains__(self, address: str) -> bool:
        return address in self._numbers

    def __iter__(self) -> Iterator[TaskEnded]:
        """All of them, each read anew. Blocks."""
        for _, event in self._file.events_at(self._numbers.values()):
            if isinstance(event, TaskEnded):
                yield event

    def note(self, address: str, number: int) -> None:
        """The record with this number, higher than all before it, tells the end of a task."""
        if address in self._numbers:
            self._earlier.setdefault(address, []).append(self._numbers[address])
        self._numbers[address] = number
        self._of_task.setdefault(address.partition("/")[0], []).append(number)

    def number(self, address: str) -> int | None:
        """Which record tells it; None for a task that has not ended."""
        return self._numbers.get(address)

    def find(self, address: str) -> TaskEnded | None:
        """How a task ended; None if it has not, or if the record of it is damaged. Reads a local file."""
        number = self._numbers.get(address)
        if number is None:
            return None
        found = self._ahead.pop(number, None)
        return self._read_with_next(number, address.partition("/")[0]) if found is None else found

    def earlier(self, address: str) -> Iterator[tuple[int, TaskEnded | None]]:
        """How a task had ended before it did last, the newest first, and which records tell; None for a damaged one."""
        for number in reversed(self._earlier.get(address, ())):
            found = [event for _, event in self._file.events_at([number]) if isinstance(event, TaskEnded)]
            yield number, found[0] if found else None

    def _read_with_next(self, number: int, task: str) -> TaskEnded | None:
        numbers = self._of_task[task]
        which = bisect_left(numbers, number) // _SLICE
        some = [number]
        if (task, which) not in self._read:
            self._read.add((task, which))
            some = numbers[which * _SLICE : (which + 1) * _SLICE]
        for one, event in self._file.events_at(some):
            assert isinstance(event, TaskEnded)
            self._ahead[one] = event
        for one in tuple(islice(self._ahead, max(0, len(self._ahead) - _AHEAD))):
            del self._ahead[one]
        return self._ahead.pop(number, None)

    def is_damaged(self, address: str) -> bool:
        """Whether a task has ended, and the record of it was asked for and cannot be read."""
        return self._numbers.get(address) in self._file.unreadable

    def close(self) -> None:
        """Close the file."""
        self._file.close()

"""What the lanes of a mesh know: read from the user's cache folder before they begin, written back while they go."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from ..clock import in_thread, sleep, wall
from ..limits.lane import Lane
from ..limits.memory import LaneMemory, lane_file, load_memory, save_memory

__all__ = ["SAVE_S", "Memories"]

SAVE_S = 30.0
"""Seconds between two writings while calls go: so much is forgotten at most when a process is killed."""


class Memories:
    """The memories of all accounts, by address and account. `tell` hears of trouble, of each kind once.

    What stands in for the network teaches nothing about it, so this is only for lanes whose calls leave the process.
    """

    def __init__(self, tell: Callable[[str], None], *, environ: Mapping[str, str] = os.environ) -> None:
        self._tell = tell
        self._told: set[str] = set()
        self._environ = environ
        self._read: dict[tuple[str, str], tuple[LaneMemory, str | None]] = {}
        self._lanes: dict[Lane, Path] = {}
        self._saved: dict[Lane, tuple[int, int]] = {}

    def __repr__(self) -> str:
        return f"<Memories of {len(self._lanes)} lanes>"

    def has_read(self, base_url: str, account: str) -> bool:
        """Whether `of` will not block."""
        return (base_url, account) in self._read

    def read(self, base_url: str, account: str) -> None:
        """Read what is known of an account, unless that was done before. Blocks: for a thread."""
        key = base_url, account
        if key not in self._read:
            self._read[key] = load_memory(lane_file(base_url, account, environ=self._environ))

    def of(self, base_url: str, account: str) -> LaneMemory:
        """What is known of an account; blocks for a moment if it has not been read before."""
        self.read(base_url, account)
        memory, problem = self._read[base_url, account]
        self._warn("reading", problem)
        return memory

    async def keep(self, lane: Lane, base_url: str) -> None:
        """Write down what this lane knows while calls go, until cancelled."""
        file = lane_file(base_url, lane.account, environ=self._environ)
        self._lanes[lane] = file
        while True:
            await sleep(SAVE_S)
            await self._save(lane, file)

    async def save(self) -> None:
        """Write down what all lanes know now."""
        for lane, file in tuple(self._lanes.items()):
            await self._save(lane, file)

    async def _save(self, lane: Lane, file: Path) -> None:
        """Write if anything has happened since the last time: calls have passed, or those in flight have ended."""
        if (progress := lane.progress) != self._saved.get(lane, (0, 0)):
            self._saved[lane] = progress
            self._warn("keeping", await in_thread(partial(save_memory, file, lane.memory(), wall=wall())))

    def _warn(self, kind: str, problem: str | None) -> None:
        if problem is not None and kind not in self._told:
            self._told.add(kind)
            self._tell(problem)

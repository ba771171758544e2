"""The append-only record of judged pairs, of which all ratings are a pure function."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

__all__ = ["Ledger"]


class Ledger:
    """Results in the order in which they came: (first item, second item, score of the first).

    Items are numbers from 0. The columns are flat arrays, so that a fit reads them without a loop; 24 bytes a result.
    """

    def __init__(self) -> None:
        self.first = array("q")
        self.second = array("q")
        self.score = array("d")

    def append(self, first: int, second: int, *, score: float) -> None:
        """Add one result; `score` is 1 if the first won, 0.5 for a tie, 0. Raises ValueError for anything else."""
        if score not in (0, 0.5, 1):
            raise ValueError(f"a score is 1, 0.5 or 0, not {score}")
        if first == second or min(first, second) < 0:
            raise ValueError(f"items {first} and {second} are no pair")
        self.first.append(first)
        self.second.append(second)
        self.score.append(score)

    def __len__(self) -> int:
        return len(self.score)

    def __iter__(self) -> Iterator[tuple[int, int, float]]:
        return zip(self.first, self.second, self.score, strict=True)

    def __repr__(self) -> str:
        return f"<Ledger of {len(self)} results>"

"""Collects the mistakes of a workflow file, each with its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import InputProblems, Problem
from ..marked_yaml import MarkedYaml, did_you_mean
from ..references import TemplateProblem

__all__ = ["Report", "TextPlace"]

Path_ = Sequence[str | int]


class TextPlace:
    """Where a template stands: at a path of the workflow file, or in a file of its own."""

    __slots__ = ("file", "path")

    def __init__(self, path: Path_, file: Path | None = None) -> None:
        self.path = tuple(path)
        self.file = file


class Report:
    """The mistakes found so far. `marked` knows where everything stands."""

    def __init__(self, marked: MarkedYaml) -> None:
        self.marked = marked
        self.problems: list[Problem] = list(marked.problems)

    def add(self, path: Path_, message: str, *, hint: str | None = None, of_key: bool = False) -> None:
        """A mistake at `path`."""
        self.problems.append(self.marked.problem(path, message, hint=hint, of_key=of_key))

    def unknown(self, path: Path_, what: str, *, word: str, known: Iterable[str]) -> None:
        """A name at `path` that names nothing."""
        known = list(known)
        self.add(path, f"there is no {what} '{word}'", hint=_nearest(word, known))

    def in_text(
        self, place: TextPlace, line: int | None, *, message: str, hint: str | None = None, word: str = "",
        known: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """A mistake in a line (from 1) of a template."""
        hint = hint or (_nearest(word, list(known)) if word else None)
        if place.file is not None:
            self.problems.append(Problem(message, file=str(place.file), line=line or 1, hint=hint))
            return
        at = self.marked.problem(place.path, message, hint=hint)
        row, column = self.marked.text_place(place.path, line or 1)
        self.problems.append(Problem(message, file=at.file, line=row, column=column, key=at.key, hint=hint))

    def template(self, place: TextPlace, problem: TemplateProblem) -> None:
        """What a template itself says is wrong with it."""
        self.in_text(place, problem.line, message=problem.message, hint=problem.hint)

    def finish(self) -> None:
        """Raises InputProblems, in the order of the file, if there is anything to tell."""
        if self.problems:
            ours = self.marked.file
            order = sorted(
                dict.fromkeys(self.problems), key=lambda p: (p.file != ours, p.file or "", p.line or 0, p.column or 0)
            )
            raise InputProblems(order)


def _nearest(word: str, known: list[str]) -> str | None:
    """The name that was meant, or all there are if they are few."""
    return did_you_mean(word, known) or (f"there are {', '.join(known)}" if 0 < len(known) <= 12 else None)

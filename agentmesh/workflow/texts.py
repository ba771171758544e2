"""Compiles the templates and expressions of a workflow, and notes where each stands and what it may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import InputProblems
from ..template import Expression, Template, TemplateProblem
from .imports import CannotFind, find_file
from .plan import Text, Value
from .report import Report, TextPlace
from .rows import read_text
from .spec import FileText, RawText

__all__ = ["Role", "Texts", "Use"]

Role = Literal["source", "samples", "key", "item", "entrant", "once"]
"""When a text is evaluated, and so what it may see: before there are elements (`source`), for an element (`samples`,
`key`), for an item, for an entrant of a tournament, or once for the run (`once`: inputs only)."""


@dataclass(frozen=True, slots=True)
class Use:
    """One template or expression: where it stands and when it is evaluated."""

    place: TextPlace
    text: Template | Expression
    role: Role


class Texts:
    """Compiles texts for one task (or agent, or output). What is wrong goes to the report, and gives None."""

    def __init__(self, report: Report, folders: Sequence[Path]) -> None:
        self._report = report
        self._folders = folders
        self.uses: list[Use] = []

    def template(
        self, path: Sequence[str | int], text: str, *, role: Role, file: Path | None = None
    ) -> Template | None:
        """A text with braces."""
        place = TextPlace(path, file)
        try:
            found = Template(text)
        except TemplateProblem as problem:
            self._report.template(place, problem)
            return None
        self.uses.append(Use(place, found, role))
        return found

    def prompt(self, path: Sequence[str | int], found: str | FileText | RawText, *, role: Role) -> Text | None:
        """A template, in the workflow or in a file; or a text that is taken as it is."""
        if isinstance(found, RawText):
            return found.raw
        if isinstance(found, str):
            return self.template(path, found, role=role)
        try:
            file = find_file(found.file, self._folders)
            return self.template(path, read_text(file, shown=found.file), role=role, file=Path(found.file))
        except CannotFind as error:
            self._report.add((*path, "file"), str(error), hint=error.hint)
        except InputProblems as error:
            self._report.problems += error.problems
        return None

    def expression(self, path: Sequence[str | int], text: str, *, role: Role) -> Expression | None:
        """A text that is an expression as a whole."""
        place = TextPlace(path)
        try:
            found = Expression(text)
        except TemplateProblem as problem:
            hint = problem.hint or "an expression stands here; a text in it is written in quotes of its own: \"'text'\""
            self._report.in_text(place, problem.line, message=problem.message, hint=hint)
            return None
        self.uses.append(Use(place, found, role))
        return found

    def value(self, path: Sequence[str | int], found: Any, *, role: Role) -> Value | None:
        """What stands where a value is meant: a text is an expression, also in maps; all else is literal."""
        if isinstance(found, str):
            expression = self.expression(path, found, role=role)
            return None if expression is None else Value(expression)
        if isinstance(found, Mapping):
            inner = {name: self.value((*path, name), part, role=role) for name, part in found.items()}
            return None if None in inner.values() else Value(inner)
        return Value(found)

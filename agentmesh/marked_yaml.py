"""Reads YAML 1.2 into plain data and remembers where everything stands, so that mistakes are shown in their place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)  # fmt: skip
from ruamel.yaml.reader import ReaderError

from .errors import InputProblems, Problem
from .explain import explain

__all__ = ["MarkedYaml", "changed_parts", "did_you_mean", "load_yaml", "path_text", "plain_scalar"]

Path = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)
MAX_DEPTH = 64
"""Nesting beyond this is a mistake or an attack, and would exhaust Python's stack."""


def did_you_mean(word: str, candidates: Iterable[str]) -> str | None:
    """A hint that names the nearest candidate, if one is near: `did you mean 'agent'?`."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"did you mean '{by_lower[found[0]]}'?" if found else None


def changed_parts(before: str, after: str) -> tuple[str, ...]:
    """What is not the same in two versions of a file, two levels deep: `tasks.review`, `agents.critic (new)`.

    Raises InputProblems for a version that is no YAML.
    """
    old, new = (_two_levels(load_yaml(text, file="").data) for text in (before, after))
    changed = [name for name in new if name in old and new[name] != old[name]]
    return (*changed, *(f"{name} (new)" for name in new if name not in old),
            *(f"{name} (gone)" for name in old if name not in new))  # fmt: skip


def _two_levels(data: Any) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for name, value in (data or {}).items():
        parts |= {f"{name}.{inner}": one for inner, one in value.items()} if isinstance(value, dict) else {name: value}
    return parts


def path_text(path: Sequence[str | int]) -> str | None:
    """A path as people write it: `tasks.draft.tools[0]`; None for the whole file."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.lstrip(".") or None


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a value stands, 0-based; `style` is that of a scalar (`|` for a literal block)."""

    line: int
    column: int
    key: tuple[int, int] | None
    style: str | None = None


class MarkedYaml:
    """A YAML file as plain data, with the line and column of each of its parts.

    `data` has dicts with text keys, lists and scalars only. Paths are sequences of keys and indexes. `problems` are
    keys that stand twice: the first of them is in `data`.
    """

    def __init__(
        self, data: Any, *, file: str, lines: Sequence[str], marks: Mapping[Path, _Mark],
        problems: Sequence[Problem] = (),
    ) -> None:  # fmt: skip
        self.data = data
        self.file = file
        self.problems = tuple(problems)
        self._lines = lines
        self._marks = marks

    def __repr__(self) -> str:
        return f"<MarkedYaml {self.file}: {len(self._marks)} values>"

    def with_data(self, data: Any) -> MarkedYaml:
        """These places for data that was completed after it was read; what was added has the place of its ancestor."""
        return MarkedYaml(data, file=self.file, lines=self._lines, marks=self._marks, problems=self.problems)

    def place(self, path: Sequence[str | int], *, of_key: bool = False) -> tuple[int, int]:
        """Line and column (1-based) of the value at `path`, or of its key; of the nearest ancestor if it is missing."""
        parts = tuple(path)
        while parts and parts not in self._marks:
            parts, of_key = parts[:-1], True
        mark = self._marks.get(parts, _START)
        line, column = mark.key if of_key and mark.key else (mark.line, mark.column)
        return line + 1, column + 1

    def text_place(self, path: Sequence[str | int], line_in_text: int) -> tuple[int, int]:
        """Where line `line_in_text` (1-based) of the text at `path` begins in the file.

        Exact for literal blocks (`|`) and for texts of one line; other texts are folded, and give where they begin.
        """
        line, column = self.place(path)
        mark = self._marks.get(tuple(path))
        if mark is None or mark.style != "|":
            return line, column
        text: Any = self.data
        for part in path:
            text = text[part]
        in_text, row = text.split("\n"), line + max(1, line_in_text)
        if line_in_text > len(in_text) or row > len(self._lines):
            return line, column
        return row, max(0, len(self._lines[row - 1].rstrip("\r")) - len(in_text[line_in_text - 1])) + 1

    def problem(
        self, path: Sequence[str | int], message: str, *, hint: str | None = None, of_key: bool = False
    ) -> Problem:
        """A mistake at `path`."""
        line, column = self.place(path, of_key=of_key)
        return Problem(message, file=self.file, line=line, column=column, key=path_text(path), hint=hint)

    def problems_of(
        self, error: ValidationError, *, prefix: Sequence[str | int] = (), model: type[BaseModel] | None = None
    ) -> list[Problem]:
        """What pydantic found wrong in the data below `prefix`, in words, each once, in the order of the file.

        With the `model` that was validated, unknown keys get the nearest known one as a hint.
        """
        data = self.data
        for part in prefix:
            data = data[part]
        problems = []
        for found in explain(error, data, model=model):
            hint = (did_you_mean(found.word, found.candidates) if found.word else None) or found.hint
            problems.append(self.problem((*prefix, *found.path), found.message, hint=hint, of_key=found.of_key))
        return sorted(dict.fromkeys(problems), key=lambda problem: (problem.line or 0, problem.column or 0))

    def validate(self, model: type[M], *, prefix: Sequence[str | int] = ()) -> M:
        """The data below `prefix` as a `model`. Raises InputProblems with every mistake."""
        data = self.data
        for part in prefix:
            data = data[part]
        try:
            return model.model_validate(data)
        except ValidationError as error:
            raise InputProblems(self.problems_of(error, prefix=prefix, model=model)) from None


_START = _Mark(0, 0, None)


def load_yaml(text: str, *, file: str, keep_problems: bool = False) -> MarkedYaml:
    """Read one YAML 1.2 document. Keys are always text; `yes`, dates and times are text too.

    Raises InputProblems: syntax errors, duplicate keys, tabs, several documents, an empty file, an unquoted `{{`. With
    `keep_problems` duplicate keys are kept in the result instead, to be told together with what else is wrong.
    """
    builder = _Builder(text.removeprefix("\ufeff"), file)
    data = builder.build()
    if builder.problems and (data is None or not keep_problems):
        raise InputProblems(builder.problems)
    return MarkedYaml(data, file=file, lines=builder.lines, marks=builder.marks, problems=builder.problems)


class _Builder:
    """Turns the parser's events into plain data; keeps the place of each value and the mistakes found on the way."""

    def __init__(self, text: str, file: str) -> None:
        self.text, self.file, self.lines = text, file, text.split("\n")
        self.marks: dict[Path, _Mark] = {}
        self.problems: list[Problem] = []
        self._anchors: dict[str, Any] = {}
        self._events: Iterator[Any] = iter(())

    def build(self) -> Any:
        self._events = YAML(typ="safe", pure=True).parse(self.text)
        data, documents = None, 0
        try:
            for event in self._events:
                if isinstance(event, DocumentStartEvent):
                    documents += 1
                    if documents > 1:
                        self._fail(
                            event.start_mark, "a second document begins here", hint="one file holds one document"
                        )
                    data = self._node(next(self._events), (), key=None)
        except MarkedYAMLError as error:
            self._syntax_error(error)
        except ReaderError as error:
            line = self.text.count("\n", 0, error.position)
            message = f"the character U+{ord(self.text[error.position]):04X} is not allowed in YAML"
            raise InputProblems([Problem(message, file=self.file, line=line + 1)]) from None
        except YAMLError as error:
            raise InputProblems([Problem(f"this is not YAML: {error}", file=self.file, line=1)]) from None
        if data is None:
            self.problems.append(Problem("the file is empty", file=self.file, line=1, column=1))
        return data

    def _fail(self, mark: Any, message: str, *, hint: str | None = None, path: Path = ()) -> NoReturn:
        line, column = mark.line + 1, mark.column + 1
        problem = Problem(message, file=self.file, line=line, column=column, key=path_text(path), hint=hint)
        raise InputProblems([*self.problems, problem]) from None

    def _node(self, event: Any, path: Path, *, key: tuple[int, int] | None) -> Any:
        start = event.start_mark
        if isinstance(event, AliasEvent):
            if event.anchor not in self._anchors:
                self._fail(start, f"nothing before this is marked &{event.anchor}", path=path)
            self.marks[path] = _Mark(start.line, start.column, key)
            return self._anchors[event.anchor]
        if len(path) > MAX_DEPTH:
            self._fail(start, f"nested more than {MAX_DEPTH} deep")
        self.marks[path] = _Mark(start.line, start.column, key, getattr(event, "style", None))
        if isinstance(event, ScalarEvent):
            value = self._scalar(event, path)
        elif event.tag not in _MAP_AND_LIST_TAGS:
            self._fail(start, f"the tag {event.tag} is not read here", path=path)
        elif isinstance(event, SequenceStartEvent):
            value = self._list(path)
        else:
            value = self._map(event, path)
        if event.anchor:
            self._anchors[event.anchor] = value
        return value

    def _scalar(self, event: Any, path: Path) -> Any:
        if event.tag == "tag:yaml.org,2002:str" or event.style in _QUOTED:
            return event.value
        if event.tag is not None:
            self._fail(event.start_mark, f"the tag {event.tag} is not read here", path=path)
        return plain_scalar(event.value)

    def _list(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._node(event, (*path, len(items)), key=None))
        return items

    def _map(self, start: Any, path: Path) -> dict[str, Any]:
        if self.text.startswith("{{", start.start_mark.index):
            self._fail(start.start_mark, "YAML reads {{ as the start of a map", hint=_QUOTE_BRACES, path=path)
        found: dict[str, Any] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            mark = event.start_mark
            if not isinstance(event, ScalarEvent):
                if isinstance(event, MappingStartEvent) and self.text.startswith("{{", mark.index - 1):
                    self._fail(mark, "YAML reads {{ as the start of a map", hint=_QUOTE_BRACES, path=path)
                self._fail(mark, "a key must be a plain text", path=path)
            name, place = event.value, (mark.line, mark.column)
            if name == "<<" and event.style is None:
                self._fail(mark, "`<<` is not part of YAML 1.2", hint="write the keys out", path=path)
            if name in found:
                first = self.marks[(*path, name)].key or (0, 0)
                self.problems.append(
                    Problem(
                        f"this key stands twice: on line {first[0] + 1} and on line {mark.line + 1}", file=self.file,
                        line=mark.line + 1, column=mark.column + 1, key=path_text((*path, name)),
                    )
                )  # fmt: skip
                kept = self.marks.copy()  # the first one is what its place tells
                self._node(next(self._events), (*path, name), key=place)
                self.marks = kept
                continue
            found[name] = self._node(next(self._events), (*path, name), key=place)
        return found

    def _syntax_error(self, error: Any) -> NoReturn:
        mark = error.problem_mark or error.context_mark
        row = min(mark.line, len(self.lines) - 1)
        for number in range(row, max(-1, row - 2), -1):
            if "\t" in _INDENT.match(self.lines[number])[0]:  # type: ignore[index]  # matches the empty text
                mark.line, mark.column = number, self.lines[number].index("\t")
                self._fail(mark, "a tab is not allowed in the indentation", hint="use spaces")
        line = self.lines[row]
        if braces := _BARE_BRACES.search(line):
            mark.line, mark.column = row, braces.start(1)
            self._fail(mark, "YAML reads {{ as the start of a map", hint=_QUOTE_BRACES)
        problem = str(error.problem or error.context)
        if "cannot start any token" in problem:
            braces_before = line[: mark.column].endswith("{")
            mark.column -= braces_before
            begin = line[mark.column : mark.column + 1 + braces_before]
            self._fail(mark, f"YAML does not allow {begin} here", hint=f"quote a text that begins with {begin}")
        if "mapping values are not allowed" in problem or problem.endswith("but got ':'"):
            self._fail(
                mark,
                "a colon that YAML does not allow here",
                hint="quote a text that contains ': '; check the indentation",
            )
        context = f"{error.context}, " if error.context and error.problem else ""
        self._fail(mark, f"this is not YAML: {context}{problem}".replace("<stream end>", "the end of the file"))


_QUOTED = frozenset("'\"|>")
_INDENT = re.compile(r"[ \t]*")
_BARE_BRACES = re.compile(r"(?:^|[:\-,\[])\s+(\{\{)")
_QUOTE_BRACES = "quote a text that begins with {{"
_MAP_AND_LIST_TAGS = frozenset({None, "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})
_WORDS: dict[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None, "true": True, "True": True, "TRUE": True,
    "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_NUMBER = re.compile(
    r"(?P<int>[-+]?[0-9]{1,300})|0o(?P<oct>[0-7]+)|0x(?P<hex>[0-9a-fA-F]+)"
    r"|(?P<float>[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)"
    r"|(?P<inf>[-+]?\.(?:inf|Inf|INF))|(?P<nan>\.(?:nan|NaN|NAN))"
)


def plain_scalar(text: str) -> str | int | float | bool | None:
    """An unquoted scalar by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/, section 10.3.2)."""
    if text in _WORDS:
        return _WORDS[text]
    match = _NUMBER.fullmatch(text)
    if match is None:
        return text
    match match.lastgroup:
        case "int":
            return int(text)
        case "oct":
            return int(text[2:], 8)
        case "hex":
            return int(text[2:], 16)
        case "float":
            return float(text)
        case _:
            return float(text.replace(".", ""))

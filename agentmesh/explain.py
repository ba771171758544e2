"""Says in words, and once, what pydantic found wrong in data that a person wrote.

Pydantic reports each branch of a union by itself and puts the branch's name into the location. Here a location is laid
over the data to tell names of branches from keys, and of each union only the branch that the person meant is told: the
one whose shape fits best, or all together where none fits ("must be a number or a map, not a list").
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

__all__ = ["Found", "explain", "in_words"]


@dataclass(frozen=True, slots=True)
class Found:
    """One mistake: where in the data, what is wrong; `word` is what was written where one of `candidates` belongs."""

    path: tuple[str | int, ...]
    message: str
    of_key: bool = False
    word: str | None = None
    candidates: tuple[str, ...] = ()
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class _Step:
    part: str | int
    label: bool


_Located = tuple[tuple[_Step, ...], Mapping[str, Any]]


def explain(error: ValidationError, data: Any, *, model: type[BaseModel] | None = None) -> list[Found]:
    """The mistakes in `data` that `error` tells, each once. `model` is what was validated: it knows the known keys."""
    located = [(_lay(e["loc"], data, kind=e["type"]), e) for e in error.errors(include_url=False)]
    return list(_resolve(located, labels=(), model=model))


def in_words(value: Any) -> str:
    """A value as it is named in a message: short, and never a long text."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"{value:g}" if isinstance(value, float) else str(value)
        case str():
            return f"'{value}'" if len(value) <= 40 and "\n" not in value else "a longer text"
        case Mapping():
            return "a map"
        case Sequence():
            return "a list"
        case _:
            return f"a {type(value).__name__}"


def _lay(loc: tuple[str | int, ...], data: Any, *, kind: str) -> tuple[_Step, ...]:
    """Tell the parts of a location that are keys from those that name a union's branch, by the data itself."""
    _, steps = _best(loc, data, kind=kind)
    return steps


def _best(loc: tuple[str | int, ...], data: Any, *, kind: str) -> tuple[tuple[int, int], tuple[_Step, ...]]:
    if not loc:
        return (1, 0), ()
    part, rest = loc[0], loc[1:]
    options = []
    if _has(data, part):
        (ends, matched), steps = _best(rest, data[part], kind=kind)
        options.append(((ends, matched + 1), (_Step(part, label=False), *steps)))
    if not rest and kind == "missing":
        ends = int(isinstance(data, Mapping))
        options.append(((ends, 0), (_Step(part, label=False),)))
    else:
        (ends, matched), steps = _best(rest, data, kind=kind)
        options.append(((ends if rest else 0, matched), (_Step(part, label=True), *steps)))
    return max(options, key=lambda option: option[0])


def _has(data: Any, part: str | int) -> bool:
    if isinstance(data, Mapping):
        return part in data
    return isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)


def _resolve(located: Sequence[_Located], *, labels: tuple[str, ...], model: type[BaseModel] | None) -> Iterator[Found]:
    """Tell the errors without a branch, and of each union the branch that was meant; `labels` are those chosen."""
    unions: dict[tuple[str | int, ...], dict[str, list[_Located]]] = {}
    for steps, e in located:
        at = next((number for number, step in enumerate(steps) if step.label), None)
        if at is None:
            yield _tell(tuple(step.part for step in steps), e, labels=labels, model=model)
            continue
        where = tuple(step.part for step in steps[:at])
        rest = (*steps[:at], *steps[at + 1 :])
        unions.setdefault(where, {}).setdefault(str(steps[at].part), []).append((rest, e))
    for where, branches in unions.items():
        deep = {
            name: found for name, found in branches.items() if not all(_only_type(each, where=where) for each in found)
        }
        if deep:
            name = min(deep, key=lambda name: _strangeness(deep[name]))
            yield from _resolve(deep[name], labels=(*labels, name), model=model)
        else:
            yield _together(where, [e for found in branches.values() for _, e in found])


def _only_type(located: _Located, *, where: tuple[str | int, ...]) -> bool:
    """Whether this error says no more than that the branch is not for values of this type."""
    steps, e = located
    return len([step for step in steps if not step.label]) == len(where) and e["type"] in _EXPECTED


def _strangeness(found: Sequence[_Located]) -> tuple[int, int]:
    """How little a branch is like what was written: keys that do not fit count first."""
    return sum(e["type"] in ("missing", "extra_forbidden") for _, e in found), len(found)


def _together(where: tuple[str | int, ...], errors: Sequence[Mapping[str, Any]]) -> Found:
    expected = list(dict.fromkeys(text for e in errors for text in _expected(e)))
    value = errors[0]["input"]
    choices = tuple(word for e in errors for word in _choices(e))
    word = value if isinstance(value, str) and choices else None
    return Found(where, f"must be {_or(expected)}, not {in_words(value)}", word=word, candidates=choices)


def _tell(path: tuple[str | int, ...], e: Mapping[str, Any], *, labels: tuple[str, ...], model: Any) -> Found:
    kind, value, context = e["type"], e["input"], e.get("ctx") or {}
    if kind == "missing":
        return Found(path[:-1], f"{path[-1]} is missing", of_key=True)
    if kind == "extra_forbidden":
        known = _known_keys(model, path[:-1], labels=labels)
        hint = f"known here: {', '.join(known)}" if 0 < len(known) <= 12 else None
        return Found(path, "unknown key", of_key=True, word=str(path[-1]), candidates=known, hint=hint)
    if kind in _EXPECTED:
        return _together(path, [e])
    if kind in ("value_error", "assertion_error"):
        return Found(path, str(context["error"]))
    if kind in _BOUNDS:
        return Found(path, f"{_BOUNDS[kind](context)}, not {in_words(value)}")
    message = str(e["msg"])
    return Found(path, message[:1].lower() + message[1:])


_EXPECTED: dict[str, str] = {
    "string_type": "a text", "int_type": "a whole number", "int_parsing": "a whole number",
    "int_from_float": "a whole number", "float_type": "a number", "float_parsing": "a number",
    "decimal_type": "a number", "bool_type": "true or false", "bool_parsing": "true or false", "list_type": "a list",
    "tuple_type": "a list", "set_type": "a list", "frozen_set_type": "a list", "dict_type": "a map",
    "mapping_type": "a map", "model_type": "a map", "model_attributes_type": "a map", "dataclass_type": "a map",
    "date_type": "a date such as 2026-11-20", "date_parsing": "a date such as 2026-11-20",
    "date_from_datetime_parsing": "a date such as 2026-11-20", "none_required": "nothing",
    "literal_error": "", "enum": "",
}  # fmt: skip


def _characters(number: int) -> str:
    return "1 character" if number == 1 else f"{number:,} characters"


_BOUNDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda c: f"must be above {c['gt']:g}",
    "greater_than_equal": lambda c: f"must be at least {c['ge']:g}",
    "less_than": lambda c: f"must be below {c['lt']:g}",
    "less_than_equal": lambda c: f"must be at most {c['le']:g}",
    "finite_number": lambda _: "must be a finite number",
    "string_too_short": lambda c: f"must have at least {_characters(c['min_length'])}",
    "string_too_long": lambda c: f"must have at most {_characters(c['max_length'])}",
    "string_pattern_mismatch": lambda c: f"must match {c['pattern']}",
}


def _choices(e: Mapping[str, Any]) -> list[str]:
    return (
        re.findall(r"'([^']*)'", (e.get("ctx") or {}).get("expected", ""))
        if e["type"] in ("literal_error", "enum")
        else []
    )


def _expected(e: Mapping[str, Any]) -> list[str]:
    return [_EXPECTED[e["type"]]] if _EXPECTED[e["type"]] else _choices(e) or [str(e["ctx"]["expected"])]


def _or(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _known_keys(model: Any, path: Sequence[str | int], *, labels: tuple[str, ...]) -> tuple[str, ...]:
    """The keys of the models that may stand at `path`; of those that the chosen branches name, if they do."""
    here = list(_alternatives(model))
    for part in path:
        here = [found for kind in here for found in _below(kind, part)]
    models = [kind for kind in here if isinstance(kind, type) and issubclass(kind, BaseModel)]
    models = [kind for kind in models if kind.__name__ in labels] or models
    return tuple(dict.fromkeys(field.alias or name for kind in models for name, field in kind.model_fields.items()))


def _alternatives(annotation: Any) -> Iterator[Any]:
    """A type, or the members of a union, with wrappers taken off."""
    annotation = getattr(annotation, "__value__", annotation)
    if get_origin(annotation) is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _alternatives(member)
    else:
        yield annotation


def _below(kind: Any, part: str | int) -> Iterator[Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            if part == (field.alias or name):
                yield from _alternatives(field.annotation)
    elif arguments := [argument for argument in get_args(kind) if argument is not Ellipsis]:
        yield from _alternatives(arguments[-1])

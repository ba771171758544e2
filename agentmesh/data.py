"""What templates, files and hashes see of a value: its data, never its Python attributes or methods."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from pydantic import BaseModel

__all__ = ["DataView", "MissingField", "field_names", "kind_of", "plain", "read_field", "read_item", "text_of"]


class MissingField(LookupError):
    """There is no such field or element. The message says what there is."""


class DataView(ABC):
    """An object that decides by itself what templates see of it; the base of collections and standings.

    Iterating over it and `len` are the class's own business.
    """

    def read_field(self, name: str) -> Any:
        """What a dot finds. Raises KeyError."""
        raise KeyError(name)

    def read_item(self, key: Any) -> Any:
        """What square brackets find. Raises KeyError."""
        raise KeyError(key)

    def field_names(self) -> Iterable[str]:
        """What a dot can find."""
        return ()

    @abstractmethod
    def plain(self) -> Any:
        """The value as it is written out."""


Reader = Callable[[Any, str], Any]
_readers: dict[type, Reader | None] = {}


def _make_reader(kind: type) -> Reader | None:
    """How a dot reads values of this type; raises KeyError (and nothing else) for what is not a field of it."""
    if issubclass(kind, DataView):
        return kind.read_field
    if issubclass(kind, Mapping):
        return lambda value, name: value[name]
    if issubclass(kind, BaseModel):
        known = {*kind.model_fields, *kind.model_computed_fields}
        return lambda value, name: getattr(value, name) if name in known else (value.model_extra or {})[name]
    if dataclasses.is_dataclass(kind):
        return _of_names(field.name for field in dataclasses.fields(kind))
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _of_names(kind._fields)
    return None


def _of_names(names: Iterable[str]) -> Reader:
    known = dict.fromkeys(names)

    def read(value: Any, name: str) -> Any:
        if name not in known:
            raise KeyError(name)
        return getattr(value, name)

    return read


def _reader_of(value: Any) -> Reader | None:
    kind = type(value)
    try:
        return _readers[kind]
    except KeyError:
        reader = _readers[kind] = _make_reader(kind)
        return reader


def read_field(value: Any, name: str) -> Any:
    """The field `name` of a mapping, model, dataclass, named tuple or view. Raises MissingField."""
    reader = dict.__getitem__ if type(value) is dict else _reader_of(value)
    if reader is None:
        raise MissingField(f"{kind_of(value)} has no fields")
    try:
        return reader(value, name)
    except KeyError:
        names = list(field_names(value))
        shown = ", ".join(map(str, names[:12])) + (", ..." if len(names) > 12 else "")
        raise MissingField(f"no field '{name}'; there {'are' if names else 'is'} {shown or 'none'}") from None


def read_item(value: Any, key: Any) -> Any:
    """What `value[key]` means in a template: a field by its name, an element by its number. Raises MissingField."""
    if isinstance(value, DataView):
        try:
            return value.read_item(key)
        except KeyError:
            raise MissingField(f"no element {key!r}") from None
    if isinstance(value, Mapping) and key in value:
        return value[key]
    if isinstance(value, Sequence) and isinstance(key, int):
        try:
            return value[key]
        except IndexError:
            raise MissingField(f"no element {key}; there are {len(value)}") from None
    return read_field(value, str(key))


def field_names(value: Any) -> Iterator[str]:
    """What a dot finds in a value."""
    if isinstance(value, DataView):
        yield from value.field_names()
    elif isinstance(value, Mapping):
        yield from (str(key) for key in value)
    elif isinstance(value, BaseModel):
        yield from (*type(value).model_fields, *type(value).model_computed_fields, *(value.model_extra or ()))
    elif dataclasses.is_dataclass(value):
        yield from (field.name for field in dataclasses.fields(value))
    elif isinstance(value, tuple):
        yield from getattr(value, "_fields", ())


def kind_of(value: Any) -> str:
    """What kind of thing a value is, in words for people."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "a boolean"
        case str():
            return "text"
        case int() | float():
            return "a number"
        case Mapping():
            return "a map"
        case Sequence() | AbstractSet() | DataView():
            return "a list"
        case _:
            return f"a {type(value).__name__}"


_PLAIN = frozenset({str, int, float, bool, type(None)})


def plain(value: Any) -> Any:
    """A value as JSON knows it: dicts with text keys, lists, texts, numbers, booleans and None.

    Raises TypeError for an object that is no data.
    """
    kind = type(value)
    if kind in _PLAIN:  # as most values are, and most that have parts are dicts: the questions below take longer
        return value
    if kind is dict:
        return {str(key): plain(inner) for key, inner in value.items()}
    match value:
        case None | str() | bool() | int() | float():
            return value.value if isinstance(value, enum.Enum) else value
        case DataView():
            return plain(value.plain())
        case BaseModel():
            return value.model_dump(mode="json")
        case Mapping():
            return {str(key): plain(inner) for key, inner in value.items()}
        case enum.Enum():
            return plain(value.value)
        case datetime.date() | datetime.time():
            return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: plain(getattr(value, name)) for name in value._fields}
    if isinstance(value, AbstractSet):
        return sorted((plain(inner) for inner in value), key=str)
    if isinstance(value, Sequence | Iterator) and not isinstance(value, bytes | bytearray):
        return [plain(inner) for inner in value]
    if hasattr(value, "item") and getattr(value, "shape", None) == ():  # a scalar of numpy
        return plain(value.item())
    raise TypeError(f"a value of type {type(value).__name__} is not data")


def text_of(value: Any) -> str:
    """A value as a prompt shows it: text as it is, None as nothing, numbers plainly, everything with parts as JSON.

    Raises TypeError for an object that has no text of its own: no `<object at 0x...>` ever reaches a model.
    """
    kind = type(value)
    if kind is str or kind is int:
        return str(value)
    if kind is float:
        return f"{value:.12g}"
    if value is None:
        return ""
    if isinstance(value, enum.Enum):
        return text_of(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    has_text = kind.__str__ is not object.__str__  # type: ignore[comparison-overlap]  # classes inherit it
    if not has_text or isinstance(value, BaseModel | DataView | bytes):
        return json.dumps(plain(value), ensure_ascii=False)
    return str(value)

"""The lines of a batch: a prompt or messages each, with an id and settings of its own, read from JSON Lines.

A line is a Chat Completions request in short. What is not part of a request is data of the user's, and comes back.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...dialects.base import RequestRejected
from ...dialects.json_text import read_json
from ...dialects.openai_chat_server import request_of
from ...dialects.reading import need_map, need_text
from ...messages import Message, Request

__all__ = ["OUTPUT_KEYS", "SETTING_KEYS", "Line", "Lines", "read_lines"]

OUTPUT_KEYS = (
    "format", "id", "ok", "reply", "finish", "error", "model", "attempts", "seconds", "usage", "usd",
)  # fmt: skip
"""The keys of an answer. A key of the input that is called so does not come back: the answer's own stands there."""

SETTING_KEYS = frozenset({
    "model", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop", "reasoning_effort",
    "response_format", "n", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs",
    "user", "service_tier", "verbosity", "store", "prediction", "modalities", "safety_identifier",
    "prompt_cache_key", "prompt_cache_retention", "top_k", "min_p", "repetition_penalty", "chat_template_kwargs",
    "reasoning", "thinking",
})  # fmt: skip
"""What goes to the model: the settings of Chat Completions, and those that other servers add to them."""

_OTHER_KEYS = frozenset({"id", "system", "prompt", "messages", "extra", "stream", "stream_options"})
_TOOL_KEYS = ("tools", "tool_choice", "functions", "function_call")
_KNOWN = SETTING_KEYS | _OTHER_KEYS | frozenset(OUTPUT_KEYS)
_LIKELY_TYPO = 0.85  # below this, names of columns look like settings: score and store
_SHOWN = 3
_BOM = b"\xef\xbb\xbf"


@dataclass(eq=False, slots=True)
class Line:
    """One line. Its bytes stay until it is answered: parsed, they would weigh ten times as much.

    `id` is unique in the batch, `own_id` is what the line says itself, or its number. `model` is what it asks, None
    if nobody named one; `problem` says why it cannot be asked.
    """

    number: int
    id: str | int
    own_id: str | int
    raw: bytes
    model: str | None = None
    problem: str | None = None
    has_data: bool = False

    def request(self, *, system: str | None = None) -> Request:
        """What to ask; `system` is for lines without a system message of their own. Raises RequestRejected."""
        return _request(_object(self.raw), system=system)

    def data(self) -> dict[str, Any]:
        """What comes back with the answer: the keys that belong to no request."""
        if not self.has_data:
            return {}
        return {name: value for name, value in _object(self.raw).items() if name not in _KNOWN}


@dataclass(slots=True)
class Lines:
    """All lines of a batch in their order, and what a person should know of them."""

    lines: list[Line] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def models(self) -> dict[str | None, Line]:
        """Each model that is asked, with the first line that asks it."""
        found: dict[str | None, Line] = {}
        for line in self.lines:
            if line.problem is None:
                found.setdefault(line.model, line)
        return found


def read_lines(stream: Iterable[bytes], *, model: str | None = None, first: int | None = None) -> Lines:
    """Read and check lines; empty ones are passed over, broken ones get a `problem`. `model` is that of the others.

    At most `first` lines are read. Blocks while the stream does.
    """
    found = Lines()
    ids = _Ids()
    unknown: dict[str, int] = {}
    models: dict[str, str] = {}
    for number, raw in _full(stream):
        line = _line(number, raw, unknown=unknown)
        if line.problem is None:
            named = line.model or model
            line.model = None if named is None else models.setdefault(named, named)  # one text for all lines
        line.id = ids.unique(line)
        found.lines.append(line)
        if len(found.lines) == first:
            break
    found.notices = [*ids.notices(), *_typos(unknown)]
    return found


def _full(stream: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, with their numbers from 1."""
    for number, raw in enumerate(stream, 1):
        text = (raw.removeprefix(_BOM) if number == 1 else raw).strip()
        if text:
            yield number, text


def _line(number: int, raw: bytes, *, unknown: dict[str, int]) -> Line:
    line = Line(number, number, str(number), raw)
    try:
        value = _object(raw)
        own = value.get("id")
        if own not in (None, ""):
            if isinstance(own, bool) or not isinstance(own, str | int):
                raise RequestRejected("id must be a text or a whole number")
            line.own_id = own
        names = [name for name in value if name not in _KNOWN]
        line.has_data = bool(names)
        for name in names:
            unknown.setdefault(name, number)
        _request(value)
        line.model = value.get("model")
    except RequestRejected as rejected:
        line.problem = str(rejected)
    return line


def _object(raw: bytes) -> dict[str, Any]:
    """The object that a line is. Raises RequestRejected."""
    try:
        value = read_json(raw)
    except json.JSONDecodeError as error:
        raise RequestRejected(f"this is not JSON: {error.msg} (column {error.colno})") from None
    except UnicodeDecodeError:
        raise RequestRejected("this is not text in UTF-8") from None
    except ValueError as error:
        raise RequestRejected(f"this is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise RequestRejected('a line must be an object, such as {"id": "a", "prompt": "..."}')
    return value


def _request(value: Mapping[str, Any], *, system: str | None = None) -> Request:
    """The request in a line. Raises RequestRejected, which names the place."""
    for name in _TOOL_KEYS:
        if value.get(name):
            raise RequestRejected(f"{name} cannot be used here: a line is one question and one reply in text")
    body = {name: said for name, said in value.items() if name in SETTING_KEYS and said is not None}
    body.setdefault("model", "-")  # required in a request; which one it is, is not decided here
    body["messages"] = _messages(value)
    request = request_of(body)
    settings = request.settings
    if value.get("extra") is not None:
        settings = replace(settings, extra={**settings.extra, **need_map(value["extra"], "extra")})
    return replace(request, model="", messages=_with_system(request.messages, value, system=system), settings=settings)


def _messages(value: Mapping[str, Any]) -> Any:
    prompt, messages = value.get("prompt"), value.get("messages")
    if prompt is not None and messages is not None:
        raise RequestRejected("there are both prompt and messages: which of them is to be asked?")
    if messages is not None:
        return messages
    if prompt is None:
        keys = ", ".join(list(value)[:8]) or "nothing"
        raise RequestRejected(f"there is neither prompt nor messages here, only {keys}")
    return [{"role": "user", "content": need_text(prompt, "prompt")}]


def _with_system(messages: tuple[Message, ...], value: Mapping[str, Any], *, system: str | None) -> tuple[Message, ...]:
    own = value.get("system")
    text = system if own is None else need_text(own, "system")
    has_one = any(message.role == "system" for message in messages)
    if own is not None and has_one:
        raise RequestRejected("there are both system and a system message")
    return messages if text is None or has_one else (Message("system", text), *messages)


class _Ids:
    """Tells equal ids apart by a counter, and remembers which."""

    def __init__(self) -> None:
        self._lines: dict[str, int] = {}  # how often each text was asked for
        self._changed: list[tuple[Line, str]] = []

    def unique(self, line: Line) -> str | int:
        text = str(line.own_id)
        if text not in self._lines:
            self._lines[text] = 1
            return line.own_id
        while True:
            self._lines[text] += 1
            found = f"{text}~{self._lines[text]}"
            if found not in self._lines:
                break
        self._lines[found] = 1
        self._changed.append((line, found))
        return found

    def notices(self) -> list[str]:
        if not self._changed:
            return []
        shown = ", ".join(f"{found} (line {line.number:,})" for line, found in self._changed[:_SHOWN])
        more = f" and {len(self._changed) - _SHOWN:,} more" if len(self._changed) > _SHOWN else ""
        what = "1 line has an id" if len(self._changed) == 1 else f"{len(self._changed):,} lines have ids"
        return [f"{what} that an earlier line has already, and became {shown}{more}"]


def _typos(unknown: Mapping[str, int]) -> list[str]:
    """Keys that are kept as data, but look like a setting that was written wrong."""
    notices = []
    for name, number in unknown.items():
        known = sorted(SETTING_KEYS | _OTHER_KEYS)
        near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=_LIKELY_TYPO)
        if near:
            notices.append(
                f"line {number:,}: '{name}' is no setting and comes back as data (did you mean '{near[0]}'?)"
            )
    return notices

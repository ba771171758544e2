"""Provider-neutral values: what is asked of a model and what comes back.

A provider's own state (thinking blocks, signatures, reasoning items) rides along as `Opaque` parts: the dialect that
made one finds it again, unchanged, when the message goes back to the same dialect and model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

__all__ = [
    "Finish", "Message", "Opaque", "Reply", "Request", "Role", "Settings", "Tokens", "ToolCall", "ToolSpec",
    "candidate_pair", "digest", "read_candidate_pair",
]  # fmt: skip

Role = Literal["system", "user", "assistant", "tool"]
Finish = Literal["stop", "length", "tool", "filter", "refusal"]
"""Why a reply ended: by itself, cut off at its limit, to call tools, by the provider's filter, by a refusal."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to call a tool. `arguments` is the JSON text as it came: models write invalid JSON."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Opaque:
    """A provider's own form of an assistant message, valid for this dialect and model only. `content` is JSON."""

    dialect: str
    model: str
    content: Any


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation. A `tool` message answers the call `tool_call_id`."""

    role: Role
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    is_error: bool = False
    opaque: Opaque | None = None


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What a model is told of a tool. `parameters` is a JSON Schema of an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model shall answer. None means: whatever the provider does by itself.

    `extra` is passed through to the provider's request body as it stands.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    reasoning_effort: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def over(self, base: Settings) -> Settings:
        """These settings, and where they are silent, those of `base`: the nearer wins."""
        if self == _NO_SETTINGS:
            return base
        said = {
            f.name: value for f in fields(self) if f.name != "extra" and (value := getattr(self, f.name)) is not None
        }
        return replace(base, **said, extra={**base.extra, **self.extra})

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from plain keys; what is not a known one goes to `extra`."""
        known = {name: values[name] for name in _SETTING_NAMES if values.get(name) is not None}
        if "stop" in known:
            known["stop"] = (known["stop"],) if isinstance(known["stop"], str) else tuple(known["stop"])
        extra = dict(values.get("extra") or {})
        extra.update({name: v for name, v in values.items() if name not in _SETTING_NAMES and name != "extra"})
        return cls(**known, extra=extra)


_SETTING_NAMES = tuple(f.name for f in fields(Settings) if f.name != "extra")
_NO_SETTINGS = Settings()


@dataclass(frozen=True, slots=True)
class Request:
    """One question to one model, before it is written in a dialect.

    `model` is the provider's own name of it. `schema` asks for a JSON reply that fits this JSON Schema, which is
    called `schema_name` on the wire. `tool_choice` is auto, none, required, or the name of a tool.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str = "auto"
    schema: Mapping[str, Any] | None = None
    schema_name: str = "answer"
    settings: Settings = _NO_SETTINGS
    stream: bool = False

    def text_length(self) -> int:
        """Characters of everything that a tokenizer would see: messages, tool calls, tools and schema."""
        total = 0
        for message in self.messages:
            total += len(message.text)
            for call in message.tool_calls:
                total += len(call.name) + len(call.arguments)
        for tool in self.tools:
            total += len(tool.name) + len(tool.description) + len(json.dumps(dict(tool.parameters)))
        if self.schema is not None:
            total += len(json.dumps(dict(self.schema)))
        return total


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a reply used, in tokens; None means that nobody told, and is never shown as 0.

    `input` includes what was read from (`cached`) and written to (`cache_write`) a cache; `output` includes
    `reasoning`. `usd` is a price that the provider itself states.
    """

    input: int | None = None
    cached: int | None = None
    cache_write: int | None = None
    output: int | None = None
    reasoning: int | None = None
    usd: float | None = None

    @property
    def total(self) -> int | None:
        return None if self.input is None or self.output is None else self.input + self.output


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered. `model` is the name the provider gives back, `id` its own for this reply."""

    text: str
    finish: Finish
    tool_calls: tuple[ToolCall, ...] = ()
    tokens: Tokens = field(default_factory=Tokens)
    model: str = ""
    id: str = ""
    opaque: Opaque | None = None

    def as_message(self) -> Message:
        """This reply as the assistant's message of the next turn."""
        return Message("assistant", self.text, tool_calls=self.tool_calls, opaque=self.opaque)


def digest(value: Any, *, length: int = 8) -> str:
    """The first `length` hex digits of SHA-256 over canonical JSON (sorted keys, no spaces) of a plain value."""
    return hashlib.sha256(_canonical(value).encode("utf-8", "surrogatepass")).hexdigest()[:length]


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str).encode


_FIRST, _SECOND, _END = "=== First candidate ===", "=== Second candidate ===", "=== End of candidates ==="


def candidate_pair(first: str, second: str) -> str:
    """Two texts, marked so that a judge (and the simulated provider) can tell where each begins and ends."""
    return f"{_FIRST}\n{first}\n{_SECOND}\n{second}\n{_END}"


def read_candidate_pair(text: str) -> tuple[str, str] | None:
    """The two texts that `candidate_pair` marked in a prompt; None where there are none."""
    _, found, rest = text.partition(_FIRST + "\n")
    first, also, rest = rest.partition("\n" + _SECOND + "\n")
    second, ended, _ = rest.rpartition("\n" + _END)
    return (first, second) if found and also and ended else None

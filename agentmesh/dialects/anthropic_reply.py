"""Replies of the Messages API, whole and streamed; a stream is put together into the message it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..messages import Finish, Opaque, Reply, Tokens, ToolCall
from .base import Delta, MalformedReply, Refusal, StreamRefused
from .bodies import StreamedReply, count, part, read_object, unexpected
from .excerpts import excerpt
from .json_text import read_json, write_json
from .refusals import hidden_refusal
from .sse import ServerEvent

__all__ = ["NAME", "MessageStreamReader", "reply_of"]

NAME = "anthropic"

_FINISH: Mapping[str, Finish] = {
    "max_tokens": "length", "model_context_window_exceeded": "length", "refusal": "refusal",
}  # fmt: skip
_PIECES = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
_USAGE = (
    "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens", "output_tokens_details",
)  # fmt: skip


def reply_of(value: Mapping[str, Any], *, model: str) -> Reply | Refusal:
    """The reply in a parsed body; a Refusal where it is an error in disguise. Raises MalformedReply."""
    if value.get("type") == "error" or value.get("error"):
        return hidden_refusal(value)
    content = value.get("content")
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise unexpected(write_json(value), what="a message")
    texts, calls = [], []
    for block in content:
        if block.get("type") == "text":
            texts.append(str(block.get("text") or ""))
        elif block.get("type") == "tool_use":
            calls.append(_call(block))
    reason = str(value.get("stop_reason") or "")
    finish = _FINISH.get(reason) or ("tool" if calls else "stop")
    cut = finish not in ("stop", "tool")  # what was cut off is not run, and its state is not whole
    text = "".join(texts)
    if finish == "refusal" and not text:
        text = str(part(value, "stop_details").get("explanation") or "")
    return Reply(
        text,
        finish,
        tool_calls=() if cut else tuple(calls),
        tokens=_tokens(value.get("usage")),
        model=str(value.get("model") or ""),
        id=str(value.get("id") or ""),
        opaque=None if cut else _own_state(content, model or str(value.get("model") or "")),
    )


def _call(block: Mapping[str, Any]) -> ToolCall:
    try:
        given = block["input"]
        arguments = given if isinstance(given, str) else write_json(given).decode()
        return ToolCall(str(block["id"]), str(block["name"]), arguments)
    except KeyError as missing:
        raise MalformedReply(f"the reply has a tool call without {missing}: {excerpt(write_json(block))}") from None


def _own_state(content: list[dict[str, Any]], model: str) -> Opaque | None:
    """The blocks as they came, if there are any that the neutral form has no place for: thinking with its signature."""
    if all(block.get("type") in ("text", "tool_use") for block in content):
        return None
    return Opaque(NAME, model, [block for block in content if block.get("type") != "text" or block.get("text")])


def _tokens(usage: Any) -> Tokens:
    if not isinstance(usage, dict):
        return Tokens()
    plain, written, read = (count(usage.get(key)) for key in ("input_tokens", *_USAGE[1:3]))
    return Tokens(
        input=None if plain is None else plain + (written or 0) + (read or 0),
        cached=read,
        cache_write=written,
        output=count(usage.get("output_tokens")),
        reasoning=count(part(usage, "output_tokens_details").get("thinking_tokens")),
    )


class MessageStreamReader(StreamedReply):
    """Puts a streamed message together, block by block."""

    end_mark = "message_stop"

    def __init__(self, *, model: str) -> None:
        super().__init__()
        self._model = model
        self._message: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}  # in the order of their beginnings
        self._pieces: dict[tuple[int, str], list[str]] = {}

    def __repr__(self) -> str:
        return f"<MessageStreamReader blocks={len(self._blocks)} done={self._done}>"

    def _ended(self) -> bool:
        return self._done

    def _reply(self) -> Reply | Refusal:
        message = self._message | {"content": self._whole_blocks(), "usage": self._usage}
        return reply_of(message, model=self._model)

    def _decode(self, body: bytes) -> Reply | Refusal:
        return reply_of(read_object(body, what="a message"), model=self._model)

    def _event(self, event: ServerEvent) -> list[Delta]:
        value = read_object(event.data.encode(), what="an event of a message")
        match value.get("type"):
            case "message_start":
                self._message = dict(_need(value, "message"))
                self._count_usage(self._message.get("usage"))
            case "content_block_start":
                block = dict(_need(value, "content_block"))
                self._blocks[_index(value)] = block
                if block.get("type") == "text" and block.get("text"):
                    return [Delta(str(block["text"]))]
            case "content_block_delta":
                return self._delta(_index(value), _need(value, "delta"))
            case "message_delta":
                self._message |= {key: new for key, new in _need(value, "delta").items() if new is not None}
                self._count_usage(value.get("usage"))
            case "message_stop":
                self._done = True
            case "error":
                raise StreamRefused(hidden_refusal(value))
        return []  # ping, content_block_stop, and what later versions add

    def _delta(self, index: int, delta: Mapping[str, Any]) -> list[Delta]:
        block = self._blocks.get(index)
        if block is None:
            raise MalformedReply(f"a piece of block {index}, which never began")
        kind = str(delta.get("type"))
        if kind == "input_json_delta":
            self._pieces.setdefault((index, "input"), []).append(str(delta.get("partial_json") or ""))
        elif kind == "citations_delta":
            have = block.get("citations")
            block["citations"] = [*(have if isinstance(have, list) else ()), delta.get("citation")]
        elif (field := _PIECES.get(kind)) is not None:
            text = str(delta.get(field) or "")
            self._pieces.setdefault((index, field), [str(block.get(field) or "")]).append(text)
            return [Delta(text)] if field == "text" and text else []
        return []

    def _whole_blocks(self) -> list[dict[str, Any]]:
        for (index, field), pieces in self._pieces.items():
            self._blocks[index][field] = _json_or_text("".join(pieces)) if field == "input" else "".join(pieces)
        return list(self._blocks.values())

    def _count_usage(self, usage: Any) -> None:
        """Usage is cumulative, and the last one counts; fields that are null say nothing new."""
        if isinstance(usage, dict):
            self._usage |= {key: usage[key] for key in _USAGE if usage.get(key) is not None}


def _need(event: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = event.get(key)
    if not isinstance(found, Mapping):
        raise MalformedReply(f"an event {event.get('type')} without {key}")
    return found


def _index(event: Mapping[str, Any]) -> int:
    found = event.get("index")
    return found if isinstance(found, int) else 0


def _json_or_text(text: str) -> Any:
    """A call's input; the text itself where it was cut off, so that nothing is made up."""
    try:
        return read_json(text or "{}")
    except ValueError:
        return text

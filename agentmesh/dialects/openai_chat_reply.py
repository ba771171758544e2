"""Replies of Chat Completions, whole and streamed, read with the repairs that its many servers need.

A stream is put together into the body that the server would have sent at once, and both are read by `reply_of`: what a
reply means is written down once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..messages import Finish, Opaque, Reply, Tokens, ToolCall
from .base import Delta, MalformedReply, Refusal, StreamRefused
from .bodies import StreamedReply, count, part, read_object, unexpected
from .excerpts import excerpt
from .json_text import write_json
from .refusals import hidden_refusal
from .sse import ServerEvent

__all__ = ["NAME", "ChatStreamReader", "reply_of"]

NAME = "openai-chat"

_FINISH: Mapping[str, Finish] = {"length": "length", "model_length": "length", "content_filter": "filter"}
_BROKEN = {"error": 502, "abort": 502, "insufficient_system_resource": 503}
_OWN_STATE = ("reasoning_content", "reasoning_details")


def reply_of(value: Mapping[str, Any], quirks: frozenset[str], *, model: str) -> Reply | Refusal:
    """The reply in a parsed body; a Refusal where it is an error in disguise. Raises MalformedReply."""
    if value.get("error") or value.get("object") == "error":
        return hidden_refusal(value)
    choices = value.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise unexpected(write_json(value), what="a chat completion")
    assert isinstance(choice, dict)
    if choice.get("error"):
        return hidden_refusal(choice)
    reason = str(choice.get("finish_reason") or "")
    if reason in _BROKEN:
        return hidden_refusal({"message": f"the provider ended the reply with {reason!r}", "code": _BROKEN[reason]})
    text, refusal = _text(message.get("content")), message.get("refusal")
    calls = _tool_calls(message.get("tool_calls"), str(value.get("id") or ""))
    finish = _FINISH.get(reason) or ("refusal" if refusal else "tool" if calls else "stop")
    cut = finish not in ("stop", "tool")  # what was cut off is not run, and its state is not whole
    return Reply(
        text or (refusal if isinstance(refusal, str) else ""),
        finish,
        tool_calls=() if cut else calls,
        tokens=_tokens(value, quirks),
        model=str(value.get("model") or ""),
        id=str(value.get("id") or ""),
        opaque=None if cut else _own_state(message, calls, model=model or str(value.get("model") or "")),
    )


def _text(content: Any) -> str:
    """A text, or the text parts of a list; thoughts among them are no answer."""
    if isinstance(content, str) or content is None:
        return content or ""
    if isinstance(content, list):
        texts = (one.get("text") for one in content if isinstance(one, dict) and one.get("type") == "text")
        return "".join(text for text in texts if isinstance(text, str))
    raise MalformedReply(f"the content of the reply is neither text nor parts: {excerpt(write_json(content))}")


def _tool_calls(raw: Any, reply_id: str) -> tuple[ToolCall, ...]:
    if not raw:
        return ()
    try:
        return tuple(
            ToolCall(
                str(call.get("id") or f"call_{reply_id}_{number}"),  # some servers give none
                str(call["function"]["name"]),
                _arguments(call["function"].get("arguments")),
            )
            for number, call in enumerate(raw)
        )
    except (KeyError, TypeError, AttributeError):
        raise MalformedReply(f"the reply has tool calls without a function: {excerpt(write_json(raw))}") from None


def _arguments(raw: Any) -> str:
    """The JSON text of a call's arguments, which some servers send as an object, or not at all."""
    if isinstance(raw, str):
        return raw or "{}"
    return "{}" if raw is None else write_json(raw).decode()


def _own_state(message: Mapping[str, Any], calls: tuple[ToolCall, ...], *, model: str) -> Opaque | None:
    """What must go back with this message, as it came: fields that the neutral form has no place for."""
    state = {key: message[key] for key in _OWN_STATE if message.get(key)}
    raw = message.get("tool_calls") or ()
    if any("extra_content" in one for one in raw):  # a signature that rides on the call
        state["tool_calls"] = [{**one, "id": call.id} for one, call in zip(raw, calls, strict=True)]
    return Opaque(NAME, model, state) if state else None


def _tokens(value: Mapping[str, Any], quirks: frozenset[str]) -> Tokens:
    usage = value.get("usage") or part(value, "x_groq").get("usage")
    if not isinstance(usage, dict):
        return Tokens()
    before, after = part(usage, "prompt_tokens_details"), part(usage, "completion_tokens_details")
    cached = [before.get("cached_tokens"), usage.get("prompt_cache_hit_tokens"), usage.get("num_cached_tokens")]
    output, reasoning = count(usage.get("completion_tokens")), count(after.get("reasoning_tokens"))
    if output is not None and reasoning is not None and "output_without_reasoning" in quirks:
        output += reasoning
    cost = usage.get("cost")
    return Tokens(
        input=count(usage.get("prompt_tokens")),
        cached=next((found for one in cached if (found := count(one)) is not None), None),
        cache_write=count(before.get("cache_write_tokens")),
        output=output,
        reasoning=reasoning,
        usd=float(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) and cost >= 0 else None,
    )


def _items(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    return found if isinstance(found, list) else []


class ChatStreamReader(StreamedReply):
    """Puts a streamed chat completion together.

    Servers number tool calls badly (no index, always 0, from 1, with gaps), so a call is known by index and id: a new
    id begins a new call, and a piece without an id belongs to the newest call of its index.
    """

    end_mark = "[DONE]"

    def __init__(self, quirks: frozenset[str], *, model: str) -> None:
        super().__init__()
        self._quirks, self._model = quirks, model
        self._body: dict[str, Any] = {}
        self._texts: dict[str, list[str]] = {}
        self._details: list[dict[str, Any]] = []
        self._calls: list[dict[str, Any]] = []
        self._newest: dict[str, dict[str, Any]] = {}  # by index
        self._known: dict[tuple[str, str], dict[str, Any]] = {}  # by index and id
        self._reason: str | None = None

    def __repr__(self) -> str:
        return f"<ChatStreamReader calls={len(self._calls)} finish={self._reason} done={self._done}>"

    def _ended(self) -> bool:
        return self._done or ("no_done" in self._quirks and self._reason is not None)

    def _reply(self) -> Reply | Refusal:
        message: dict[str, Any] = {key: "".join(texts) for key, texts in self._texts.items()}
        message |= {"reasoning_details": self._details, "tool_calls": self._calls}
        body = self._body | {"choices": [{"message": message, "finish_reason": self._reason}]}
        return reply_of(body, self._quirks, model=self._model)

    def _decode(self, body: bytes) -> Reply | Refusal:
        return reply_of(read_object(body, what="a chat completion"), self._quirks, model=self._model)

    def _event(self, event: ServerEvent) -> list[Delta]:
        if event.data.startswith("[DONE]"):
            self._done = True
            return []
        chunk = read_object(event.data.encode(), what="a piece of a chat completion")
        if chunk.get("error") or chunk.get("object") == "error" or event.event == "error":
            raise StreamRefused(hidden_refusal(chunk))
        self._body |= {key: chunk[key] for key in ("id", "model", "usage", "x_groq") if chunk.get(key)}
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return []  # usage, or an opening without content
        if choice.get("error"):
            raise StreamRefused(hidden_refusal(choice))
        self._reason = choice.get("finish_reason") or self._reason
        delta = part(choice, "delta")
        for piece in _items(delta, "tool_calls"):
            self._call_piece(piece)
        for detail in _items(delta, "reasoning_details"):
            self._detail(detail)
        found = []
        for key in ("content", "refusal", "reasoning_content"):
            if text := _text(delta.get(key)):
                self._texts.setdefault(key, []).append(text)
                if key != "reasoning_content":
                    found.append(Delta(text))
        return found

    def _call_piece(self, piece: Any) -> None:
        function = piece.get("function") if isinstance(piece, dict) else None
        if not isinstance(function, dict):
            raise MalformedReply(f"a piece of a tool call without a function: {excerpt(write_json(piece))}")
        index, call_id = str(piece.get("index")), str(piece.get("id") or "")
        call = self._known.get((index, call_id)) if call_id else None
        if call is None:
            call = self._newest.get(index)
        if call is None or (call_id and call["id"] not in ("", call_id)):
            call = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            self._calls.append(call)
        self._newest[index] = call
        if call_id:
            call["id"] = call_id
            self._known[index, call_id] = call
        if "extra_content" in piece:
            call["extra_content"] = piece["extra_content"]
        call["function"]["name"] = call["function"]["name"] or function.get("name") or ""
        if (arguments := function.get("arguments")) is not None:
            call["function"]["arguments"] += arguments if isinstance(arguments, str) else write_json(arguments).decode()

    def _detail(self, detail: Any) -> None:
        """Pieces of one reasoning block have one index and type: their texts are joined, their marks completed."""
        if not isinstance(detail, dict):
            return
        last = self._details[-1] if self._details else {}
        if detail.get("index") is None or any(last.get(key) != detail.get(key) for key in ("index", "type")):
            self._details.append(dict(detail))
            return
        for key, value in detail.items():
            joined = key in ("text", "summary", "data") and isinstance(value, str) and isinstance(last.get(key), str)
            if joined:
                last[key] += value
            elif value is not None:
                last[key] = value

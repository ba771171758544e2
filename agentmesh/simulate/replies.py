"""What a simulated model answers: pure and seeded, so the same request and seed give the same reply.

A reply fits its request: text that says that it is simulated, an instance of the JSON schema asked for, a call of a
tool, or, for a judge, a verdict between two marked candidates. Each candidate text has a planted strength; a judge of
skill k prefers the first with probability logistic(k x (difference of strengths) + order bias), the Bradley-Terry
model; ties, where the schema has them, follow Davidson (1970).
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from dataclasses import replace
from statistics import NormalDist
from typing import Any, Protocol

from ..messages import (
    Finish,
    Message,
    Reply,
    Request,
    Settings,
    Tokens,
    ToolCall,
    ToolSpec,
    read_candidate_pair,
)  # fmt: skip
from .behaviour import Behaviour, Served, ServedModel
from .instances import instance
from .words import Writer, prompt_words

__all__ = ["NoReply", "ReplySource", "SimulatedReplies", "planted_strength", "token_count"]

_STRENGTH_SD = 1.1  # logits: the strongest of a hundred entrants beats the middle one 94 times in 100
_TIES = 0.35  # Davidson's nu: equals tie in 15 of 100 matches


class NoReply(Exception):
    """This source has no answer to a request; the server tells so with 404."""


class ReplySource(Protocol):
    """Where a server's replies come from."""

    def weigh(self, request: Request) -> tuple[int, int | None]:
        """Tokens to reserve on admission: input, and output if anything bounds or tells it. Raises NoReply."""
        ...

    def answer(self, request: Request, model: ServedModel, *, input_tokens: int) -> Reply:
        """The reply, with its tokens; `input_tokens` as `weigh` counted them."""
        ...


def token_count(characters: int) -> int:
    """Tokens that so many characters count as: a quarter of them, rounded up."""
    return -(-characters // 4)


def planted_strength(text: str, seed: int) -> float:
    """How strong a candidate is by the simulated judges' hidden scale: normal, in logits, from the text's hash."""
    uniform = (_hash(str(seed), text.strip()) + 0.5) / 2.0**64
    return NormalDist(0.0, _STRENGTH_SD).inv_cdf(uniform)


class SimulatedReplies:
    """Replies made up from the request alone. `served.seed` is the seed of them all."""

    def __init__(self, served: Served) -> None:
        self._seed = served.seed

    def __repr__(self) -> str:
        return f"<SimulatedReplies seed {self._seed}>"

    def weigh(self, request: Request) -> tuple[int, int | None]:
        """The input, and the most that the reply may have."""
        return token_count(request.text_length()), request.settings.max_tokens

    def answer(self, request: Request, model: ServedModel, *, input_tokens: int) -> Reply:
        """The reply to a request; cut off at its max_tokens."""
        key = _hash(str(self._seed), *_identity(request))
        rng = random.Random(key)
        prompt = next((m.text for m in reversed(request.messages) if m.role == "user"), "")
        writer = Writer(rng, prompt_words(prompt))
        text = ""
        finish: Finish = "stop"
        calls: tuple[ToolCall, ...] = ()
        if tool := _tool_to_call(request, prompt):
            arguments = json.dumps(instance(tool.parameters, writer), ensure_ascii=False)
            finish, calls = "tool", (ToolCall(f"call_{key:016x}", tool.name, arguments),)
        elif request.schema is not None:
            verdict = self._verdict(prompt, request.schema, rng=rng, behaviour=model.behaviour)
            text = json.dumps(instance(request.schema, writer, verdict=verdict), ensure_ascii=False)
        else:
            text = _text(request, writer, model.behaviour)
        if (settings := request.settings).stop or settings.max_tokens is not None:
            text, finish, calls = _cut(text, finish, calls, settings=settings)
        output = token_count(len(text) + sum(len(call.name) + len(call.arguments) for call in calls))
        tokens = Tokens(input=input_tokens, cached=0, output=output, reasoning=0)
        return Reply(text, finish, calls, tokens, request.model, f"sim-{key:016x}")

    def _verdict(self, prompt: str, schema: Any, *, rng: random.Random, behaviour: Behaviour) -> str | None:
        pair = read_candidate_pair(prompt)
        if pair is None:
            return None
        first, second = (planted_strength(text, self._seed) for text in pair)
        half = (behaviour.skill * (first - second) + behaviour.order_bias) / 2.0
        half = max(-300.0, min(300.0, half))
        up, down, tie = math.exp(half), math.exp(-half), _TIES if _has_tie(schema) else 0.0
        drawn = rng.random() * (up + down + tie)
        return "first" if drawn < up else "second" if drawn < up + down else "tie"


def _hash(*parts: str) -> int:
    """64 bits of a hash over these texts, in order."""
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=8).digest())


def _identity(request: Request) -> list[str]:
    """Everything that a reply depends on; max_tokens only cuts it off, and streaming changes nothing."""
    settings = request.settings
    parts = [request.model, request.tool_choice, repr((settings.seed, settings.temperature, settings.top_p))]
    for message in request.messages:
        parts += (message.role, message.text)
        if message.tool_calls:
            parts.append(repr(message.tool_calls))
    parts += (repr(request.schema), repr(request.tools))
    return parts


def _results(request: Request) -> list[Message]:
    """The results of tools since the user last spoke."""
    found: list[Message] = []
    for message in reversed(request.messages):
        if message.role == "user":
            break
        if message.role == "tool":
            found.append(message)
    return found[::-1]


def _tool_to_call(request: Request, prompt: str) -> ToolSpec | None:
    if not request.tools or request.tool_choice == "none" or _results(request):
        return None
    mentioned = [tool for tool in request.tools if tool.name in prompt]
    if request.tool_choice == "auto":
        return mentioned[0] if mentioned else None
    if request.tool_choice == "required":
        return mentioned[0] if mentioned else request.tools[0]
    return next((tool for tool in request.tools if tool.name == request.tool_choice), None)


def _has_tie(schema: Any) -> bool:
    """Whether a verdict of `tie` is among the values of an enumeration that has `first` and `second`."""
    if isinstance(schema, dict):
        values = schema.get("enum")
        if isinstance(values, list) and {"first", "second", "tie"} <= {v for v in values if isinstance(v, str)}:
            return True
        return any(_has_tie(part) for part in schema.values())
    return isinstance(schema, list) and any(_has_tie(part) for part in schema)


def _text(request: Request, writer: Writer, behaviour: Behaviour) -> str:
    parts = [f"(A simulated reply of {request.model}.)"]
    names = {call.id: call.name for message in request.messages for call in message.tool_calls}
    for result in _results(request):
        name = names.get(result.tool_call_id or "", "the tool")
        parts.append(f"{name} {'failed' if result.is_error else 'answered'}: {result.text}")
    parts.append(writer.paragraph(4 * behaviour.length(writer.rng) - len(parts[0])))
    return "\n".join(parts)


def _cut(
    text: str, finish: Finish, calls: tuple[ToolCall, ...], *, settings: Settings
) -> tuple[str, Finish, tuple[ToolCall, ...]]:
    """A reply up to its first stop sequence and within max_tokens."""
    for stop in settings.stop or ():
        text = text.partition(stop)[0] if stop else text
    left = math.inf if settings.max_tokens is None else 4 * settings.max_tokens
    if len(text) > left:
        return text[: int(left)], "length", ()
    if calls and len(calls[0].name) + len(calls[0].arguments) > left:
        kept = max(0, int(left) - len(calls[0].name))
        return text, "length", (replace(calls[0], arguments=calls[0].arguments[:kept]),)
    return text, finish, calls

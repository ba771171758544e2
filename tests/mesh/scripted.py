"""Models for tests of the mesh: scripted replies over a mock transport, and simulated providers of any limits."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import httpx

from agentmesh.events import Event

__all__ = ["LAB", "Scripted", "call_tools", "kinds", "provider_file", "said"]

Answer = str | dict[str, Any] | int | Callable[[dict[str, Any]], Any]

LAB = """
provider: lab
dialect: openai-chat
base_url: inprocess://lab
models:
  free: {max_output: 4000, supports: {tools: true, json_schema: true, stream: true}, prices: {input: 1.0, output: 1.0}}
  slow: {max_output: 4000, prices: free, simulate: {latency: {first_token: 10.0, per_token: 0.0}}}
  rare: {max_output: 4000, prices: free, limits: {requests_per_minute: {limit: 6, burst: 1}}}
  one: {max_output: 4000, prices: free, limits: {in_flight: 1}}
  broken: {max_output: 4000, prices: free, simulate: {failures: {"500": 1.0}}}
simulate: {latency: {first_token: 1.0, per_token: 0.0, jitter: 0.0}, length: 20}
"""
"""A simulated provider whose calls take one second each: unlimited, slow, rare, one at a time, broken."""

SCRIPTED = """
provider: scripted
dialect: openai-chat
base_url: http://scripted.invalid/v1
models:
  "*": {max_output: 4000, supports: {tools: true, json_schema: true, stream: true}, prices: {input: 1.0, output: 1.0}}
"""


def provider_file(folder: Path, text: str = LAB) -> Path:
    """A provider file in a folder."""
    path = folder / f"provider{abs(hash(text))}.yaml"
    path.write_text(text)
    return path


class Scripted(httpx.AsyncBaseTransport):
    """Answers requests one after the other: a text, parts of a message, a status, or what a function of it gives.

    `asked` are the bodies of the requests. The last answer is given again and again. Each takes `seconds`.
    """

    def __init__(self, folder: Path, *answers: Answer, seconds: float = 1.0) -> None:
        self.provider_files = [provider_file(folder, SCRIPTED)]
        self.asked: list[dict[str, Any]] = []
        self._answers = list(answers)
        self._seconds = seconds

    @property
    def options(self) -> dict[str, Any]:
        """What `open_mesh` needs: this transport, its provider, and no journal."""
        return {"http": self, "provider_files": self.provider_files, "journal": None}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.asked.append(body)
        answer: Any = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if callable(answer):
            answer = answer(body)
        await anyio.sleep(self._seconds)
        if isinstance(answer, int):
            return httpx.Response(answer, json={"error": {"message": f"status {answer}"}}, request=request)
        message = {"content": answer} if isinstance(answer, str) else dict(answer)
        finish = message.pop("finish", "tool_calls" if "tool_calls" in message else "stop")
        usage = {"prompt_tokens": 10, "completion_tokens": 5}
        choice = {"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": finish}
        body = {"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}
        return httpx.Response(200, json=body, request=request)


def call_tools(*calls: tuple[str, Any]) -> dict[str, Any]:
    """A reply that calls these tools with these arguments: data, or a text for what is no JSON."""
    return {
        "tool_calls": [
            {
                "id": f"c{number}", "type": "function",
                "function": {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)},
            }
            for number, (name, given) in enumerate(calls)
        ]
    }  # fmt: skip


def said(body: dict[str, Any], role: str = "tool") -> list[str]:
    """The texts of the messages of one role in a request."""
    return [str(message["content"]) for message in body["messages"] if message["role"] == role]


def kinds(events: Sequence[Event]) -> list[str]:
    """The names of events, in their order."""
    return [type(event).__name__ for event in events]

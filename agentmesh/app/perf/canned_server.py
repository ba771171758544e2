"""A server for measurements: every POST gets the same chat completion after a fixed time, at almost no cost.

Run as `python -m agentmesh.app.perf.canned_server SECONDS`; prints its port, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import sys

from ...clock import in_thread

__all__ = ["main"]

_ANSWER = json.dumps({
    "id": "chatcmpl-canned", "object": "chat.completion", "created": 1_700_000_000, "model": "canned",
    "choices": [{
        "index": 0, "finish_reason": "stop", "logprobs": None,
        "message": {"role": "assistant", "content": "An answer of some length. " * 20, "refusal": None},
    }],
    "usage": {
        "prompt_tokens": 100, "completion_tokens": 120, "total_tokens": 220,
        "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0},
    },
}).encode()  # fmt: skip
_RESPONSE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_ANSWER)
) + _ANSWER
_LENGTH = b"content-length:"


class _Connection(asyncio.Protocol):
    """One connection; answers in the order of the requests, of which a client of HTTP/1.1 sends one at a time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._received = b""
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(_LENGTH)[2].partition(b"\r\n")[0] or 0)
        if len(body) >= length:
            self._received = body[length:]
            asyncio.get_running_loop().call_later(self._seconds, self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(_RESPONSE)


async def _serve(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(seconds), "127.0.0.1", 0, backlog=2048)
    async with server:
        sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()
        await in_thread(sys.stdin.read)


def main() -> None:
    """Serve until standard input ends: with whoever started this, at the latest."""
    asyncio.run(_serve(float(sys.argv[1])))


if __name__ == "__main__":
    main()

"""The strict server of the proof in a process of its own: it writes down what reached it and what it answered.

Run as `python proof_server.py PROVIDER_FILE LOG SEED`: the seed draws latencies and faults, replies are the same with
all of them. Each line of the log is a JSON object with `what` (`received`,
or `answered`: from then on it is charged for), `id` (`request_id`) and the tokens.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

from agentmesh.app.serve import serve_provider
from agentmesh.catalog import Catalog
from agentmesh.messages import Message, Reply, Request
from agentmesh.simulate.behaviour import Served, ServedModel, served_by
from agentmesh.simulate.provider import SimulatedProvider
from agentmesh.simulate.replies import SimulatedReplies

__all__ = ["REPLIES", "Written", "main", "request_id"]

REPLIES = 1
"""The seed of what is answered: that of the run, since its own provider in process answers by this, too."""


def request_id(messages: Sequence[Message]) -> str:
    """What tells requests apart, for the server and in the journal alike."""
    told = [(message.role, message.text or "") for message in messages]
    return blake2b(repr(told).encode(), digest_size=8).hexdigest()


class Written(SimulatedReplies):
    """Simulated replies, each of them written down in the moment in which it is made."""

    def __init__(self, served: Served, log: Path) -> None:
        super().__init__(served)
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def weigh(self, request: Request) -> tuple[int, int | None]:
        self._write("received", request)
        return super().weigh(request)

    def answer(self, request: Request, model: ServedModel, *, input_tokens: int) -> Reply:
        reply = super().answer(request, model, input_tokens=input_tokens)
        self._write("answered", request, input=input_tokens, output=reply.tokens.output or 0)
        return reply

    def _write(self, what: str, request: Request, **tokens: int) -> None:
        line = json.dumps({"what": what, "id": request_id(request.messages), **tokens})
        os.write(self._log, line.encode() + b"\n")


def main(arguments: Sequence[str]) -> None:
    """Serve until SIGTERM."""
    file, log, seed = arguments
    (described,) = [one for one in Catalog.load([file]).providers()[0] if one.origin == "--provider-file"]
    served = served_by(described.spec, seed=REPLIES)
    provider = SimulatedProvider(replace(served, seed=int(seed)), Written(served, Path(log)))
    serve_provider(provider, host="127.0.0.1", port=0)


if __name__ == "__main__":
    main(sys.argv[1:])

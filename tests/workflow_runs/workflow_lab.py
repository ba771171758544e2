"""Runs workflows against a scripted provider, and keeps when everything happened; meant for a virtual clock."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

import anyio
import httpx

from agentmesh.catalog import Catalog
from agentmesh.clock import monotonic
from agentmesh.events import CallEnded, CallIntent, Event, TaskAdded, TaskEnded, TaskStarted
from agentmesh.mesh.run import Run
from agentmesh.messages import read_candidate_pair
from agentmesh.outcome import Outcome
from agentmesh.workflow.load import load_workflow
from agentmesh.workflow.mesh import open_mesh
from agentmesh.workflow.models import problem_of_model
from agentmesh.workflow.run import WorkflowResult, run_workflow

PROVIDER = """\
provider: lab
dialect: openai-chat
base_url: https://lab.invalid/v1
limits: {in_flight: 500}
models: {"*": {prices: {input: 1.0, output: 1.0}}}
"""
HEAD = """\
agentmesh: 1
models: {main: lab/main}
agents:
  echo: {model: main}
  fields: {model: main, output: {title: text, score: number}}
"""


@dataclass(frozen=True)
class Asked:
    """What the provider was asked: the model's own name, and the last of the user's messages."""

    model: str
    prompt: str
    body: Mapping[str, Any]

    @property
    def wants_fields(self) -> bool:
        return "response_format" in self.body


@dataclass(frozen=True)
class Answer:
    """What it answers: `text` after so many virtual `seconds`, or an error of this `status`."""

    text: str = ""
    seconds: float = 1.0
    status: int = 200
    tokens: tuple[int, int] = (10, 10)


Script = Callable[[Asked], Answer | str | int]


def plain_script(asked: Asked) -> Answer | str:
    """Repeats what it was asked; gives the longer of two candidates the win; fills in fields."""
    pair = read_candidate_pair(asked.prompt)
    if pair is not None:
        first, second = pair
        won = (len(first), first) >= (len(second), second)
        return json.dumps({"reasons": "longer", "winner": "first" if won else "second"})
    if asked.wants_fields:
        return json.dumps({"title": asked.prompt, "score": len(asked.prompt)})
    return f"<{asked.prompt}>"


class ScriptedProvider(httpx.AsyncBaseTransport):
    """Answers chat requests by a script; `asked` keeps all of them in the order in which they came."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[Asked] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(await request.aread())
        prompt = next(m["content"] for m in reversed(body["messages"]) if m["role"] == "user")
        asked = Asked(body["model"], prompt, body)
        self.asked.append(asked)
        found = self.script(asked)
        answer = Answer(found) if isinstance(found, str) else Answer(status=found) if isinstance(found, int) else found
        await anyio.sleep(answer.seconds)
        if answer.status != 200:
            return httpx.Response(answer.status, json={"error": {"message": f"status {answer.status}", "type": "x"}})
        message = {"role": "assistant", "content": answer.text}
        given, made = answer.tokens
        usage = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        reply = {"id": "r", "object": "chat.completion", "model": asked.model, "choices": [choice], "usage": usage}
        return httpx.Response(200, json=reply)


@dataclass
class Ran:
    """A run that is over: its result, what was asked, and by address when tasks began and ended."""

    result: WorkflowResult
    asked: list[Asked]
    events: list[Event] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    began: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    called: dict[str, float] = field(default_factory=dict)
    answered: dict[str, float] = field(default_factory=dict)

    def note(self, event: Event) -> None:
        self.events.append(event)
        match event:
            case TaskAdded():
                address = "/".join(str(part) for part in (event.task, event.key, event.sample) if part is not None)
                self.added.append(address)
            case TaskStarted():
                self.began[event.address] = monotonic()
            case TaskEnded():
                self.outcomes[str(event.outcome.address)] = event.outcome
                self.ended[str(event.outcome.address)] = monotonic()
            case CallIntent():
                self.called.setdefault(event.address, monotonic())
            case CallEnded():
                self.answered[event.address] = monotonic()

    @property
    def outputs(self) -> Mapping[str, Any]:
        return self.result.outputs

    @property
    def states(self) -> dict[str, str]:
        return {address: outcome.state for address, outcome in self.outcomes.items()}

    def values(self, task: str) -> dict[str, Any]:
        """What the items of a task gave, in the order in which they entered, by what follows the task's name."""
        return {rest: one.value for rest, one in self._of(task) if one.ok}

    def errors(self, task: str) -> dict[str, str]:
        return {rest: str(one.error) for rest, one in self._of(task) if one.error}

    def _of(self, task: str) -> list[tuple[str, Outcome]]:
        addresses = [address for address in self.added if address.partition("/")[0] == task]
        return [
            (address.partition("/")[2], self.outcomes[address]) for address in addresses if address in self.outcomes
        ]

    def kind(self, address: str) -> str | None:
        """Of which kind the error of a task is."""
        error = self.outcomes[address].error
        return None if error is None else error.kind

    def counts(self, task: str) -> dict[str, int]:
        return {state: number for state, number in self.result.tasks[task].items() if number}

    def prompts(self) -> list[str]:
        return [asked.prompt for asked in self.asked]


async def run(
    text: str, *, script: Script = plain_script, inputs: Mapping[str, Any] | None = None, models: Sequence[str] = (),
    head: str = HEAD, seed: int | None = None, provider: str = PROVIDER, on_run: Callable[[Run], None] | None = None,
    journal: Path | None = None, resume: bool = False,
) -> Ran:  # fmt: skip
    """Check and run a workflow that stands in the working directory; `text` follows the head."""
    Path("workflow.yaml").write_text(head + dedent(text))
    Path("lab.yaml").write_text(provider)
    catalog = Catalog.load(["lab.yaml"])
    workflow = load_workflow(
        "workflow.yaml", inputs=inputs, model_options=models, resolve=problem_of_model(catalog)
    )  # fmt: skip
    scripted = ScriptedProvider(script)
    ran = Ran(None, scripted.asked)  # type: ignore[arg-type]  # it is there before anybody looks
    async with open_mesh(catalog=catalog, http=scripted, journal=journal) as mesh:
        ran.result = await run_workflow(mesh, workflow, seed=seed, watchers=[ran.note], on_run=on_run, resume=resume)
    return ran

"""Asks models the cases of a benchmark, on the ordinary graph: one task for each case and model."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence

from ...clock import wall
from ...events import CollectionClosed
from ...flow.graph import Node
from ...keys import Keys, encode_key
from ...mesh.run import Run
from ...mesh.work import Job, Perform, Work
from ...messages import Request
from ...outcome import Address
from .bench import METHOD, Answer, Case

__all__ = ["ask", "task_names"]


def task_names(models: Sequence[str]) -> dict[str, str]:
    """A name for the task of each model: the last part of the model's name, or all of it where that is not enough."""
    last = {model: re.split(r"[/:]", model)[-1] for model in models}
    often = Counter(_task_name(name) for name in last.values())
    keys = Keys()
    names = {model: _task_name(last[model]) for model in models}
    names = {model: name if often[name] == 1 else _task_name(model) for model, name in names.items()}
    return {model: keys.unique(name).replace("~", "_") for model, name in names.items()}


def _task_name(text: str) -> str:
    name = re.sub(r"[^a-z0-9_]+", "_", text.lower()).strip("_")
    return name if name[:1].isalpha() else f"model_{name}"


async def ask(run: Run, cases: Sequence[Case], models: Sequence[str]) -> AsyncIterator[Answer]:
    """Ask every model every case; answers as they arrive, those that failed with their error.

    All models are asked at once, each as fast as its own lane allows. Where the run is stopped, what was not asked
    yet does not come. Raises UserError for a model that nobody serves, before anything is asked.
    """
    lanes = {model: run.lane_of([model]) for model in models}
    asked: dict[Node, tuple[Case, str]] = {}
    names = task_names(models)
    for case in cases:
        for model, lane in lanes.items():
            work = Work(_asking(case, model), item=case.id, agent=METHOD)
            address = Address(names[model], run.unique_key(names[model], encode_key(case.id)))
            asked[run.add(work, address=address, lane=lane)] = case, model
    for name in names.values():
        run.record.emit(CollectionClosed(at=wall(), task=name, items=len(cases)))
    arrived: deque[Node] = deque()
    everything = run.runner.state.group(METHOD, list(asked))
    everything.on_item.append(arrived.append)
    while True:
        while arrived:
            node = arrived.popleft()
            yield _answer(*asked[node], node)
        if everything.complete or (run.runner.stopping and run.runner.idle):
            return
        await run.runner.wait_changed()


def _asking(case: Case, model: str) -> Perform:
    async def perform(job: Job) -> str:
        request = Request("", case.messages, settings=job.run.settings)
        return (await job.run.mesh.route([model]).call(request, job.caller)).text

    return perform


def _answer(case: Case, model: str, node: Node) -> Answer:
    outcome = node.outcome
    assert outcome is not None
    return Answer(
        case, model, outcome.value, outcome.error, outcome.finish,
        attempts=outcome.attempts, seconds=outcome.seconds, usage=outcome.usage, usd=outcome.usd,
    )  # fmt: skip

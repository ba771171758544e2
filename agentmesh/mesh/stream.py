"""The text of one reply, piece by piece as the model writes it."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator

import anyio

from ..agents.agent import Agent
from ..errors import TaskFailed
from ..flow.graph import Node
from ..keys import encode_key
from ..messages import Settings, digest
from ..outcome import Address
from .perform import answer
from .run import Run
from .task import Task
from .work import Job, Work

__all__ = ["stream_text"]


async def stream_text(run: Run, model: str, prompt: str, *, settings: Settings) -> AsyncIterator[str]:
    """Ask in a task of the run; yields what comes. Raises TaskFailed if the reply does not come to its end."""
    agent = Agent[str]("stream", model=model, settings=settings)
    pieces: deque[str] = deque()
    news = anyio.Event()

    def take(text: str) -> None:
        pieces.append(text)
        news.set()

    async def perform(job: Job) -> str:
        text: str = await answer(job, agent, prompt, on_text=take)
        return text

    node: Node = run.add(
        Work(perform, agent=agent.name),
        address=Address("stream", run.unique_key("stream", encode_key(digest([model, prompt])))),
        lane=run.lane_of(agent.models),
    )
    ended = run.runner.state.group("stream", [node])
    ended.on_complete.append(lambda: news.set())
    task: Task[str] = Task(run, node)
    while pieces or not task.ended:
        while pieces:
            yield pieces.popleft()
        if not task.ended:
            news = anyio.Event()
            await news.wait()
    outcome = await task.outcome()
    if not outcome.ok:
        raise TaskFailed(outcome)

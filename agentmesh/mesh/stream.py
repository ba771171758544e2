"""The text of one reply, piece by piece as the model writes it."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator

import anyio

from ..agents.agent import Agent
from ..client.caller import Retry
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


async def stream_text(run: Run, model: str, prompt: str, *, settings: Settings) -> AsyncGenerator[str]:
    """Ask in a task of the run; yields what comes. Raises TaskFailed if the reply does not come to its end.

    Once a piece has been handed out a broken call is not tried again: its text would come twice.
    """
    agent = Agent[str]("stream", model=model, settings=settings)
    pieces: deque[str] = deque()
    news = anyio.Event()

    async def perform(job: Job) -> str:
        def take(text: str) -> None:
            if text:
                job.caller.retry = Retry(1)
                pieces.append(text)
                wake()

        answered: str = await answer(job, agent, prompt, on_text=take)
        return answered

    def wake() -> None:
        news.set()

    node: Node = run.add(
        Work(perform, agent=agent.name),
        address=Address("stream", run.unique_key("stream", encode_key(digest([model, prompt])))),
        lane=run.lane_of(agent.models),
    )
    run.runner.state.group("stream", [node]).on_complete.append(wake)
    run.runner.on_stopped.append(wake)
    try:
        while pieces or not (node.ended or run.runner.over):
            while pieces:
                yield pieces.popleft()
            if not (node.ended or run.runner.over):
                news = anyio.Event()
                await news.wait()
    finally:
        run.runner.on_stopped.remove(wake)
    task: Task[str] = Task(run, node)
    outcome = await task.outcome()
    if not outcome.ok:
        raise TaskFailed(outcome, run.runner.state.story(node))

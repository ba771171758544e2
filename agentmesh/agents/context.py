"""What a tool or a Python task may know of, and do in, the run that it is part of."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

__all__ = ["Context"]


class Context:
    """Given to every tool and Python function that has a parameter annotated with it.

    `run` is the run's id, `address` the task's, `agent` the name of the agent that it is for, if any.
    """

    __slots__ = ("_ask", "_rng", "_seed", "address", "agent", "run")

    def __init__(
        self, *, run: str, address: str, agent: str | None, seed: int | None, ask: Callable[[str, str], Awaitable[str]]
    ) -> None:
        self.run = run
        self.address = address
        self.agent = agent
        self._ask = ask
        self._seed = seed
        self._rng: random.Random | None = None

    def __repr__(self) -> str:
        return f"<Context of {self.address} in {self.run}>"

    async def ask(self, model: str, prompt: str) -> str:
        """Ask a model in the name of the task: through the model's lane, on the task's budgets, in its journal.

        Raises CallFailed, UserError for a model that nobody serves, and BudgetExceeded, which is best left alone.
        """
        return await self._ask(model, prompt)

    @property
    def rng(self) -> random.Random:
        """A generator that gives this task the same numbers in every run with the same seed."""
        if self._rng is None:
            self._rng = random.Random(f"{self._seed}/{self.address}")
        return self._rng

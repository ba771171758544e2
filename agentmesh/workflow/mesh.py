"""The mesh that users open: that of the floor below, which also runs workflows."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec

from ..clock import beside_loop, in_thread
from ..events import Event
from ..mesh.mesh import Mesh as PlainMesh
from ..mesh.recall import Resume

__all__ = ["Mesh", "ask_sync", "open_mesh"]

P = ParamSpec("P")


class Mesh(PlainMesh):
    """Runs, calls and workflows that share lanes. Use it as `async with open_mesh() as mesh`."""

    async def workflow(
        self, where: str | Path, *, inputs: Mapping[str, Any] | None = None, models: Sequence[str] = (),
        seed: int | None = None, watchers: Sequence[Callable[[Event], None]] = (), weight: float = 1.0,
        resume: bool | Resume = False,
    ) -> dict[str, Any]:  # fmt: skip
        """Run a workflow file, or a shipped workflow by name; returns what `agentmesh run -o` writes.

        `models` are as after `--model`: `NAME=MODEL`, or a model for all; `weight` is as in `open_run`. A run that is
        partial does not raise. `resume` goes on with the unfinished run of the same workflow, inputs and models, if
        there is one; what becomes of calls that were in flight is what the file says, unless a `Resume` does.
        Raises InputProblems with all mistakes of the file and the inputs before anything is asked, and UserError where
        there are such calls and the file has somebody asked about them, since nobody can be.
        """
        from .load import load_workflow
        from .models import problem_of_model
        from .run import run_workflow

        def load() -> Any:
            resolve = problem_of_model(self.catalog)
            return load_workflow(where, inputs=inputs, model_options=models, resolve=resolve)

        workflow = await in_thread(load)
        result = await run_workflow(
            self, workflow, seed=seed, watchers=watchers, weight=weight, resume=resume, options={"model": list(models)}
        )  # fmt: skip
        return result.as_json()


def _with_options_of(kind: Callable[P, Mesh]) -> Callable[[Callable[..., Mesh]], Callable[P, Mesh]]:
    """Gives a function the parameters of a class, for editors and type checkers."""

    def give(function: Callable[..., Mesh]) -> Callable[P, Mesh]:
        function.__signature__ = inspect.signature(kind)  # type: ignore[attr-defined]  # read by `inspect` and `help`
        return function

    return give


@_with_options_of(Mesh)
def open_mesh(**options: Any) -> Mesh:
    """A mesh; its options are those of `Mesh`: budget, journal, provider_files, settings, seed, http, timeouts, ..."""
    return Mesh(**options)


def ask_sync(model: str, prompt: str, *, mesh: Mapping[str, Any] | None = None, **settings: Any) -> str:
    """One call from code that is not asynchronous, with or without a running event loop. Raises TaskFailed.

    `mesh` are options of `open_mesh`; without them there is no journal.
    """

    made = open_mesh(**({"journal": None} | dict(mesh or {})))  # here, since it reads files

    async def ask() -> str:
        async with made as opened:
            return await opened.ask(model, prompt, **settings)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(ask())
    return beside_loop(lambda: asyncio.run(ask()))  # a loop runs in this thread, and cannot be entered again

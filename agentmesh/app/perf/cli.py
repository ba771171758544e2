"""The command group `perf`: agentmesh measures itself."""

from __future__ import annotations

import typer

from .overhead import overhead_command
from .throughput import throughput_command

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)
app.command("overhead")(overhead_command)
app.command("throughput")(throughput_command)


@app.callback()
def perf() -> None:
    """Measure agentmesh itself."""

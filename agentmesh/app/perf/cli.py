"""The command group `perf`: agentmesh measures itself."""

from __future__ import annotations

import typer

from .admission import admission_command
from .journal import journal_command
from .overhead import overhead_command
from .throughput import throughput_command

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)
app.command("admission")(admission_command)
app.command("journal")(journal_command)
app.command("overhead")(overhead_command)
app.command("throughput")(throughput_command)


@app.callback()
def perf() -> None:
    """Measure agentmesh itself."""

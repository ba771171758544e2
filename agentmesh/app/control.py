"""The commands `pause`, `unpause`, `cancel` and `rate`: what is said to a run that another process runs."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from ..catalog import override_rate
from ..errors import UserError
from ..journal import find_run, short_of
from ..journal.inbox import tell_run
from .options import JournalOption, RunArgument
from .settings import Options
from .wording import clean

__all__ = ["cancel_command", "pause_command", "rate_command", "unpause_command"]

RatesArgument = Annotated[
    list[str], typer.Argument(metavar="TARGET.LIMIT=N", help="Such as openai/gpt-6-luna.requests_per_minute=300.")
]


def pause_command(run: RunArgument = "last", journal: JournalOption = None) -> None:
    """Send nothing new for a run until it is unpaused; calls in flight go on to their end.

    Timeouts of the workflow and of tasks, and budgets of time, stand still meanwhile.

    Example: agentmesh pause last
    """
    _tell(run, "pause", journal=journal)


def unpause_command(run: RunArgument = "last", journal: JournalOption = None) -> None:
    """Go on with a run that was paused.

    Example: agentmesh unpause last
    """
    _tell(run, "unpause", journal=journal)


def cancel_command(run: RunArgument = "last", journal: JournalOption = None) -> None:
    """End a run as Ctrl-C does: nothing new starts, calls in flight have 5 s; once more ends them at once.

    Example: agentmesh cancel last
    """
    _tell(run, "cancel", journal=journal)


def rate_command(run: RunArgument, rates: RatesArgument, journal: JournalOption = None) -> None:
    """Set limits of a run while it goes on: TARGET is a provider, an account or a model. They hold until it ends.

    Example: agentmesh rate last sim/small.requests_per_minute=300
    """
    for rate in rates:
        override_rate(rate)
    _tell(run, "rate", journal=journal, rates=rates)


def _tell(name: str, verb: str, *, journal: Any, **data: Any) -> None:
    """Say it, and print what came of it. Raises UserError if nothing did."""
    path = find_run(Options.load(journal=journal).journal, name)
    short = short_of(path)
    answer = tell_run(path, verb, **data)
    if not answer.ok:
        raise UserError(f"run {short}: {clean(answer.text)}")
    sys.stdout.write(f"run {short}: {clean(answer.text)}\n")

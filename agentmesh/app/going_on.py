"""What commands that go on with a run share: their options, how it began, what becomes of calls that were in flight."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import UserError
from .wording import plural

if TYPE_CHECKING:
    from ..events import CallIntent, RunStarted
    from ..mesh.recall import OnUncertain

__all__ = [
    "FailedFlag",
    "FreshFlag",
    "OnUncertainChoice",
    "OnUncertainOption",
    "began_as",
    "can_ask",
    "on_uncertain_of",
    "refuse_output_of_another",
    "tries_failed_again",
]

OnUncertainChoice = Literal["resend", "fail", "ask"]
OnUncertainOption = Annotated[
    OnUncertainChoice | None,
    typer.Option("--on-uncertain", help="Calls that were in flight when a run ended: send them again, or not, or ask."),
]
FreshFlag = Annotated[bool, typer.Option("--fresh", help="Begin anew, even where an unfinished run could go on.")]
FailedFlag = Annotated[bool, typer.Option("--failed", help="Try again what has failed, too.")]


def can_ask() -> bool:
    """Whether there is a person who sees a question and can answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def on_uncertain_of(choice: OnUncertainChoice | None) -> OnUncertain:
    """What becomes of open calls: as it was said (`resend` if not), or as a person says when asked.

    Where nobody can be asked, asking raises UserError.
    """
    if choice != "ask":
        return choice or "resend"

    def ask(calls: Sequence[CallIntent]) -> Literal["resend", "fail"]:
        what = f"{plural(len(calls), 'call')} may have been paid without an answer"
        if not can_ask():
            raise UserError(f"{what}, and nobody can be asked here: say --on-uncertain resend or --on-uncertain fail")
        return "resend" if typer.confirm(f"{what}. Send them again", default=True, err=True) else "fail"

    return ask


def began_as(path: Path) -> RunStarted:
    """How a run began, with the options that its newest process was given. Blocks.

    Raises UserError where that cannot be read.
    """
    from ..journal import RunFile, short_id
    from ..journal.history import run_history

    with RunFile.open(path) as file:
        history = run_history(file, failures=0)
    if history.started is None:
        raise UserError(f"run {short_id(path.stem)} ended before it had begun: there is nothing to go on with")
    told = (event.options for event in reversed(history.resumed) if "command" in event.options)  # else: Python
    return replace(history.started, options=next(told, history.started.options))


def tries_failed_again(failed: bool, before: Mapping[str, Any]) -> tuple[bool, list[str]]:
    """Whether an unfinished run tries again what has failed, as it is said now or was `before`; and what to say of it.

    A process that was told so and did not get to its end leaves some of that undone.
    """
    if failed or not before.get("failed"):
        return failed, []
    return True, ["what has failed is tried again, as this run was last told by --failed"]


def refuse_output_of_another(output: Path | None, began: RunStarted) -> None:
    """Raises UserError where a result would take the place of that of another run than the one that goes on.

    What was there when this run began with the same output was to be replaced from the start.
    """
    if output is None or not output.expanduser().is_file():
        return
    place = output.expanduser()
    if began.options.get("output") == str(output) and place.stat().st_mtime < began.at:
        return
    try:
        there: Any = jsonlib.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        there = None
    from ..journal import short_id

    other = there.get("run") if isinstance(there, Mapping) else None
    if other != began.run:
        what = f"has the result of run {short_id(str(other))}" if other else "is no result of an agentmesh run"
        raise UserError(
            f"-o {output}: it {what}, and run {short_id(began.run)} goes on: name another file, or begin anew with "
            "agentmesh run --fresh"
        )

"""What commands that go on with a run share: their options, and what becomes of calls that were in flight."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import typer

from ..errors import UserError
from ..events import CallIntent
from ..mesh.recall import OnUncertain
from .wording import plural

__all__ = ["FailedFlag", "FreshFlag", "OnUncertainChoice", "OnUncertainOption", "on_uncertain_of"]

OnUncertainChoice = Literal["resend", "fail", "ask"]
OnUncertainOption = Annotated[
    OnUncertainChoice | None,
    typer.Option("--on-uncertain", help="Calls that were in flight when a run ended: send them again, or not, or ask."),
]
FreshFlag = Annotated[bool, typer.Option("--fresh", help="Begin anew, even where an unfinished run could go on.")]
FailedFlag = Annotated[bool, typer.Option("--failed", help="Try again what has failed, too.")]


def on_uncertain_of(choice: OnUncertainChoice | None) -> OnUncertain:
    """What becomes of open calls: as it was said (`resend` if not), or as a person says when asked.

    Where nobody can be asked, asking raises UserError.
    """
    if choice != "ask":
        return choice or "resend"

    def ask(calls: Sequence[CallIntent]) -> Literal["resend", "fail"]:
        what = f"{plural(len(calls), 'call')} may have been paid without an answer"
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UserError(f"{what}, and nobody can be asked here: say --on-uncertain resend or --on-uncertain fail")
        return "resend" if typer.confirm(f"{what}. Send them again", default=True, err=True) else "fail"

    return ask

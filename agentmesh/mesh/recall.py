"""How a run goes on where another process ended: what has ended is not performed, what was answered is not asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..client.known import Found
from ..clock import in_thread
from ..errors import CallFailed, ErrorInfo, UserError
from ..events import CallIntent, ToolEnded
from ..journal import Journal, list_runs, short_id
from ..journal.past import Answers, Past
from ..messages import Request, ToolCall

__all__ = ["OnUncertain", "Recall", "Resume", "find_unfinished", "open_again"]

OnUncertain = Literal["resend", "fail"] | Callable[[Sequence[CallIntent]], Literal["resend", "fail"]]
"""What becomes of calls that were in flight when a process ended: they may have been paid. A function is asked, in a
thread, when there are such calls."""

_UNFINISHED = frozenset({"interrupted", "cancelled", "stopped"})


@dataclass(frozen=True, slots=True)
class Resume:
    """How to go on with the run in the file `path`: whether with its failed tasks, too, and what with open calls."""

    path: Path
    failed: bool = False
    on_uncertain: OnUncertain = "resend"


def find_unfinished(folder: Path, *, name: str, identity: str | None = None) -> Path | None:
    """The newest run of that name (and identity) that ended before it was finished, if no newer one has.

    Blocks. Raises UserError where such a run is being written by another process.
    """
    for run in list_runs(folder):
        if run.name != name or (identity is not None and run.identity != identity):
            continue
        if run.status == "running":
            raise UserError(
                f"run {short_id(run.id)} of the same name and inputs is being written by {run.holder}: wait for it, or "
                "start another one"
            )
        return run.path if run.status in _UNFINISHED else None
    return None


def open_again(resume: Resume, *, content: bool) -> tuple[Journal, Past]:
    """The journal of a run, to be gone on with, and what is in it. Blocks. Raises UserError; then nothing has changed."""
    journal = Journal.resume(resume.path, content=content)
    try:
        past = Past.read(resume.path, failed=resume.failed)
        choice = resume.on_uncertain
        if callable(choice):
            choice = choice(past.uncertain) if past.uncertain else "resend"
        past.fails_uncertain = choice == "fail"
    except BaseException:
        journal.abandon()
        raise
    return journal, past


class Recall:
    """What earlier processes of a run were answered, read when a task is performed again."""

    def __init__(self, past: Past) -> None:
        self._past = past
        self._answers: dict[str, Answers] = {}

    def __repr__(self) -> str:
        return f"<Recall of {self._past!r}>"

    async def find(self, key: str, request: Request, *, address: str) -> Found | None:
        """The reply that was recorded for this call at this address.

        Raises CallFailed for a call that was in flight and shall not be sent again.
        """
        if (answers := await self._at(address)) is None:
            return None
        if (ended := answers.replies.pop(key, None)) is not None:
            assert ended.reply is not None
            return Found(ended.reply, ended.usage, ended.usd, ended.attempt)
        if key in answers.uncertain and self._past.fails_uncertain:
            answers.uncertain.discard(key)
            message = "it was in flight when the last process ended, may have been paid, and is not sent again"
            raise CallFailed(ErrorInfo("connection", message))
        return None

    async def tool(self, call: ToolCall, *, address: str) -> ToolEnded | None:
        """What a tool gave for just this call of it."""
        answers = await self._at(address)
        return None if answers is None else answers.tools.get((call.id, call.name, call.arguments))

    async def _at(self, address: str) -> Answers | None:
        if not self._past.has_answers(address):
            return None
        if address not in self._answers:
            read = await in_thread(self._past.answers, address)
            self._answers.setdefault(address, read)
        return self._answers[address]

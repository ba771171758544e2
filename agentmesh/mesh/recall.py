"""How a run goes on where another process ended: what has ended is not performed, what was answered is not asked."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import anyio

from ..client.known import Found
from ..clock import in_thread, wall
from ..errors import CallFailed, ErrorInfo, UserError
from ..events import CallIntent, Notice, RunResumed, RunStarted, ToolEnded
from ..flow.graph import Collection, Node, Require, stand_recalled
from ..journal import Holder, Journal, NullJournal, RunSummary, list_runs, new_run_id, next_run_id, short_id
from ..journal.past import Answers, Past, Spent
from ..marked_yaml import changed_parts
from ..messages import Request, ToolCall
from ..outcome import Address, Outcome

if TYPE_CHECKING:
    from .run import Run

__all__ = [
    "Begun",
    "OnUncertain",
    "Recall",
    "Resume",
    "begin",
    "find_newest",
    "find_unfinished",
    "open_again",
    "tell_begun",
]

OnUncertain = Literal["resend", "fail"] | Callable[[Sequence[CallIntent]], Literal["resend", "fail"]]
"""What becomes of calls that were in flight when a process ended: they may have been paid. A function is asked, in a
thread, when there are such calls."""


@dataclass(frozen=True, slots=True)
class Resume:
    """How to go on with a run: the one in the file `path`, or the newest unfinished one of the same name.

    `failed` tries again what has failed, too; `on_uncertain` says what becomes of calls that were in flight: `resend`,
    `fail`, or a function of them that returns one of these. None is what the workflow says, else `resend`.
    """

    path: Path | None = None
    failed: bool = False
    on_uncertain: OnUncertain | None = None


def find_unfinished(folder: Path, *, name: str, identity: str | None = None) -> Path | None:
    """The newest run of that name (and identity) that ended before it was finished, if no newer one has.

    Blocks. Raises UserError where such a run is being written by another process.
    """
    newest = find_newest(folder, name=name, identity=identity)
    return None if newest is None or not newest.is_unfinished else newest.path


def find_newest(folder: Path, *, name: str, identity: str | None = None) -> RunSummary | None:
    """The newest run of that name (and identity). Blocks. Raises UserError where another process is writing it."""
    newest = next(
        (run for run in list_runs(folder) if run.name == name and identity in (None, run.identity)),
        None,
    )
    if newest is not None and newest.is_running:
        raise UserError(
            f"run {short_id(newest.id)} of the same name and inputs is being written by {newest.holder}: wait for it, "
            "or begin another one (--fresh, in Python resume=False)"
        )
    return newest


@dataclass(frozen=True, slots=True)
class Begun:
    """What a run stands on: its journal, its first event, what there is of it already, and what has changed since."""

    journal: Journal | NullJournal
    started: RunStarted
    past: Past | None = None
    changes: tuple[str, ...] = ()

    async def aclose(self) -> None:
        """Write what is left, and give the files back. Raises UserError when the disk refuses."""
        if self.past is not None:
            await in_thread(self.past.close)  # first: nobody else may have the file open when it becomes one again
        await self.journal.aclose()


def begin(
    name: str, folder: Path | None, *, started: Mapping[str, Any], seed: int | None, resume: bool | Resume,
    content: bool,
) -> Begun:  # fmt: skip
    """A new run in that folder, or one that is gone on with, where there is one. Blocks. Raises UserError."""
    how = resume if isinstance(resume, Resume) else Resume() if resume else None
    path = None if how is None else how.path
    if how is not None and path is None and folder is not None:
        path = find_unfinished(folder, name=name, identity=started.get("identity"))
    if how is not None and path is not None:
        again, past = open_again(path, how, content=content)
        first = RunStarted(at=wall(), run=past.run_id, name=name, seed=past.started.seed, **started)
        changed = past.spec is not None and first.spec is not None and first.spec != past.spec
        return Begun(again, first, past, changed_parts(past.spec or "", first.spec or "") if changed else ())
    identity = new_run_id(wall()) if folder is None else next_run_id(folder, wall())
    first = RunStarted(at=wall(), run=identity, name=name, seed=seed, **started)
    return Begun(NullJournal() if folder is None else Journal.create(folder, first.run, content=content), first)


def open_again(path: Path, resume: Resume, *, content: bool) -> tuple[Journal, Past]:
    """The journal of a run, to be gone on with, and what is in it.

    Blocks. Raises UserError, and then nothing has changed.
    """
    journal = Journal.resume(path, content=content)
    try:
        past = Past.read(path, failed=resume.failed)
        if not past.started.content:  # whoever goes on with it, and however
            journal.leave_out_content()
        choice = resume.on_uncertain
        if callable(choice):
            choice = choice(past.uncertain) if past.uncertain else None
        if choice not in (None, "resend", "fail"):
            raise UserError(f"on_uncertain is resend, fail, or a function that returns one of these, not {choice!r}")
        past.fails_uncertain = choice == "fail"
    except BaseException:
        journal.abandon()
        raise
    return journal, past


def tell_begun(run: Run, begun: Begun) -> None:
    """Record that a run has begun, or that another process goes on with it."""
    if begun.past is None:
        run.record.emit(begun.started)
    else:
        _go_on(run, begun, past=begun.past)


def _go_on(run: Run, begun: Begun, *, past: Past) -> None:
    started, changes = begun.started, begun.changes
    run.record.show(started)  # who looks on has not seen it
    spec = started.spec if started.spec != past.spec else None
    at, process = wall(), str(Holder(os.getpid(), socket.gethostname()))
    run.record.emit(
        RunResumed(
            at=at, run=run.id, process=process, seconds=past.seconds, uncertain=len(past.uncertain), spec=spec,
            changes=changes, options=started.options, paused=past.paused,
        )
    )  # fmt: skip
    for ended in past.ends_of_uncertain(at):
        run.record.emit(ended)
    for text in _notices(past, changes):
        run.record.emit(Notice(at=at, level="info", text=text))


def _notices(past: Past, changes: Sequence[str]) -> list[str]:
    tasks, open_calls = past.finished, len(past.uncertain)
    texts = [f"going on with run {short_id(past.run_id)}: {tasks:,} {'task has' if tasks == 1 else 'tasks have'} ended"]
    if open_calls:
        calls, verb = ("1 call was", "is") if open_calls == 1 else (f"{open_calls:,} calls were", "are")
        what = f"{verb} not sent again" if past.fails_uncertain else f"{verb} sent again"
        texts[0] += f"; {calls} in flight, may have been paid, and {what}"
    if changes:
        texts.append(f"the workflow has changed since: {', '.join(changes)}; what asks the same is not asked again")
        if any(change.startswith("inputs.") for change in changes):
            texts[-1] += ", and the inputs are still those that the run began with"
    forgotten, calls_again = past.forgotten
    if forgotten:
        what = "1 task is" if forgotten == 1 else f"{forgotten:,} tasks are"
        took = "1 call" if calls_again == 1 else f"{calls_again:,} calls"
        texts.append(
            f"this run keeps no content: {what} done again, which took {took} before, since no answer was kept"
        )
    return texts


class Recall:
    """What earlier processes of a run found: how its tasks ended, and what those that go on were answered."""

    def __init__(self, past: Past, tell: Callable[[str], None]) -> None:
        self._past = past
        self._tell = tell
        self._alone = anyio.CapacityLimiter(1)  # its file is read by one thread at a time
        self._answers: dict[str, Answers] = {}
        self._newest: dict[Collection, int] = {}  # in collections that tasks read: what was done anew last

    def __repr__(self) -> str:
        return f"<Recall of {self._past!r}>"

    def outcome(
        self, address: Address, asked: str | None, *, needs: Sequence[Node],
        requires: Sequence[tuple[Collection, Require]], revive: Callable[[Any], Any] | None, item: Any,
        joined: bool = False,
    ) -> Outcome | None:  # fmt: skip
        """How a task that asks this ended in an earlier process; None if it is to be performed.

        It must ask what was asked then, and so must everything that it depends on, and it must have ended after that.
        `joined` says that it depends on more than what is named. Reads a local file.
        """
        name = str(address)
        stands = stand_recalled(needs, requires) and not self._is_outdated(name, needs, requires, joined=joined)
        outcome = self._past.recall(name, asked) if stands else None
        if outcome is None:
            if self._past.is_damaged(name):
                self._tell(f"the record of how {name} ended is damaged: it is performed again")
            return None
        value = outcome.value
        if revive is not None and outcome.ok:
            try:
                value = revive(value)
            except ValueError:  # the type has changed since: it is performed again
                return None
        return outcome if item is None and value is outcome.value else outcome.holding(item=item, value=value)

    def _is_outdated(
        self, address: str, needs: Sequence[Node], requires: Sequence[tuple[Collection, Require]], *, joined: bool
    ) -> bool:
        """Whether something that a task depends on was done anew after it had ended.

        A process that does so may be killed before it comes to the task, which then has the end of before.
        """
        ended = self._past.ended_at(address)
        if ended is None:  # as nearly always
            return False
        return (
            joined
            or any(self._past.done_anew_at(str(need.address)) > ended for need in needs)
            or any(self._newest_of(group) > ended for group, _ in requires)
        )

    def _newest_of(self, group: Collection) -> int:
        if group not in self._newest:
            self._newest[group] = max((self._past.done_anew_at(str(one.address)) for one in group.members), default=0)
        return self._newest[group]

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

    async def spent(self, *, task: str | None = None, agent: str | None = None) -> Spent:
        """What budgets count so far of an agent, or of what is at and under an address."""
        return await in_thread(partial(self._past.spent, task=task, agent=agent), limiter=self._alone)

    async def _at(self, address: str) -> Answers | None:
        if not self._past.has_answers(address):
            return None
        if address not in self._answers:
            read = await in_thread(self._past.answers, address, limiter=self._alone)
            self._answers.setdefault(address, read)
        return self._answers[address]

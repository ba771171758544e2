"""What other processes may do to a run while it goes on: pause it, go on with it, cancel it, set a limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.abc

from ..catalog import override_rate
from ..clock import in_thread, wall
from ..errors import UserError
from ..events import Notice
from ..journal.inbox import Answer, Inbox, Message
from .run import CANCEL_GRACE_S

if TYPE_CHECKING:
    from .run import Run

__all__ = ["Control"]

_LOOK_S = 0.5  # soon enough for a person, and asking how long a file is costs nothing at this pace


class Control:
    """Reads the inbox of a run, does what is said there, and answers. What was done is told in the run's journal too.

    `services` is a task group that outlives the run.
    """

    def __init__(self, run: Run, services: anyio.abc.TaskGroup) -> None:
        self._run = run
        self._services = services
        self._verbs: Mapping[str, Callable[[Message], Awaitable[str]]] = {
            "pause": self._pause, "unpause": self._unpause, "cancel": self._cancel, "rate": self._rate,
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"<Control of {self._run!r}>"

    async def serve(self) -> None:
        """Until the run ends, do what is said. A run without a journal has no inbox."""
        path = self._run.record.journal.path
        if path is None:
            return
        try:
            inbox = await in_thread(Inbox.open, path)
            try:
                await self._listen(inbox)
            finally:
                with anyio.CancelScope(shield=True):
                    await in_thread(inbox.close)
        except OSError as error:
            self._note(f"this run cannot be paused or cancelled from outside: {error}", level="warning")

    async def _listen(self, inbox: Inbox) -> None:
        while not self._run.over.is_set():
            with anyio.move_on_after(_LOOK_S):
                await self._run.over.wait()
            if inbox.has_news():
                for message in await in_thread(inbox.read):
                    await in_thread(inbox.answer, message, await self._obey(message))

    async def _obey(self, message: Message) -> Answer:
        verb = self._verbs.get(message.verb)
        if verb is None:
            return Answer(ok=False, text=f"the process that runs it knows no message {message.verb!r}: it is older")
        if self._run.over.is_set():
            return Answer(ok=False, text="has just ended")
        try:
            return Answer(ok=True, text=await verb(message))
        except UserError as error:
            return Answer(ok=False, text=str(error))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a message must not end what is being paid for
            return Answer(ok=False, text=f"internal error: {type(error).__name__}: {error}")

    # --- what can be said

    async def _pause(self, message: Message) -> str:
        if self._run.pause.on:
            return "was paused already"
        self._run.set_paused(True)
        self._note(f"paused by {message.sender}: nothing new is sent until it is unpaused", paused=True)
        await self._run.record.durable()  # `agentmesh runs` says so from now on
        return "paused; calls in flight go on to their end" + self._flying()

    async def _unpause(self, message: Message) -> str:
        if not self._run.pause.on:
            return "was not paused"
        self._run.set_paused(False)
        self._note(f"unpaused by {message.sender}", paused=False)
        await self._run.record.durable()
        return "goes on"

    async def _cancel(self, message: Message) -> str:
        text = f"cancelled by {message.sender}"
        if self._run.halted():
            self._note(f"{text} once more: calls in flight are cut short", level="warning")
            self._run.cut()
            return "was cancelled already; now calls in flight are cut short"
        self._note(f"{text}: nothing new starts, and calls in flight have {CANCEL_GRACE_S:g} s", level="warning")
        self._services.start_soon(partial(self._run.cancel, reason=text))
        return f"cancelled; calls in flight have {CANCEL_GRACE_S:g} s{self._flying()}"

    async def _rate(self, message: Message) -> str:
        match message.data:
            case {"rates": [*texts]} if texts and all(isinstance(text, str) for text in texts):
                rates = [override_rate(text) for text in texts]
            case _:
                raise UserError("the message says no rate")
        await self._run.mesh.set_rates(rates)
        figures = ", ".join(f"{rate.target}.{rate.limit} is {rate.value:g} now" for rate in rates)
        self._note(f"{figures}, set by {message.sender}")
        return figures

    def _flying(self) -> str:
        """How many calls are in flight, in words."""
        return f" ({self._run.record.in_flight} now)"

    def _note(self, text: str, *, level: Literal["info", "warning"] = "info", paused: bool | None = None) -> None:
        if not self._run.over.is_set():  # else its journal is closed
            self._run.record.emit(Notice(at=wall(), level=level, text=text, paused=paused))

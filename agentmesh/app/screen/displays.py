"""The displays of a run: the live picture, plain lines, events as JSON, or nothing.

A display is told events synchronously and never holds up the run: what it cannot show, it drops, and if drawing fails
it says so once and falls silent. The live picture is drawn again by a task on the event loop, several times a second.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self, TextIO

import anyio
import anyio.abc
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ...clock import sleep, wall
from ...events import Event, write_event
from ...limits.statistics import LaneStatistics
from ..settings import DisplayKind
from .picture import Picture
from .plain import PlainLines
from .view import render

__all__ = ["Display", "DisplayKind", "default_kind", "json_line", "open_display"]

Lanes = Callable[[], Sequence[LaneStatistics]]

REDRAW_S = 0.15
"""Between two redraws: about seven a second look alive and stay calm, and cost under 2 % of one core."""

_DUMB = ("", "dumb", "unknown")  # values of TERM with which a picture cannot be redrawn


class Display(Protocol):
    """Shows a run. `event` is an `events.Emit`; the display is open while it is entered.

    `forecast` is the duration of the run in seconds that it showed half way; None if it has shown none.
    """

    @property
    def forecast(self) -> float | None: ...

    def event(self, event: Event) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None: ...


def default_kind(stream: TextIO) -> DisplayKind:
    """The picture on a terminal that can redraw it, plain lines everywhere else."""
    term = os.environ.get("TERM", "windows" if os.name == "nt" else "")
    return "full" if stream.isatty() and term not in _DUMB else "plain"


def open_display(
    kind: DisplayKind | None,
    *,
    lanes: Lanes,
    stream: TextIO | None = None,
    budget_usd: float | None = None,
    waiting_for_budget: Callable[[], int] = lambda: 0,
    journal: bool = True,
    paused: Callable[[], bool] = lambda: False,
    bounds: Callable[[], str] = lambda: "",
) -> Display:
    """The display of this kind on `stream` (default: stderr); None chooses by whether it is a terminal.

    `lanes` gives the statistics of all lanes when asked. `budget_usd` is the run's budget in dollars,
    `waiting_for_budget` says how many calls wait for it now, `journal` whether `agentmesh show` will find the run,
    `paused` whether it is paused now, `bounds` how its budget stands in other units.
    """
    stream = sys.stderr if stream is None else stream
    picture = Picture(
        budget_usd=budget_usd, waiting_for_budget=waiting_for_budget, journal=journal, paused=paused, bounds=bounds
    )
    match kind or default_kind(stream):
        case "full":
            return _FullDisplay(picture, lanes, stream=stream)
        case "plain":
            plain = PlainLines(picture)
            return _LineDisplay(stream, plain.lines)
        case "json":
            return _LineDisplay(stream, lambda event: [json_line(event)])
        case "none":
            return _LineDisplay(stream, lambda event: [])


def json_line(event: Event) -> str:
    """An event as one line of JSON: its fields, and before them `format` and `kind`."""
    body = write_event(event).decode()
    return f'{{"format":1,"kind":"{type(event).__name__}",{body[1:]}'


class _LineDisplay:
    """Writes the lines that an event is worth as soon as it comes."""

    def __init__(self, stream: TextIO, lines: Callable[[Event], list[str]]) -> None:
        self._stream = stream
        self._lines = lines
        self._broken = False
        self.forecast: float | None = None

    def event(self, event: Event) -> None:
        """Write this event's lines. Once the stream is gone, or a line cannot be made, the display is silent."""
        if self._broken:
            return
        try:
            if lines := self._lines(event):
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()
        except (OSError, ValueError):  # nobody reads any more; ValueError: the stream is closed
            self._broken = True
        except Exception as error:  # noqa: BLE001 - a fault of a display must never cost a run what it has paid for
            self._broken = True
            _say_broken(self._stream, error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None


class _FullDisplay:
    """The live picture, in one place of the terminal. On leaving, it is wiped away for the final lines; what a person
    should read once stays above them.
    """

    def __init__(self, picture: Picture, lanes: Lanes, *, stream: TextIO) -> None:
        self._picture = picture
        self._lanes = lanes
        self._stream = stream
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, vertical_overflow="crop",
            # what tasks print appears above the picture; a pipe gets it untouched
            redirect_stdout=sys.stdout.isatty(), redirect_stderr=stream is sys.stderr,
        )  # fmt: skip
        self._tasks: anyio.abc.TaskGroup | None = None
        self._broken = False

    @property
    def forecast(self) -> float | None:
        return self._picture.half_way_forecast

    def event(self, event: Event) -> None:
        """Fold this event into the picture."""
        if not self._broken:
            try:
                self._picture.event(event)
            except Exception as error:  # noqa: BLE001 - see above
                self._break(error)

    async def __aenter__(self) -> Self:
        self._live.start()
        self._draw()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._redraw)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        assert self._tasks is not None
        try:
            self._tasks.cancel_scope.cancel()
            return await self._tasks.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as group:
            if group.exceptions == (error,):
                return None  # it goes on as it came, not inside a group
            raise
        finally:
            self._stop()
            self._leave_notices()

    async def _redraw(self) -> None:
        while not self._broken:
            await sleep(REDRAW_S)
            self._draw()

    def _draw(self) -> None:
        try:
            size = self._console.size
            snapshot = self._picture.snapshot(wall(), self._lanes())
            blocks = self._console.encoding.startswith("utf")
            lines = render(snapshot, width=size.width, height=size.height - 1, blocks=blocks)
            self._live.update(Group(*lines), refresh=True)
        except (OSError, ValueError):
            self._broken = True
        except Exception as error:  # noqa: BLE001 - see above
            self._break(error)

    def _break(self, error: Exception) -> None:
        self._broken = True
        self._stop()
        _say_broken(self._stream, error)

    def _leave_notices(self) -> None:
        if self._broken:
            return
        try:
            for text in self._picture.said:
                label = " notice     "
                for line in textwrap.wrap(text, max(20, self._console.width - len(label))):
                    self._console.print(Text.assemble((label, "yellow"), line), soft_wrap=True)
                    label = " " * len(label)
        except (OSError, ValueError):
            self._broken = True

    def _stop(self) -> None:
        try:
            self._live.stop()
        except (OSError, ValueError):
            self._broken = True


def _say_broken(stream: TextIO, error: Exception) -> None:
    try:
        stream.write(f"the display stopped ({type(error).__name__}: {error}); the run goes on\n")
    except (OSError, ValueError):
        return

"""The displays: plain lines, JSON lines, and the live picture, which never harms a run."""

from __future__ import annotations

import io
import json
from collections.abc import Awaitable, Callable, Sequence

import anyio
import pytest
import trio.testing
from inline_snapshot import snapshot
from scripted_events import BEGAN, ended, half_way, lanes

from agentmesh.app.screen.displays import default_kind, json_line, open_display
from agentmesh.app.screen.picture import Picture
from agentmesh.app.screen.plain import PlainLines
from agentmesh.app.screen.view import render
from agentmesh.errors import ErrorInfo
from agentmesh.events import CallEnded, LaneFrozen, Notice, RunStarted, TaskAdded, TaskEnded
from agentmesh.limits.statistics import LaneStatistics
from agentmesh.outcome import Outcome, Usage


class Terminal(io.StringIO):
    """A stream that takes itself for a terminal and counts what is drawn."""

    def isatty(self) -> bool:
        return True


def no_lanes() -> Sequence[LaneStatistics]:
    return ()


def run_in_virtual_time(main: Callable[[], Awaitable[None]]) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    anyio.run(main, backend="trio", backend_options={"clock": clock})


def test_plain_lines_tell_what_changed_and_nothing_else() -> None:
    plain = PlainLines(Picture())
    lines = [line for event in [*half_way(), *ended()] for line in plain.lines(event)]
    assert "\n" + "\n".join(lines) + "\n" == snapshot("""\

00:00  hypotheses a3f9: draft, review, contest, report
00:00  draft started
00:01  draft 6/24
00:01  draft 12/24
00:02  draft 18/24
00:03  draft ended: 24/24
00:03  review started
00:06  review 6/24
00:08  review 12/24
00:10  skipped review/17: invalid_output: score: 11 is over 10, after 2 repairs   agentmesh show a3f9 review/17
00:03  contest started
00:12  contest match 212 of at most 400  regret 0.09  1. Persister toxins  2. Biofilm memory  3. Ribosome hibernation
00:13  sim/large frozen, no calls for 4.0 s: rate: too many requests
00:13  notice: prices of sim were looked up 400 days ago
00:14  review 17/24, 1 skipped
00:14  review ended: 23/24, 1 skipped
00:20  contest ended: 1/1
00:20  report started
00:21  report ended: 1/1
00:21  done after 00:21: 262 calls, $1.31
""")


def test_a_task_that_fails_a_thousand_times_does_not_print_a_thousand_lines() -> None:
    plain = PlainLines(Picture())
    error = ErrorInfo("server", "no")
    lines = []
    for number in range(1000):
        lines += plain.lines(TaskEnded(at=BEGAN, outcome=Outcome("a", key=str(number), state="failed", error=error)))
    assert len(lines) == 11
    assert lines[-1].endswith("a: what else does not succeed is only counted")


def test_a_lane_that_freezes_again_and_again_is_told_every_ten_seconds() -> None:
    plain = PlainLines(Picture())
    lines = []
    for number in range(40):
        frozen = LaneFrozen(at=BEGAN + number / 2, account="acme", concerns="acme", seconds=2, reason="rate: slow down")
        lines += plain.lines(frozen)
    assert lines == [
        "00:00  acme frozen, no calls for 2.0 s: rate: slow down",
        "00:10  acme frozen, no calls for 2.0 s",
    ]


def test_push_backs_are_told_at_the_first_and_then_seldom_and_a_reason_once() -> None:
    plain = PlainLines(Picture())
    error = ErrorInfo("rate", "Rate limit reached for requests per minute of large.", 429, retryable=True)
    lines = []
    for number in range(120):
        at = BEGAN + number / 100
        lines += plain.lines(
            CallEnded(
                at=at, call=number, attempt=1, address="a", agent=None, account="acme", model="large",
                result="pushed_back", seconds=0.1, usage=Usage(pushed_back=1), usd=0.0, error=error,
            )
        )  # fmt: skip
        lines += plain.lines(LaneFrozen(at=at, account="acme", concerns="large", seconds=12, reason=error.message))
    assert lines == [
        f"00:00  acme/large pushed a call back; it waits and goes again: {error.message}",
        "00:00  acme/large frozen, no calls for 12 s",
        "00:00  acme/large has pushed back 10 calls so far",
        "00:01  acme/large has pushed back 100 calls so far",
    ]


def test_a_freeze_is_in_the_picture_until_it_is_over() -> None:
    picture = Picture()
    for model in ("large", "small"):
        picture.event(LaneFrozen(at=BEGAN, account="acme", concerns=model, seconds=12, reason="too many requests"))
    lines = [line.plain for line in render(picture.snapshot(BEGAN + 2.5, []), width=80)]
    assert " frozen     acme/large for 9.5 s: too many requests" in lines
    assert not any("frozen" in line.plain for line in render(picture.snapshot(BEGAN + 12.5, []), width=80))


def test_json_lines_say_their_format_and_kind() -> None:
    stream = io.StringIO()
    display = open_display("json", lanes=no_lanes, stream=stream)
    display.event(TaskAdded(at=1.0, task="a", key="b"))
    assert json.loads(stream.getvalue()) == {
        "format": 1, "kind": "TaskAdded", "at": 1.0, "task": "a", "key": "b", "sample": None, "needs": [], "lane": None,
    }  # fmt: skip
    for event in [*half_way(), *ended()]:
        assert json.loads(json_line(event))["kind"] == type(event).__name__


@pytest.mark.parametrize(
    ("stream", "term", "kind"),
    [(io.StringIO(), "xterm", "plain"), (Terminal(), "xterm", "full"), (Terminal(), "dumb", "plain")],
)
def test_the_picture_is_for_terminals(
    stream: io.StringIO, term: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    assert default_kind(stream) == kind


def test_none_writes_nothing() -> None:
    stream = io.StringIO()
    display = open_display("none", lanes=no_lanes, stream=stream)
    for event in half_way():
        display.event(event)
    assert stream.getvalue() == ""


def test_a_closed_stream_silences_a_display_and_stops_nobody() -> None:
    stream = io.StringIO()
    display = open_display("plain", lanes=no_lanes, stream=stream)
    stream.close()
    for event in half_way():
        display.event(event)


def test_a_fault_in_a_display_is_told_once_and_stops_nobody() -> None:
    stream = io.StringIO()
    display = open_display("plain", lanes=no_lanes, stream=stream)
    broken = RunStarted(at=1.0, run="r", name=3)  # type: ignore[arg-type]
    display.event(broken)
    display.event(broken)
    assert stream.getvalue().count("the display stopped") == 1


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "30")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def test_the_picture_is_drawn_several_times_a_second_and_wiped_away(terminal: Terminal) -> None:
    async def main() -> None:
        display = open_display("full", lanes=lanes, stream=terminal, budget_usd=2.0)
        async with display:
            for event in half_way():
                display.event(event)
            await anyio.sleep(2)
        assert display.forecast is None

    run_in_virtual_time(main)
    frames = terminal.getvalue().count("sim (simulated)")
    assert 8 <= frames <= 20
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h") == 1, "the cursor is back"
    assert terminal.getvalue().rstrip().endswith("\x1b[2K")


def test_notices_stay_when_the_picture_has_gone_each_of_them_once(terminal: Terminal) -> None:
    async def main() -> None:
        async with open_display("full", lanes=lanes, stream=terminal) as display:
            for number in (1, 2, 3, 1):
                display.event(Notice(at=BEGAN, level="warning", text=f"notice number {number}"))

    run_in_virtual_time(main)
    left = terminal.getvalue().rpartition("\x1b[?25h")[2]
    assert [left.count(f"notice number {number}") for number in (1, 2, 3)] == [1, 1, 1]


def test_no_color_is_obeyed(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def main() -> None:
        async with open_display("full", lanes=lanes, stream=terminal) as display:
            for event in half_way():
                display.event(event)
            await anyio.sleep(1)

    run_in_virtual_time(main)
    assert "review" in terminal.getvalue()
    assert "\x1b[3" not in terminal.getvalue(), "no colour"


def test_an_error_passes_through_the_picture_as_it_is(terminal: Terminal) -> None:
    async def main() -> None:
        async with open_display("full", lanes=no_lanes, stream=terminal):
            await anyio.sleep(0.3)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run_in_virtual_time(main)
    with pytest.raises(KeyError, match="mine"):
        anyio.run(main)
    assert "\x1b[?25h" in terminal.getvalue()


def test_cancellation_passes_through_the_picture(terminal: Terminal) -> None:
    async def main() -> None:
        with anyio.move_on_after(0.05) as scope:
            async with open_display("full", lanes=no_lanes, stream=terminal):
                await anyio.sleep_forever()
        assert scope.cancelled_caught

    run_in_virtual_time(main)
    anyio.run(main)


def test_a_picture_that_cannot_be_drawn_leaves_the_run_alone(terminal: Terminal) -> None:
    finished = []

    def broken_lanes() -> Sequence[LaneStatistics]:
        raise LookupError("no lanes")

    async def main() -> None:
        async with open_display("full", lanes=broken_lanes, stream=terminal) as display:
            for event in half_way():
                display.event(event)
            await anyio.sleep(2)
            finished.append(True)

    run_in_virtual_time(main)
    assert finished
    assert terminal.getvalue().count("the display stopped (LookupError: no lanes)") == 1

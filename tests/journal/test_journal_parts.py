"""Sums by task and noted events: the same whether they were kept while writing, or counted from all events."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import anyio
import pytest

from agentmesh.clock import in_thread
from agentmesh.errors import ErrorInfo
from agentmesh.events import (
    CallEnded,
    CallIntent,
    Event,
    Notice,
    RunEnded,
    RunResumed,
    RunStarted,
    TaskAdded,
    TaskEnded,
    TaskReopened,
    TaskStarted,
    ToolEnded,
)
from agentmesh.journal import Journal, RunFile, RunHistory, item_histories, run_history
from agentmesh.messages import Message, Request
from agentmesh.outcome import Outcome, Usage

DOWN = ErrorInfo("server", "500 from sim", status=500)
BEHIND = ErrorInfo("dependency", "review/b failed")


def call(number: int, address: str, *, attempt: int = 1, at: float, wait: float = 0.5, **end: object) -> list[Event]:
    who = {"call": number, "attempt": attempt, "address": address, "agent": "a", "account": "sim", "model": "m"}
    request = Request("m", (Message("user", f"about {address}"),))
    outcome = {"result": "ok", "seconds": 2.0, "usage": Usage(1), "usd": 0.25} | end
    intent = CallIntent(at=at, **who, request=request, waited=wait)  # type: ignore[arg-type]
    return [intent, CallEnded(at=at + 2.0, **who, **outcome)]  # type: ignore[arg-type]


FIRST: list[Event] = [
    RunStarted(at=10.0, run="r", name="h", tasks=("draft", "review", "report"), waits_for={"report": ("review",)}),
    *(TaskAdded(at=10.0, task="draft", key=key) for key in "ab"),
    *(TaskAdded(at=10.0, task="review", key=key, needs=(f"draft/{key}",)) for key in "ab"),
    TaskStarted(at=11.0, address="draft/a"),
    *call(1, "draft/a", at=12.0, result="failed", error=DOWN, usd=0.0),
    *call(1, "draft/a", attempt=2, at=17.5, wait=1.0),
    ToolEnded(at=19.6, address="draft/a", call_id="c1", name="search", arguments="{}", result="x", seconds=0.1),
    TaskEnded(at=20.0, outcome=Outcome("draft", "a", seconds=9.0)),
    *call(2, "review/b", at=20.0, result="pushed_back", usage=Usage(pushed_back=1), usd=None),
    *call(2, "review/b", at=23.0, result="failed", error=DOWN, uncertain=True),
    TaskEnded(at=25.0, outcome=Outcome("review", "b", state="failed", error=DOWN)),
    TaskEnded(at=25.0, outcome=Outcome("report", state="skipped", error=BEHIND)),
]
SECOND: list[Event] = [
    RunResumed(at=40.0, run="r", process="2", seconds=15.0, uncertain=1),
    TaskReopened(at=40.0, address="review/b", state="failed"),
    Notice(at=40.0, level="warning", text="again"),
    *call(3, "review/b", at=41.0),
    TaskEnded(at=44.0, outcome=Outcome("review", "b", seconds=3.0)),
    TaskEnded(at=45.0, outcome=Outcome("draft", "b", state="skipped", error=DOWN, seconds=1.0)),
    RunEnded(at=46.0, status="done", seconds=21.0, usage=Usage(4), usd=0.75),
]


def write(folder: Path, *processes: Sequence[Event]) -> Path:
    async def written() -> Path:
        path = folder / "runs/r1.db"
        for number, events in enumerate(processes):
            opened = Journal.resume if number else Journal.create
            journal = await in_thread(opened, *([path] if number else [folder, "r1"]))
            for event in events:
                journal.append(event)
            await journal.aclose()
        return path

    return anyio.run(written)


def forget(path: Path, *, tables: bool = True) -> None:
    """Take the tables away, as in a file of before there were any; or only what is in them."""
    connection = sqlite3.connect(path)
    if tables:
        connection.executescript("DROP TABLE task; DROP TABLE noted")
    else:
        connection.execute("DELETE FROM run")
        connection.executescript("DELETE FROM task; DELETE FROM noted")
    connection.commit()
    connection.close()


def history_of(path: Path) -> RunHistory:
    with RunFile.open(path) as run:
        return run_history(run)


def test_sums_are_those_of_all_processes(tmp_path: Path) -> None:
    history = history_of(write(tmp_path, FIRST, SECOND))
    assert list(history.tasks) == ["draft", "review", "report"]
    draft, review, report = history.tasks.values()
    assert (draft.added, draft.done, draft.skipped, draft.unfinished) == (2, 1, 1, 0)
    assert (draft.calls, draft.retries, draft.tools, draft.waited, draft.first, draft.last) == (
        2,
        1,
        1,
        1.5,
        11.0,
        45.0,
    )
    assert (review.done, review.failed, review.unfinished, review.calls, review.pushed_back) == (1, 0, 1, 2, 1)
    assert (review.needs, report.needs, review.uncertain, review.usd) == ("draft", "review", 1, 0.5)
    assert [str(outcome.address) for outcome in history.failures] == ["draft/b"]
    assert (history.causes, history.behind, len(history.resumed)) == (1, 1, 1)
    assert [notice.text for notice in history.notices] == ["again"]
    assert history.ended is not None
    assert history.ended.seconds == 21.0
    assert history.took(draft) == (45.0 - 40.0 + 15.0) - (11.0 - 10.0)  # nobody went on with it from 25 to 40


@pytest.mark.parametrize("cut", range(1, len(FIRST) + len(SECOND)))
def test_it_makes_no_difference_when_they_were_written_down(tmp_path: Path, cut: int) -> None:
    events = [*FIRST, *SECOND]
    path = write(tmp_path, events[:cut], events[cut:])
    kept = asdict(history_of(path))
    forget(path)
    assert asdict(history_of(path)) == kept


def test_what_came_after_the_last_summary_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path, FIRST)
    kept = asdict(history_of(path))
    forget(path, tables=False)  # a process that was killed within its first second
    assert asdict(history_of(path)) == kept
    resumed = write(tmp_path / "other", FIRST, SECOND)
    assert history_of(resumed).tasks["draft"].added == 2


def test_only_the_first_failures_are_read(tmp_path: Path) -> None:
    ends = [TaskEnded(at=1.0, outcome=Outcome("t", str(n), state="failed", error=DOWN)) for n in range(30)]
    with RunFile.open(write(tmp_path, ends)) as run:
        history = run_history(run, failures=3)
    assert ([outcome.key for outcome in history.failures], history.causes) == (["0", "1", "2"], 30)


def test_an_item_tells_where_its_time_went(tmp_path: Path) -> None:
    with RunFile.open(write(tmp_path, FIRST, SECOND)) as run:
        (draft,) = item_histories(run, "draft/a")
        (review,) = item_histories(run, "review/b")
    (asked,) = draft.calls.values()
    assert (draft.added, draft.started, [tool.name for tool in draft.tools]) == (10.0, 11.0, ["search"])
    assert (asked.waited, asked.answered, asked.paused) == (1.5, 4.0, 2.5)  # 17.5 - 1.0 in the lane - 14.0
    assert review.reopened == 1
    assert review.outcome is not None
    assert review.outcome.ok


def test_the_first_items_have_all_their_events_however_late(tmp_path: Path) -> None:
    count = 2500  # more than the first look takes in
    events: list[Event] = [TaskAdded(at=1.0, task="t", key=str(n)) for n in range(count)]
    events += [TaskEnded(at=2.0, outcome=Outcome("t", str(n), value=n)) for n in reversed(range(count))]
    with RunFile.open(write(tmp_path, events)) as run:
        some = list(item_histories(run, "t", first=3))
        every = list(item_histories(run, "t"))
        one = list(item_histories(run, "t/2"))
    assert [(item.address, item.outcome and item.outcome.value) for item in some] == [
        ("t/0", 0),
        ("t/1", 1),
        ("t/2", 2),
    ]
    assert len(every) == count
    assert all(item.outcome is not None for item in every)
    assert [item.address for item in one] == ["t/2"]


def test_names_that_are_no_utf_8_do_not_break_the_journal(tmp_path: Path) -> None:
    path = write(tmp_path, [TaskAdded(at=1.0, task="half \ud83d", key="a"), TaskAdded(at=1.0, task='"\\\n', key="b")])
    assert [task.added for task in history_of(path).tasks.values()] == [1, 1]

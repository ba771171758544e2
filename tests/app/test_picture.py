"""The picture folds events into counts: forecasts, waiting tasks, failures, and no cost per item."""

from __future__ import annotations

import time

import pytest
from scripted_events import BEGAN, RUN, began, call, ended, half_way, item, lanes

from agentmesh.app.screen.forecast import Forecast, Row, expected_items
from agentmesh.app.screen.picture import Picture, Snapshot
from agentmesh.errors import ErrorInfo
from agentmesh.events import CollectionClosed, RunStarted, StandingsChanged, TaskAdded, TaskEnded, TaskStarted
from agentmesh.outcome import Outcome, Usage


def folded(events: object, *, now: float) -> Snapshot:
    picture = Picture(budget_usd=2.0)
    for event in events:  # type: ignore[attr-defined]
        picture.event(event)
    return picture.snapshot(now, lanes())


def test_a_run_that_has_just_begun_shows_who_waits_and_no_forecast() -> None:
    snapshot = folded(began(), now=BEGAN + 0.5)
    assert (snapshot.name, snapshot.run, snapshot.elapsed) == ("hypotheses", "a3f9", 0.5)
    assert snapshot.forecast is None
    assert [(row.name, row.waits_for) for row in snapshot.tasks] == [
        ("draft", ()), ("review", ("draft",)), ("contest", ("draft",)), ("report", ("contest", "review")),
    ]  # fmt: skip


def test_half_way_counts_calls_dollars_agents_and_failures() -> None:
    snapshot = folded(half_way(), now=BEGAN + 12)
    assert snapshot.calls == 24 + 15 + 212
    assert snapshot.usd == pytest.approx(251 * 0.005)
    assert snapshot.live == 20
    assert dict(snapshot.agents) == {"scientist": 0, "critic": 9, "judge": 11}
    assert snapshot.failures_total == 1
    assert snapshot.failures[0].command == "agentmesh show a3f9 review/17"
    review = snapshot.tasks[1]
    assert (review.done, review.skipped, review.total, review.complete) == (14, 1, 24, False)
    assert not snapshot.tasks[1].waits_for
    assert snapshot.tasks[3].waits_for == ("contest", "review")


def test_expected_calls_are_those_made_and_those_known_to_come() -> None:
    snapshot = folded(half_way(), now=BEGAN + 12)
    assert snapshot.expected_calls == 251 + (400 - 212) + 9 + 1
    assert snapshot.forecast == pytest.approx(12 + 198 / (251 / 12))


def test_a_tournament_without_a_limit_yet_leaves_the_calls_unknown() -> None:
    picture = Picture()
    for event in began():
        picture.event(event)

    def standings(limit: int | None) -> StandingsChanged:
        return StandingsChanged(
            at=BEGAN, task="contest", entrants=0, matches=0, failed=0, limit=limit, regret=None, top=()
        )

    before = picture.snapshot(BEGAN + 1).expected_calls
    picture.event(standings(None))
    assert picture.snapshot(BEGAN + 2).expected_calls is None
    picture.event(standings(60))
    assert picture.snapshot(BEGAN + 2.1).expected_calls == (before or 0) - 1 + 60, "told within the same second"


def test_the_end_replaces_what_was_estimated() -> None:
    snapshot = folded([*half_way(), *ended()], now=BEGAN + 999)
    assert snapshot.elapsed == 21.0
    assert snapshot.status == "done"
    assert snapshot.usd == 1.31


def test_a_skip_that_follows_from_another_failure_is_no_failure_of_its_own() -> None:
    follows = Outcome("b", state="skipped", error=ErrorInfo("dependency", "a failed"))
    intended = Outcome("c", state="skipped")
    assert folded([TaskEnded(at=1, outcome=one) for one in (follows, intended)], now=2).failures_total == 0


def test_an_unknown_price_is_never_counted_as_nothing() -> None:
    events = list(call(1, "a", "agent", at=1.0))
    assert folded(events, now=2).usd_known
    unknown = [*events, *call(2, "a", "agent", at=1.0, usd=None)]
    assert not folded(unknown, now=2).usd_known


def test_without_a_journal_no_command_is_offered() -> None:
    picture = Picture(journal=False)
    picture.event(TaskEnded(at=1, outcome=Outcome("a", state="failed", error=ErrorInfo("server", "no"))))
    assert picture.snapshot(2).failures[0].command is None


def test_foreign_text_cannot_move_the_cursor() -> None:
    picture = Picture()
    error = ErrorInfo("server", "\x1b[2J\x1b]0;title\x07two\nlines\u202e")
    picture.event(TaskEnded(at=1, outcome=Outcome("a", state="failed", error=error)))
    assert picture.snapshot(2).failures[0].error == "server: [2J]0;titletwo lines"


def test_an_open_task_is_expected_to_follow_the_collection_it_reads() -> None:
    rows = {name: Row() for name in ("source", "single", "each", "after_single", "unknown")}
    rows["source"].open, rows["source"].total = False, 24
    rows["single"].open, rows["single"].total, rows["single"].single = False, 1, True
    rows["each"].total = 3
    waits_for = {"each": ("source", "single"), "after_single": ("single",), "unknown": ("source", "after_single")}
    expected = expected_items(rows, waits_for)
    assert expected == {"source": 24, "single": 1, "each": 24, "after_single": None, "unknown": None}


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    forecast = Forecast()
    for number in range(600):
        forecast.call_ended(1000 + number / 10)
    assert forecast.rate(1060) == pytest.approx(10, rel=0.05)
    assert forecast.rate(1200) is None


def test_items_that_need_several_calls_are_forecast_by_what_they_took() -> None:
    row = Row()
    row.open, row.total, row.calls_models, row.calls = False, 10, True, 6
    assert row.remaining_calls(10) == 10 - 6
    for _ in range(2):
        row.end(Outcome("a", usage=Usage(3)))
    assert row.remaining_calls(10) == 3 * 8


def ten_thousand() -> list[object]:
    events: list[object] = [RunStarted(at=BEGAN, run=RUN, name="big", tasks=("ask",))]
    events += [TaskAdded(at=BEGAN, task="ask", key=str(number), lane="sim") for number in range(10_000)]
    events.append(CollectionClosed(at=BEGAN, task="ask", items=10_000))
    for number in range(10_000):
        events += item("ask", number, "asker", at=BEGAN + number / 100, calls=number)
    return events


def test_ten_thousand_items_cost_a_snapshot_no_more_than_ten() -> None:
    events = ten_thousand()
    picture = Picture()
    began_at = time.thread_time()
    for event in events:
        picture.event(event)  # type: ignore[arg-type]
    folding = time.thread_time() - began_at
    assert folding / len(events) < 50e-6, "an event costs a few microseconds, however many came before it"
    began_at = time.thread_time()
    for _ in range(100):
        snapshot = picture.snapshot(BEGAN + 100)
    assert (time.thread_time() - began_at) / 100 < 1e-3
    assert (snapshot.tasks[0].done, snapshot.calls) == (10_000, 10_000)


def test_a_task_that_no_plan_knew_gets_a_row_when_it_comes() -> None:
    snapshot = folded([TaskAdded(at=1, task="late", key="k"), TaskStarted(at=1, address="late/k")], now=2)
    assert [(row.name, row.total, row.open) for row in snapshot.tasks] == [("late", 1, True)]

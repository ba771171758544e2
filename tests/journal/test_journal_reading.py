"""Reading runs: names of runs, the list of them, files that are no runs, and histories of tasks."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.clock import in_thread
from agentmesh.errors import ErrorInfo, UserError
from agentmesh.events import CallEnded, CallIntent, Event, RunEnded, RunStarted, TaskAdded, TaskEnded
from agentmesh.journal import (
    Journal,
    RunFile,
    RunSummary,
    find_run,
    item_histories,
    list_runs,
    new_run_id,
    run_history,
    run_time,
    short_id,
)
from agentmesh.journal.format import SCHEMA_VERSION
from agentmesh.messages import Message, Reply, Request
from agentmesh.outcome import Outcome, Usage


def write_run(folder: Path, run_id: str, events: Iterable[Event]) -> Path:
    async def write() -> Path:
        journal = await in_thread(Journal.create, folder, run_id)
        for event in events:
            journal.append(event)
        await journal.aclose()
        return journal.path

    return anyio.run(write)


def sent(address: str, call: int, attempt: int = 1) -> CallIntent:
    request = Request("small", (Message("user", f"about {address}"),))
    return CallIntent(
        at=10.0 + call, call=call, attempt=attempt, address=address, agent="critic", account="sim", model="small",
        request=request, waited=0.5,
    )  # fmt: skip


def ended(intent: CallIntent, **changes: object) -> CallEnded:
    event = CallEnded(
        at=intent.at + 2, call=intent.call, attempt=intent.attempt, address=intent.address, agent="critic",
        account="sim", model="small", result="ok", seconds=2.0, reply=Reply("fine", "stop"), usage=Usage(1), usd=0.25,
    )  # fmt: skip
    return replace(event, **changes)  # type: ignore[arg-type]


def a_run() -> list[Event]:
    """Two drafts; one review is done after a push-back, the other fails, a third item was still in flight."""
    pushed, again, failing = sent("review/a", 3), sent("review/a", 3, 2), sent("review/b", 4)
    error = ErrorInfo("server", "500 from sim", status=500)
    return [
        RunStarted(at=10.0, run="r", name="hypotheses", source="h.yaml"),
        *(TaskAdded(at=10.0, task="draft", key=key) for key in "ab"),
        *(TaskAdded(at=10.0, task="review", key=key) for key in "abc"),
        sent("draft/a", 1), ended(sent("draft/a", 1)), TaskEnded(at=13.0, outcome=Outcome("draft", "a", seconds=2.0)),
        sent("draft/b", 2), ended(sent("draft/b", 2)), TaskEnded(at=14.0, outcome=Outcome("draft", "b", seconds=2.0)),
        pushed, ended(pushed, result="pushed_back", reply=None, usage=Usage(pushed_back=1), usd=None),
        again, ended(again), TaskEnded(at=15.0, outcome=Outcome("review", "a", seconds=2.0)),
        failing, ended(failing, result="failed", reply=None, error=error),
        TaskEnded(at=16.0, outcome=Outcome("review", "b", state="failed", error=error)),
        sent("review/c", 5),
    ]  # fmt: skip


@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_run_ids_sort_by_time_and_tell_it(one: float, other: float) -> None:
    first, second = new_run_id(one), new_run_id(other)
    assert re.fullmatch("[0-9a-hjkmnp-tv-z]{26}", first)
    assert run_time(first) == int(one * 1000) / 1000
    if int(one * 1000) < int(other * 1000):
        assert first < second


def test_run_ids_of_one_instant_differ_and_other_names_have_no_time() -> None:
    assert len({new_run_id(1.0) for _ in range(1000)}) == 1000
    assert run_time("r1") is None
    assert run_time("u" * 26) is None


def test_the_short_form_grows_until_it_is_the_only_one() -> None:
    assert short_id("000aa3f9") == "a3f9"
    assert short_id("000aa3f9", ["000aa3f9", "000ba3f9", "0000b3f9"]) == "aa3f9"
    assert short_id("a", ["ba"]) == "a"


def test_runs_are_found_by_end_beginning_last_and_file(tmp_path: Path) -> None:
    ids = ["01aaaaa3f9", "01abbbb7k2", "02cccca3f9"]
    paths = [write_run(tmp_path, run_id, a_run()) for run_id in ids]
    assert find_run(tmp_path, "b7k2") == paths[1]
    assert find_run(tmp_path, "B7K2") == paths[1]
    assert find_run(tmp_path, "01ab") == paths[1]
    assert find_run(tmp_path, "last") == paths[2]
    assert find_run(tmp_path, ids[0]) == paths[0]
    assert find_run(tmp_path / "elsewhere", str(paths[0])) == paths[0]
    with pytest.raises(UserError, match="'a3f9' fits 2 runs: ca3f9, aa3f9"):
        find_run(tmp_path, "a3f9")
    for unknown in ("zzzz", "", "%", "../runs/01aaaaa3f9"):
        with pytest.raises(UserError, match="there is no run"):
            find_run(tmp_path, unknown)
    with pytest.raises(UserError, match="there are no runs in"):
        find_run(tmp_path / "elsewhere", "last")


def test_candidates_tell_when_they_began(tmp_path: Path) -> None:
    for now in (1_700_000_000.0, 1_700_000_001.0):
        write_run(tmp_path, new_run_id(now), [])
    with pytest.raises(UserError, match=r"fits 2 runs: \w{4,5} of 2023-11-1\d \d\d:\d\d, \w{4,5} of"):
        find_run(tmp_path, "01h")


def test_a_damaged_file_says_so_and_hides_no_other(tmp_path: Path) -> None:
    usage = Usage(calls=5, pushed_back=1)
    write_run(tmp_path, "r1", [*a_run(), RunEnded(at=20.0, status="partial", seconds=10.0, usage=usage, usd=None)])
    runs = tmp_path / "runs"
    (runs / "r2.db").write_bytes(b"no database at all " * 1000)
    (runs / "r3.db").write_bytes(b"")
    whole = (runs / "r1.db").read_bytes()
    (runs / "r4.db").write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))
    connection = sqlite3.connect(runs / "r5.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    connection = sqlite3.connect(runs / "r6.db")
    connection.execute("CREATE TABLE other (x)")
    connection.close()
    found = {run.id: run for run in list_runs(tmp_path)}
    assert list(found) == ["r6", "r5", "r4", "r3", "r2", "r1"]
    good = found.pop("r1")
    assert {run.status for run in found.values()} == {"unreadable"}
    for run_id, words in {
        "r2": "not a database", "r3": "before its first event", "r4": "is damaged",
        "r5": f"newer agentmesh (format 99; this one reads {SCHEMA_VERSION})", "r6": "no run of agentmesh",
    }.items():  # fmt: skip
        problem = found[run_id].problem
        assert problem is not None
        assert words in problem
        assert f"{run_id}.db" in problem
    assert (good.status, good.name, good.source, good.seconds) == ("partial", "hypotheses", "h.yaml", 10.0)
    assert (good.added, good.done, good.failed, good.calls, good.pushed_back) == (5, 3, 1, 5, 1)
    assert good.usd == 1.0


def test_a_run_whose_prices_are_unknown_has_no_cost(tmp_path: Path) -> None:
    path = write_run(tmp_path, "r1", [ended(sent("a", 1)), ended(sent("a", 2), usd=None)])
    with RunFile.open(path) as run:
        assert RunSummary.of(run).usd is None


def test_a_record_that_cannot_be_read_is_counted_and_hides_no_other(tmp_path: Path) -> None:
    path = write_run(tmp_path, "r1", a_run())
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE event SET body = x'00ff' WHERE id = 2")
    connection.execute("UPDATE event SET kind = 77 WHERE id = 3")
    connection.close()
    with RunFile.open(path) as run:
        assert [number for number, _ in run.events()][:2] == [1, 4]
        assert list(run.unreadable) == [2, 3]


def test_a_missing_file_and_a_path_with_odd_characters(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no run file"):
        RunFile.open(tmp_path / "none.db")
    path = write_run(tmp_path / "50% of #1?", "r1", a_run())
    with RunFile.open(path) as run:
        assert run.last() == len(a_run())


def test_events_under_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentmesh.journal.read._SLICE", 2)
    path = write_run(tmp_path, "r1", [sent(a, n) for n, a in enumerate(["re", "re/a", "re/a/1", "re/ab", "rex/a"])])
    with RunFile.open(path) as run:
        under = {at: [n for n, _ in run.events(under=at)] for at in ("re", "re/a", "re/a/1", "r_", "%")}
    assert under == {"re": [1, 2, 3, 4], "re/a": [2, 3], "re/a/1": [3], "r_": [], "%": []}


def test_the_history_of_a_run_and_of_its_items(tmp_path: Path) -> None:
    path = write_run(tmp_path, "r1", a_run())
    with RunFile.open(path) as run:
        history = run_history(run)
        draft, review = history.tasks.values()
        items = list(item_histories(run, "review"))
    assert (draft.task, draft.done, draft.unfinished, draft.calls, draft.usd) == ("draft", 2, 0, 2, 0.5)
    assert (review.done, review.failed, review.unfinished, review.calls, review.pushed_back) == (1, 1, 1, 2, 1)
    assert (review.waited, review.first, review.last) == (2.0, 13.0, 16.0)
    assert [str(outcome.address) for outcome in history.failures] == ["review/b"]
    assert [item.address for item in items] == ["review/a", "review/b", "review/c"]
    assert [len(item.calls) for item in items] == [1, 1, 1]
    assert [end.result for end in items[0].calls[3].ends] == ["pushed_back", "ok"]
    assert items[2].outcome is None
    assert items[2].calls[5].ends == []
    request = items[2].calls[5].request
    assert request is not None
    assert request.messages[0].text == "about review/c"

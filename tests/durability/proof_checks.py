"""What must hold after a run was ended again and again, by the server's own log.

`id` is what tells a request apart (`proof_server.request_id`), for the server and in the run's file alike.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proof_graph import PRICES
from proof_server import request_id

from agentmesh.events import (
    CallEnded,
    CallIntent,
    Event,
    MatchEnded,
    RunEnded,
    RunResumed,
    StandingsChanged,
    TaskAdded,
    TaskEnded,
    TaskReopened,
    ToolEnded,
)
from agentmesh.journal import RunFile, RunSummary, list_runs

__all__ = ["Baseline", "charged_usd", "check_leg", "check_trial", "read_log"]

_CONTEST = "contest"
_CENT = 0.01


@dataclass(frozen=True)
class Baseline:
    """What an undisturbed run came to: values by address, requests other than the tournament's, and its counts."""

    values: Mapping[str, Any]
    asked: frozenset[str]
    states: Mapping[str, str]
    entrants: frozenset[str]
    matches: int
    usd: float

    @classmethod
    def read(cls, run: RunSummary, result: Mapping[str, Any]) -> Baseline:
        """From the file of the run, and what its process wrote down."""
        found = _Story.read(run.path)
        return cls(
            _comparable(found.values_of_done), frozenset(found.asked_by_tasks), found.states, found.entrants,
            len(found.matches), result["usd"],
        )  # fmt: skip


def _comparable(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values by address without the standings: who meets whom depends on whose verdict arrives first."""
    return {address: value for address, value in values.items() if address != _CONTEST}


class _Story:
    """A run's file, read once from its first event to its last."""

    def __init__(self) -> None:
        self.added: Counter[str] = Counter()
        self.states: dict[str, str] = {}
        self.ends: Counter[str] = Counter()
        self.values: dict[str, Any] = {}
        self.ids: dict[tuple[int, int], str] = {}
        self.address_of: dict[str, str] = {}
        self.intents: Counter[str] = Counter()
        self.open: Counter[tuple[int, int]] = Counter()
        self.answered: Counter[str] = Counter()
        self.uncertain: Counter[str] = Counter()
        self.answers_of: Counter[tuple[str, str]] = Counter()
        self.matches: dict[str, MatchEnded] = {}
        self.entrants: frozenset[str] = frozenset()
        self.tools: dict[str, int | None] = {}
        self.resumed: list[RunResumed] = []
        self.ended: RunEnded | None = None
        self.usd = 0.0

    @classmethod
    def read(cls, path: Path) -> _Story:
        story = cls()
        with RunFile.open(path) as run:
            for _, event in run.events():
                story._take(event)
            assert not run.unreadable, run.unreadable
        return story

    @property
    def values_of_done(self) -> dict[str, Any]:
        """What tasks have come to, by address."""
        return {address: value for address, value in self.values.items() if self.states.get(address) == "done"}

    @property
    def asked_by_tasks(self) -> set[str]:
        """The requests of tasks; those of the tournament are others each time."""
        return {one for one, address in self.address_of.items() if not address.startswith(_CONTEST)}

    def _take(self, event: Event) -> None:
        match event:
            case TaskAdded(task=task, key=key):
                self.added[f"{task}/{key}" if key else task] += 1
            case CallIntent(request=request, call=call, attempt=attempt, address=address):
                assert request is not None
                before = self.states.get(address, "cancelled")  # what was cut short has not finished
                assert before == "cancelled", f"{address} was {before}, and asks again"
                one = self.ids[call, attempt] = request_id(request.messages)
                self.address_of[one] = address
                self.intents[one] += 1
                self.open[call, attempt] += 1
            case CallEnded(call=call, attempt=attempt):
                one = self.ids[call, attempt]
                self.open[call, attempt] -= 1
                self.uncertain[one] += event.usage.uncertain
                self.usd += event.usd or 0.0
                if event.result == "ok":
                    self.answered[one] += 1
                    self.answers_of[event.address, one] += 1
            case TaskEnded(outcome=outcome):
                address = str(outcome.address)
                assert address not in self.states, f"{address} has two ends"
                self.states[address] = outcome.state
                self.values[address] = outcome.value
            case TaskReopened(address=address):
                del self.states[address]
            case MatchEnded(address=address):
                assert address not in self.matches, f"{address} was played twice"
                self.matches[address] = event
            case StandingsChanged(top=top):
                self.entrants |= {row.key for row in top}
            case ToolEnded(address=address):
                assert address not in self.tools, f"the tool's result at {address} was recorded twice"
                self.tools[address] = _pid(self.resumed[-1]) if self.resumed else None
            case RunResumed():
                self.resumed.append(event)
                self.ended = None
            case RunEnded():
                self.ended = event
            case _:
                pass


def _pid(resumed: RunResumed) -> int:
    return int(resumed.process.split()[1])


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of the server's log."""
    return [json.loads(line) for line in (folder / "server.log").read_text().splitlines()]


def charged_usd(log: Sequence[Mapping[str, Any]]) -> float:
    """What the server charged, in dollars, over all processes."""
    tokens = [(one["input"], one["output"]) for one in log if one["what"] == "answered"]
    return float(sum(PRICES[0] * given + PRICES[1] * made for given, made in tokens)) / 1e6


def check_leg(folder: Path, *, usd: float) -> None:
    """What holds whenever a process has ended: files that are intact, and a budget that is kept."""
    for path in (folder / "journal/runs").glob("*.db"):
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
    charged = charged_usd(read_log(folder))
    assert charged < usd + _CENT, f"charged {charged}, with a budget of {usd}"


def check_trial(folder: Path, baseline: Baseline, *, pids: Sequence[int], orderly: bool) -> dict[str, Any]:
    """All that must hold at the end. Returns the figures."""
    (run,) = [one for one in list_runs(folder / "journal") if one.name]
    story, log = _Story.read(run.path), read_log(folder)
    figures = _check_calls(story, log, baseline)
    _check_results(story, baseline, folder=folder)
    _check_summary(story, run)
    figures["tools"] = _check_tools(story, folder, pids=pids)
    if orderly:
        told = [event.uncertain for event in story.resumed]
        assert not any(told), f"a run that was told to end has left calls open: {told}"
    return figures


def _check_calls(story: _Story, log: Sequence[Mapping[str, Any]], baseline: Baseline) -> dict[str, Any]:
    """Nothing was asked that was not written down before, nothing twice that was not announced."""
    received = Counter(one["id"] for one in log if one["what"] == "received")
    paid = Counter(one["id"] for one in log if one["what"] == "answered")
    lost = baseline.asked - story.asked_by_tasks
    assert not lost, f"{len(lost)} questions of an undisturbed run were never asked"
    assert story.asked_by_tasks == baseline.asked, "others were asked than in an undisturbed run"
    assert not (unknown := set(received) - set(story.intents)), f"no intent is recorded: {unknown}"
    duplicates = 0
    for one, count in received.items():
        where = f"{one} at {story.address_of[one]}"
        assert count <= story.intents[one], f"{where}: {count} received, {story.intents[one]} intents"
        assert paid[one] >= story.answered[one], f"{where}: an answer that the server never gave"
        again = paid[one] - story.answered[one]
        assert again <= story.uncertain[one], f"{where}: {again} paid twice, {story.uncertain[one]} announced"
        duplicates += again
    twice = {address: count for (address, _), count in story.answers_of.items() if count > 1}
    assert not twice, f"answered more than once: {twice}"
    assert all(story.answered[one] == 1 for one in baseline.asked), "an item without its answer"
    assert not +story.open, "calls without an end"
    answers = sum(story.answers_of.values())
    assert sum(paid.values()) == answers + duplicates
    assert answers == len(baseline.asked) + sum(match.score is not None for match in story.matches.values())
    return {
        "paid": sum(paid.values()), "answers": answers, "duplicates": duplicates,
        "uncertain": sum(story.uncertain.values()),
    }  # fmt: skip


def _check_results(story: _Story, baseline: Baseline, *, folder: Path) -> None:
    """Each task entered the graph once, and ended once, with what it ends with when nobody disturbs it."""
    assert set(story.added) == set(baseline.states), set(story.added) ^ set(baseline.states)
    assert set(story.added.values()) == {1}, "a task was added twice"
    assert story.states == baseline.states
    values = story.values_of_done
    assert _comparable(values) == baseline.values
    assert story.entrants <= baseline.entrants | {row["key"] for row in values[_CONTEST]}
    assert len(story.matches) == baseline.matches, f"{len(story.matches)} matches, not {baseline.matches}"
    result = folder / "result.json"
    if result.exists():  # else the last process was killed when all was recorded
        held = json.loads(result.read_text())["values"]
        assert held == {address: values[address] for address in held}, "the process holds others than it recorded"


def _check_summary(story: _Story, run: RunSummary) -> None:
    """What `agentmesh runs` shows is what the events say."""
    assert story.ended is not None
    states = Counter(story.states.values())
    shown = {"done": run.done, "failed": run.failed, "skipped": run.skipped, "cancelled": run.cancelled}
    assert shown == {state: states[state] for state in shown}
    assert (run.status, run.added, run.resumes) == ("partial", len(story.added), len(story.resumed))
    assert run.uncertain == sum(story.uncertain.values())
    assert run.usd is not None
    assert abs(run.usd - story.usd) < 1e-9
    assert story.ended.usage.calls == run.calls


def _check_tools(story: _Story, folder: Path, *, pids: Sequence[int]) -> int:
    """Each tool did its work; no process did what an earlier one had recorded. Returns how often it was done."""
    order = {pid: place for place, pid in enumerate(pids)}
    done: dict[str, list[int]] = defaultdict(list)
    for line in (folder / "tools.txt").read_text().splitlines():
        address, pid = line.split()
        done[address].append(int(pid))
    assert set(done) == set(story.tools)
    for address, by in done.items():
        assert len(set(by)) == len(by), f"{address}: one process did it more than once"
        recorded = story.tools[address]
        last = order[recorded] if recorded is not None else order[_pid(story.resumed[0])] if story.resumed else 0
        assert max(order[pid] for pid in by) <= last, f"{address}: it was done again although its result was recorded"
    return sum(map(len, done.values()))

"""`pause`, `unpause`, `rate` and `cancel` on a run in another process, and what is no run to be told anything."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentmesh.app.cli import main
from agentmesh.journal.store import Store

Said = Callable[..., tuple[int, str, str]]

WORKFLOW = """\
agentmesh: 1
agents: {one: {}}
tasks:
  ask: {for_each: range(500), agent: one, model: sim/small, prompt: "{{ item }}"}
outputs: {ask: tasks.ask}
"""


class Running:
    """`agentmesh run` in a process of its own, which writes its events into a file."""

    def __init__(self) -> None:
        Path("w.yaml").write_text(WORKFLOW)
        command = [sys.executable, "-m", "agentmesh", "run", "w.yaml", "--display", "json", "-o", "out.json"]
        self._file = Path("events.jsonl").open("wb")  # noqa: SIM115 - the process goes on writing
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self._file)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in Path("events.jsonl").read_text().splitlines(keepends=True) if "\n" in line]

    def counts(self) -> Counter[str]:
        return Counter(event["kind"] for event in self.events())

    def wait(self, condition: Callable[[], bool]) -> None:
        ends = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < ends, self.counts()
            assert self.process.poll() is None, Path("events.jsonl").read_text()
            time.sleep(0.02)

    def end(self) -> int:
        try:
            return self.process.wait(timeout=20)
        finally:
            self.process.kill()
            self._file.close()


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """What a command says: its exit code, stdout and stderr."""

    def say(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        return code, *capsys.readouterr()

    return say


def test_a_run_in_another_process(said: Said) -> None:
    running = Running()
    try:
        running.wait(lambda: running.counts()["CallEnded"] >= 5)
        code, text, _ = said("pause", "last")
        assert (code, text.split()[2]) == (0, "paused;")
        assert json.loads(said("runs", "--json")[1])["runs"][0]["status"] == "paused"
        assert "agentmesh unpause" in said("show", "last")[1]
        assert "is paused in process" in said("resume", "last")[2]
        running.wait(lambda: running.counts()["CallEnded"] == running.counts()["CallIntent"])
        before = running.counts()["CallIntent"]
        assert before < 200
        code, _, error = said("rate", "last", "sim/small.requests_per_minute=60", "sim/medium.in_flight=1")
        assert code == 2
        assert "sim has no model called 'medium'" in error
        code, text, _ = said("rate", "last", "sim/small.requests_per_minute=60")
        assert (code, text.partition(": ")[2]) == (0, "sim/small.requests_per_minute is 60 now\n")
        assert running.counts()["CallIntent"] == before, "nothing was sent meanwhile"
        assert said("unpause", "last")[0] == 0
        assert json.loads(said("runs", "--json")[1])["runs"][0]["status"] == "running"
        running.wait(lambda: running.counts()["CallIntent"] > before)
        code, text, _ = said("cancel")
        assert code == 0
        assert "cancelled; calls in flight have 5 s" in text
    finally:
        code = running.end()
    assert code == 130
    written = json.loads(Path("out.json").read_text())
    assert written["status"] == "cancelled"
    assert written["reason"].startswith("cancelled by process ")
    done = sum(event.get("result") == "ok" for event in running.events())
    assert written["tasks"]["ask"] == {"done": done, "failed": 0, "skipped": 0, "cancelled": 0}
    assert before < running.counts()["CallIntent"] < before + 5
    assert written["unfinished"] == 500 - done, "what waited in the lane was not sent"
    limits = {limit["name"]: (limit["limit"], limit["source"]) for limit in written["lanes"]["sim"]["limits"]}
    assert limits["requests_per_minute"] == (60, "file")
    assert [path.suffix for path in Path(".agentmesh/runs").glob("0*")] == [".db"]
    code, text, error = said("cancel", "last")
    assert (code, text) == (2, "")
    assert "is not running" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pause",), "there are no runs in .agentmesh"),
        (("rate", "last", "sim.rpm=3"), "'rpm' is no limit (did you mean 'requests_per_minute'?)"),
        (("rate", "last", "sim.in_flight=0"), "must be a number above 0, not '0'"),
        (("rate", "last", "sim.in_flight=nan"), "must be a number above 0, not 'nan'"),
        (("rate", "last"), "Missing argument 'TARGET.LIMIT=N'"),
    ],
)
def test_what_cannot_be_said(said: Said, arguments: tuple[str, ...], message: str) -> None:
    code, text, error = said(*arguments)
    assert (code, text) == (2, "")
    assert message in error
    assert not Path(".agentmesh").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [("01aa", "run 01aa is not running"), ("01a", "'01a' fits 2 runs"), ("x", "there is no run 'x' in .agentmesh")],
)
def test_runs_that_cannot_be_told(said: Said, name: str, message: str) -> None:
    for identity in ("01aa", "01ab"):
        Store.create(Path(".agentmesh"), identity).close()
    code, text, error = said("unpause", name)
    assert (code, text) == (2, "")
    assert message in error
    assert "\n" not in error.strip(), "one message"

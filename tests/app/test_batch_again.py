"""A batch that is started again goes on with what an earlier process has left: nothing is lost, nothing asked twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from batch_provider import Command, read_rows

from agentmesh.app.batch import run as batch_run
from agentmesh.app.batch.command import resume_batch
from agentmesh.app.cli import main
from agentmesh.app.settings import Options
from agentmesh.errors import UserError
from agentmesh.events import CallEnded, CallIntent, RunResumed
from agentmesh.journal import RunFile, list_runs, short_id
from agentmesh.simulate.virtual import VirtualLoop

PROMPTS: list[dict[str, Any]] = [{"id": f"q{number}", "prompt": f"Question {number}?"} for number in range(12)]
LATE: dict[str, Any] = {"id": "late", "prompt": "?", "model": "acme/late"}


class Kept(Command):
    """The command with a journal in its folder."""

    def __call__(self, *options: object, model: str | None = "acme/fast", source: object = None) -> int:
        named = [] if model is None else ["--model", model]
        rest = ["-o", self.out, "--provider-file", self.providers, "--journal", self.journal, *named, *options]
        return main([str(one) for one in ("batch", source or self.lines, *rest)])

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    @property
    def answers(self) -> list[tuple[str, bool, str | None]]:
        return [(row["id"], row["ok"], row["reply"]) for row in self.rows]

    def calls(self, run: Path | None = None) -> Counter[str]:
        """How often each line was asked, in all runs or in one."""
        counted: Counter[str] = Counter()
        for path in [one.path for one in list_runs(self.journal)] if run is None else [run]:
            with RunFile.open(path) as file:
                counted.update(event.address for _, event in file.events(CallIntent) if isinstance(event, CallIntent))
        return counted


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """The command, on a virtual clock."""
    real = anyio.run

    def run(function: Callable[[], Any]) -> Any:
        return real(function, backend="asyncio", backend_options={"loop_factory": VirtualLoop})

    monkeypatch.setattr(anyio, "run", run)
    return Kept(tmp_path)


@pytest.fixture
def interrupted(batch: Kept, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """A batch of 13 lines that was cut short while the last one was in flight."""
    cut_after(monkeypatch, 1.0)
    batch.ask(*PROMPTS, LATE)
    assert batch() == 130
    assert len(read_rows(batch.out.with_name("out.jsonl.partial"))) == 12
    monkeypatch.undo()
    real = anyio.run
    options = {"loop_factory": VirtualLoop}
    monkeypatch.setattr(anyio, "run", partial(real, backend="asyncio", backend_options=options))
    return batch


def cut_after(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    start = batch_run._Asking.start

    async def and_cut(self: Any) -> None:
        await start(self)
        await anyio.sleep(seconds)
        self._run.cut()

    monkeypatch.setattr(batch_run._Asking, "start", and_cut)


def test_the_same_command_goes_on_and_says_so(interrupted: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = list_runs(interrupted.journal)
    capsys.readouterr()
    assert interrupted("--display", "plain") == 0
    told = capsys.readouterr().err
    assert f"going on with run {run.id[-4:]}: 12 tasks have ended" in told
    assert "line 13 done" in told
    assert "14 calls" in told  # of both processes: the last line was asked twice
    assert "1 may have been paid without an answer" in told
    assert [row["id"] for row in interrupted.rows] == [*(line["id"] for line in PROMPTS), "late"]
    assert all(row["ok"] for row in interrupted.rows)
    assert interrupted.calls() == {f"line/q{number}": 1 for number in range(12)} | {"line/late": 2}
    assert interrupted.files == {"out.jsonl"}
    assert len(list_runs(interrupted.journal)) == 1


def test_answers_are_those_of_an_undisturbed_batch(interrupted: Kept, tmp_path: Path) -> None:
    assert interrupted() == 0
    kept = interrupted.answers
    assert interrupted("--fresh", "--overwrite") == 0
    assert interrupted.answers == kept
    assert len(list_runs(interrupted.journal)) == 2


def test_fresh_begins_anew_and_takes_the_place_of_what_was_left(interrupted: Kept) -> None:
    (first,) = list_runs(interrupted.journal)
    assert interrupted("--fresh") == 0
    newest, old = list_runs(interrupted.journal)
    assert old.id == first.id
    assert (newest.done, newest.calls) == (13, 13)


def test_files_of_another_run_are_refused_by_its_name(interrupted: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = list_runs(interrupted.journal)
    name, left = short_id(run.id), interrupted.out.with_name("out.jsonl.partial")
    before = left.read_bytes()
    assert interrupted("--max-tokens", 5) == 2
    assert capsys.readouterr().err.strip() == (
        f"{left} has answers of run {name}, which is unfinished and of other lines or options: "
        f"`agentmesh resume {name}` goes on with it; --overwrite drops them"
    )
    assert left.read_bytes() == before
    assert interrupted() == 0
    assert interrupted("--max-tokens", 5) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == (
        f"{interrupted.out} has the answers of run {name} of other lines or options: name another file; "
        "--overwrite replaces it"
    )
    assert len(list_runs(interrupted.journal)) == 1


def test_failed_lines_are_asked_again(batch: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    down = {"id": "down", "prompt": "?", "model": "acme/down"}
    batch.ask(*PROMPTS, down)
    assert batch() == 1
    (run,) = list_runs(batch.journal)
    assert batch() == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told == (
        f"{batch.out} has the answers of run {short_id(run.id)}, which is finished, and 1 line failed: --failed asks "
        "these again; --overwrite replaces it"
    )
    provider = batch.providers / "acme.yaml"
    provider.write_text(provider.read_text().replace('down: {simulate: {failures: {"500": 1.0}}}', "down: {}"))
    assert batch("--failed") == 0
    assert batch.answers[-1][:2] == ("down", True)
    assert batch.calls() == {f"line/q{number}": 1 for number in range(12)} | {"line/down": 9}  # eight attempts before
    (run,) = list_runs(batch.journal)
    assert (run.status, run.done, run.failed, run.calls) == ("done", 13, 0, 21)
    assert batch("--failed") == 2
    assert "is finished, and none of them has failed" in capsys.readouterr().err


def test_asking_anew_what_has_failed_in_part_is_told(batch: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    batch.ask(*PROMPTS, {"id": "down", "prompt": "?", "model": "acme/down"})
    assert batch() == 1
    (run,) = list_runs(batch.journal)
    name, told = short_id(run.id), f"run {short_id(run.id)} asked the same and is finished, with 1 failure"
    capsys.readouterr()
    assert batch("--overwrite", "--display", "plain") == 1
    again = f"agentmesh resume {name} --journal {batch.journal} --failed"
    assert f"{told}; this one begins anew and asks everything again: `{again}` goes" in capsys.readouterr().err
    assert batch("--overwrite", "--fresh", "--display", "plain") == 1
    assert "asked the same" not in capsys.readouterr().err


def test_after_a_budget_the_rest_is_asked(batch: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    batch.ask(*PROMPTS)
    assert batch("--budget", "calls=5") == 3
    assert sum(row["ok"] for row in batch.rows) == 5
    (run,) = list_runs(batch.journal)
    options = Options(provider_file=(batch.providers,), journal=batch.journal, display="none")
    again = partial(resume_batch, run.path, failed=False, on_uncertain="resend", options=options)
    assert again(budget=None) == 3  # the budget that it was begun with
    assert sum(row["ok"] for row in batch.rows) == 5
    assert again(budget=["calls=12"]) == 0
    assert [row["ok"] for row in batch.rows] == [True] * 12
    assert set(batch.calls().values()) == {1}


def test_lines_that_have_changed_are_asked_and_others_are_not(
    interrupted: Kept, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = list_runs(interrupted.journal)
    changed = {"id": "q3", "prompt": "Another question?"}
    interrupted.ask(*PROMPTS[:3], changed, *PROMPTS[4:])
    options = Options(provider_file=(interrupted.providers,), journal=interrupted.journal, display="plain")
    assert resume_batch(run.path, failed=False, on_uncertain="resend", budget=None, options=options) == 0
    assert "has changed since this run began: lines that are the same are not asked" in capsys.readouterr().err
    assert [row["id"] for row in interrupted.rows] == [line["id"] for line in PROMPTS]
    assert interrupted.calls(run.path)["line/q3"] == 2
    assert interrupted.calls(run.path)["line/q4"] == 1


def test_standard_input_is_to_be_piped_again(
    batch: Kept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import io

    text = "".join(json.dumps(line) + "\n" for line in PROMPTS).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert batch("--budget", "calls=5", source="-") == 3
    told = next(line for line in capsys.readouterr().err.splitlines() if line.startswith(" next"))
    command = f"... | agentmesh batch - --model acme/fast --provider-file {batch.providers} -o {batch.out}"
    assert told.split(maxsplit=1)[1].startswith(f"{command} --journal {batch.journal} --budget calls=")
    (run,) = list_runs(batch.journal)
    options = Options(provider_file=(batch.providers,), journal=batch.journal, display="none")
    with pytest.raises(UserError, match="pipe the same lines again") as refused:
        resume_batch(run.path, failed=False, on_uncertain="resend", budget=None, options=options)
    assert f"as in `{command}`" in str(refused.value)
    assert main(["show", "last", "--journal", str(batch.journal)]) == 0
    assert f"`{command}`, with the same lines through the pipe, goes on with it" in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert batch("--budget", "calls=50", source="-") == 0
    assert set(batch.calls().values()) == {1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--failed"], "--failed: these lines have not been asked with these options yet"),
        (["--failed", "--fresh"], "--failed goes on with an earlier run: leave out --fresh"),
    ],
)
def test_what_cannot_be_gone_on_with_is_told(
    batch: Kept, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    batch.ask(*PROMPTS)
    assert batch(*options) == 2
    assert capsys.readouterr().err.startswith(message)
    assert batch.files == set()


class Process:
    """`agentmesh batch` as a process of its own, against replies slow enough for it to be killed in between."""

    def __init__(self, batch: Kept) -> None:
        provider = batch.providers / "acme.yaml"
        text = "models:\n  steady: {simulate: {latency: {first_token: 0.3}}, limits: {in_flight: 20}}"
        provider.write_text(provider.read_text().replace("models:", text))
        self.batch = batch
        self.partial = batch.out.with_name("out.jsonl.partial")
        self.running: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> subprocess.Popen[str]:
        batch = self.batch
        command = [
            sys.executable, "-m", "agentmesh", "batch", batch.lines, "-o", batch.out, "--model", "acme/steady",
            "--provider-file", batch.providers, "--journal", batch.journal, "--display", "plain", *options,
        ]  # fmt: skip
        self.running = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True, cwd=batch.folder)
        return self.running

    def kill_at(self, rows: int) -> None:
        """Start it, and kill it when so many answers have come."""
        process = self.start()
        deadline = time.monotonic() + 30
        while not (self.partial.exists() and self.partial.read_bytes().count(b"\n") >= rows):
            assert time.monotonic() < deadline, "no answers came"
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def end(self, *options: str) -> str:
        """Start it, and return what it said when it has ended well."""
        _, told = self.start(*options).communicate(timeout=60)
        assert self.running is not None
        assert self.running.returncode == 0, told
        return told


def test_killed_twice_nothing_is_lost_and_only_what_is_announced_is_asked_twice(batch: Kept) -> None:
    batch.ask(*({"id": number, "prompt": f"Question {number}?"} for number in range(240)))
    process = Process(batch)
    try:
        process.kill_at(60)
        process.kill_at(120)
        (run,) = list_runs(batch.journal)
        told = process.end()
        assert f"going on with run {run.id[-4:]}" in told
        answers, rows = batch.answers, batch.rows
        (run,) = list_runs(batch.journal)
        with RunFile.open(run.path) as file:
            ended = [event for _, event in file.events(CallEnded) if isinstance(event, CallEnded)]
            resumed = [event for _, event in file.events(RunResumed) if isinstance(event, RunResumed)]
        uncertain = [event.address for event in ended if event.uncertain]
        twice = {line for line, calls in batch.calls().items() if calls > 1}
        assert len(resumed) == 2
        assert 0 < len(uncertain) == sum(event.uncertain for event in resumed) <= 40
        assert twice <= set(uncertain)
        assert batch.calls().total() == 240 + len(uncertain) == run.calls
        assert f"{240 + len(uncertain)} calls" in told
        assert f"{len(uncertain)} may have been paid without an answer" in told
        assert sum(row["usage"]["calls"] for row in rows) <= run.calls
        assert batch.files == {"out.jsonl"}
        assert batch("--fresh", "--overwrite", model="acme/steady") == 0
        assert answers == batch.answers
    finally:
        if process.running is not None and process.running.poll() is None:
            os.kill(process.running.pid, signal.SIGKILL)
            process.running.communicate()


def test_what_was_in_flight_can_fail_instead(batch: Kept) -> None:
    batch.ask(*({"id": number, "prompt": f"Question {number}?"} for number in range(120)))
    process = Process(batch)
    process.kill_at(10)
    told = process.start("--on-uncertain", "ask").communicate(timeout=60)[1]
    assert process.running is not None
    assert process.running.returncode == 2
    assert "may have been paid without an answer, and nobody can be asked here: say --on-uncertain resend" in told
    assert len(read_rows(process.partial)) >= 10  # as it was
    told = process.start("--on-uncertain", "fail").communicate(timeout=60)[1]
    assert process.running.returncode == 1, told
    failed = [row for row in batch.rows if not row["ok"]]
    assert 0 < len(failed) <= 20
    assert {row["error"]["message"] for row in failed} == {
        "it was in flight when the last process ended, may have been paid, and is not sent again"
    }
    assert set(batch.calls().values()) == {1}

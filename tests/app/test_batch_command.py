"""`agentmesh batch`: answers in the order of the input, failures as errors, and what is refused beforehand."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from batch_provider import Command

from agentmesh.app.batch.lines import OUTPUT_KEYS
from agentmesh.journal import list_runs
from agentmesh.simulate.virtual import VirtualLoop

PROMPTS = [{"id": f"q{number}", "prompt": f"Question {number}?"} for number in range(12)]


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, on a virtual clock."""
    real = anyio.run

    def run(function: Callable[[], Any]) -> Any:
        return real(function, backend="asyncio", backend_options={"loop_factory": VirtualLoop})

    monkeypatch.setattr(anyio, "run", run)
    return Command(tmp_path)


def test_one_answer_for_each_line_in_their_order(batch: Command) -> None:
    slow_first: list[dict[str, Any]] = [{"id": "late", "prompt": "A", "model": "acme/late", "gold": {"x": 1}}, *PROMPTS]
    batch.ask(*slow_first)
    assert batch() == 0
    assert [row["id"] for row in batch.rows] == [line["id"] for line in slow_first]
    late = batch.rows[0]
    assert tuple(late) == (*OUTPUT_KEYS, "gold")
    assert (late["format"], late["ok"], late["error"], late["model"]) == (1, True, None, "acme/late")
    assert (late["finish"], late["attempts"], late["gold"]) == ("stop", 1, {"x": 1})
    assert late["seconds"] >= 3
    assert late["usd"] is None
    assert batch.rows[1]["usd"] > 0
    assert batch.rows[1]["usage"]["calls"] == 1
    assert "simulated reply of fast" in batch.rows[1]["reply"]
    assert batch.files == {"out.jsonl"}


def test_a_broken_line_is_an_error_with_its_number(batch: Command, capsys: pytest.CaptureFixture[str]) -> None:
    batch.ask({"id": "a", "prompt": "A"}, "", '{"id": "b", "prompt":', {"id": "c", "prompt": "C", "temperature": 9})
    assert batch() == 1
    good, broken, wrong = batch.rows
    assert good["ok"]
    assert (broken["id"], broken["ok"], broken["reply"], broken["attempts"]) == ("3", False, None, 0)
    assert broken["error"]["kind"] == "bad_request"
    assert broken["error"]["message"].startswith("line 3: this is not JSON: ")
    assert wrong["id"] == "c"
    assert wrong["error"]["message"] == "line 4: temperature must be a number from 0 to 2, not 9"
    assert "line 1 done, 2 failed" in capsys.readouterr().err


def test_equal_ids_are_told_apart_and_reported(batch: Command, capsys: pytest.CaptureFixture[str]) -> None:
    batch.ask({"id": 5, "prompt": "A"}, {"id": 5, "prompt": "B"}, {"prompt": "C"})
    assert batch() == 0
    assert [row["id"] for row in batch.rows] == [5, "5~2", "3"]
    assert "1 line has an id that an earlier line has already, and became 5~2 (line 2)" in capsys.readouterr().err


def test_what_a_line_says_wins_over_the_command(batch: Command) -> None:
    batch.ask({"prompt": "A", "max_tokens": 2}, {"prompt": "A"}, {"prompt": "A", "model": "acme/other"})
    assert batch("--max-tokens", 6, "--temperature", 0.5, "--system", "Be brief.") == 0
    own, common, other = batch.rows
    assert [row["usage"]["output_tokens"] for row in (own, common)] == [2, 6]
    assert (own["finish"], own["ok"]) == ("length", True)
    assert [row["model"] for row in (common, other)] == ["acme/fast", "acme/other"]
    assert own["usage"]["input_tokens"] > 1  # of the system message


def test_a_failure_is_an_error_and_never_a_reply(batch: Command) -> None:
    batch.ask({"id": "a", "prompt": "A", "model": "acme/down"}, {"id": "b", "prompt": "B"})
    assert batch() == 1
    failed, good = batch.rows
    assert (failed["ok"], failed["reply"], failed["finish"], failed["attempts"]) == (False, None, None, 8)
    assert (failed["error"]["kind"], failed["error"]["status"], failed["model"]) == ("server", 500, "acme/down")
    assert good["ok"]


def test_a_structured_reply_that_is_cut_off_is_an_error(batch: Command) -> None:
    schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    line = {"prompt": "A", "response_format": asked}
    batch.ask(line, {**line, "max_tokens": 1})
    assert batch() == 1
    whole, cut = batch.rows
    assert "text" in json.loads(whole["reply"])
    assert (cut["error"]["kind"], cut["reply"], cut["finish"]) == ("truncated", None, "length")


def test_standard_input(batch: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(json.dumps(line) + "\n" for line in PROMPTS)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert batch("--first", 5, source="-") == 0
    assert [row["id"] for row in batch.rows] == ["q0", "q1", "q2", "q3", "q4"]


def test_what_is_there_is_not_replaced(batch: Command, capsys: pytest.CaptureFixture[str]) -> None:
    batch.ask(*PROMPTS[:2])
    batch.out.write_text("mine")
    assert batch() == 2
    assert "is there already: name another file, or replace it with --overwrite" in capsys.readouterr().err
    assert (batch.out.read_text(), batch.files) == ("mine", {"out.jsonl"})
    assert batch("--overwrite") == 0
    assert len(batch.rows) == 2


def test_what_an_interrupted_batch_has_left_is_not_lost(batch: Command, capsys: pytest.CaptureFixture[str]) -> None:
    batch.ask(*PROMPTS[:2])
    left = batch.folder / "out.jsonl.partial"
    left.write_text("paid for")
    assert batch() == 2
    assert "has answers of a batch that was interrupted" in capsys.readouterr().err
    assert left.read_text() == "paid for"
    assert batch("--overwrite") == 0
    assert batch.files == {"out.jsonl"}


def test_the_input_is_never_the_output(batch: Command, capsys: pytest.CaptureFixture[str]) -> None:
    batch.ask(*PROMPTS[:1])
    before = batch.lines.read_text()
    assert batch("-o", batch.lines, "--overwrite") == 2
    assert "is the input itself" in capsys.readouterr().err
    assert batch.lines.read_text() == before


def test_a_budget_stops_and_the_rest_are_errors(batch: Command, capsys: pytest.CaptureFixture[str]) -> None:
    batch.ask(*PROMPTS)
    assert batch("--budget", "calls=5") == 3
    assert [row["ok"] for row in batch.rows].count(True) == 5
    left = next(row for row in batch.rows if not row["ok"])
    assert (left["error"]["kind"], left["reply"], left["attempts"]) == ("budget", None, 0)
    assert "the budget of 5 calls has 0 left" in left["error"]["message"]
    assert [row["id"] for row in batch.rows] == [line["id"] for line in PROMPTS]
    assert "7 tasks unfinished" in capsys.readouterr().err


def test_a_rate_that_is_set_holds(batch: Command) -> None:
    batch.ask(*PROMPTS)
    assert batch("--rate", "acme/fast.requests_per_minute=12") == 0
    assert max(row["seconds"] for row in batch.rows) > 50


def test_every_run_has_a_journal_unless_told(batch: Command) -> None:
    batch.ask(*PROMPTS[:2])
    assert batch() == 0
    assert not Path(".agentmesh").exists()
    from agentmesh.app.cli import main

    options = ["--model", "acme/fast", "--provider-file", str(batch.providers), "--journal", "kept", "--overwrite"]
    assert main(["batch", str(batch.lines), "-o", str(batch.out), *options]) == 0
    assert [(run.name, run.status, run.done) for run in list_runs(Path("kept"))] == [("batch", "done", 2)]


def test_displays_say_only_what_they_should(batch: Command, capsys: pytest.CaptureFixture[str]) -> None:
    batch.ask(*PROMPTS[:2])
    assert batch("--display", "none") == 0
    assert capsys.readouterr() == ("", "")
    assert batch("--display", "json", "--overwrite") == 0
    printed = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["kind"] for line in (printed[0], printed[-1])] == ["RunStarted", "RunEnded"]


@pytest.mark.parametrize(
    ("options", "model", "words"),
    [
        ([], None, "lines.jsonl:1: the line names no model (--model provider/model is for all lines"),
        ([], "locked/m", "--model locked/m: locked/m cannot be asked: LOCKED_API_KEY is not set"),
        ([], "acne/fast", "acne"),
        ([], "fast", "'fast' names no model: write provider/model"),
        (
            ["--budget", "usd=1"],
            "acme/slow",
            "the price of acme/slow is unknown, so a budget in dollars cannot be kept",
        ),
        (["--budget", "usds=1"], "acme/fast", "--budget usds=1: this is no budget (did you mean 'usd'?)"),
        (["--budget", "calls=-1"], "acme/fast", "--budget calls=-1: calls must be a number above 0"),
        (["--budget", "time=9"], "acme/fast", "--budget time=9: time must be written as 60s"),
        (["--rate", "acme.rpm=3"], "acme/fast", "'rpm' is no limit"),
        (["--max-tokens", "0"], "acme/fast", "--max-tokens"),
        (["--journal", "x"], "acme/fast", "journal"),
    ],
)
def test_bad_input_is_told_before_the_first_call(
    batch: Command, capsys: pytest.CaptureFixture[str], options: list[str], model: str | None, words: str
) -> None:
    batch.ask(*PROMPTS[:2])
    assert batch(*options, model=model) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert "Traceback" not in printed
    assert batch.files == set()


def test_every_model_of_the_lines_is_checked(batch: Command, capsys: pytest.CaptureFixture[str]) -> None:
    batch.ask({"prompt": "A"}, {"prompt": "B", "model": "locked/m"}, {"prompt": "C", "model": "nobody/m"})
    assert batch() == 2
    printed = capsys.readouterr().err.splitlines()
    assert "lines.jsonl:2: model: locked/m cannot be asked: LOCKED_API_KEY is not set" in printed[0]
    assert "lines.jsonl:3: model: " in printed[1]
    assert batch.files == set()


@pytest.mark.parametrize(
    ("source", "words"),
    [("missing.jsonl", "missing.jsonl cannot be read: No such file"), (os.devnull, "there is nothing to ask")],
)
def test_no_lines(batch: Command, capsys: pytest.CaptureFixture[str], source: str, words: str) -> None:
    assert batch(source=source) == 2
    assert words in capsys.readouterr().err
    assert batch.files == set()


def test_an_output_that_cannot_be_written(batch: Command, capsys: pytest.CaptureFixture[str]) -> None:
    batch.ask(*PROMPTS[:1])
    (batch.folder / "taken").write_text("a file")
    for target, words in ((batch.folder, "is a folder"), (batch.folder / "taken" / "out.jsonl", "cannot be written")):
        assert batch("-o", target) == 2
        assert words in capsys.readouterr().err
    from agentmesh.app.cli import main

    assert main(["batch", str(batch.lines), "--model", "sim/small"]) == 2
    assert "say where the answers go: -o OUT.jsonl" in capsys.readouterr().err

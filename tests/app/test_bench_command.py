"""`agentmesh bench asynchow` on recorded replies, and on models that are asked."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentmesh.app import asking
from agentmesh.app.bench import app
from agentmesh.app.cli import main
from agentmesh.errors import UserError
from agentmesh.mesh.mesh import Mesh
from agentmesh.simulate.behaviour import Served, ServedModel
from agentmesh.simulate.provider import SimulatedProvider
from agentmesh.simulate.replay import RecordedReplies, load_recordings
from agentmesh.simulate.transport import InProcessTransport

QUESTION = "To water a fern:\nStep 1. Fill the can. ({})\nStep 2. Pour. (1 min)\n\nStep 1 first. How soon is it done?"


def recorded(model: str, minutes: int, answer: int | None) -> dict[str, Any]:
    asked, gold = QUESTION.format(f"{minutes} min"), 60 * minutes + 60
    return {
        "model": model, "question": asked, "messages": [{"role": "user", "content": asked}],
        "reply": None if answer is None else json.dumps({"final_answer_seconds": answer}),
        "gold_seconds": gold, "published_correct": answer == gold,
    }  # fmt: skip


@pytest.fixture
def replies(tmp_path: Path) -> Path:
    rows = [
        recorded("acme-mini", 1, 120), recorded("acme-mini", 2, 180), recorded("acme-mini", 3, 200),
        recorded("[red]lab\x1b[2J", 1, None), recorded("[red]lab\x1b[2J", 2, 180),
        {"dataset": "robo", "method": "planner"},
    ]  # fmt: skip
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def run(*arguments: object) -> tuple[str, str]:
    found = CliRunner().invoke(app, ["asynchow", *map(str, arguments)], catch_exceptions=False)
    assert found.exit_code == 0
    return found.stdout, found.stderr


def cells(table: str, name: str) -> str:
    return next(" ".join(line.split()) for line in table.splitlines() if line.strip().startswith(name))


def test_the_table(replies: Path) -> None:
    table, remarks = run("--replies", replies)
    assert cells(table, "AsyncHow") == "AsyncHow acme-mini [red]lab[2J"
    assert cells(table, "right") == "right 2 of 3 1 of 2"
    assert cells(table, "score") == "score 66.7 % 50.0 %"
    assert cells(table, "no reply") == "no reply 0 1"
    assert cells(table, "agrees") == "agrees with published 3 of 3 2 of 2"
    assert remarks == "left out 1 row of other data sets and methods: 1 robo planner\n"


def test_json_and_rows(replies: Path, tmp_path: Path) -> None:
    out = tmp_path / "scored.jsonl"
    printed, remarks = run("--replies", replies, "--first", 2, "--json", "-o", out)
    found = json.loads(printed)
    assert (found["format"], found["benchmark"], found["method"]) == (1, "asynchow", "planner")
    assert [(score["equal"]["right"], score["equal"]["items"]) for score in found["scores"]] == [(2, 2), (1, 2)]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["format"], row["correct"], row["reason"], row["agrees"]) for row in rows] == [
        (1, True, "right", True), (1, True, "right", True), (1, False, "no reply", True), (1, True, "right", True),
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == [replies.name, out.name]
    assert "4 rows in " in remarks


def test_nothing_to_score(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"dataset": "robo", "method": "planner"}\n')
    with pytest.raises(UserError, match="nothing to score: left out 1 row"):
        run("--replies", file)


def test_an_output_that_cannot_be_written(replies: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written: No such file"):
        run("--replies", replies, "-o", tmp_path / "no" / "out.jsonl")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        run("--replies", replies, "-o", tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", replies.name]


@pytest.fixture
def lab(replies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A provider that answers what is recorded, and the options that lead there."""
    rows = [row for row in map(json.loads, replies.read_text().splitlines()) if row.get("model") == "acme-mini"]
    some = tmp_path / "some.jsonl"
    some.write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))
    provider = SimulatedProvider(Served({"*": ServedModel("*")}), RecordedReplies(load_recordings([some])))
    monkeypatch.setattr(asking, "Mesh", partial(Mesh, http=InProcessTransport(provider)))
    file = tmp_path / "lab.yaml"
    file.write_text('{provider: lab, dialect: openai-chat, base_url: "https://lab.example", models: {acme-mini: {}}}')
    return ["--prompts", replies, "--provider-file", file, "--model", "lab/acme-mini", "--no-journal"]


def test_models_are_asked_what_was_recorded(lab: list[object], tmp_path: Path) -> None:
    out = tmp_path / "scored.jsonl"
    table, told = run(*lab, "--first", 2, "--display", "plain", "-o", out)
    assert cells(table, "AsyncHow") == "AsyncHow lab/acme-mini"
    assert cells(table, "right") == "right 2 of 2"
    assert cells(table, "agrees") == "agrees with published 2 of 2"
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["model"], row["attempts"], row["usage"]["calls"], row["usd"]) for row in rows] == [
        ("lab/acme-mini", 1, 1, None)
    ] * 2
    assert "acme_mini ended: 2/2" in told
    assert " tasks      acme_mini 2 done" in told
    assert " limits     lab: no limit held calls back" in told


def test_calls_that_failed_are_rows_with_an_error_and_exit_code_1(
    lab: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scored.jsonl"
    assert main(["bench", "asynchow", *map(str, lab), "--display", "none", "--json", "-o", str(out)]) == 1
    printed = json.loads(capsys.readouterr().out)
    (score,) = printed["scores"]
    assert (score["equal"]["right"], score["equal"]["items"], score["errors"]) == (2, 3, 1)
    assert (printed["run"]["status"], printed["run"]["tasks"]) == ("partial", {"acme_mini": {"done": 2, "failed": 1}})
    assert list(printed["run"]["lanes"]) == ["lab"]
    assert json.loads(out.read_text().splitlines()[2])["error"]["status"] == 404


def test_recorded_replies_stand_beside_the_answers_of_now(lab: list[object], replies: Path) -> None:
    table, _ = run(*lab, "--replies", replies, "--first", 2, "--display", "none")
    assert cells(table, "AsyncHow") == "AsyncHow acme-mini [red]lab[2J lab/acme-mini"
    assert cells(table, "right") == "right 2 of 2 1 of 2 2 of 2"


def test_limits_can_be_set_from_outside(lab: list[object]) -> None:
    printed, _ = run(*lab, "--first", 2, "--display", "none", "--json", "--rate", "lab.requests_per_minute=120")
    (limit, _) = json.loads(printed)["run"]["lanes"]["lab"]["limits"]
    assert (limit["name"], limit["limit"]) == ("requests_per_minute", 120)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to score: name a model"),
        (["--model", "sim/small"], "nothing to ask: name the data set"),
        (["--model", "nobody/x", "--prompts", "rows"], "nobody"),
        (["--model", "openai/gpt-5-mini", "--prompts", "rows"], "openai/gpt-5-mini cannot be asked: OPENAI_API_KEY is"),
        (["--model", "sim/small", "--prompts", "rows", "-o", "no/out.jsonl"], "no/out.jsonl: cannot be written"),
        (["--model", "sim/small", "--prompts", "rows", "--rate", "sim=3"], "TARGET.requests_per_minute=300"),
    ],
)
def test_what_cannot_be_asked_is_said_before_the_first_call(
    replies: Path, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "Mesh", None)
    arguments = [str(replies) if word == "rows" else word for word in arguments]
    with pytest.raises(UserError, match=re.escape(said)):
        run(*arguments)

"""`agentmesh bench asynchow` on recorded replies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentmesh.app.bench import app
from agentmesh.errors import UserError

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

"""Which cases there are to ask, and the report on the answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asynchow_samples import row, write_pickle, write_rows

from agentmesh.errors import ErrorInfo, UserError
from agentmesh.messages import Message
from agentmesh.science.planning.ask import task_names
from agentmesh.science.planning.asynchow import Item, load_items
from agentmesh.science.planning.bench import Answer, Case, plan_asynchow, recorded_answers, report, score_answer
from agentmesh.science.planning.prompts import planner_messages
from agentmesh.science.planning.recordings import Recorded, read_recordings


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    return load_items(write_pickle(tmp_path / "async_benchmark.pkl"))


def recorded(folder: Path, *rows: dict[str, Any]) -> tuple[Recorded, ...]:
    return read_recordings([write_rows(folder / "recorded.jsonl", rows)]).rows


def test_cases_of_items_are_in_our_own_wording(items: list[Item]) -> None:
    cases = plan_asynchow(items=items, first=2)
    assert [case.id for case in cases] == ["async-0", "async-1"]
    assert [case.messages for case in cases] == [planner_messages(item) for item in items[:2]]
    assert [(case.gold_seconds, case.gold) for case in cases] == [(item.gold.low, item.gold) for item in items[:2]]


def test_cases_of_recorded_prompts_are_sent_as_they_are(tmp_path: Path, items: list[Item]) -> None:
    rows = recorded(
        tmp_path, row(items[0], seconds=900), row(items[1], seconds=1), row(items[0], model="other", seconds=5)
    )
    cases = plan_asynchow(items=items, prompts=rows)
    assert [case.id for case in cases] == ["async-0", "async-1"]
    assert [case.messages for case in cases] == [rows[0].messages, rows[1].messages]
    assert cases[0].published == {"acme-mini": True, "other": False}
    assert cases[0].published_correct("server/other") is False
    assert cases[0].published_correct("third") is None


def test_without_the_data_an_id_is_the_hash_of_the_question(tmp_path: Path, items: list[Item]) -> None:
    rows = recorded(tmp_path, row(items[0]), row(items[0], messages=[{"role": "user", "content": "Again."}]))
    first, second = plan_asynchow(prompts=rows)
    assert (len(first.id), second.id) == (8, f"{first.id}~2")
    assert (first.gold, first.gold_seconds) == (None, 900)
    assert second.messages == (Message("user", "Again."),)


def test_a_row_without_any_gold(tmp_path: Path, items: list[Item]) -> None:
    rows = recorded(tmp_path, row(items[0]), row(items[1], gold_seconds=None))
    with pytest.raises(UserError, match=r"recorded\.jsonl:2: has no gold_seconds"):
        plan_asynchow(prompts=rows)
    assert plan_asynchow(prompts=rows, items=items)[1].gold_seconds == items[1].gold.low


def test_first_takes_cases_with_all_their_models(tmp_path: Path, items: list[Item]) -> None:
    rows = recorded(tmp_path, *(row(item, model=model) for model in ("a", "b") for item in items))
    kept = recorded_answers(rows, items=items, first=2)
    assert [(answer.case.id, answer.model) for answer in kept] == [
        ("async-0", "a"), ("async-1", "a"), ("async-0", "b"), ("async-1", "b"),
    ]  # fmt: skip


def test_a_row_of_the_output(items: list[Item]) -> None:
    case = Case("async-1", (), items[1].gold.low, items[1].gold, items[1], {"m": False})
    reply = json.dumps({"final_answer_seconds": 30 * 86_400})
    assert score_answer(Answer(case, "m", reply, finish="stop")).as_json() == {
        "format": 1, "id": "async-1", "model": "m", "method": "planner", "reply": reply, "value": 30 * 86_400,
        "correct": False, "correct_interval": True, "gold_seconds": 28 * 86_400, "reason": "wrong", "finish": "stop",
        "error": None, "published_correct": False, "agrees": True, "ve_count": items[1].ve_count,
        "attempts": None, "seconds": None, "usage": None, "usd": None,
    }  # fmt: skip


def test_an_answer_with_an_error_is_no_reply(items: list[Item]) -> None:
    answer = Answer(Case("x", (), 900), "m", None, ErrorInfo("timeout", "no answer in 60 s", retryable=True))
    scored = score_answer(answer).as_json()
    assert (scored["reason"], scored["correct"], scored["correct_interval"]) == ("no reply", False, None)
    assert scored["error"] == {"kind": "timeout", "message": "no answer in 60 s", "status": None, "retryable": True}
    assert (scored["published_correct"], scored["agrees"]) == (None, None)
    assert report([answer]).scores[0].errors == 1


def test_the_report_counts_by_model_and_reason(tmp_path: Path, items: list[Item]) -> None:
    rows = recorded(
        tmp_path,
        row(items[0], seconds=900),
        row(items[1], seconds=30 * 86_400),
        row(items[2], reply="I would rather not.", seconds=None),
        row(items[0], model="b", seconds=None),
        row(items[1], model="b", seconds=5, published_correct=True),
        row(items[2], model="b", seconds=25_200, published_correct=None),
    )
    found = report(recorded_answers(rows, items=[*items[:2], replace(items[2], ve_count=61)]))
    a, b = found.scores
    assert (a.model, a.equal.items, a.equal.right, a.interval.right) == ("acme-mini", 3, 1, 2)
    assert a.reasons == {"right": 1, "wrong": 1, "no reply": 0, "unreadable": 1}
    assert b.reasons == {"right": 1, "wrong": 1, "no reply": 1, "unreadable": 0}
    assert (a.published, a.agrees, b.published, b.agrees) == (3, 3, 2, 1)
    assert {name: (counted.items, counted.right) for name, counted in a.by_complexity.items()} == {
        "10 to 14": (2, 1), "35 and more": (1, 0),
    }  # fmt: skip
    assert found.notes == (
        "stored gold that does not follow from the texts: async-2 (1 of 3 items)",
        "another verdict than the published one: async-1 of b (1 of 6 rows)",
    )


def test_without_the_data_nothing_is_said_of_intervals_and_complexity(tmp_path: Path, items: list[Item]) -> None:
    (score,) = report(recorded_answers(recorded(tmp_path, row(items[0], seconds=900)))).scores
    assert (score.equal.right, score.interval.items, dict(score.by_complexity)) == (1, 0, {})


def test_names_of_tasks() -> None:
    models = ["acme/gpt-5-mini", "hub/lab/Qwen3.6", "a/x", "b/x", "a/7b", "b:y-z", "b/Y_Z"]
    assert list(task_names(models).values()) == ["gpt_5_mini", "qwen3_6", "a_x", "b_x", "model_7b", "b_y_z", "b_y_z_2"]

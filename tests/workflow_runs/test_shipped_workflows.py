"""The workflows that are shipped: each is sound, runs with no key to its end, and its outputs make sense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentmesh.app.cli import main
from agentmesh.workflow.load import shipped_workflows

SMALL = {
    "compare": ["--input", "tries=1"],
    "hypotheses": ["--input", "ideas=4"],
    "screening": [],
    "summarise": [],
}


def test_all_of_them_are_tried_here() -> None:
    assert set(shipped_workflows()) == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_each_is_sound(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", name]) == 0
    assert f"{name} is sound" in capsys.readouterr().out


@pytest.fixture
def ran(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What a workflow, run with little to do, wrote."""
    name = request.param
    assert main(["run", name, *SMALL[name], "-o", "out.json", "--no-journal"]) == 0
    written: dict[str, Any] = json.loads(Path("out.json").read_text())
    assert json.loads(capsys.readouterr().out) == written["outputs"]
    assert (written["status"], written["failures"], written["unfinished"]) == ("done", [], 0)
    return written


@pytest.mark.parametrize("ran", ["hypotheses"], indirect=True)
def test_hypotheses_proposes_reviews_ranks_and_reports(ran: dict[str, Any]) -> None:
    best = ran["outputs"]["best"]
    assert [row["rank"] for row in best] == [1, 2, 3]
    assert best[0]["rating"] >= best[1]["rating"] >= best[2]["rating"]
    assert set(best[0]["item"]) == {"title", "claim", "test"}
    assert {name: counts["done"] for name, counts in ran["tasks"].items()} == {
        "draft": 4, "review": 4, "contest": 1, "report": 1,
    }  # fmt: skip
    assert Path("report.md").read_text() == ran["outputs"]["report"]


@pytest.mark.parametrize("ran", ["screening"], indirect=True)
def test_screening_decides_on_every_paper(ran: dict[str, Any]) -> None:
    papers = ran["outputs"]["papers"]
    assert [paper["id"] for paper in papers] == ["p1", "p2", "p3", "p4", "p5", "p6"]
    assert ran["outputs"]["included"] == [paper["id"] for paper in papers if paper["include"]]
    disputed = ran["outputs"]["disputed"]
    assert disputed == sum(paper["disputed"] for paper in papers)
    assert ran["tasks"]["decide"] == {"done": disputed, "failed": 0, "skipped": 6 - disputed, "cancelled": 0}
    assert all(paper["reason"] for paper in papers)


@pytest.mark.parametrize("ran", ["compare"], indirect=True)
def test_compare_gives_every_model_a_score(ran: dict[str, Any]) -> None:
    scores = ran["outputs"]["scores"]
    assert {score["model"] for score in scores} == {"sim/small", "sim/large"}
    assert all(score["graded"] == 4 for score in scores)
    assert scores[0]["points"] >= scores[1]["points"]
    assert len(ran["outputs"]["answers"]) == 8
    assert {answer["question"] for answer in ran["outputs"]["answers"]} == {"days", "order", "legs", "capital"}
    assert {answer["answer"].split(".")[0][-5:] for answer in ran["outputs"]["answers"]} == {"small", "large"}


@pytest.mark.parametrize("ran", ["summarise"], indirect=True)
def test_summarise_checks_every_claim(ran: dict[str, Any]) -> None:
    claims = ran["outputs"]["claims"]
    assert len(claims) == ran["tasks"]["check"]["done"] > 0
    assert all(isinstance(claim["supported"], bool) and claim["claim"] for claim in claims)
    assert Path("article.md").read_text() == ran["outputs"]["article"]

"""What a judge is shown, and how its answer becomes a score."""

from __future__ import annotations

from typing import Literal

import pydantic
import pytest

from agentmesh.messages import read_candidate_pair
from agentmesh.ranking import Verdict, judge_prompt, score_of


def test_a_judge_sees_the_criteria_and_the_two_texts_as_they_are() -> None:
    prompt = judge_prompt("novelty, {rigour}", "Persisters\nsleep {{ x }}.", "Biofilms remember.")
    assert read_candidate_pair(prompt) == ("Persisters\nsleep {{ x }}.", "Biofilms remember.")
    assert "novelty, {rigour}" in prompt


def test_without_criteria_quality_decides() -> None:
    assert "overall quality" in judge_prompt("  ", "a", "b")


def test_the_reasons_come_before_the_winner() -> None:
    assert list(Verdict.model_json_schema()["properties"]) == ["reasons", "winner"]


@pytest.mark.parametrize(("winner", "score"), [("first", 1.0), ("tie", 0.5), ("second", 0.0)])
def test_the_score_is_that_of_the_first(winner: Literal["first", "second", "tie"], score: float) -> None:
    assert score_of(Verdict(reasons="", winner=winner)) == score


def test_any_other_winner_is_no_verdict() -> None:
    with pytest.raises(pydantic.ValidationError):
        Verdict.model_validate({"reasons": "both", "winner": "First"})

"""The scoring of a user's own workflow: a plain function, beside the file that names it."""

from __future__ import annotations

from typing import Any

from agentmesh.science.planning.scoring import score_equal


def score(reply: str, gold_seconds: float, published: dict[str, bool], model: str) -> dict[str, Any]:
    """Whether a reply is right, and whether that is what was published."""
    correct = score_equal(reply, gold_seconds).correct
    return {"model": model, "correct": correct, "agrees": correct == published[model]}

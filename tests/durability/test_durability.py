"""Real processes that are ended at any instant: the run that they share loses nothing, and pays nothing unannounced."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite("proof_checks", "proof_trial")

from proof_trial import Plan, carry_out  # noqa: E402 - what fails there says why

_CALLS = 240  # 2,000 by hand: `python -m tests.durability --seeds 500`


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(Plan(11, _CALLS, most_ends=3), id="killed"),
        pytest.param(Plan(12, _CALLS, ("term", "int"), most_ends=2), id="told to end"),
        pytest.param(Plan(13, _CALLS, ("kill", "term"), most_ends=2, usd_share=0.4), id="out of budget"),
    ],
)
def test_a_run_that_is_ended_again_and_again(tmp_path: Path, plan: Plan) -> None:
    trial = carry_out(plan, tmp_path)
    assert len(trial.ended) > 1
    assert trial.figures["answers"] > _CALLS * 0.9

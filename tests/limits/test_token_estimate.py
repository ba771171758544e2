"""An estimate of tokens goes on where an earlier one stopped."""

from __future__ import annotations

import pytest

from agentmesh.limits.estimate import EstimateState, TokenEstimate


def test_an_estimate_that_is_restored_goes_on_as_the_old_one_would() -> None:
    old = TokenEstimate()
    for number in range(30):
        old.observe("critic", 370, estimated=100, input_tokens=100, output_tokens=90 + number)
    new = TokenEstimate.restore(old.state())
    assert new.state() == old.state()
    for one in (old, new):
        one.observe("judge", 400, estimated=100, input_tokens=100, output_tokens=10)
    assert (new.input(5000), new.output("judge", None), new.output("other", None), new.variance(0)) == (
        old.input(5000), old.output("judge", None), old.output("other", None), old.variance(0)
    )  # fmt: skip
    assert old.state().outputs["judge"] == 10


def test_a_state_is_a_copy() -> None:
    estimate = TokenEstimate()
    before = estimate.state()
    estimate.observe("critic", 370, estimated=100, input_tokens=100, output_tokens=90)
    assert before == EstimateState(4.0, {}, 0.0, 0, spread=0.05 * 0.05)


@pytest.mark.parametrize(
    ("ratio", "outputs", "variance", "seen"),
    [(0.0, {}, 0.0, 0), (4.0, {"critic": -1.0}, 0.0, 0), (4.0, {}, -1.0, 0), (4.0, {}, 0.0, -1),
     (float("nan"), {}, 0.0, 0)],
)  # fmt: skip
def test_figures_that_nothing_can_have_taught_are_refused(
    ratio: float, outputs: dict[str, float], variance: float, seen: int
) -> None:
    with pytest.raises(ValueError, match="numbers above 0"):
        EstimateState(ratio, outputs, variance, seen)

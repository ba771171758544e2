"""What others use of a limit is learned from figures, and not believed for ever when no more figures come."""

from __future__ import annotations

import pytest

from agentmesh.limits.gauge import Gauge
from agentmesh.rates import Limit, Shape


@pytest.mark.parametrize(("shape", "window"), [("sliding", 60.0), ("fixed", 60.0), ("sliding", 5.0)])
def test_a_limit_that_others_have_used_up_at_once_is_tried_again(shape: Shape, window: float) -> None:
    """Who sends nothing hears nothing: calls go again, though no figure says that the others have ended."""
    gauge = Gauge(Limit("requests", 60, window, shape=shape), "acme", 0.0)
    holds = [gauge.take(1, 0.0) for _ in range(11)]
    gauge.hear(holds[0], 0.02, remaining=0, within=0, since=0.0)
    for _ in holds:
        gauge.release(1, 0.03, since=0.0)
    waits = [gauge.wait(1, float(second), guard=0.05, doubt=0) for second in range(1, 64)]
    assert waits[0] > 0
    assert waits[-1] == 0

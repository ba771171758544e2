"""What a lane tells of itself: frozen values for the screen, the output file and `repr`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["EndpointStatistics", "LaneStatistics", "LimitStatistics"]


@dataclass(frozen=True, slots=True)
class LimitStatistics:
    """One limit: `scope` is the account, a pool or a model; `recent` is the share of it used over the last 10 s
    (of a window, the share used now).

    `used` is the total in its unit; `use` is the share of what it allowed (burst included) from the lane's first
    admission until it last had work waiting; `bound_s` for how many seconds it was what held the next call back.
    """

    name: str
    scope: str
    limit: float
    used: float
    recent: float
    use: float
    bound_s: float


@dataclass(frozen=True, slots=True)
class EndpointStatistics:
    """One model of the account. `next_s`: seconds to its next possible admission, None where nothing waits."""

    model: str
    in_flight: int
    waiting: int
    next_s: float | None
    pushed_back: int
    frozen_s: float | None
    admitted: int


@dataclass(frozen=True, slots=True)
class LaneStatistics:
    """One account. `bounded_by` names the limit that held calls back longest, None if none ever did."""

    account: str
    in_flight: int
    peak_in_flight: int
    waiting: int
    admitted: int
    pushed_back: int
    frozen_s: float | None
    limits: tuple[LimitStatistics, ...]
    endpoints: tuple[EndpointStatistics, ...]
    bounded_by: str | None
    bounded_share: float
    simulated: bool = False

    @classmethod
    def of(
        cls, account: str, *, limits: Sequence[LimitStatistics], endpoints: Sequence[EndpointStatistics],
        peak_in_flight: int,
    ) -> LaneStatistics:  # fmt: skip
        """The account, from its limits and its models."""
        binding = max(limits, key=lambda one: one.bound_s, default=None)
        bound = sum(one.bound_s for one in limits)
        return cls(
            account=account,
            in_flight=sum(one.in_flight for one in endpoints),
            peak_in_flight=peak_in_flight,
            waiting=sum(one.waiting for one in endpoints),
            admitted=sum(one.admitted for one in endpoints),
            pushed_back=sum(one.pushed_back for one in endpoints),
            frozen_s=max((one.frozen_s for one in endpoints if one.frozen_s is not None), default=None),
            limits=tuple(limits),
            endpoints=tuple(endpoints),
            bounded_by=f"{binding.scope} {binding.name}" if binding and binding.bound_s > 0 else None,
            bounded_share=binding.bound_s / bound if binding and bound > 0 else 0.0,
        )

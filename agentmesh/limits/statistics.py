"""What a lane tells of itself: frozen values for the screen, the output file and `repr`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Bound", "EndpointStatistics", "LaneStatistics", "LimitStatistics", "SmallerMaxTokens", "Source"]

Source = Literal["file", "told", "learned", "own"]
"""Who says so: the provider's file (or `--rate`), its answers, refusals from which we learned, or we ourselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitStatistics:
    """One limit: `scope` is the account, a pool or a model; `recent` is the share of it used over the last 10 s
    (of a window, and of calls in flight, the share used now).

    `used` is the total in its unit (of calls in flight, how many are now); `use` is the share of what it allowed (burst
    included) from the lane's first admission until it last had work waiting, None for a learned figure, which moves;
    `bound_s` for how many seconds it was what held the next call back, and `binds` whether it is now.
    """

    name: str
    scope: str
    limit: float
    source: Source = "file"
    used: float
    recent: float
    use: float | None
    bound_s: float = 0.0
    binds: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallerMaxTokens:
    """What a smaller `max_tokens` would gain where a limit (`name` of `scope`) counts all of it and gives nothing back.

    Of calls of one kind (a task's name; empty where there is but one), so many with this `max_tokens`: `longest` is the
    longest reply in tokens, `enough` what would have been enough for it with a fifth to spare. With that, the lane's
    activity could have been over up to `times_as_fast`, as far as its other limits allow.
    """

    name: str
    scope: str
    kind: str
    calls: int
    max_tokens: int
    longest: int
    enough: int
    times_as_fast: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointStatistics:
    """One model of the account.

    `next_s`: seconds to its next possible admission, None where nothing waits, or where it goes when another one ends.
    `thaws_s`: seconds until a freeze is over, None where there is none; `frozen_s`: for how long calls were frozen in
    all. `admitted` counts those that were pushed back, too.
    """

    model: str
    in_flight: int = 0
    peak_in_flight: int = 0
    waiting: int = 0
    next_s: float | None = None
    pushed_back: int = 0
    thaws_s: float | None = None
    frozen_s: float = 0.0
    admitted: int = 0
    smaller_max_tokens: SmallerMaxTokens | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What calls were held back by, or waited for: `by` is the name of a limit of `scope`, else

    - `push_backs`: a freeze, and the careful start after it;
    - `latency`: nothing. Calls were in flight and none waited: the endpoint took its time to answer.

    `share` is of the seconds in which calls waited in the lane or were in flight. Several limits may hold a call back
    at a time, so shares may add up to more than 1.
    """

    by: str
    scope: str
    source: Source | None
    seconds: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneStatistics:
    """One account.

    `active_s` are the seconds in which calls waited here or were in flight, and `frozen_s` those of them in which calls
    of any model were frozen. `bounds` is what the lane spent them on, longest first; `bounded_by` is the first of them
    that held calls back (`scope name` of a limit, or `push_backs`), None if nothing ever did, and `bounded_share` for
    what share of the active seconds it did.
    """

    account: str
    in_flight: int = 0
    peak_in_flight: int = 0
    waiting: int = 0
    admitted: int = 0
    pushed_back: int = 0
    thaws_s: float | None = None
    frozen_s: float = 0.0
    active_s: float = 0.0
    limits: tuple[LimitStatistics, ...] = ()
    endpoints: tuple[EndpointStatistics, ...] = ()
    bounded_by: str | None = None
    bounded_share: float = 0.0
    bounds: tuple[Bound, ...] = ()
    simulated: bool = False

    @classmethod
    def of(
        cls, account: str, *, limits: Sequence[LimitStatistics], endpoints: Sequence[EndpointStatistics],
        peak_in_flight: int, active_s: float, frozen_s: float, push_backs_s: float, latency_s: float,
    ) -> LaneStatistics:  # fmt: skip
        """The account, from its limits and its models. `push_backs_s` includes the careful start after a freeze."""
        spent: list[tuple[str, str, Source | None, float]] = [
            (one.name, one.scope, one.source, one.bound_s) for one in limits
        ]
        spent += [("push_backs", account, None, push_backs_s), ("latency", account, None, latency_s)]
        bounds = sorted(
            (
                Bound(by=by, scope=scope, source=source, seconds=seconds, share=min(1.0, seconds / active_s))
                for by, scope, source, seconds in spent
                if seconds > 0 and active_s > 0
            ),
            key=lambda one: -one.seconds,
        )
        first = next((one for one in bounds if one.by != "latency"), None)
        return cls(
            account=account,
            in_flight=sum(one.in_flight for one in endpoints),
            peak_in_flight=peak_in_flight,
            waiting=sum(one.waiting for one in endpoints),
            admitted=sum(one.admitted for one in endpoints),
            pushed_back=sum(one.pushed_back for one in endpoints),
            thaws_s=max((one.thaws_s for one in endpoints if one.thaws_s is not None), default=None),
            frozen_s=frozen_s,
            active_s=active_s,
            limits=tuple(limits),
            endpoints=tuple(endpoints),
            bounded_by=None if first is None else first.by if first.source is None else f"{first.scope} {first.by}",
            bounded_share=0.0 if first is None else first.share,
            bounds=tuple(bounds),
        )

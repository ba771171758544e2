"""A run as a script: the events of a small workflow, as the displays would see them."""

from __future__ import annotations

from collections.abc import Iterator

from agentmesh.errors import ErrorInfo
from agentmesh.events import (
    CallEnded,
    CallIntent,
    CollectionClosed,
    Event,
    LaneFrozen,
    Notice,
    RunEnded,
    RunStarted,
    Standing,
    StandingsChanged,
    TaskAdded,
    TaskEnded,
    TaskStarted,
)  # fmt: skip
from agentmesh.limits.statistics import Bound, EndpointStatistics, LaneStatistics, LimitStatistics, Source
from agentmesh.outcome import Outcome, Usage

RUN = "01k9v3w2zq8r5t6y7u8w9xa3f9"
BEGAN = 1_800_000_000.0
TITLES = ("Persister toxins", "Biofilm memory", "Ribosome hibernation")


def call(number: int, address: str, agent: str, *, at: float, usd: float | None = 0.005) -> Iterator[Event]:
    """One call that is answered at once."""
    yield intent(number, address, agent, at=at)
    yield CallEnded(
        at=at, call=number, attempt=1, address=address, agent=agent, account="sim", model="large", result="ok",
        seconds=1.0, usage=Usage(1), usd=usd,
    )  # fmt: skip


def intent(number: int, address: str, agent: str, *, at: float) -> CallIntent:
    return CallIntent(
        at=at, call=number, attempt=1, address=address, agent=agent, account="sim", model="large", request=None
    )


def began() -> Iterator[Event]:
    waits_for = {"review": ("draft",), "contest": ("draft",), "report": ("contest", "review")}
    tasks = ("draft", "review", "contest", "report")
    yield RunStarted(at=BEGAN, run=RUN, name="hypotheses", tasks=tasks, waits_for=waits_for)
    for number in range(24):
        yield TaskAdded(at=BEGAN, task="draft", key=str(number), lane="sim")
    yield CollectionClosed(at=BEGAN, task="draft", items=24)
    yield TaskAdded(at=BEGAN, task="contest", lane="sim")
    yield TaskAdded(at=BEGAN, task="report", lane="sim", needs=("contest",))


def item(
    task: str, number: int, agent: str, *, at: float, calls: int, outcome: Outcome | None = None
) -> Iterator[Event]:
    """One item from its start to its end, with one call."""
    yield TaskStarted(at=at, address=f"{task}/{number}")
    yield from call(calls, f"{task}/{number}", agent, at=at)
    yield TaskEnded(at=at, outcome=outcome or Outcome(task, key=str(number), usage=Usage(1), usd=0.005))


def half_way() -> Iterator[Event]:
    """The run after twelve seconds: drafts are there, reviews and matches are on their way, one item was skipped."""
    yield from began()
    calls = 0
    for number in range(24):
        yield from item("draft", number, "scientist", at=BEGAN + number / 8, calls=(calls := calls + 1))
        yield TaskAdded(at=BEGAN + number / 8, task="review", key=str(number), lane="sim")
    yield CollectionClosed(at=BEGAN + 3, task="review", items=24)
    for number in range(14):
        yield from item("review", number, "critic", at=BEGAN + 3 + number / 2, calls=(calls := calls + 1))
    error = ErrorInfo("invalid_output", "score: 11 is over 10, after 2 repairs")
    broken = Outcome("review", key="17", state="skipped", error=error, usage=Usage(1))
    yield from item("review", 17, "critic", at=BEGAN + 10, calls=(calls := calls + 1), outcome=broken)
    yield TaskStarted(at=BEGAN + 3, address="contest")
    for number in range(212):
        yield from call(calls := calls + 1, f"contest/1+2/{number}", "judge", at=BEGAN + 3 + number / 24)
    top = tuple(
        Standing(rank=rank, key=str(rank), item={"title": title}, rating=1300.0, low=1200.0, high=1400.0, matches=20)
        for rank, title in enumerate(TITLES, 1)
    )
    yield StandingsChanged(
        at=BEGAN + 12, task="contest", entrants=24, matches=212, failed=0, limit=400, regret=0.09, top=top
    )
    for number, (agent, live) in enumerate({"critic": 9, "judge": 11}.items()):
        for more in range(live):
            yield intent(1000 + 100 * number + more, "contest", agent, at=BEGAN + 12)


def ended() -> Iterator[Event]:
    """The rest of that run, with a freeze, a notice and the end."""
    yield LaneFrozen(at=BEGAN + 13, account="sim", concerns="large", seconds=4, reason="rate: too many requests")
    yield Notice(at=BEGAN + 13, level="warning", text="prices of sim were looked up 400 days ago")
    for number in (14, 15, 16, 18, 19, 20, 21, 22, 23):
        yield from item("review", number, "critic", at=BEGAN + 14, calls=2000 + number)
    yield TaskEnded(at=BEGAN + 20, outcome=Outcome("contest", usage=Usage(212)))
    yield TaskStarted(at=BEGAN + 20, address="report")
    yield from call(3000, "report", "writer", at=BEGAN + 21)
    yield TaskEnded(at=BEGAN + 21, outcome=Outcome("report", usage=Usage(1)))
    yield RunEnded(at=BEGAN + 21, status="done", seconds=21.0, usage=Usage(262), usd=1.31)


def limit(
    scope: str, name: str, recent: float, *, figure: float = 600, source: Source = "file", use: float | None = 0.9,
    bound_s: float = 0.0, binds: bool = False,
) -> LimitStatistics:  # fmt: skip
    return LimitStatistics(
        name=name, scope=scope, limit=figure, source=source, used=300, recent=recent, use=use, bound_s=bound_s,
        binds=binds,
    )  # fmt: skip


def bound(by: str, scope: str, share: float, *, source: Source | None = "file") -> Bound:
    return Bound(by=by, scope=scope, source=source, seconds=20 * share, share=share)


def lanes() -> list[LaneStatistics]:
    """The simulated account with two models, half way."""
    return [
        LaneStatistics(
            account="sim", in_flight=21, peak_in_flight=24, waiting=38, admitted=251, active_s=20,
            limits=(
                limit("small", "requests_per_minute", 0.34), limit("small", "tokens_per_minute", 0.61),
                limit("large", "requests_per_minute", 0.96, use=0.97, bound_s=18, binds=True),
                limit("large", "tokens_per_minute", 0.37), limit("sim", "in_flight", 0.1, figure=500, source="own"),
            ),
            endpoints=(
                EndpointStatistics(model="small", in_flight=9, admitted=90),
                EndpointStatistics(model="large", in_flight=12, waiting=38, next_s=0.4, admitted=161),
            ),
            bounded_by="large requests_per_minute", bounded_share=0.9,
            bounds=(bound("requests_per_minute", "large", 0.9), bound("latency", "sim", 0.1, source=None)),
            simulated=True,
        )
    ]  # fmt: skip


def many_lanes(accounts: int) -> list[LaneStatistics]:
    """Accounts with one model each, the last one frozen; one has a pool and a limit of the account."""
    found = []
    for number in range(accounts):
        thaws = 12.0 if number == accounts - 1 else None
        model = EndpointStatistics(
            model="org/model-7b", in_flight=number, waiting=2 * number, next_s=30.0, pushed_back=3, thaws_s=thaws,
            admitted=40,
        )  # fmt: skip
        limits = (limit(f"provider{number}", "requests_per_day", 0.01 * number),)
        found.append(
            LaneStatistics(
                account=f"provider{number}", in_flight=number, peak_in_flight=number, waiting=2 * number, admitted=40,
                pushed_back=3, thaws_s=thaws, limits=limits, endpoints=(model,),
            )
        )  # fmt: skip
    shared = (limit("acme", "requests_per_minute", 0.5), limit("pool large", "output_tokens_per_minute", 0.7))
    models = (
        EndpointStatistics(model="acme-large", in_flight=1, waiting=3, next_s=700.0, admitted=4),
        EndpointStatistics(model="acme-small"),
    )
    acme = LaneStatistics(
        account="acme", in_flight=1, peak_in_flight=2, waiting=3, admitted=4, limits=shared, endpoints=models
    )
    return [acme, *found]


def unwritten_lanes() -> list[LaneStatistics]:
    """What no file says: one account's limits are told by its answers, those of another are learned from refusals."""
    return [
        LaneStatistics(
            account="told", in_flight=9, peak_in_flight=12, waiting=40, admitted=90, active_s=20,
            limits=(
                limit("told", "in_flight", 0.1, figure=500, source="own"),
                limit("m", "requests_per_minute", 0.55, figure=300, source="told"),
                limit("m", "requests_per_day", 0.02, figure=10_000, source="told"),
                limit("m", "input_tokens_per_minute", 0.2, figure=90_000, source="told"),
                limit("m", "output_tokens_per_minute", 0.99, figure=20_000, source="told", bound_s=14, binds=True),
            ),
            endpoints=(EndpointStatistics(model="m", in_flight=9, waiting=40, next_s=1.2, admitted=90),),
            bounded_by="m output_tokens_per_minute", bounded_share=0.7,
            bounds=(
                bound("output_tokens_per_minute", "m", 0.7, source="told"),
                bound("requests_per_minute", "m", 0.25, source="told"), bound("latency", "told", 0.05, source=None),
            ),
        ),
        LaneStatistics(
            account="silent", in_flight=12, peak_in_flight=14, waiting=30, admitted=70, pushed_back=4, active_s=20,
            frozen_s=2.2,
            limits=(
                limit("silent", "in_flight", 0.1, figure=500, source="own"),
                limit("m", "in_flight", 1.0, figure=12, source="learned", use=None, bound_s=16, binds=True),
                limit("m", "requests_per_second", 0.97, figure=3.41, source="learned", use=None),
            ),
            endpoints=(EndpointStatistics(model="m", in_flight=12, waiting=30, pushed_back=4, admitted=70),),
            bounded_by="m in_flight", bounded_share=0.8,
            bounds=(
                bound("in_flight", "m", 0.8, source="learned"), bound("push_backs", "silent", 0.15, source=None),
                bound("latency", "silent", 0.05, source=None),
            ),
        ),
    ]  # fmt: skip

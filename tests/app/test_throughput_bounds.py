"""The bounds of the throughput benchmark, as tables: a queue exactly at the limits, and who knows everything."""

from __future__ import annotations

import pytest

from agentmesh.app.perf.bounds import Allowance, clairvoyant, first_in_first_out, limit_seconds
from agentmesh.app.perf.throughput_jobs import MODEL, Job
from agentmesh.app.perf.throughput_scenarios import SCENARIOS, jobs_of, served_of
from agentmesh.rates import Limit
from agentmesh.simulate.behaviour import Behaviour, Served, ServedModel
from agentmesh.simulate.beside import Change, Neighbour

ONE_SECOND = Behaviour(first_token_s=1.0, stall_s=8.0)


def server(*limits: Limit, **more: object) -> Served:
    return Served({MODEL: ServedModel(MODEL, ONE_SECOND)}, limits, **more)  # type: ignore[arg-type]


def jobs(*sizes: int, output: int = 0, **more: object) -> list[Job]:
    return [Job(number, size, output, 10, **more) for number, size in enumerate(sizes)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limits", "asked", "admitted"),
    [
        ([], jobs(1, 1), [0, 0]),
        ([Limit("requests", 60)], jobs(1, 1, 1), [0, 1, 2]),
        ([Limit("requests", 120)], jobs(1, 1, 1, 1), [0, 0, 0.5, 1]),
        # 60 a second, 600 at once; a job waits for what is missing, and those behind it wait with it
        ([Limit("tokens", 3600)], jobs(600, 120, 6), [0, 2, 2.1]),
        # above the burst: at a full bucket, and the next one waits until the debt is paid
        ([Limit("tokens", 3600)], jobs(60, 660, 60), [0, 1, 3]),
        ([Limit("output_tokens", 60)], jobs(1, 1, 1, output=5), [0, 0, 5]),
        ([Limit("in_flight", 2)], jobs(1, 1, 1, 1, 1), [0, 0, 1, 1, 2]),
        ([Limit("requests", 2, window=5, shape="fixed")], jobs(1, 1, 1, 1, 1), [0, 0, 5, 5, 10]),
        # the slower of two limits counts, and either may be it
        ([Limit("requests", 60), Limit("tokens", 3600)], jobs(600, 120, 6), [0, 2, 3]),
    ],
)
def test_the_queue_goes_exactly_at_the_limits(limits: list[Limit], asked: list[Job], admitted: list[float]) -> None:
    queue = first_in_first_out(asked, server(*limits))
    assert queue.admitted == pytest.approx(admitted)
    assert queue.makespan == pytest.approx(admitted[-1] + 1.0)


def test_a_failed_attempt_takes_its_old_place_and_costs_what_it_takes() -> None:
    asked = [Job(0, 1, 0, 10, faults=("500",)), Job(1, 1, 0, 10, faults=("stall", "truncate")), Job(2, 1, 0, 10)]
    queue = first_in_first_out(asked, server(Limit("requests", 60)))
    # seconds 0 and 1 are the first job's, 2 the second's until 10, 3 the third's; 10 and 11 the second's again
    assert queue.admitted == pytest.approx([1, 11, 3])
    assert queue.makespan == pytest.approx(12)


def test_the_queue_knows_arrivals_and_priorities() -> None:
    asked = [Job(0, 1, 0, 10), Job(1, 1, 0, 10), Job(2, 1, 0, 10, at=0.5, priority=1.0), Job(3, 1, 0, 10, at=9.0)]
    assert first_in_first_out(asked, server(Limit("requests", 60))).admitted == pytest.approx([0, 2, 1, 9])


def test_what_can_never_go_is_told() -> None:
    limit = Limit("tokens", 60, shape="fixed")
    with pytest.raises(ValueError, match="job 1"):
        first_in_first_out(jobs(10, 61), server(limit))


def test_the_queue_suffers_changes_and_a_neighbour() -> None:
    slower = (Change(2.0, (Limit("requests", 30),)),)
    assert first_in_first_out(jobs(*[1] * 5), server(Limit("requests", 60), changes=slower)).admitted == pytest.approx(
        [0, 1, 2, 4, 6]
    )
    half = Neighbour(0.5)
    alone, beside = (
        first_in_first_out(jobs(*[1] * 200), server(Limit("requests", 60), neighbour=one)).makespan
        for one in (None, half)
    )
    assert beside == pytest.approx(2 * alone, rel=0.05)


@pytest.mark.parametrize(
    ("limit", "more", "table"),
    [
        (Limit("requests", 120), {}, [(0, 2), (1, 4), (10, 22)]),
        (Limit("tokens", 600, burst=50), {}, [(0, 50), (5, 100)]),
        (Limit("in_flight", 4), {}, [(0, 0), (2, 8)]),
        (Limit("requests", 120), {"changes": (Change(10.0, (Limit("requests", 60),)),)}, [(10, 22), (20, 32)]),
        (Limit("requests", 120), {"neighbour": Neighbour(0.5)}, [(0, 2), (10, 17)]),
    ],
)
def test_what_a_limit_allows(limit: Limit, more: dict[str, object], table: list[tuple[float, float]]) -> None:
    allowance = Allowance(limit, server(limit, **more))
    for seconds, units in table:
        assert allowance.units(seconds) == pytest.approx(units)
        assert allowance.seconds(units) == pytest.approx(seconds)


def test_windows_allow_in_steps() -> None:
    limit = Limit("requests", 10, window=60, shape="fixed")
    allowance = Allowance(limit, server(limit))
    assert [allowance.units(s) for s in (0, 59, 60, 125)] == [10, 10, 20, 30]
    assert [allowance.seconds(n) for n in (1, 10, 11, 30)] == [0, 0, 60, 120]


def test_the_clairvoyant_bound() -> None:
    # 10 a second after 100 at once: 200 tokens need 10 s, the last one of which may leave a debt; then a second's tail
    served = server(Limit("tokens", 600, burst=100), Limit("requests", 600))
    assert limit_seconds(jobs(50, 50, 100), served) == pytest.approx(
        {"tokens_per_minute": 10, "requests_per_minute": 0}
    )
    assert clairvoyant(jobs(50, 50, 100), served) == pytest.approx(11)
    assert clairvoyant(jobs(50, 150), served) == pytest.approx(6)
    assert clairvoyant(jobs(1, at=40.0), served) == pytest.approx(41)
    assert clairvoyant(jobs(1, faults=("stall", "500")), served) == pytest.approx(9)
    assert clairvoyant(jobs(1, 1, 1, 1), server(Limit("in_flight", 2))) == pytest.approx(2)


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_queue_beats_the_clairvoyant_and_each_scenario_is_as_long_as_it_shall_be(name: str) -> None:
    scenario = SCENARIOS[name]
    asked, served = jobs_of(scenario, seconds=120.0, seed=3), served_of(scenario, seconds=120.0, seed=3)
    assert asked == jobs_of(scenario, seconds=120.0, seed=3)
    queue, best = first_in_first_out(asked, served).makespan, clairvoyant(asked, served)
    assert best <= queue * 1.002  # a neighbour's calls are counted on average there, one by one here
    assert best > 115.0
    assert queue < 145.0

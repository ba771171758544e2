"""The state of a tournament: joining, starting, recording, stopping, standings."""

from __future__ import annotations

import math
import random

import pytest
from simulated_judge import play, world

from agentmesh.ranking import Match, Stop, Tournament


def new(entrants: int, *, seed: int = 1, stop: Stop | None = None, complete: bool = True) -> Tournament:
    tournament = Tournament(random.Random(seed), stop=stop)
    for number in range(entrants):
        tournament.add(f"h{number}", {"title": f"idea {number}"})
    if complete:
        tournament.complete_entrants()
    return tournament


def drain(tournament: Tournament, *, score: float | None) -> int:
    """Play one match after another with the same score for the first; how many there were."""
    matches = 0
    while (match := tournament.next_match()) is not None:
        tournament.record(match, score)
        matches += 1
    return matches


def started(tournament: Tournament) -> Match:
    match = tournament.next_match()
    assert match is not None
    return match


def test_nobody_joined() -> None:
    tournament = new(0, complete=False)
    assert (tournament.next_match(), tournament.finished, tournament.stopped_by) == (None, False, None)
    tournament.complete_entrants()
    assert (tournament.finished, tournament.stopped_by, tournament.standings()) == (True, "entrants", ())


def test_one_entrant_gives_standings_of_one() -> None:
    tournament = new(1)
    (row,) = tournament.standings()
    assert (tournament.next_match(), tournament.finished, tournament.limit) == (None, True, 0)
    assert (row.rank, row.key, row.item, row.rating, row.low, row.high, row.matches) == (
        1, "h0", {"title": "idea 0"}, 1200, 1200, 1200, 0,
    )  # fmt: skip


def test_two_entrants_with_a_clear_winner_and_with_none() -> None:
    clear = new(2)
    while (match := clear.next_match()) is not None:
        clear.record(match, float(match.first == "h1"))
    assert [row.key for row in clear.standings()] == ["h1", "h0"]
    assert clear.standings()[0].matches == 6
    equal = new(2)
    assert drain(equal, score=0.5) == 6
    assert (equal.finished, equal.stopped_by) == (True, "entrants")
    assert [row.rating for row in equal.standings()] == [1200, 1200]


def test_ratings_are_on_the_chess_scale() -> None:
    tournament = new(8, stop=Stop(regret=None))
    play_all = random.Random(2)
    while (match := tournament.next_match()) is not None:
        tournament.record(match, play_all.choice([0, 0.5, 1]))
    rows = tournament.standings()
    assert [row.rank for row in rows] == list(range(1, 9))
    assert sorted((row.rating for row in rows), reverse=True) == [row.rating for row in rows]
    assert math.fsum(row.rating for row in rows) / 8 == pytest.approx(1200, abs=1)
    assert all(row.low < row.rating < row.high and isinstance(row.rating, int) for row in rows)
    assert sum(row.matches for row in rows) == 2 * tournament.statistics().matches


def test_the_limit_binds_what_is_in_flight_too() -> None:
    tournament = new(6, stop=Stop(matches=5))
    matches = [started(tournament) for _ in range(5)]
    assert [match.number for match in matches] == [1, 2, 3, 4, 5]
    assert tournament.next_match() is None
    assert (tournament.stopped_by, tournament.finished) == ("matches", False)
    for match in matches:
        tournament.record(match, 1)
    assert tournament.finished
    assert tournament.regret is not None


def test_without_a_limit_there_are_twenty_matches_per_entrant() -> None:
    assert new(30).limit == 600
    assert new(4).limit == 36  # six pairs, six times each
    assert new(30, complete=False).limit is None
    assert new(30, complete=False, stop=Stop(matches=9)).limit == 9


def test_half_of_the_limit_waits_for_those_who_come_late() -> None:
    tournament = new(4, stop=Stop(matches=30), complete=False)
    assert drain(tournament, score=1) == 15
    assert (tournament.stopped_by, tournament.finished) == (None, False)
    for number in range(4, 9):
        tournament.add(f"h{number}", None)
    tournament.complete_entrants()
    assert drain(tournament, score=1) == 15
    assert min(row.matches for row in tournament.standings()) >= 2
    assert tournament.stopped_by == "matches"


def test_the_regret_rule_waits_for_the_entrants_and_for_six_matches_of_each() -> None:
    truth = {f"h{number}": 6.0 * number for number in range(8)}
    tournament = Tournament(random.Random(4), stop=Stop(regret=0.5))
    played = play(tournament, truth, seed=4)
    assert tournament.stopped_by == "regret"
    assert 24 <= played < 60
    assert min(row.matches for row in tournament.standings()) >= 6
    early = new(8, stop=Stop(regret=0.5), complete=False)
    while (match := early.next_match()) is not None:
        early.record(match, float(match.first > match.second))
    assert early.regret is not None
    assert early.regret < 0.5
    assert (early.finished, early.stopped_by) == (False, None)
    early.complete_entrants()
    assert (early.finished, early.stopped_by) == (True, "regret")


def test_a_stopped_tournament_stays_stopped_while_the_rest_arrives() -> None:
    truth = {f"h{number}": 3.0 * number for number in range(6)}
    tournament = Tournament(random.Random(4), stop=Stop(regret=0.4))
    play(tournament, truth, seed=4, in_flight=12)
    assert (tournament.stopped_by, tournament.finished) == ("regret", True)
    assert tournament.statistics().in_flight == 0


def test_failed_matches_are_counted_and_end() -> None:
    tournament = new(5)
    assert drain(tournament, score=None) == 60
    assert (tournament.finished, tournament.stopped_by, tournament.regret) == (True, "entrants", None)
    seen = tournament.statistics()
    assert (seen.matches, seen.failed, seen.in_flight, seen.limit) == (0, 60, 0, 60)
    assert [row.matches for row in tournament.standings()] == [0] * 5


def test_failures_cost_matches_but_not_the_ranking() -> None:
    truth = world(16, seed=5)
    tournament = Tournament(random.Random(5), stop=Stop(regret=None, matches=320))
    assert play(tournament, truth, seed=5, in_flight=8, fails=0.3) == 320
    seen = tournament.statistics()
    assert seen.matches + seen.failed == 320
    assert 60 < seen.failed < 130
    best = max(truth, key=lambda key: truth[key])
    assert best in [row.key for row in tournament.standings()[:4]]


def test_an_entrant_no_judge_can_be_shown_does_not_eat_the_limit() -> None:
    tournament = new(12, stop=Stop(regret=None))
    wasted = 0
    while (match := tournament.next_match()) is not None:
        broken = "h3" in (match.first, match.second)
        wasted += broken
        tournament.record(match, None if broken else 0.5)
    assert tournament.stopped_by == "matches"
    assert wasted <= 50  # an even share of the 240 is 40


def test_what_cannot_be_is_refused() -> None:
    tournament = new(3, complete=False)
    with pytest.raises(ValueError, match="already"):
        tournament.add("h1", None)
    match = started(tournament)
    with pytest.raises(ValueError, match="a score is"):
        tournament.record(match, 0.7)
    tournament.record(match, 1)
    with pytest.raises(ValueError, match="not in flight"):
        tournament.record(match, 1)
    with pytest.raises(ValueError, match="not in flight"):
        tournament.record(Match(99, "h0", "h1"), 1)
    tournament.complete_entrants()
    with pytest.raises(ValueError, match="too late"):
        tournament.add("h9", None)
    assert tournament.statistics().matches == 1


@pytest.mark.parametrize("bad", [{"regret": -0.1}, {"regret": math.nan}, {"matches": 0}, {"matches": -3}])
def test_a_stop_rule_that_makes_no_sense_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="stop: "):
        Stop(**bad)  # type: ignore[arg-type]


def test_statistics_and_repr_tell_the_truth() -> None:
    tournament = new(4, stop=Stop(matches=10), complete=False)
    started(tournament)
    tournament.record(started(tournament), None)
    tournament.record(started(tournament), 1)
    seen = tournament.statistics()
    assert (seen.entrants, seen.complete, seen.matches, seen.failed, seen.in_flight) == (4, False, 1, 1, 1)
    assert (seen.limit, seen.stopped_by) == (10, None)
    assert repr(tournament) == "<Tournament 4 entrants so far, 1 matches, 1 failed, 1 in flight, limit 10>"
    assert repr(new(0)) == "<Tournament 0 entrants, 0 matches, 0 failed, 0 in flight, stopped by entrants>"

"""Which pairs are picked: loads even out, the top gets more, pairs are not repeated for ever, the order balances."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from agentmesh.ranking.pairing import MEETINGS, Pairing, Pick


def of(items: int, *, seed: int = 1, meetings: int = MEETINGS) -> Pairing:
    pairing = Pairing(random.Random(seed), meetings=meetings)
    for _ in range(items):
        pairing.join()
    return pairing


def picks(pairing: Pairing, count: int) -> list[Pick]:
    return [pick for _ in range(count) if (pick := pairing.pick()) is not None]


def test_fewer_than_two_items_make_no_pair() -> None:
    assert of(0).pick() is None
    assert of(1).pick() is None
    assert not of(1).open


@pytest.mark.parametrize("items", [2, 3, 6])
def test_a_small_field_meets_in_both_orders_as_often_as_allowed_and_then_is_done(items: int) -> None:
    pairing = of(items)
    made = picks(pairing, 1000)
    assert Counter((pick.first, pick.second) for pick in made) == {
        (a, b): MEETINGS // 2 for a in range(items) for b in range(items) if a != b
    }
    assert not pairing.open
    assert {(pick.first, pick.second, pick.meeting) for pick in made} == {
        (pick.first, pick.second, meeting) for pick in made for meeting in range(MEETINGS // 2)
    }


def test_a_newcomer_opens_a_field_that_was_done() -> None:
    pairing = of(2)
    picks(pairing, 100)
    newcomer = pairing.join()
    made = picks(pairing, 100)
    assert len(made) == 2 * MEETINGS
    assert all(newcomer in (pick.first, pick.second) for pick in made)


def test_every_item_is_picked_and_its_order_balances() -> None:
    pairing = of(20)
    made = picks(pairing, 200)
    load = Counter(item for pick in made for item in (pick.first, pick.second))
    lead = Counter(pick.first for pick in made)
    assert min(load[item] for item in range(20)) >= 8
    assert all(abs(2 * lead[item] - load[item]) <= 4 for item in range(20))


def test_neighbours_and_the_top_meet_most() -> None:
    pairing = of(32)
    pairing.learn([0.5 * item for item in range(32)])
    made = picks(pairing, 640)
    apart = sorted(abs(pick.first - pick.second) for pick in made)
    assert apart[len(apart) // 2] <= 5  # of random pairs the median is 9
    load = Counter(item for pick in made for item in (pick.first, pick.second))
    assert sum(load[item] for item in range(28, 32)) > 1.3 * sum(load[item] for item in range(4))


def test_what_is_in_flight_keeps_picks_from_crowding() -> None:
    made = picks(of(64), 64)  # not one verdict is known
    load = Counter(item for pick in made for item in (pick.first, pick.second))
    assert max(load.values()) <= 7
    assert len({frozenset((pick.first, pick.second)) for pick in made}) >= 62


def test_a_failed_match_teaches_nothing_but_was_tried() -> None:
    pairing = of(2, meetings=4)
    for _ in range(4):
        pick = pairing.pick()
        assert pick is not None
        pairing.take_back(pick)
    assert pairing.pick() is None
    assert pairing.statistics().picks == 4


def test_an_item_whose_matches_all_fail_takes_no_more_than_its_share() -> None:
    pairing = of(16)
    tries = 0
    for _ in range(200):
        pick = pairing.pick()
        assert pick is not None
        if 5 in (pick.first, pick.second):
            tries += 1
            pairing.take_back(pick)
    assert 15 <= tries <= 40  # an even share is 25


def test_an_item_some_of_whose_matches_fail_is_picked_more_to_make_up_for_it() -> None:
    def tries_of_5(*, fail: bool) -> int:
        pairing = of(16)
        made = []
        for _ in range(200):
            pick = pairing.pick()
            assert pick is not None
            if 5 in (pick.first, pick.second):
                made.append(pick)
                if fail and len(made) % 3 == 0:
                    pairing.take_back(pick)
        return len(made)

    assert tries_of_5(fail=True) > tries_of_5(fail=False) + 4


def test_picks_are_those_of_the_seed() -> None:
    assert picks(of(12, seed=3), 50) == picks(of(12, seed=3), 50) != picks(of(12, seed=4), 50)


def test_statistics_and_repr_tell_the_truth() -> None:
    pairing = of(3)
    picks(pairing, 4)
    seen = pairing.statistics()
    assert (seen.items, seen.picks, seen.open) == (3, 4, 3)
    assert seen.fewest <= 8 / 3 <= seen.most
    assert repr(pairing) == "<Pairing 3 items, 4 picks, 3 items open>"

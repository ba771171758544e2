"""What a reply is worth, by equality and by the interval."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.science.planning.durations import Interval
from agentmesh.science.planning.quoted import answer_candidates
from agentmesh.science.planning.scoring import (
    Verdict,
    accuracy,
    read_object,
    reply_seconds,
    score_equal,
    score_interval,
)

DAY = 86_400


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"a": 1}', {"a": 1}),
        ('  {"a": 1}\n', {"a": 1}),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('```\n{"a": 1}\n```\nThat is all.', {"a": 1}),
        ('```json\n{"a": 1}', {"a": 1}),
        ('Here it is: {"a": {"b": 2}} as asked', {"a": {"b": 2}}),
        ("[1, 2]", None),
        ("no object", None),
        ('{"a": ', None),
        ("}{", None),
        ("```", None),
        ("", None),
        ("{" * 100_000, None),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, None),
    ],
)
def test_reading_an_object(reply: str, expected: object) -> None:
    assert read_object(reply) == expected


@pytest.mark.parametrize(
    ("reply", "seconds"),
    [
        ('{"final_answer_seconds": 1200}', 1200),
        ('{"final_answer_seconds": 1199.6, "actions": "whatever"}', 1200),
        ('{"final_answer_seconds": 0}', 0),
        ('{"final_answer_seconds": "2 hours"}', None),
        ('{"final_answer_seconds": true}', None),
        ('{"final_answer_seconds": NaN}', None),
        ('{"final_answer_seconds": 1e999}', None),
        ('{"final_answer_seconds": null, "note": "2 hours"}', 7200),
        ('{"answer": "90 min"}', 5400),
        ("It takes 2 Hours and 30 minutes.", 9000),
        ("Step 1: 5 min. <answer>1.5 hours</answer>", 5400),
        ("5 min, then <Answer>\n10min\n</Answer>", 600),
        ("<answer>quick</answer> 5 min", None),
        ("one month is 1 month", 28 * DAY),
        ("2 weeks 1 day 3 secs", 15 * DAY + 3),
        ("1 year", None),
        ("sorry", None),
        ("9" * 400 + " days", None),
    ],
)
def test_the_value_of_a_reply(reply: str, seconds: int | None) -> None:
    assert reply_seconds(reply) == seconds


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (None, Verdict(None, "no reply")),
        ("", Verdict(None, "no reply")),
        (" \n", Verdict(None, "no reply")),
        ("I cannot help with that.", Verdict(None, "unreadable")),
        ('{"final_answer_seconds": 600}', Verdict(600, "right")),
        ('{"final_answer_seconds": 601}', Verdict(601, "wrong")),
        ("10 min", Verdict(600, "right")),
    ],
)
def test_equality(reply: str | None, verdict: Verdict) -> None:
    assert score_equal(reply, 600) == verdict
    assert verdict.correct is (verdict.reason == "right")


MONTH = Interval(28 * DAY, 31 * DAY)
HOURS = Interval(9000, 9000)


@pytest.mark.parametrize(
    ("reply", "gold", "reason"),
    [
        (None, HOURS, "no reply"),
        ('{"final_answer_seconds": 9000}', HOURS, "right"),
        ('{"final_answer_seconds": 9001}', HOURS, "wrong"),
        (f'{{"final_answer_seconds": {30 * DAY}}}', MONTH, "right"),
        (f'{{"final_answer_seconds": {31 * DAY}}}', MONTH, "right"),
        (f'{{"final_answer_seconds": {31 * DAY + 1}}}', MONTH, "wrong"),
        ('{"final_answer_seconds": "2.5 hours"}', HOURS, "unreadable"),
        ('{"actions": []}', HOURS, "unreadable"),
        ('The answer is "2 hours 30 minutes".', HOURS, "right"),
        ("The answer is 2 hours 30 minutes.", HOURS, "unreadable"),
        ('"150 min"', HOURS, "right"),
        ('"150min"', HOURS, "unreadable"),
        ('"2.5 hrs"', HOURS, "unreadable"),
        ('"9,000 seconds"', HOURS, "right"),
        ('"2 H and 30 Min"', HOURS, "right"),
        ('"1 m"', MONTH, "right"),
        ('"1 month"', Interval(28 * DAY, 28 * DAY), "right"),
        ('"1 month"', Interval(31 * DAY, 31 * DAY), "right"),
        ('"1 month"', Interval(30 * DAY, 30 * DAY), "wrong"),
        ('"4 weeks"', MONTH, "right"),
        ('"2 hours + 30 min = 150 min"', HOURS, "right"),
        ('"9001 seconds or 2.5 hours"', HOURS, "right"),
        ('"2.5 hours (150 min)"', HOURS, "right"),
        ('"2 to 3 hours"', HOURS, "wrong"),
        ('"2 to 3 hours"\n"2.5 hours"', HOURS, "wrong"),
        ('"2.5 hours"\n"2 to 3 hours"', HOURS, "right"),
        ('First "1 hour".\nThen "2 hours".\nSo "2.5 hours".', HOURS, "right"),
        ('First "1 hour".\nThen "2.5 hours".\nSo "3 hours".', HOURS, "wrong"),
        ('"quick"\n"2.5 hours"', HOURS, "right"),
        ('It takes "Two and a Half Hours"', HOURS, "right"),
        ("The shortest time is two and a half hours.", HOURS, "right"),
        ("The shortest time is 2 and a half hours", HOURS, "right"),
        ("Two and a half hours.", HOURS, "unreadable"),
        ('"two hours"', Interval(7200, 7200), "unreadable"),
        ('"0 minutes"', Interval(0, 0), "right"),
    ],
)
def test_the_interval_rule(reply: str | None, gold: Interval, reason: str) -> None:
    assert score_interval(reply, gold).reason == reason


@pytest.mark.parametrize(
    ("reply", "candidates"),
    [
        ('say "A" or "B"', ["b"]),  # from the first quote of the line to the last, then what follows the last "or"
        ('"A"\nB\n"C" and\n"D"', ["a", "d"]),
        ('"only"', ["only"]),
        ('one " alone', []),
        ("it is so, and a half", ["so, and a half"]),
        ('"one hundred and twenty-five and a half min"', ["125.5 min"]),
        ('"two million, three thousand and a half min"', ["2000000, 3000.5 min"]),
        ('"sixteen and a half min"', ["16.5 min"]),
        ('"seventy-six thousand five and a half min"', ["76005.5 min"]),
    ],
)
def test_candidates(reply: str, candidates: list[str]) -> None:
    assert [candidate.strip(' "') for candidate in answer_candidates(reply)] == candidates


@given(st.text(max_size=80), st.integers(0, 10**6))
def test_any_reply_gets_a_verdict_by_both_rules(reply: str, gold: int) -> None:
    for verdict in (score_equal(reply, gold), score_interval(reply, Interval(gold, gold))):
        assert (verdict.value is None) or verdict.reason in ("right", "wrong")
        assert verdict.correct is (verdict.reason == "right")


@given(st.integers(0, 10**9))
def test_a_json_answer_is_right_by_both_rules_if_the_gold_is_a_point(seconds: int) -> None:
    reply = f'{{"final_answer_seconds": {seconds}}}'
    assert score_equal(reply, seconds).correct
    assert score_interval(reply, Interval(seconds, seconds)).correct
    assert not score_interval(reply, Interval(seconds + 1, seconds + 2)).correct


def test_accuracy_with_its_interval() -> None:
    found = accuracy([True] * 309 + [False] * 11)
    assert (found.items, found.right) == (320, 309)
    assert (found.share, found.low, found.high) == pytest.approx((0.965625, 0.939504, 0.980699), abs=1e-6)
    assert (accuracy([True] * 3).high, accuracy([False] * 3).low) == (1.0, 0.0)
    assert accuracy([]).share is None


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_the_interval_holds_the_share(counts: tuple[int, int]) -> None:
    n, right = counts
    found = accuracy([True] * right + [False] * (n - right))
    assert found.low is not None
    assert found.share is not None
    assert found.high is not None
    assert 0 <= found.low <= found.share <= found.high <= 1

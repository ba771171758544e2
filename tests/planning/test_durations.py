"""Texts as intervals of seconds."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.science.planning.durations import Interval, parse_duration, seconds_of

DAY = 86_400
BOUNDS = {
    "second": (1, 1), "minute": (60, 60), "hour": (3600, 3600), "day": (DAY, DAY), "week": (7 * DAY, 7 * DAY),
    "month": (28 * DAY, 31 * DAY), "year": (365 * DAY, 366 * DAY),
}  # fmt: skip
SPELLINGS = {
    **{name: name for name in BOUNDS}, **{name + "s": name for name in BOUNDS}, "sec": "second", "secs": "second",
    "min": "minute", "mins": "minute", "h": "hour", "d": "day", "w": "week", "m": "month",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("10 min", 600, 600),
        ("1 hour", 3600, 3600),
        ("0 minutes", 0, 0),
        ("2 hours 30 minutes", 9000, 9000),
        ("2 Hours, and 30 Minutes", 9000, 9000),
        ("8 days 8 hours", 8 * DAY + 8 * 3600, 8 * DAY + 8 * 3600),
        ("1 month", 28 * DAY, 31 * DAY),
        ("1 year 1 day", 366 * DAY, 367 * DAY),
        ("1,234 seconds", 1234, 1234),
        ("1.1 hours", 3960, 3960),
        (".5 min", 30, 30),
    ],
)
def test_reads(text: str, low: float, high: float) -> None:
    assert parse_duration(text) == Interval(low, high)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "10", "10min", "3 hrs", "3 s", "5 minutes 4", "2 to 3 hours", "about 2 hours", "-5 min", "1.2.3 min",
     "1,23 min", "9" * 50 + " min", "1 hour (60 min)"],
)  # fmt: skip
def test_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


def test_words_between_lengths_can_be_ignored_but_no_number_can() -> None:
    assert parse_duration("about 2 hours in all", ignore_words=True) == Interval(7200, 7200)
    with pytest.raises(ValueError, match="3 in"):
        parse_duration("2 hours for 3", ignore_words=True)


amounts = st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(sorted(SPELLINGS))), min_size=1, max_size=5)


@given(amounts, st.sampled_from([" ", ", ", " and ", ", and "]), st.booleans())
def test_a_compound_is_the_sum_of_its_terms(terms: list[tuple[int, str]], joint: str, separators: bool) -> None:
    text = joint.join(f"{n:,} {unit}" if separators else f"{n} {unit}" for n, unit in terms)
    bounds = [(n * BOUNDS[SPELLINGS[unit]][0], n * BOUNDS[SPELLINGS[unit]][1]) for n, unit in terms]
    assert parse_duration(text) == Interval(sum(low for low, _ in bounds), sum(high for _, high in bounds))


@given(st.text(max_size=40), st.booleans())
def test_any_text_is_an_interval_or_a_value_error(text: str, ignore_words: bool) -> None:
    try:
        found = parse_duration(text, ignore_words=ignore_words)
    except ValueError:
        return
    assert 0 <= found.low <= found.high


@given(st.integers(0, 10**9))
def test_whole_seconds_of_a_timedelta_stay_whole(seconds: int) -> None:
    assert seconds_of(datetime.timedelta(seconds=seconds)) == seconds
    assert isinstance(seconds_of(datetime.timedelta(seconds=seconds)), int)
    assert seconds_of(datetime.timedelta(milliseconds=1500)) == 1.5


def test_an_interval_includes_its_ends_and_adds_end_by_end() -> None:
    assert 1 in Interval(1, 2)
    assert 2 in Interval(1, 2)
    assert 2.5 not in Interval(1, 2)
    assert Interval(1, 2) + Interval(10, 20) == Interval(11, 22)

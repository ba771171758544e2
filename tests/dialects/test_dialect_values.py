"""Durations, instants and epoch times by shape, and the wait after a push-back in its order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.dialects.values import (
    LONGEST_WAIT,
    format_duration,
    parse_duration,
    parse_instant,
    parse_wait,
    read_wait,
)

NOW = 1_935_738_000.0  # 2031-05-05T09:00:00Z


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("225ms", 0.225),
        ("2.137s", 2.137),
        ("1m4s", 64.0),
        ("7m12s", 432.0),
        ("1h0m30s", 3630.0),
        ("2m11.4s", 131.4),
        ("50us", 50e-6),
        ("50µs", 50e-6),
        ("9ns", 9e-9),
        ("41s", 41.0),
        (".5s", 0.5),
        ("0s", 0.0),
        ("", None),
        ("12", None),
        ("s", None),
        ("-3s", None),
        ("1m 4s", None),
        ("4 seconds", None),
        ("1s" * 50, None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2031-05-05T09:00:00Z", NOW),
        ("2031-05-05T11:00:10.5+02:00", NOW + 10.5),
        ("2031-05-05T09:00:00.123456789Z", NOW + 0.123456),
        ("Mon, 05 May 2031 09:00:00 GMT", NOW),
        ("Mon, 05 May 2031 09:00:00 -0000", NOW),
        ("2031-05-05T09:00:00", None),
        ("20310505000", None),
        ("soon, I think", None),
        ("", None),
    ],
)
def test_instants(text: str, instant: float | None) -> None:
    assert parse_instant(text) == (None if instant is None else pytest.approx(instant))


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("0", 0.0),
        ("3", 3.0),
        ("8413.07", 8413.07),
        (" 14 ", 14.0),
        ("1m4s", 64.0),
        (f"{NOW + 30:.0f}", 30.0),
        (f"{(NOW + 30) * 1e3:.0f}", 30.0),
        ("2031-05-05T09:00:33Z", 33.0),
        ("Mon, 05 May 2031 09:02:00 GMT", 120.0),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("1e300", None),
        ("5000000", None),  # neither seconds nor an instant
        ("604800", 604800.0),  # a week
        ("2700000", None),  # neither
        (f"{NOW - 30:.0f}", None),
        ("2031-05-05T08:59:00Z", None),
        ("soon", None),
    ],
)
def test_waits_by_shape(text: str, wait: float | None) -> None:
    assert read_wait(text, now=NOW) == (None if wait is None else pytest.approx(wait))


def test_an_instant_without_a_clock_says_nothing() -> None:
    assert read_wait("2031-05-05T09:00:33Z", now=None) is None
    assert read_wait("2s", now=None) == 2.0


RESET = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "40s"}
RETRY_INFO = b'{"error":{"message":"please retry in 9s","details":[{"@type":"x.RetryInfo","retryDelay":"41s"}]}}'


@pytest.mark.parametrize(
    ("headers", "body", "wait"),
    [
        ({"retry-after-ms": "2650", "retry-after": "3"} | RESET, RETRY_INFO, 2.65),
        ({"retry-after": "3"} | RESET, RETRY_INFO, 3.0),
        ({"retry-after": "Mon, 05 May 2031 09:00:20 GMT"}, b"", 20.0),
        ({"retry-after": "Mon, 05 May 2031 09:00:20 GMT", "date": "Mon, 05 May 2031 09:00:15 GMT"}, b"", 5.0),
        ({"retry-after": "-5"} | RESET, RETRY_INFO, 41.0),
        (RESET, RETRY_INFO, 41.0),
        (RESET, b"try again in 9s", 40.0),
        ({**RESET, "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "55"}, b"", 55.0),
        ({"x-ratelimit-remaining-tokens": "12", "x-ratelimit-reset-tokens": "40s"}, b"", None),
        ({"x-ratelimit-remaining-tokens": "-1", "x-ratelimit-reset-tokens": "40s"}, b"", None),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2031-05-05T09:00:12Z",
            },
            b"",
            12.0,
        ),
        ({"retry-after": "soon"}, b"", None),
        ({}, b"<html>Try again in 3s</html>", 3.0),
        ({}, b"", None),
    ],
)
def test_the_order_of_what_tells_a_wait(headers: dict[str, str], body: bytes, wait: float | None) -> None:
    assert parse_wait(headers, body, now=NOW) == (None if wait is None else pytest.approx(wait))


@pytest.mark.parametrize(
    ("message", "wait"),
    [
        ("Please try again in 775ms.", 0.775),
        ("try again in 1.2s. Visit", 1.2),
        ("retry in 18m5s", 1085.0),
        ("Please retry after 9 seconds.", 9.0),
        ("quota resets after 6 seconds", 6.0),
        ("Try again in 1 hour, 2 minutes", 3720.0),
        ("please wait 20 sec", 20.0),
        ("within 20 seconds of sound", None),
        ("try again in 3 months", None),
        ("try again in 400 hours", 1_440_000.0),
        ("try again in 4000 hours", None),
        ("try again later", None),
    ],
)
def test_waits_in_a_text(message: str, wait: float | None) -> None:
    body = b'{"error":{"message":"%s"}}' % message.encode()
    assert parse_wait({}, body, now=NOW) == (None if wait is None else pytest.approx(wait))


def test_headers_inside_a_body_count_where_there_are_none_outside() -> None:
    reset = f"{(NOW + 77) * 1e3:.0f}"
    inside = (
        b'{"error":{"metadata":{"headers":{"X-RateLimit-Remaining":"0","X-RateLimit-Reset":"%s"}}}}' % reset.encode()
    )
    assert parse_wait({}, inside, now=NOW) == pytest.approx(77)
    assert parse_wait({}, inside, now=None) is None
    assert parse_wait({"retry-after": "2"}, inside, now=NOW) == 2.0


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "date", "a-remaining", "a-reset"]), st.text()))
def test_a_wait_is_never_absurd(headers: dict[str, str]) -> None:
    wait = parse_wait(headers, b"[1, {", now=NOW)
    assert wait is None or 0 <= wait <= LONGEST_WAIT


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.225, "225ms"),
        (0.0001, "1ms"),
        (2.137, "2.137s"),
        (64, "1m4s"),
        (3630.5, "1h0m30.5s"),
        (-3, "0s"),
    ],
)
def test_written_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(0, 1e5))
def test_a_written_duration_is_read_back_and_never_shorter(seconds: float) -> None:
    read = parse_duration(format_duration(seconds))
    assert read is not None
    assert -1e-6 <= read - seconds <= 1.001e-3

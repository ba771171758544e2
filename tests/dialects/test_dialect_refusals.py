"""Statuses and bodies of many providers, and what each means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.dialects import DIALECTS
from agentmesh.dialects.base import Refusal
from agentmesh.dialects.excerpts import excerpt, short_text
from agentmesh.dialects.json_text import read_json, write_json
from agentmesh.dialects.refusals import PARK_AFTER, hidden_refusal, read_refusal
from agentmesh.errors import ErrorInfo, ErrorKind


def openai(message: str = "no", **fields: object) -> bytes:
    return write_json({"error": {"message": message, **fields}})


def refuse(status: int, body: bytes = b"", **headers: str) -> Refusal:
    return read_refusal(status, {name.replace("_", "-"): text for name, text in headers.items()}, body, now=1e9)


TPM = "Rate limit reached on tokens per min (TPM): Limit 240000, Used 239000, Requested {}. Please try again in 775ms."
EXCEEDED = "rate_limit_exceeded"


def anthropic(message: str, kind: str = "rate_limit_error", **fields: object) -> bytes:
    return write_json({"type": "error", "error": {"type": kind, "message": message, **fields}})


PER_DAY = [{"violations": [{"quotaId": "RequestsPerDay"}]}, {"retryDelay": "3s"}]
SPENT = {"error_code": "enforced_spend_limit_reached"}
FREE_DAY = {"limit_source": "openrouter_free_tier_daily"}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (429, openai(TPM.format(5100), type="tokens", code=EXCEEDED), "pushed_back rate 0.775"),
        (429, openai(TPM.format(250000), type="tokens", code=EXCEEDED), "fail bad_request"),
        (429, openai("Request too large for m-x", code=EXCEEDED), "fail bad_request"),
        (429, openai("You exceeded it", type="insufficient_quota", code="insufficient_quota"), "stop quota"),
        (429, openai("slower", code="slow_down"), "pushed_back rate load"),
        (429, openai("requests per day (RPD): try again in 2m12s", code=EXCEEDED), "pushed_back rate 132"),
        (429, openai("on tokens per day (TPD): try again in 2h", code=EXCEEDED), "stop quota 7200"),
        (429, openai("free-models-per-day", metadata=FREE_DAY), "stop quota 80000"),
        (429, openai("Your team has used all available credits"), "stop quota"),
        (429, anthropic("too many", details=SPENT), "stop quota 1.8944e+06"),
        (429, anthropic("number of concurrent requests"), "pushed_back rate"),
        (429, b"[" + openai("m", details=PER_DAY) + b"]", "stop quota 18800"),
        (429, b'{"message":"m","type":"too_many_requests_error","code":"request_quota_exceeded"}', "pushed_back rate"),
        (429, b"", "pushed_back rate"),
        (402, openai("pay"), "stop quota"),
        (400, openai("Your credit balance is too low to access the API"), "stop quota"),
        (400, openai("You have reached your specified API usage limits."), "stop quota"),
        (400, openai("bad input: 'insufficient credit, your credit balance is too low'"), "fail bad_request"),
        (401, openai("who are you"), "stop auth"),
        (403, openai("not you"), "stop auth"),
        (403, openai("input + max_tokens exceed the context length"), "fail bad_request"),
        (403, openai("blocked by a guardrail"), "fail filtered"),
        (400, openai("no", code="content_filter", innererror={}), "fail filtered"),
        (400, openai("no", code="context_length_exceeded"), "fail bad_request"),
        (400, openai("Failed to call a function", code="tool_use_failed"), "retry invalid_output"),
        (404, openai("no such model"), "fail bad_request"),
        (413, openai("too big"), "fail bad_request"),
        (413, openai("Request too large: Limit 8000, Requested 20480", code=EXCEEDED), "fail bad_request"),
        (422, b'{"detail":[{"loc":["body","model"],"msg":"field required"}]}', "fail bad_request"),
        (418, b"", "fail bad_request"),
        (302, b"", "fail bad_request"),
        (408, b"", "retry timeout"),
        (409, b"", "retry server"),
        (498, openai(code="capacity_exceeded"), "retry server load"),
        (500, openai("oops"), "retry server"),
        (502, b"<html><title>Bad Gateway</title></html>", "retry server"),
        (503, openai(code="server_is_overloaded"), "retry server load"),
        (504, b"", "retry server"),
        (520, b"", "retry server"),
        (529, anthropic("Overloaded", "overloaded_error"), "retry server load"),
        (501, b"", "fail server"),
        (204, b"", "retry server"),
    ],
)  # fmt: skip
def test_statuses(status: int, body: bytes, expected: str) -> None:
    refusal = refuse(status, body)
    shown: list[str] = [refusal.verdict, refusal.error.kind]
    shown += [] if refusal.wait is None else [f"{refusal.wait:g}"]
    shown += ["load"] if refusal.load else []
    assert " ".join(shown) == expected
    assert refusal.error.status == status
    assert refusal.error.retryable == (refusal.verdict in ("pushed_back", "retry") or refusal.wait is not None)


@pytest.mark.parametrize("status", [503, 529])
def test_overload_with_a_wait_is_a_push_back(status: int) -> None:
    refusal = refuse(status, retry_after="4")
    assert (refusal.verdict, refusal.error.kind, refusal.wait, refusal.load) == ("pushed_back", "server", 4.0, True)
    assert refuse(status, retry_after="never").verdict == "retry"
    assert refuse(status, openai("try again in 3s")).verdict == "retry"


def test_a_long_wait_parks_the_endpoint() -> None:
    assert refuse(429, retry_after=f"{PARK_AFTER:.0f}").verdict == "pushed_back"
    parked = refuse(429, retry_after="7200")
    assert (parked.verdict, parked.error.kind, parked.wait, parked.error.retryable) == ("stop", "quota", 7200.0, True)
    assert refuse(503, retry_after="7200").error.kind == "server"


def test_the_provider_may_overrule_its_status() -> None:
    assert refuse(400, x_should_retry="true").verdict == "retry"
    assert refuse(500, x_should_retry="false").verdict == "fail"
    assert refuse(429, x_should_retry="false").verdict == "pushed_back"
    assert refuse(401, x_should_retry="true").verdict == "stop"


PAGE = "HTTP 500 Internal Server Error, with an HTML page"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (openai("  Two\n lines "), "Two lines"),
        (b'{"error":"model not loaded"}', "model not loaded"),
        (b'{"message":"flat","id":"x"}', "flat"),
        (b'"just text"', "just text"),
        (b'{"detail":[{"loc":["body","model"],"msg":"field required"}]}', "body.model: field required"),
        (b'{"detail":{"message":"nested"}}', "nested"),
        (b"", "HTTP 500 Internal Server Error, with an empty body"),
        (b'{"ok":0}', 'HTTP 500 Internal Server Error, with "{"ok":0}"'),
        (b"upstream gone", 'HTTP 500 Internal Server Error, with "upstream gone"'),
        (b"<!DOCTYPE html><style>p{}</style><h1>502 Bad &amp; gone</h1>", f'{PAGE}: "502 Bad & gone"'),
        (b"<html><body>No <b>title</b></body>", f'{PAGE}: "No title"'),
        (b"<html></html>", PAGE),
    ],
)
def test_messages_are_the_providers_own(body: bytes, message: str) -> None:
    assert refuse(500, body).error.message == message


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-abc123def456ghi789",
        "sk-abcd********************wxyz",
        "sk-ant-api03-A1b2C3d4E5f6",
        "gsk_a1b2c3d4e5f6g7h8",
        "AIzaSyA1b2C3d4E5f6G7h8I9",
        "0123456789abcdef0123456789abcdef",
    ],
)
def test_no_key_in_any_message(key: str) -> None:
    for message in (f"Incorrect API key provided: {key}.", f"Authorization: Bearer {key}", f"{key} is unknown"):
        shown = refuse(401, openai(message)).error.message
        assert key not in shown
        assert "[key]" in shown
        assert key not in refuse(500, f"<html>{message}</html>".encode()).error.message
        assert key not in excerpt(message.encode())


@pytest.mark.parametrize(
    "text",
    [
        "Set api_key: OPENAI_API_KEY is missing",
        "model accounts/fireworks/models/deepseek-v4p1-flash not found, request req_011CSHoEeqs5C35K2UUqR7Fy",
        "DeepSeek-R1-Distill-Qwen-32B-preview-20250101 has a task-2024-overview",
    ],
)
def test_other_words_stay(text: str) -> None:
    assert short_text(text) == text


def test_messages_are_short() -> None:
    assert len(refuse(400, openai("word " * 1000)).error.message) <= 300
    assert short_text("abcdef", limit=4) == "abc…"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"error": {"code": 429, "message": "slow"}}, ("pushed_back", "rate", 429)),
        ({"error": {"code": "502", "message": "gone"}}, ("retry", "server", 502)),
        ({"error": {"type": "overloaded_error", "message": "busy"}}, ("retry", "server", 529)),
        ({"error": {"type": "invalid_request_error", "message": "bad"}}, ("fail", "bad_request", 400)),
        ({"error": {"type": "authentication_error", "message": "key"}}, ("stop", "auth", 401)),
        ({"object": "error", "message": "flat", "code": 404}, ("fail", "bad_request", 404)),
        ({"error": "something broke"}, ("retry", "server", 500)),
        ({"error": {"code": 7, "message": "odd"}}, ("retry", "server", 500)),
    ],
)
def test_errors_hidden_in_a_success(value: object, expected: tuple[str, str, int]) -> None:
    refusal = hidden_refusal(value)
    assert (refusal.verdict, refusal.error.kind, refusal.error.status) == expected


KINDS: list[tuple[int, ErrorKind]] = [
    (429, "rate"), (429, "quota"), (401, "auth"), (400, "bad_request"), (404, "bad_request"), (413, "bad_request"),
    (500, "server"), (503, "server"),
]  # fmt: skip


@pytest.mark.parametrize("name", sorted(DIALECTS))
@pytest.mark.parametrize(("status", "kind"), KINDS)
def test_written_refusals_are_read_back(name: str, status: int, kind: ErrorKind) -> None:
    one = DIALECTS[name]
    body = one.write_refusal(status, ErrorInfo(kind, "because of this", status))
    read = one.read_refusal(status, {}, body, now=0.0).error
    assert (read.kind, read.status) == (kind, status)
    assert read.message.startswith("because of this")


KEYS = ["error", "message", "type", "code", "detail", "details", "metadata", "raw", "headers", "retry_after"]
HEADERS = [
    "retry-after",
    "retry-after-ms",
    "date",
    "location",
    "x-amzn-errortype",
    "x-remaining-tokens",
    "x-should-retry",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)


@given(st.integers(100, 700), JSON.map(write_json) | st.binary(), st.dictionaries(st.sampled_from(HEADERS), st.text()))
def test_no_body_makes_it_raise(status: int, body: bytes, headers: dict[str, str]) -> None:
    assert read_refusal(status, headers, body, now=0.0).error.message


@given(JSON)
def test_no_value_inside_a_success_makes_it_raise(value: object) -> None:
    assert hidden_refusal(value).error.message


@pytest.mark.parametrize("code", ["9" * 5000, "²34", "4291", "-429", "429.0"])
def test_a_code_that_is_no_status(code: str) -> None:
    assert hidden_refusal({"error": {"code": code, "message": "odd"}}).error.status == 500


def test_json_with_cut_emoji_is_mended_both_ways() -> None:
    assert read_json(rb'{"a": "x\ud83d", "b": "\ud83d\ude00"}') == {"a": "x\ufffd", "b": "😀"}
    assert read_json(write_json({"a": "x\ud83d", "b": ("\ud83d\ude00",)})) == {"a": "x\ufffd", "b": ["😀"]}


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 200_000])
def test_what_is_no_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        read_json(text)

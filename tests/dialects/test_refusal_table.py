"""Provider by provider: every form in which one refuses, and what it means."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agentmesh.dialects import DIALECTS
from agentmesh.dialects.base import Excess, Refusal
from agentmesh.dialects.json_text import write_json
from agentmesh.dialects.refusals import hidden_refusal, read_refusal
from agentmesh.dialects.reopening import next_day_in_california, next_day_utc, next_month_utc

NOW = datetime(2031, 5, 20, 12, tzinfo=UTC).timestamp()  # 05:00 in California
TO_MIDNIGHT, TO_CALIFORNIA, TO_JUNE = 12 * 3600, 19 * 3600, 11 * 86400 + 12 * 3600
DAY_RESET = str(int(NOW + TO_MIDNIGHT) * 1000)

Body = bytes | dict[str, Any] | list[Any]


def said(message: str = "no", **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


def anthropic(message: str, kind: str = "rate_limit_error", **fields: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message, **fields}, "request_id": "req_5"}


def google(quota: str, delay: str | None = None, status: str = "RESOURCE_EXHAUSTED") -> list[Any]:
    failure = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]}
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    return [said("Quota is used up.", code=429, status=status, details=[failure, *([info] if delay else [])])]


def refuse(status: int, body: Body = b"", headers: dict[str, str] | None = None) -> Refusal:
    raw = body if isinstance(body, bytes) else write_json(body)
    refusal = read_refusal(status, headers or {}, raw, now=NOW)
    for dialect in DIALECTS.values():  # whoever passes it on
        assert dialect.read_refusal(status, headers or {}, raw, now=NOW) == refusal
    return refusal


def shown(refusal: Refusal) -> str:
    """`verdict kind wait load unit excess`, without what is not there."""
    parts: list[str] = [refusal.verdict, refusal.error.kind]
    parts += [] if refusal.wait is None else [f"{refusal.wait:.10g}"]
    parts += ["load"] if refusal.load else []
    parts += [refusal.unit] if refusal.unit else []
    parts += [f"{refusal.excess.requested}>{refusal.excess.limit}"] if refusal.excess else []
    return " ".join(parts)


RATE = "Rate limit reached for m-9 on {}: Limit {}, Used {}, Requested {}. Please try again in {}."
TPM, RPM, TPD, RPD = (f"{unit}s per {span}" for span in ("min", "day") for unit in ("token", "request"))
LARGE = "Request too large for m-9 on tokens per minute (TPM): Limit {}, Requested {}, please send a smaller one."
EXCEEDED = {"code": "rate_limit_exceeded"}

OPENAI: list[tuple[int, Body, str]] = [
    (429, said(RATE.format(TPM, 70000, 69000, 4100, "2.6s"), type="tokens", **EXCEEDED), "pushed_back rate 2.6 tokens"),
    (429, said(RATE.format(RPM, 60, 60, 1, "940ms"), type="requests", **EXCEEDED), "pushed_back rate 0.94 requests"),
    (429, said(LARGE.format(70000, 90000), type="tokens", **EXCEEDED), "fail bad_request 90000>70000"),
    (429, said(RATE.format(TPM, "70,000", 0, "90,000", "9s"), **EXCEEDED), "fail bad_request 90000>70000"),
    (429, said("Request too large for m-9.", **EXCEEDED), "fail bad_request"),
    (429, said("Nothing left.", type="insufficient_quota", code="insufficient_quota"), "stop quota"),
    (429, said("Your rate grew too fast.", code="slow_down"), "pushed_back rate load"),
    (429, said("Resource unavailable: flex is full.", code="resource_unavailable"), "retry rate load"),
    (429, said(RATE.format(RPD, 200, 200, 1, "7m12s"), **EXCEEDED), "stop quota 432 requests"),
    (503, said("Too busy.", code="server_is_overloaded"), "retry server load"),
    (500, said("Oops."), "retry server"),
    (502, b"", "retry server"),
    (504, b"", "retry server"),
    (408, b"", "retry timeout"),
    (409, said("Two at once."), "retry server"),
    (401, said("Who?", code="invalid_api_key"), "stop auth"),
    (403, said("Not in this country."), "stop auth"),
    (404, said("No such model.", code="model_not_found"), "fail bad_request"),
    (400, said("What?", type="invalid_request_error"), "fail bad_request"),
    (400, said("Too long.", code="context_length_exceeded"), "fail bad_request"),
    (
        400,
        said("This model's maximum context length is 4000 tokens. However, you requested 4600 tokens (600 in ..."),
        "fail bad_request 4600>4000",
    ),
    (
        400,
        said("max_tokens is too large: 9000. This model supports at most 8000 completion tokens."),
        "fail bad_request 9000>8000",
    ),
    (422, said("No."), "fail bad_request"),
]

AZURE: list[tuple[int, Body, str]] = [
    (
        429,
        said(
            "Requests to this operation have exceeded the token rate limit. Please retry after 14 seconds.", code="429"
        ),
        "pushed_back rate 14 tokens",
    ),
    (429, said("We see high demand.", code="429"), "pushed_back rate load"),
    (429, said("We are temporarily unable to serve you.", code="429"), "pushed_back rate load"),
    (400, said("Filtered.", code="content_filter", innererror={"content_filter_result": {}}), "fail filtered"),
]

ANTHROPIC: list[tuple[int, Body, str]] = [
    (429, anthropic("This would be above your 30,000 input tokens per minute."), "pushed_back rate tokens"),
    (429, anthropic("The number of concurrent requests is above your limit."), "pushed_back rate in_flight"),
    (429, anthropic("Your use accelerated too sharply."), "pushed_back rate load"),
    (429, anthropic("Enough.", details={"error_code": "enforced_spend_limit_reached"}), f"stop quota {TO_JUNE}"),
    (400, anthropic("You have reached your specified API usage limits.", "invalid_request_error"), "stop quota"),
    (
        400,
        anthropic(
            "You have reached your specified API usage limits. You will regain access on 2031-06-01 at 00:00 UTC."
        ),
        f"stop quota {TO_JUNE}",
    ),
    (402, anthropic("Pay.", "billing_error"), "stop quota"),
    (529, anthropic("Too busy.", "overloaded_error"), "retry server load"),
    (500, anthropic("Oops.", "api_error"), "retry server"),
    (504, anthropic("Too slow.", "timeout_error"), "retry server"),
    (413, anthropic("Above 32 MB.", "request_too_large"), "fail bad_request"),
    (400, anthropic("What?", "invalid_request_error"), "fail bad_request"),
    (
        400,
        anthropic("input length and `max_tokens` exceed context limit: 19000 + 2000 > 20000", "invalid_request_error"),
        "fail bad_request 21000>20000",
    ),
    (
        400,
        anthropic("max_tokens: 9000 > 8000, the most that m-9 may write", "invalid_request_error"),
        "fail bad_request 9000>8000",
    ),
    (404, anthropic("No such model.", "not_found_error"), "fail bad_request"),
    (401, anthropic("Who?", "authentication_error"), "stop auth"),
    (403, anthropic("Not you.", "permission_error"), "stop auth"),
]

GEMINI: list[tuple[int, Body, str]] = [
    (429, google("GenerateRequestsPerMinutePerModel-Free", "41s"), "pushed_back rate 41 requests"),
    (429, google("PaidTierInputTokensPerModelPerMinute-Tier7", "0.7s"), "pushed_back rate 0.7 tokens"),
    (429, google("GenerateRequestsPerDayPerModel-Free", "3s"), f"stop quota {TO_CALIFORNIA} requests"),
    (429, google("GenerateRequestsPerDayPerModel-Free", "65205s"), f"stop quota {TO_CALIFORNIA} requests"),
    (429, google("GenerateRequestsPerDayPerModel-Free"), f"stop quota {TO_CALIFORNIA} requests"),
    (429, said("Shared by all.", code=429, status="RESOURCE_EXHAUSTED"), "retry rate load"),
    (503, said("Too busy.", code=503, status="UNAVAILABLE"), "retry server load"),
    (500, said("Oops.", code=500, status="INTERNAL"), "retry server"),
    (504, said("Too slow.", code=504, status="DEADLINE_EXCEEDED"), "retry server"),
    (400, said("What?", code=400, status="INVALID_ARGUMENT"), "fail bad_request"),
    (400, said("Not here.", code=400, status="FAILED_PRECONDITION"), "fail bad_request"),
    (400, said("Bad key.", code=400, details=[{"reason": "API_KEY_INVALID"}]), "stop auth"),
    (403, said("Not you.", code=403, status="PERMISSION_DENIED"), "stop auth"),
    (404, said("No such model.", code=404), "fail bad_request"),
]

GROQ: list[tuple[int, Body, str]] = [
    (429, said(RATE.format(TPM, 9000, 8000, 1200, "1.33s"), type="tokens", **EXCEEDED), "pushed_back rate 1.33 tokens"),
    (429, said(RATE.format(TPD, 300000, 300000, 900, "9m12.5s"), **EXCEEDED), "stop quota 552.5 tokens"),
    (429, said(RATE.format(TPD, 300000, 299900, 900, "1m2s"), **EXCEEDED), "pushed_back rate 62 tokens"),
    (429, said("No more requests per day (RPD).", **EXCEEDED), "stop quota"),
    (413, said(LARGE.format(9000, 21480), type="tokens", **EXCEEDED), "fail bad_request 21480>9000"),
    (
        413,
        said("Request too large on input tokens per minute (ITPM): Limit 9000, Requested 21480", **EXCEEDED),
        "fail bad_request",
    ),
    (413, said("A body of 30 MB."), "fail bad_request"),
    (498, said("No room.", code="capacity_exceeded"), "retry server load"),
]


def cerebras(code: str, message: str = "No.") -> Body:
    return {"message": message, "type": "too_many_requests_error", "param": "quota", "code": code}


OTHERS: list[tuple[int, Body, str]] = [
    # Mistral
    (429, {"object": "error", "message": "Slower.", "type": "rate_limit_error", "code": "1300"}, "pushed_back rate"),
    (422, {"detail": [{"loc": ["body", "top_p"], "msg": "too high"}]}, "fail bad_request"),
    # Cerebras
    (429, cerebras("request_quota_exceeded"), "pushed_back rate requests"),
    (429, cerebras("token_quota_exceeded"), "pushed_back rate tokens"),
    (429, cerebras("queue_exceeded"), "pushed_back rate load"),
    (429, cerebras("request_quota_exceeded", "The limit of requests per day is reached."), "stop quota"),
    # DeepSeek
    (429, said("You have too many concurrent calls."), "pushed_back rate in_flight"),
    (402, said("The balance is empty."), "stop quota"),
    (503, said("Too busy."), "retry server load"),
    # OpenRouter
    (429, said("Slower.", code=429, metadata={"error_type": "rate_limit_exceeded"}), "pushed_back rate"),
    (429, said("Slower.", code=429, metadata={"retry_after_seconds": 12}), "pushed_back rate 12"),
    (402, said("More credits, please.", code=402), "stop quota"),
    (502, said("Gone.", code=502, metadata={"error_type": "provider_unavailable"}), "retry server"),
    (503, said("Busy.", code=503, metadata={"error_type": "provider_overloaded"}), "retry server load"),
    (403, said("Blocked by a guardrail.", code=403), "fail filtered"),
    (
        429,
        said("free-models-per-day", metadata={"limit_source": "openrouter_free_tier_daily"}),
        f"stop quota {TO_MIDNIGHT}",
    ),
    # Together
    (402, said("The month's spending limit."), "stop quota"),
    (403, said("Input and max_new_tokens are above the context."), "fail bad_request"),
    (
        403,
        said("`inputs` + `max_new_tokens` must be <= 4097. Given: 3000 `inputs` and 2000 `max_new_tokens`"),
        "fail bad_request 5000>4097",
    ),
    (429, said("Slower.", error_type="dynamic_request_limited"), "pushed_back rate requests"),
    (429, said("Slower.", error_type="dynamic_token_limited"), "pushed_back rate tokens"),
    (503, said("Ours, not yours."), "retry server load"),
    # Cohere
    (429, {"message": "This key may do 20 calls / minute.", "id": "a"}, "pushed_back rate"),
    (429, {"message": "A trial key may do 1000 calls / month.", "id": "a"}, "stop quota"),
    (402, {"message": "The cap is reached.", "id": "a"}, "stop quota"),
    (499, {"message": "You left.", "id": "a"}, "fail bad_request"),
    # xAI
    (429, said("Slower."), "pushed_back rate"),
    (429, {"code": "Exhausted", "error": "Your team used all its credits, or reached its monthly spending limit."},
     "stop quota"),
    # Bedrock
    (429, {"__type": "ThrottlingException", "message": "Too many tokens, wait a little."}, "pushed_back rate tokens"),
    (429, {"__type": "ThrottlingException", "message": "Too many tokens per day, wait a little."}, "stop quota"),
    (429, {"__type": "ModelNotReadyException", "message": "Not yet."}, "retry server"),
    (503, {"__type": "ServiceUnavailableException", "message": "Later."}, "retry server load"),
    (400, {"__type": "ValidationException", "message": "What?"}, "fail bad_request"),
    (403, {"__type": "AccessDeniedException", "message": "Not you."}, "stop auth"),
    (424, {"__type": "ModelErrorException", "message": "It broke."}, "retry server"),
    # Ollama, llama.cpp, vLLM, our own
    (503, {"error": "busy: maximum pending requests exceeded"}, "pushed_back server load in_flight"),
    (429, {"error": "too many concurrent calls"}, "pushed_back rate in_flight"),
    (503, said("Loading model", code=503, type="unavailable_error"), "retry server"),
    (400, said("Too long.", type="exceed_context_size_error", n_prompt_tokens=900, n_ctx=512), "fail bad_request"),
    (400, said("What?", type="BadRequestError", param=None, code=400), "fail bad_request"),
    (
        400,
        said("'max_tokens' is too large: 5000. This model's maximum context length is 4096 tokens and your request has "
             "200 input tokens"),
        "fail bad_request 5200>4096",
    ),
    (400, {"object": "error", "message": "What?", "type": "BadRequestError", "code": 400}, "fail bad_request"),
    (400, said("Request too large for tokens per minute of m-9: limit 8000, requested 20480."),
     "fail bad_request 20480>8000"),
    (429, said("Rate limit reached for in flight of account."), "pushed_back rate in_flight"),
    # gateways
    *[(status, b"<html><h1>Error</h1></html>", "retry server") for status in (403, 500, 502, 520, 524, 526)],
    (503, b"<html><h1>Error</h1></html>", "retry server load"),
    (429, b"<html><h1>Slower</h1></html>", "pushed_back rate"),
    (404, b"<html><h1>Not found</h1></html>", "fail bad_request"),
    (401, b"<html><h1>Sign in</h1></html>", "stop auth"),
    (502, b"", "retry server"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "expected"), [*OPENAI, *AZURE, *ANTHROPIC, *GEMINI, *GROQ, *OTHERS], ids=lambda value: None
)
def test_every_form_of_refusal(status: int, body: Body, expected: str) -> None:
    assert shown(refuse(status, body)) == expected


@pytest.mark.parametrize(
    ("status", "body", "headers", "expected"),
    [
        (429, said("Slower."), {"retry-after-ms": "2650", "retry-after": "3"}, "pushed_back rate 2.65"),
        (429, said("Slower."), {"retry-after": "Tue, 20 May 2031 12:00:30 GMT"}, "pushed_back rate 30"),
        (429, said("Slower."), {"x-ratelimit-remaining-tokens-minute": "0", "x-ratelimit-reset-tokens-minute": "12.9"},
         "pushed_back rate 12.9"),
        (429, cerebras("queue_exceeded"), {"x-should-retry": "false"}, "pushed_back rate load"),
        (429, cerebras("request_quota_exceeded"),
         {"x-ratelimit-remaining-requests-day": "0", "x-ratelimit-reset-requests-day": "8413.07"},
         "stop quota 8413.07 requests"),
        (429, said("Slower. Requested 900"), {"x-ratelimit-remaining-tokens": "400", "x-ratelimit-reset-tokens": "7"},
         "pushed_back rate 7"),
        (429, said("Slower. Requested 300"), {"x-ratelimit-remaining-tokens": "400", "x-ratelimit-reset-tokens": "7"},
         "pushed_back rate"),
        (429, said("Slower."), {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "0"},
         "pushed_back rate"),
        (429, said("Slower."), {"retry-after": "0"}, "pushed_back rate"),
        (429, said("Slower.", retry_after_ms=1500), {}, "pushed_back rate 1.5"),
        (429, said("Slower."), {"retry-after": "86400"}, "stop quota 86400"),
        (429, said("Slower."), {"retry-after": "604800"}, "stop quota 604800"),
        (429, anthropic("Enough.", details={"error_code": "enforced_spend_limit_reached"}),
         {"date": "Tue, 20 May 2031 13:00:00 GMT"}, f"stop quota {TO_JUNE - 3600}"),
        (429, said("free-models-per-day", metadata={"limit_source": "openrouter_free_tier_daily"}),
         {"retry-after": "5", "x-ratelimit-remaining": "0", "x-ratelimit-reset": DAY_RESET},
         f"stop quota {TO_MIDNIGHT}"),
        (429, said("free-models-per-min", metadata={"headers": {
            "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NOW + 40) * 1000)}}), {}, "pushed_back rate 40"),
        (429, {"message": "Not yet."}, {"x-amzn-errortype": "ModelNotReadyException:http://x"}, "retry server"),
        (503, said("Busy."), {"retry-after": "4"}, "pushed_back server 4 load"),
        (503, said("Busy.", details=[{"retryDelay": "6s"}]), {}, "pushed_back server 6 load"),
        (529, anthropic("Busy.", "overloaded_error"), {"retry-after-ms": "700"}, "pushed_back server 0.7 load"),
        (503, said("Busy."), {"retry-after": "0"}, "retry server load"),
        (503, said("Busy."), {"retry-after": "86400"}, "stop server 86400"),
        (503, said("Busy."), {"x-should-retry": "false"}, "fail server load"),
    ],
    ids=lambda value: None,
)  # fmt: skip
def test_what_headers_add(status: int, body: Body, headers: dict[str, str], expected: str) -> None:
    assert shown(refuse(status, body, headers)) == expected


@pytest.mark.parametrize(
    "text",
    ["86400000000", "-5", "nan", "NaN", "inf", "1e400", "-1e400", "soon", "", "Tue, 20 May 2031 09:00:00 GMT",
     "9" * 400, "Tue, 99 May 2031 09:00:00 GMT", "0", "\x00", "٣", "1_0"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["retry-after", "retry-after-ms"])
def test_a_wait_that_is_none_is_not_told(name: str, text: str) -> None:
    assert shown(refuse(429, said("Slower."), {name: text})) == "pushed_back rate"


@pytest.mark.parametrize("hours", [-1, 1, 5])
def test_a_clock_that_is_wrong_changes_no_wait(hours: int) -> None:
    """Instants are the server's, and so is the date they are measured against."""
    theirs = datetime.fromtimestamp(NOW + 3600 * hours, UTC)
    date = f"{theirs:%a, %d %b %Y %H:%M:%S} GMT"
    later = f"{theirs:%a, %d %b %Y %H:%M}:25 GMT"
    assert refuse(429, b"", {"date": date, "retry-after": later}).wait == 25.0
    reset = {"anthropic-ratelimit-requests-remaining": "0"}
    reset["anthropic-ratelimit-requests-reset"] = f"{theirs:%Y-%m-%dT%H:%M}:25Z"
    assert refuse(429, b"", {"date": date, **reset}).wait == 25.0


def test_a_date_out_of_its_mind_is_not_believed_for_calendars() -> None:
    for date in ("Fri, 31 Dec 9999 23:59:59 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "yesterday"):
        refusal = refuse(429, google("GenerateRequestsPerDay"), {"date": date})
        assert refusal.wait == TO_CALIFORNIA


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (said("Slower.", code=429, metadata={"headers": {"Retry-After": "8"}}), "pushed_back rate 8"),
        (said("Gone.", code=502), "retry server"),
        (said("Pay.", code=402), "stop quota"),
        (said("Not you.", code=403), "stop auth"),
        (said("What?", code=400), "fail bad_request"),
        (anthropic("Too busy.", "overloaded_error"), "retry server load"),
        (said("The day is over.", code=429, metadata={"limit_source": "openrouter_free_tier_daily"}), "stop quota"),
        (google("GenerateRequestsPerDay")[0], "stop quota"),
    ],
    ids=lambda value: None,
)
def test_an_error_inside_a_success(value: dict[str, Any], expected: str) -> None:
    assert shown(hidden_refusal(value)) == expected


# --- what people read


FIREWALL = "a firewall or a proxy on the way refused it, not the provider's API"


@pytest.mark.parametrize(
    ("status", "body", "headers", "message"),
    [
        (413, said(LARGE.format(8000, 20480)), {},
         LARGE.format(8000, 20480) + " (12,480 tokens too many: send a shorter prompt or ask for fewer max_tokens)"),
        (429, said("On input tokens per minute: Limit 8000, Requested 9000."), {},
         "On input tokens per minute: Limit 8000, Requested 9000. (1,000 tokens too many: send a shorter prompt)"),
        (429, said("Request too large for m-9."), {},
         "Request too large for m-9. (send a shorter prompt or ask for fewer max_tokens)"),
        (429, said("Enough for today."), {"retry-after": "86400"}, "Enough for today. (it may answer again in 24 h)"),
        (429, said("Enough."), {"retry-after": "604800"}, "Enough. (it may answer again in 7 days)"),
        (429, said("Enough."), {"retry-after": "600"}, "Enough. (it may answer again in 10 min)"),
        (502, b"<html><head><title>502 Bad Gateway</title></head><body><h1>502</h1></body></html>", {},
         'HTTP 502 Bad Gateway, with an HTML page: "502 Bad Gateway"'),
        (403, b"<!DOCTYPE html><h1>Sorry, you are blocked</h1>", {},
         f'HTTP 403 Forbidden, with an HTML page: "Sorry, you are blocked" ({FIREWALL})'),
        (404, b"\xef\xbb\xbf <p>Nothing <b>here</b></p>", {},
         'HTTP 404 Not Found, with an HTML page: "Nothing here" (is base_url right?)'),
        (302, b"", {"location": "https://sign.in/"},
         "HTTP 302 Found, which sends us to https://sign.in/ (is base_url right?)"),
        (520, b"", {}, "HTTP 520, with an empty body"),
        (500, b"upstream gone", {}, 'HTTP 500 Internal Server Error, with "upstream gone"'),
        (429, said("Provider returned error", metadata={
            "raw": '{"error":{"message":"m-9 is busy"}}', "provider_name": "Acme"}), {},
         "Provider returned error (Acme: m-9 is busy)"),
        (429, said("Provider returned error", metadata={"raw": "busy"}), {},
         "Provider returned error (the provider behind it: busy)"),
    ],
    ids=lambda value: None,
)  # fmt: skip
def test_messages_say_what_and_what_to_do(status: int, body: Body, headers: dict[str, str], message: str) -> None:
    assert refuse(status, body, headers).error.message == message


def test_an_excess_says_by_how_much() -> None:
    refusal = refuse(413, said(LARGE.format("8,000", "20,480")))
    assert refusal.excess == Excess(limit=8000, requested=20480)
    assert refusal.excess.by == 12480


# --- calendars


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("now", "midnight"),
    [
        ("2031-05-20T06:59:59", "2031-05-20T07:00:00"),
        ("2031-05-20T07:00:00", "2031-05-21T07:00:00"),
        ("2031-01-15T07:30:00", "2031-01-15T08:00:00"),
        ("2031-01-15T08:00:00", "2031-01-16T08:00:00"),
        ("2031-03-08T12:00:00", "2031-03-09T08:00:00"),  # the night in which the clocks go forward
        ("2031-03-09T12:00:00", "2031-03-10T07:00:00"),
        ("2031-11-01T12:00:00", "2031-11-02T07:00:00"),  # and back
        ("2031-11-02T07:30:00", "2031-11-03T08:00:00"),
        ("2031-12-31T23:00:00", "2032-01-01T08:00:00"),
    ],
)
def test_midnight_in_california(now: str, midnight: str) -> None:
    assert next_day_in_california(at(now)) == at(midnight)


def test_days_and_months_of_utc() -> None:
    assert next_day_utc(at("2031-12-31T23:59:59")) == next_month_utc(at("2031-12-31T00:00:00")) == at("2032-01-01")
    assert next_month_utc(at("2032-01-31T10:00:00")) == at("2032-02-01")
    assert next_day_utc(at("2031-05-20T00:00:00")) == at("2031-05-21")

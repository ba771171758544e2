"""Of what there was too much, in the words of those who refused."""

from __future__ import annotations

import pytest

from agentmesh.dialects.refusals import read_refusal


@pytest.mark.parametrize(
    ("message", "unit"),
    [
        ("Rate limit reached for large on tokens per min (TPM): Limit 9000. Please try again in 2s.", "tokens"),
        ("Rate limit reached for large on requests per min (RPM): Limit 60. Please try again in 2s.", "requests"),
        ("This would exceed the limit of your organization of 40,000 input tokens per minute.", "tokens"),
        ("You are above your RPM.", "requests"),
        ("Slow down: requests per minute or tokens per minute.", None),
        ("Requests to this operation have exceeded the token rate limit of your tier.", "tokens"),
        ("Requests to this operation have exceeded the call rate limit of your tier.", "requests"),
        ("The number of concurrent requests is above what your account may have.", "in_flight"),
        ("Too many concurrent calls, wait for others to end.", "in_flight"),
        ("You have reached the concurrency limit of 500.", "in_flight"),
        ("Rate limit reached for in flight of account.", "in_flight"),
        ("Rate limit reached for requests per minute of account.", "requests"),
        ("Rate limit reached for tokens per 10s of m.", "tokens"),
        ("Rate limit reached for output tokens per minute of pool p.", "tokens"),
        ("Server busy: maximum pending requests exceeded", "in_flight"),
        ("Too many tokens per minute: lower your concurrency.", None),
        ("Too many requests.", None),
        ("", None),
    ],
)
def test_the_unit_that_the_message_names(message: str, unit: str | None) -> None:
    body = b'{"error": {"message": "%s", "type": "requests"}}' % message.encode()
    refusal = read_refusal(429, {"retry-after": "2"}, body, now=0.0)
    assert (refusal.verdict, refusal.wait, refusal.unit) == ("pushed_back", 2.0, unit)


@pytest.mark.parametrize(
    ("fields", "unit"),
    [
        (b'"code": "request_quota_exceeded"', "requests"),
        (b'"code": "token_quota_exceeded"', "tokens"),
        (b'"error_type": "dynamic_request_limited"', "requests"),
        (b'"error_type": "dynamic_token_limited"', "tokens"),
        (b'"code": "concurrency_limit_exceeded"', "in_flight"),
        (b'"details": [{"violations": [{"quotaId": "GenerateRequestsPerMinutePerProject"}]}]', "requests"),
        (b'"details": [{"violations": [{"quotaId": "TierInputTokensPerModelPerMinute"}]}]', "tokens"),
        (b'"type": "too_many_requests_error"', None),
    ],
)
def test_the_unit_that_a_code_names_where_the_message_does_not(fields: bytes, unit: str | None) -> None:
    body = b'{"error": {"message": "Slow down", %s}}' % fields
    assert read_refusal(429, {}, body, now=0.0).unit == unit

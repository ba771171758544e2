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
        ("Too many requests.", None),
        ("", None),
    ],
)
def test_the_unit_that_the_message_names(message: str, unit: str | None) -> None:
    body = b'{"error": {"message": "%s", "type": "requests"}}' % message.encode()
    refusal = read_refusal(429, {"retry-after": "2"}, body, now=0.0)
    assert (refusal.verdict, refusal.wait, refusal.unit) == ("pushed_back", 2.0, unit)

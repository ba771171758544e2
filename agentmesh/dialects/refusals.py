"""What a reply that is no success means: too fast, too busy, out of money, not allowed, or never possible.

A provider's words are read in whatever shape they come (an `error` object, a flat one, a text, a list, HTML), and the
rules are one table for all providers, since gateways pass on each other's bodies. The order matters: among the 429s
those that waiting does not cure come first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Literal

from ..errors import ErrorInfo, ErrorKind
from .base import Refusal
from .excerpts import excerpt, short_text
from .json_text import read_json, write_json
from .values import parse_wait

__all__ = ["PARK_AFTER", "Said", "hidden_refusal", "read_error", "read_refusal"]

PARK_AFTER = 600.0
"""Seconds. A provider that asks for more has run out of a day's or a month's quota: other endpoints should serve."""

_QUOTA = re.compile(
    r"insufficient[_ ](?:quota|balance|credit|funds)|billing_(?:error|hard_limit|not_active)|payment_required"
    r"|enforced_spend_limit|spend(?:ing)?[_ ]limit|credit balance|out of credits|used (?:up |all )?[\w ]{0,30}credits",
    re.IGNORECASE,
)
_DAY = re.compile(r"\b(?:TPD|RPD)\b|\bper[ _-]?day\b|PerDay|\bdaily\b|_daily\b", re.IGNORECASE)
_WORDS_OF_UNIT: Mapping[Literal["requests", "tokens", "in_flight"], re.Pattern[str]] = {
    "requests": re.compile(
        r"\brequests?(?: per\b|/)|\bRP[SMHD]\b|\b(?:call|request) rate limit|request_(?:quota|limited)|RequestsPer",
        re.IGNORECASE,
    ),
    "tokens": re.compile(
        r"\btokens?(?: per\b|/)|\b[IO]?TP[SMHD]\b|\btoken rate limit|token_(?:quota|limited)|TokensPer", re.IGNORECASE
    ),
    "in_flight": re.compile(
        r"concurren(?:t|cy)|\bin[ _-]?flight\b|\b(?:parallel|simultaneous|pending) (?:requests|calls)", re.IGNORECASE
    ),
}
_TOO_LARGE = re.compile(r"request too large|request_too_large", re.IGNORECASE)
_LIMIT_AND_ASKED = re.compile(r"\blimit:? ([\d,]+).{0,60}?\brequested:? ([\d,]+)", re.IGNORECASE | re.DOTALL)
_MONEY_IN_400 = re.compile(
    r"\W*you(?:r credit balance is too low| have reached your specified api usage)", re.IGNORECASE
)
_FILTERED = re.compile(r"content_filter|content_policy", re.IGNORECASE)
_GUARDED = re.compile(r"guardrail|moderation|content_filter", re.IGNORECASE)
_TOO_LONG = re.compile(r"context[ _](?:length|window)|maximum context|max_tokens", re.IGNORECASE)
_WRITTEN_BADLY = frozenset({"tool_use_failed", "json_validate_failed"})
_STATUS_OF_WORD = {
    "rate_limit_error": 429, "rate_limit_exceeded": 429, "too_many_requests": 429, "too_many_requests_error": 429,
    "tokens": 429, "requests": 429, "insufficient_quota": 429, "authentication_error": 401, "invalid_api_key": 401,
    "billing_error": 402, "payment_required": 402, "permission_error": 403, "not_found_error": 404,
    "model_not_found": 404, "invalid_request_error": 400, "badrequesterror": 400, "context_length_exceeded": 400,
    "content_filter": 400, "request_too_large": 413, "timeout_error": 504, "api_error": 500, "server_error": 500,
    "overloaded_error": 529, "server_is_overloaded": 503, "provider_overloaded": 503, "unavailable_error": 503,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Said:
    """A provider's words about an error. `everything` is the whole of it as text, to look for signs in."""

    message: str = ""
    type: str = ""
    code: str = ""
    everything: str = ""


def read_error(value: Any) -> Said:
    """The words in an error body, already parsed, of any shape; empty ones where there are none."""
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, str):
        return Said(value, everything=value)
    if not isinstance(value, Mapping):
        return Said()
    inner = value.get("error")
    if isinstance(inner, str):
        return Said(inner, everything=inner)
    if not isinstance(inner, Mapping):
        inner = value
    message = inner.get("message") or inner.get("detail")
    if isinstance(message, list):  # validation errors: [{"loc": ["body", "model"], "msg": "field required"}]
        message = "; ".join(_validation_error(one) for one in message)
    elif isinstance(message, Mapping):
        message = message.get("message") or message.get("error")
    kind, code = (str(word) if isinstance(word := inner.get(key), str | int) else "" for key in ("type", "code"))
    return Said(str(message or ""), kind, code, write_json(inner).decode())


def _validation_error(one: Any) -> str:
    if not isinstance(one, Mapping):
        return str(one)
    place = one.get("loc")
    shown = ".".join(str(part) for part in place) if isinstance(place, list) else ""
    return f"{shown}: {one.get('msg')}" if shown else str(one.get("msg"))


def read_refusal(status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> Refusal:
    """What a status other than 2xx means. `headers` have lower-case names; `now` is wall time. Never raises."""
    try:
        said = read_error(read_json(body))
    except ValueError:
        text = body[:4000].decode("utf-8", "replace")
        said = Said(excerpt(body) if body.strip() else "", everything=text)
    wait = parse_wait(headers, body, now=now)
    told = "retry-after" in headers or "retry-after-ms" in headers
    refusal = _refusal(status, said, wait=wait, told=told)
    match headers.get("x-should-retry"), refusal.verdict:  # overrules the status, but neither a wait nor a stop
        case "true", "fail":
            return replace(refusal, verdict="retry", error=replace(refusal.error, retryable=True))
        case "false", "retry":
            return replace(refusal, verdict="fail", error=replace(refusal.error, retryable=False))
    return refusal


def hidden_refusal(value: Any) -> Refusal:
    """What an error inside a 200, or inside a stream, means: its code or type stands for the status."""
    said = read_error(value)
    status = int(said.code) if said.code.isascii() and said.code.isdigit() and 400 <= int(said.code) < 600 else 0
    words = (said.code.lower(), said.type.lower())
    status = status or next((_STATUS_OF_WORD[word] for word in words if word in _STATUS_OF_WORD), 500)
    return _refusal(status, said, wait=parse_wait({}, write_json(value), now=None), told=False)


def _refusal(status: int, said: Said, *, wait: float | None, told: bool) -> Refusal:
    text = said.message or said.code or said.type
    if not text:
        known = status in HTTPStatus.__members__.values()
        text = f"HTTP {status}" + (f" {HTTPStatus(status).phrase}" if known else "")
    message = short_text(text) or f"HTTP {status}"

    def fail(kind: ErrorKind) -> Refusal:
        return Refusal("fail", ErrorInfo(kind, message, status))

    def retry(kind: ErrorKind, *, load: bool = False) -> Refusal:
        return Refusal("retry", ErrorInfo(kind, message, status, retryable=True), wait, load)

    def stop(kind: ErrorKind, until: float | None = None) -> Refusal:
        return Refusal("stop", ErrorInfo(kind, message, status, retryable=until is not None), until)

    def push_back(kind: ErrorKind, *, load: bool = False) -> Refusal:
        if wait is not None and wait > PARK_AFTER:
            return stop("quota" if kind == "rate" else kind, wait)
        return Refusal("pushed_back", ErrorInfo(kind, message, status, retryable=True), wait, load, _unit(said))

    match status:
        case 402:
            return stop("quota")
        case 403 | 429 if _QUOTA.search(said.everything):
            return stop("quota")
        case 400 if _MONEY_IN_400.match(said.message):  # at its beginning: a 400 may repeat a prompt that says so
            return stop("quota")
        case 413 | 429 if _never_fits(said):
            return fail("bad_request")
        case 429:
            if "PerDay" in said.everything:
                return stop("quota")  # its retryDelay is about the minute, not the day
            if wait is None and _DAY.search(said.everything):
                return stop("quota")
            return push_back("rate", load=said.code == "slow_down")
        case 403 if _TOO_LONG.search(said.message):
            return fail("bad_request")
        case 403 if _GUARDED.search(said.everything):
            return fail("filtered")
        case 400 if _FILTERED.search(f"{said.code} {said.type}"):
            return fail("filtered")
        case 401 | 403 | 407:
            return stop("auth")
        case 400 if said.code in _WRITTEN_BADLY:
            return retry("invalid_output")
        case 408:
            return retry("timeout")
        case 498:
            return retry("server", load=True)
        case 409 | 425:
            return retry("server")
        case 503 | 529:
            return push_back("server", load=True) if told and wait is not None else retry("server", load=True)
        case 501 | 505:
            return fail("server")
        case _ if status >= 500 or status < 300:
            return retry("server")
    return fail("bad_request")


def _unit(said: Said) -> Literal["requests", "tokens", "in_flight"] | None:
    """Of what there was too much, if the message names one kind only; else the codes and details beside it."""
    for text in (said.message, said.everything):
        if named := [unit for unit, words in _WORDS_OF_UNIT.items() if words.search(text)]:
            return named[0] if len(named) == 1 else None
    return None


def _never_fits(said: Said) -> bool:
    """Whether the request alone is above the limit, so that no wait helps."""
    if _TOO_LARGE.search(said.everything):
        return True
    found = _LIMIT_AND_ASKED.search(said.message)
    return found is not None and int(found[2].replace(",", "") or 0) > int(found[1].replace(",", "") or 0)

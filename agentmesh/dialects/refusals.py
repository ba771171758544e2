"""What a reply that is no success means: too fast, too busy, out of money, not allowed, or never possible.

The rules are one table for all providers, since gateways pass on each other's bodies. The order matters: among the
429s those that waiting does not cure come first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Literal

from ..errors import ErrorInfo, ErrorKind
from .base import Refusal
from .excerpts import excerpt, is_page, short_text
from .excess import about_input_alone, read_excess, requested_tokens
from .json_text import read_json, write_json
from .reopening import next_day_in_california, next_day_utc, next_month_utc
from .said import Said, read_error
from .values import parse_instant, parse_wait, stated_wait

__all__ = ["PARK_AFTER", "hidden_refusal", "read_refusal"]

PARK_AFTER = 300.0
"""Seconds. A provider that asks for more has run out of a day's or a month's quota: other endpoints should serve."""

_QUOTA = re.compile(
    r"insufficient[_ ](?:quota|balance|credit|funds)|billing_(?:error|hard_limit|not_active)|payment_required"
    r"|enforced_spend_limit|spend(?:ing)?[_ ]limit|credit balance|out of credits|used (?:up |all )?[\w ]{0,30}credits",
    re.IGNORECASE,
)
_DAY_OR_MONTH = re.compile(
    r"\b(?:TPD|RPD)\b|(?:\bper[ _-]?|/ ?|Per)(?:day|month)\b|PerDay|\bdaily\b|_daily\b|\bmonthly\b", re.IGNORECASE
)
_MINUTE = re.compile(r"\b(?:TPM|RPM)\b|(?:\bper[ _-]?|/ ?)min(?:ute)?\b|PerMinute", re.IGNORECASE)
_Unit = Literal["requests", "tokens", "in_flight"]
_WORDS_OF_UNIT: Mapping[_Unit, re.Pattern[str]] = {
    "requests": re.compile(
        r"\brequests?(?: per\b|/)|\bRP[SMHD]\b|\b(?:call|request) rate limit|request_(?:quota|limited)|RequestsPer",
        re.IGNORECASE,
    ),
    "tokens": re.compile(
        r"\btokens?(?: per\b|/)|\b[IO]?TP[SMHD]\b|\btoken rate limit|\btoo many tokens|token_(?:quota|limited)"
        r"|TokensPer",
        re.IGNORECASE,
    ),
    "in_flight": re.compile(
        r"concurren(?:t|cy)|\bin[ _-]?flight\b|\b(?:parallel|simultaneous|pending) (?:requests|calls)", re.IGNORECASE
    ),
}
_TOO_LARGE = re.compile(r"request too large|request_too_large", re.IGNORECASE)
_LOAD = re.compile(  # a 429 that is about the provider's load, or about how fast ours grows
    r"slow_down|queue_exceeded|accelerat|high demand|temporarily unable|at capacity", re.IGNORECASE
)
_QUEUE_FULL = re.compile(r"maximum pending requests", re.IGNORECASE)
_NO_CAPACITY = re.compile(r"resource[_ ]unavailable", re.IGNORECASE)  # of a cheaper tier
_NOT_READY = re.compile(r"loading model|ModelNotReady", re.IGNORECASE)
_MONEY_IN_400 = re.compile(
    r"\W*you(?:r credit balance is too low| have reached your specified api usage)", re.IGNORECASE
)
_REGAIN = re.compile(r"regain access on (\d{4}-\d\d-\d\d)", re.ASCII)
_FILTERED = re.compile(r"content_filter|content_policy", re.IGNORECASE)
_GUARDED = re.compile(r"guardrail|moderation|content_filter", re.IGNORECASE)
_TOO_LONG = re.compile(r"context[ _](?:length|window)|maximum context|max_(?:new_)?tokens", re.IGNORECASE)
_WRITTEN_BADLY = frozenset({"tool_use_failed", "json_validate_failed"})
_STATUS = re.compile(r"[45]\d\d", re.ASCII)
_STATUS_OF_WORD = {
    "rate_limit_error": 429, "rate_limit_exceeded": 429, "too_many_requests": 429, "too_many_requests_error": 429,
    "tokens": 429, "requests": 429, "insufficient_quota": 429, "authentication_error": 401, "invalid_api_key": 401,
    "billing_error": 402, "payment_required": 402, "permission_error": 403, "not_found_error": 404,
    "model_not_found": 404, "invalid_request_error": 400, "badrequesterror": 400, "context_length_exceeded": 400,
    "content_filter": 400, "request_too_large": 413, "timeout_error": 504, "api_error": 500, "server_error": 500,
    "overloaded_error": 529, "server_is_overloaded": 503, "provider_overloaded": 503, "unavailable_error": 503,
}  # fmt: skip
_HINTS_TO_PAGES = {
    403: "a firewall or a proxy on the way refused it, not the provider's API",
    404: "is base_url right?",
    405: "is base_url right?",
}
_A_DAY = 86400.0


def read_refusal(status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> Refusal:
    """What a status other than 2xx means. `headers` have lower-case names; `now` is wall time. Never raises."""
    said, text = _read(status, headers, body)
    wait = parse_wait(headers, body, now=now, need=requested_tokens(said.message))
    told = status in (503, 529) and stated_wait(headers, body, now=now) is not None
    date = parse_instant(headers.get("date", ""))
    if date is not None and abs(date - now) < _A_DAY:  # the provider's days end by its own clock
        now = date
    refusal = _Answer(status, said, text, wait, told, now, is_page(body)).refusal()
    match headers.get("x-should-retry"), refusal.verdict:  # overrules the status, but neither a wait nor a stop
        case "true", "fail":
            return replace(refusal, verdict="retry", error=replace(refusal.error, retryable=True))
        case "false", "retry":
            return replace(refusal, verdict="fail", error=replace(refusal.error, retryable=False))
    return refusal


def hidden_refusal(value: Any) -> Refusal:
    """What an error inside a 200, or inside a stream, means: its code or type stands for the status."""
    said, body = read_error(value), write_json(value)
    status = int(said.code) if _STATUS.fullmatch(said.code) else 0
    words = (said.code.lower(), said.type.lower())
    status = status or next((_STATUS_OF_WORD[word] for word in words if word in _STATUS_OF_WORD), 500)
    text = said.message or said.code or said.type or f"an error without a message: {excerpt(body)}"
    return _Answer(status, said, text, wait=parse_wait({}, body, now=None)).refusal()


def _read(status: int, headers: Mapping[str, str], body: bytes) -> tuple[Said, str]:
    """The words in a body, and what to show of them."""
    try:
        said = read_error(read_json(body))
    except ValueError:
        said = Said(everything=body[:4000].decode("utf-8", "replace"))
    if "x-amzn-errortype" in headers and not said.type:
        kind = headers["x-amzn-errortype"].partition(":")[0]
        said = replace(said, type=kind, everything=f"{kind} {said.everything}")
    if text := said.message or said.code or said.type:
        return said, text
    text = f"HTTP {status}"
    if status in HTTPStatus.__members__.values():
        text += f" {HTTPStatus(status).phrase}"
    if location := headers.get("location", ""):
        return said, f"{text}, which sends us to {short_text(location)} (is base_url right?)"
    text += f", with {excerpt(body)}"
    if is_page(body) and status in _HINTS_TO_PAGES:
        text += f" ({_HINTS_TO_PAGES[status]})"
    return said, text


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was answered, and what it means.

    `told` is whether it was said outright how long to wait, and `now` is wall time, by the provider's clock.
    """

    status: int
    said: Said
    text: str
    wait: float | None = None
    told: bool = False
    now: float | None = None
    page: bool = False

    def refusal(self) -> Refusal:
        """The first of the rules that holds."""
        said = self.said
        match self.status:
            case 403 if self.page:  # by something on the way, perhaps for the words of this one request
                return self._retry("server")
            case 402 | 403 | 429 if self.status == 402 or _QUOTA.search(said.everything):
                monthly = "enforced_spend_limit" in said.everything
                return self._stop("quota", self._until(next_month_utc) if monthly else None)
            case 400 if _MONEY_IN_400.match(said.message):  # at its beginning: a 400 may repeat a prompt that says so
                found = _REGAIN.search(said.message)
                instant = parse_instant(f"{found[1]}T00:00Z") if found else None
                return self._stop("quota", None if instant is None else self._until(lambda _: instant))
            case 413 | 429 if _TOO_LARGE.search(said.everything) or read_excess(said.message):
                return self._fail("bad_request")
            case 429:
                return self._too_fast()
            case 403 if _TOO_LONG.search(said.message):
                return self._fail("bad_request")
            case 403 if _GUARDED.search(said.everything):
                return self._fail("filtered")
            case 400 if _FILTERED.search(f"{said.code} {said.type}"):
                return self._fail("filtered")
            case 401 | 403 | 407:
                return self._stop("auth")
            case 400 if "API_KEY_INVALID" in said.everything:
                return self._stop("auth")
            case 400 if said.code in _WRITTEN_BADLY:
                return self._retry("invalid_output")
            case 408:
                return self._retry("timeout")
            case 498:
                return self._retry("server", load=True)
            case 409 | 424 | 425:
                return self._retry("server")
            case 503 | 529 if self.told or _QUEUE_FULL.search(said.message):
                return self._push_back("server", load=True)
            case 503 | 529:
                return self._retry("server", load=not _NOT_READY.search(said.everything))
            case 501 | 505:
                return self._fail("server")
            case status if status >= 500 or status < 300:
                return self._retry("server")
        return self._fail("bad_request")

    def _too_fast(self) -> Refusal:
        """A 429 that is not about money, nor about the size of the request."""
        everything = self.said.everything
        if "PerDay" in everything:  # Google's, with a retryDelay about the minute, not the day
            return self._stop("quota", self._until(next_day_in_california))
        if "free_tier_daily" in everything:
            return self._stop("quota", self._until(next_day_utc) or self.wait)
        if self.wait is None and _DAY_OR_MONTH.search(everything) and not _MINUTE.search(everything):
            return self._stop("quota")
        if _NOT_READY.search(everything):
            return self._retry("server")
        shared = '"RESOURCE_EXHAUSTED"' in everything and '"details"' not in everything and self.wait is None
        if shared or _NO_CAPACITY.search(f"{self.said.code} {self.said.message}"):  # for everyone, not only for us
            return self._retry("rate", load=True)
        return self._push_back("rate", load=bool(_LOAD.search(f"{self.said.code} {self.said.message}")))

    def _fail(self, kind: ErrorKind) -> Refusal:
        excess, advice = None, ""
        if kind == "bad_request" and (excess := read_excess(self.said.message)):
            alone = about_input_alone(self.said.message)
            advice = f" ({excess.by:,} {'token' if excess.by == 1 else 'tokens'} too many: send a shorter prompt" + (
                ")" if alone else " or ask for fewer max_tokens)"
            )
            excess = None if alone else excess
        elif kind == "bad_request" and (_TOO_LARGE.search(self.said.everything) or "HTTP 413" in self.text):
            advice = " (send a shorter prompt or ask for fewer max_tokens)"
        return Refusal("fail", self._error(kind, advice), excess=excess)

    def _retry(self, kind: ErrorKind, *, load: bool = False) -> Refusal:
        return Refusal("retry", self._error(kind, retryable=True), self.wait, load)

    def _stop(self, kind: ErrorKind, wait: float | None = None) -> Refusal:
        when = "" if wait is None else f" (it may answer again in {_span(wait)})"
        unit = None if wait is None else _unit(self.said)
        return Refusal("stop", self._error(kind, when, retryable=wait is not None), wait, unit=unit)

    def _push_back(self, kind: ErrorKind, *, load: bool = False) -> Refusal:
        if self.wait is not None and self.wait > PARK_AFTER:
            return self._stop("quota" if kind == "rate" else kind, self.wait)
        return Refusal("pushed_back", self._error(kind, retryable=True), self.wait, load, _unit(self.said))

    def _until(self, instant_after: Callable[[float], float]) -> float | None:
        """Seconds until an instant that is found from now."""
        return None if self.now is None else max(1.0, instant_after(self.now) - self.now)

    def _error(self, kind: ErrorKind, remark: str = "", *, retryable: bool = False) -> ErrorInfo:
        message = short_text(self.text) or f"HTTP {self.status}"
        return ErrorInfo(kind, message + remark, self.status, retryable)


def _unit(said: Said) -> _Unit | None:
    """Of what there was too much, if the message names one kind only; else the codes and details beside it."""
    for text in (said.message, said.everything):
        if named := [unit for unit, words in _WORDS_OF_UNIT.items() if words.search(text)]:
            return named[0] if len(named) == 1 else None
    return None


def _span(seconds: float) -> str:
    if seconds >= 2 * _A_DAY:
        return f"{seconds / _A_DAY:.0f} days"
    return f"{seconds / 3600:.0f} h" if seconds >= 7200 else f"{max(1.0, seconds / 60):.0f} min"

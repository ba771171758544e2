"""Judges replies to AsyncHow questions, by equality with the gold and by its interval, and counts verdicts."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from .durations import Interval, parse_duration
from .quoted import answer_candidates

__all__ = ["Accuracy", "Reason", "Verdict", "accuracy", "read_object", "reply_seconds", "score_equal", "score_interval"]

Reason = Literal["right", "wrong", "no reply", "unreadable"]
"""Why a reply counts as it does; `no reply` is none or an empty one, `unreadable` one without a value."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reply was read as, in seconds (None: nothing could be read), and whether that is right."""

    value: float | None
    reason: Reason

    @property
    def correct(self) -> bool:
        return self.reason == "right"


def read_object(reply: str) -> dict[str, Any] | None:
    """The JSON object in a reply, with or without a code fence or text around it; None where there is none."""
    text = reply.strip()
    if text.startswith("```"):
        text = text.split("```")[1].strip().removeprefix("json")
    for part in (text, text[text.find("{") : text.rfind("}") + 1]):
        try:
            found = json.loads(part)
        except (ValueError, RecursionError):
            continue
        return found if isinstance(found, dict) else None
    return None


_TEXT_UNITS = {"week": 604_800, "day": 86_400, "hour": 3_600, "minute": 60, "min": 60, "second": 1, "sec": 1,
               "month": 28 * 86_400}  # fmt: skip
_TEXT_LENGTH = re.compile(rf"([0-9]+(?:\.[0-9]+)?)\s*({'|'.join(_TEXT_UNITS)})", re.IGNORECASE)
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)


def reply_seconds(reply: str) -> int | None:
    """The value of a reply in whole seconds: its `final_answer_seconds`, else the sum of the lengths in its text.

    A `final_answer_seconds` that is no number gives no value. Of the text, what `<answer>` tags enclose wins over the
    rest; numbers may stand directly before their unit, years are unknown, and a month has 28 days.
    """
    answered, value = _stated_seconds(reply)
    if answered:
        return value
    tagged = _TAGGED.search(reply)
    lengths = _TEXT_LENGTH.findall(tagged[1] if tagged else reply)
    return _whole(sum(float(number) * _TEXT_UNITS[unit.lower()] for number, unit in lengths)) if lengths else None


def _stated_seconds(reply: str) -> tuple[bool, int | None]:
    """Whether a reply is an object with a final answer, and that answer, if it is a number."""
    answer = (read_object(reply) or {}).get("final_answer_seconds")
    if answer is None:
        return False, None
    return True, None if isinstance(answer, bool) or not isinstance(answer, int | float) else _whole(answer)


def _whole(seconds: float) -> int | None:
    return round(seconds) if isinstance(seconds, int) or math.isfinite(seconds) else None


def score_equal(reply: str | None, gold_seconds: float) -> Verdict:
    """Right if the value of the reply is the gold exactly.

    The rule of J. Zhang et al., Robust Asynchronous Planning via Auto-Formalization, arXiv 2606.00981. Actions and
    dependencies that a reply lists do not count.
    """
    if not (reply and reply.strip()):
        return Verdict(None, "no reply")
    value = reply_seconds(reply)
    if value is None:
        return Verdict(None, "unreadable")
    return Verdict(value, "right" if value == gold_seconds else "wrong")


def score_interval(reply: str | None, gold: Interval) -> Verdict:
    """Right if the answer lies within the gold interval, ends included: the rule of the data set's paper.

    A JSON reply with a `final_answer_seconds` has that point as its only candidate. Any other reply must put its
    answer in double quotes; a candidate is an interval itself (months, years), and right if either end lies within
    the gold. The first right candidate decides; one that is a range ("2 to 3 hours") makes the reply wrong. The
    verdict's value is the lower end of the candidate that decides.
    """
    if not (reply and reply.strip()):
        return Verdict(None, "no reply")
    answered, value = _stated_seconds(reply)
    if answered:
        return Verdict(value, "unreadable" if value is None else "right" if value in gold else "wrong")
    read: Interval | None = None
    for candidate in answer_candidates(reply):
        if " to " in candidate:
            return Verdict(None, "wrong")
        try:
            read = parse_duration(candidate, ignore_words=True)
        except ValueError:
            continue
        if read.low in gold or read.high in gold:
            return Verdict(read.low, "right")
    return Verdict(None, "unreadable") if read is None else Verdict(read.low, "wrong")


@dataclass(frozen=True, slots=True)
class Accuracy:
    """`right` of `items`, as a share with its 95 % interval (Wilson score); all None for no items."""

    items: int
    right: int
    share: float | None
    low: float | None
    high: float | None


_Z = 1.959964  # the normal quantile of a two-sided 95 % interval


def accuracy(verdicts: Iterable[bool]) -> Accuracy:
    """Count verdicts. The interval is Wilson's (1927), which stays within 0 and 1 and holds for few items too."""
    counted = list(verdicts)
    n, right = len(counted), sum(counted)
    if n == 0:
        return Accuracy(0, 0, None, None, None)
    share, spread = right / n, _Z * _Z / n
    center = (share + spread / 2) / (1 + spread)
    reach = _Z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    low = 0.0 if right == 0 else center - reach  # exact at both ends, where rounding would leave a trace
    return Accuracy(n, right, share, low, 1.0 if right == n else center + reach)

"""Finds the lengths of time that a free-text reply gives as its answer, in double quotes."""

from __future__ import annotations

import re

__all__ = ["answer_candidates"]

_UNDER_TWENTY = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS = {word: n for n, word in enumerate(_UNDER_TWENTY)} | {word: 10 * n for n, word in enumerate(_TENS, 2)}
_SCALES = {"thousand": 1_000, "million": 1_000_000}
_WORD = rf"(?:{'|'.join([*_WORDS, 'hundred', *_SCALES])})"
_NUMBER_WORDS = re.compile(rf"\b{_WORD}(?:(?:\s+and\s+|\s+|-){_WORD})*\b")
_AND_A_HALF = re.compile(r"\b([0-9][0-9,]*) and a half\b")


def answer_candidates(reply: str) -> list[str]:
    """The texts that may be the answer, in the order in which they are tried; lower case, at most two.

    Each line gives what stands between its first and its last double quote; the first and the last of these count.
    Without any quote, what follows the last "is " counts if it says "... and a half". Of a text that calculates or
    offers alternatives only the result remains: after the last "=", after the last " or ", before the first "(".
    """
    quoted = [found[1].lower() for line in reply.splitlines() if (found := re.search(r'"(.*)"', line))]
    if not quoted:
        _, told, tail = reply.lower().rpartition("is ")
        quoted = [tail] if told and "and a half" in tail else []
    return [_result(text) for text in dict.fromkeys(quoted[:1] + quoted[-1:])]


def _result(text: str) -> str:
    if "and a half" in text:
        text = _AND_A_HALF.sub(r"\1.5", _NUMBER_WORDS.sub(lambda found: str(_number(found[0])), text))
    text = text.rpartition("=")[2]
    text = text.rpartition(" or ")[2]
    return text.partition("(")[0]


def _number(words: str) -> int:
    """The value of number words: "two hundred and five thousand" is 205,000."""
    total = group = 0
    for word in re.findall("[a-z]+", words):
        if word == "hundred":
            group = max(group, 1) * 100
        elif word in _SCALES:
            total += max(group, 1) * _SCALES[word]
            group = 0
        elif word != "and":
            group += _WORDS[word]
    return total + group

"""Outputs as a person reads them on a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from inline_snapshot import snapshot
from rich.console import Console

from agentmesh.app.outputs import print_outputs


def printed(outputs: dict[str, Any], *, width: int = 80) -> str:
    stream = io.StringIO()
    print_outputs(outputs, Console(file=stream, width=width, color_system=None))
    return "\n".join(line.rstrip() for line in stream.getvalue().split("\n"))


def test_texts_numbers_lists_and_what_is_not_there() -> None:
    outputs = {
        "none": None, "empty": [], "no_parts": {}, "text": " two\nlines \x1b[31m ", "number": 3,
        "words": ["a", "b", 2.9499999999999997], "sentences": ["the first is quite a long text", "short"],
        "map": {"a": {"b": [1]}},
    }  # fmt: skip
    assert printed(outputs) == snapshot("""\
none
no value: the task it reads has none

empty
nothing

no_parts
nothing

text
two
lines [31m

number
3

words
a, b, 2.95

sentences
- the first is quite a long text
- short

map
{
  "a": {
    "b": [
      1
    ]
  }
}

""")


ROWS = [
    {"id": "p1", "title": "Sleep length and coronary events", "reason": "x" * 5 + " and more words" * 4, "ok": True},
    {"id": "p2", "title": "Naps", "reason": None, "ok": False},
]


def test_rows_are_a_table_where_there_is_room() -> None:
    assert printed({"rows": ROWS}, width=100) == snapshot("""\
rows

 id   title                              reason                                               ok
 ──────────────────────────────────────────────────────────────────────────────────────────────────
 p1   Sleep length and coronary events   xxxxx and more words and more words and more words   true
                                         and more words
 p2   Naps                                                                                    false


""")


def test_rows_are_blocks_where_a_table_would_be_squeezed() -> None:
    assert printed({"rows": ROWS}, width=50) == snapshot("""\
rows
 id      p1
 title   Sleep length and coronary events
 reason  xxxxx and more words and more words and
         more words and more words
 ok      true

 id      p2
 title   Naps
 ok      false


""")


@pytest.mark.parametrize("width", [40, 120])
def test_many_rows_are_cut_and_long_texts_too(width: int) -> None:
    text = printed({"rows": [{"n": number, "text": "word " * 200} for number in range(25)]}, width=width)
    assert "+ 5 more" in text
    assert text.count("…") == 20
    assert max(map(len, text.split("\n"))) <= width

"""Server-sent events: the grammar as a table, and the same events wherever the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.dialects.sse import EventReader, ServerEvent, write_event


def read(*pieces: bytes) -> list[ServerEvent]:
    reader = EventReader()
    found = [event for piece in pieces for event in reader.feed(piece)]
    return found + reader.close()


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"", []),
        (b"data: a\n\n", [ServerEvent("a")]),
        (b"data:a\r\n\r\ndata:  b\r\n\r\n", [ServerEvent("a"), ServerEvent(" b")]),
        (b"data: a\r\rdata: b\r\r", [ServerEvent("a"), ServerEvent("b")]),
        (b"event: ping\ndata: {}\n\n", [ServerEvent("{}", "ping")]),
        (b"data: one\ndata: two\ndata\n\n", [ServerEvent("one\ntwo\n")]),
        (b": comment\n\n:\n\ndata: a\n: inside\n\n", [ServerEvent("a")]),
        (b"event: nameless\n\ndata: a\n\n", [ServerEvent("a")]),
        (b"id: 7\nretry: 10\nother: x\ndata: a\n\n", [ServerEvent("a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [ServerEvent("a")]),
        (b"data: a\n", [ServerEvent("a")]),
        (b"data: a", [ServerEvent("a")]),
        (b"data: a: b\n\n\n\n", [ServerEvent("a: b")]),
        (b"data: \xff\n\n", [ServerEvent("\ufffd")]),
    ],
)
def test_grammar(stream: bytes, expected: list[ServerEvent]) -> None:
    assert read(stream) == expected
    assert read(*(stream[at : at + 1] for at in range(len(stream)))) == expected


LINES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20)
EVENTS = st.lists(
    st.builds(
        ServerEvent, st.lists(LINES, min_size=1, max_size=3).map("\n".join), st.none() | LINES.filter(lambda e: e != "")
    ),
    max_size=4,
)


@given(EVENTS, st.sampled_from([b"\n", b"\r\n", b"\r"]), st.data())
def test_bytes_may_be_cut_anywhere(events: list[ServerEvent], line_end: bytes, data: st.DataObject) -> None:
    stream = b"".join(write_event(event.data.encode(), event=event.event) for event in events)
    stream = stream.replace(b"\n", line_end)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(*pieces) == events


def test_a_long_line_in_many_pieces_is_joined_once() -> None:
    reader = EventReader()
    assert not any(reader.feed(piece) for piece in [b"data: ", *[b"x" * 1000] * 1000])
    assert "partial=1000006 bytes" in repr(reader)
    assert reader.feed(b"\n\n") == [ServerEvent("x" * 1_000_000)]

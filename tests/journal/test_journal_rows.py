"""Events as rows: nothing in them can break the journal, and --no-content keeps content out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zstandard import ZstdCompressor

from agentmesh.errors import ErrorInfo
from agentmesh.events import (
    EVENT_TYPES,
    CallEnded,
    CallIntent,
    CallSpared,
    CollectionClosed,
    Event,
    LaneFrozen,
    MatchEnded,
    Notice,
    RunEnded,
    RunResumed,
    RunStarted,
    Standing,
    StandingsChanged,
    TaskAdded,
    TaskDropped,
    TaskEnded,
    TaskReopened,
    TaskStarted,
    ToolEnded,
)
from agentmesh.journal.encode import Row, compress, decode, encode
from agentmesh.messages import Message, Opaque, Reply, Request, Tokens, ToolCall
from agentmesh.outcome import Outcome, Usage

SECRET = "the secret text"
QUOTED = ErrorInfo("invalid_output", f"score: {SECRET}")
CALL: dict[str, Any] = {
    "at": 1.0, "call": 1, "attempt": 2, "address": "review/a", "agent": "critic", "account": "sim", "model": "small",
}  # fmt: skip
OPAQUE = Opaque("anthropic", "m", [{"type": "thinking", "signature": "c2ln", "thinking": SECRET}])
REPLY = Reply(SECRET, "tool", (ToolCall("1", "f", "{"),), Tokens(3, output=4), "small", "id", OPAQUE)
EVENTS: list[Event] = [
    RunStarted(at=1.0, run="r", name="n", spec=SECRET, inputs={"goal": SECRET}, tasks=("review",)),
    TaskAdded(at=1.0, task="review", key="a", sample=2, needs=("draft/a",)),
    CollectionClosed(at=1.0, task="review", items=3),
    TaskStarted(at=1.0, address="review/a"),
    CallIntent(**CALL, request=Request("small", (Message("user", SECRET), Message("assistant", opaque=OPAQUE)))),
    CallEnded(**CALL, result="ok", seconds=1.0, reply=REPLY, error=QUOTED, usage=Usage(1, input_tokens=3)),
    LaneFrozen(at=1.0, account="sim", concerns="sim", seconds=2.0, reason="429"),
    TaskEnded(at=1.0, outcome=Outcome("review", "a", state="failed", item=SECRET, value=SECRET, error=QUOTED)),
    MatchEnded(at=1.0, address="contest/a+b/1", first="a", second="b", score=1.0, judge="judge", error=QUOTED),
    StandingsChanged(
        at=1.0, task="contest", entrants=1, matches=2, failed=0, limit=None, regret=None,
        top=(Standing(rank=1, key="a", item=SECRET, rating=1200.0, low=1100.0, high=1300.0, matches=2),),
    ),
    Notice(at=1.0, level="info", text="hello"),
    RunEnded(at=2.0, status="partial", seconds=1.0, usage=Usage(1), usd=None),
    RunResumed(at=3.0, run="r", process="process 1 on host", spec=SECRET, options={"system": SECRET}),
    TaskReopened(at=3.0, address="review/a", state="failed"),
    ToolEnded(at=3.0, address="review/a", call_id="1", name="f", arguments=f'{{"q": "{SECRET}"}}', result=SECRET),
    CallSpared(
        at=3.0, call=2, address="review/a", agent="critic", account="sim", model="small", source="cache", key="k",
        request=Request("small", (Message("user", SECRET),)), reply=REPLY, usd=0.25,
    ),
    TaskDropped(at=3.0, address="review/a", state=None),
]  # fmt: skip


def read(row: Row) -> Event:
    return decode(row.kind, row.codec, row.body)


def test_there_is_a_sample_of_every_kind() -> None:
    assert [type(event) for event in EVENTS] == list(EVENT_TYPES)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_equal_packed_or_not(event: Event) -> None:
    row = encode(1, event)
    assert read(row) == event
    padded = row._replace(body=row.body + b" " * 1000)
    packed = compress(padded, ZstdCompressor(level=1))
    assert packed.codec == 1
    assert len(packed.body) < len(padded.body)
    assert read(packed) == event


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_without_content_no_text_of_a_person_or_model_is_left(event: Event) -> None:
    row = encode(1, event, content=False)
    assert SECRET.encode() not in row.body
    assert type(read(row)) is type(event)


def test_without_content_figures_and_plain_errors_stay() -> None:
    plain = ErrorInfo("rate", "429 from sim", status=429)
    ended = CallEnded(**CALL, result="failed", seconds=1.0, error=plain, usage=Usage(1, input_tokens=3), usd=0.1)
    assert read(encode(1, ended, content=False)) == ended


def test_rows_say_whom_they_concern() -> None:
    assert [(row.task, row.attempt) for row in (encode(1, event) for event in EVENTS)] == [
        (None, None), ("review/a/2", None), ("review", None), ("review/a", None), ("review/a", 2), ("review/a", 2),
        (None, None), ("review/a", None), ("contest/a+b/1", None), ("contest", None), (None, None),
        (None, None), (None, None), ("review/a", None), ("review/a", None), ("review/a", None),
        ("review/a", None),
    ]  # fmt: skip


class Rude:
    """A value of a user's own that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def cycle() -> list[Any]:
    values: list[Any] = [1]
    values.append(values)
    return values


def deep() -> list[Any]:
    values: list[Any] = []
    for _ in range(5000):
        values = [values]
    return values


@pytest.mark.parametrize(
    "value",
    [b"\xff", "half \ud800", {"k\ud800": 1}, cycle(), deep(), Rude(), {1, 2}, 10**400, object(), {(1, 2): Rude}],
    ids=lambda value: type(value).__name__,
)
def test_no_value_of_a_task_breaks_a_row(value: Any) -> None:
    event = TaskEnded(at=1.0, outcome=Outcome("a", "k", value=value))
    back = read(encode(1, event))
    assert isinstance(back, TaskEnded)
    assert back.outcome.key == "k"
    assert back.outcome.value is not None


@given(st.text() | st.text(alphabet=st.characters(categories=["Cs", "Lu"])))
def test_any_text_can_be_a_reply(text: str) -> None:
    back = read(encode(1, CallEnded(**CALL, result="ok", seconds=1.0, reply=Reply(text, "stop"))))
    assert isinstance(back, CallEnded)
    assert back.reply is not None
    assert back.reply.text == text.encode("utf-8", "replace").decode()


@pytest.mark.parametrize(("kind", "codec", "body"), [(99, 0, b"{}"), (0, 0, b"{}"), (1, 9, b"{}"), (1, 0, b"{}")])
def test_a_row_of_another_version_is_a_value_error(kind: int, codec: int, body: bytes) -> None:
    with pytest.raises(ValueError):
        decode(kind, codec, body)

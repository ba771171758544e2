"""Events and outcomes: what is written can be read, usage adds up without inventing zeros."""

from __future__ import annotations

import datetime

import pydantic
import pytest

from agentmesh.errors import ErrorInfo, InputProblems, Problem, RunFailed, TaskFailed
from agentmesh.events import EVENT_TYPES, CallIntent, Event, TaskEnded, read_event, write_event
from agentmesh.messages import Message, Opaque, Request, Tokens
from agentmesh.outcome import Outcome, Usage


def test_the_union_of_events_and_their_numbers_say_the_same() -> None:
    assert set(Event.__args__) == set(EVENT_TYPES)
    assert len({kind.__name__ for kind in EVENT_TYPES}) == len(EVENT_TYPES)


def test_a_providers_own_state_survives_byte_for_byte() -> None:
    content = [{"type": "thinking", "thinking": "hm\u2028", "signature": "EqQ/+=="}, {"n": 1.0, "big": 2**53 + 1}]
    message = Message("assistant", "x", opaque=Opaque("anthropic", "m", content))
    event = CallIntent(
        at=1.0, call=1, attempt=1, address="a", agent=None, account="x", model="m", request=Request("m", (message,))
    )
    assert read_event("CallIntent", write_event(event)) == event


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ({"a": [1, None, "ä"]}, {"a": [1, None, "ä"]}),
        (datetime.date(2026, 11, 20), "2026-11-20"),
        (object, "<class 'object'>"),
        (float("nan"), None),
    ],
)
def test_values_of_any_kind_are_written(value: object, read: object) -> None:
    event = read_event("TaskEnded", write_event(TaskEnded(at=1.0, outcome=Outcome("t", value=value))))
    assert isinstance(event, TaskEnded)
    assert event.outcome.value == read


def test_what_is_no_event_is_told() -> None:
    with pytest.raises(KeyError):
        read_event("LaneMelted", b"{}")
    with pytest.raises(pydantic.ValidationError):
        read_event("TaskEnded", b'{"at": 1}')


def test_usage_adds_what_is_known() -> None:
    unknown, known = Usage(1, uncertain=1), Usage.of_reply(Tokens(input=3, output=0))
    assert unknown + Usage(0, 2) == Usage(1, 2, 1)
    assert unknown + known == Usage(2, 0, 1, 3, None, 0, None)
    assert (known + known).input_tokens == 6


def test_only_what_is_done_is_ok() -> None:
    assert [Outcome("t", state=state).ok for state in ("done", "failed", "skipped", "cancelled")] == [
        True, False, False, False,
    ]  # fmt: skip


def test_errors_say_what_happened_and_where() -> None:
    failed = Outcome("review", "h17", state="failed", error=ErrorInfo("rate", "too fast", 429, True))
    assert str(TaskFailed(failed)) == "review/h17 failed: rate: too fast"
    assert str(RunFailed("a3f9", [failed] * 5)).endswith("; and 2 more")
    problem = Problem("is unknown", file="w.yaml", line=3, column=7, key="tasks", hint="did you mean task?")
    assert str(InputProblems([problem])) == "w.yaml:3:7: tasks: is unknown (did you mean task?)"
    assert str(Problem("is wrong")) == "is wrong"

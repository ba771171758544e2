"""Recording calls as they are answered, and finding them again: by messages, model, address and turn."""

from __future__ import annotations

import gzip
import json
import stat
from pathlib import Path
from typing import Any

import anyio
import pytest

from agentmesh.client.known import Found
from agentmesh.errors import CallFailed, UserError
from agentmesh.events import CallEnded, CallIntent, CallSpared, Event
from agentmesh.journal import Journal
from agentmesh.messages import Message, Reply, Request, Tokens, ToolCall
from agentmesh.simulate.recording import Recorder
from agentmesh.simulate.replay import load_recordings
from agentmesh.simulate.replayed import Replayed

pytestmark = [pytest.mark.anyio, pytest.mark.both_backends]


def asked(*texts: str, model: str = "m") -> Request:
    return Request(model, tuple(Message("user", text) for text in texts))


def call(
    number: int, prompt: str, answer: str | None, *, at: str = "task/a", attempt: int = 1, model: str = "m"
) -> list[Event]:
    """The events of one attempt; without an answer it failed."""
    whose: dict[str, Any] = {
        "at": 1.0, "call": number, "attempt": attempt, "address": at, "agent": None, "account": "x", "model": model,
    }  # fmt: skip
    reply = None if answer is None else Reply(answer, "stop", tokens=Tokens(3, output=4))
    result: Any = "failed" if reply is None else "ok"
    return [
        CallIntent(**whose, request=asked(prompt, model=model)),
        CallEnded(**whose, result=result, seconds=1.0, reply=reply),
    ]


async def record(path: Path, *events: Event) -> Path:
    recorder = Recorder(path)
    recorder.check()
    for event in events:
        recorder.event(event)
    await recorder.flush()
    return path


async def find(replayed: Replayed, prompt: str, *, at: str = "task/a", turn: int = 1, model: str = "x/m") -> str:
    key = f"{model} 0123" + (f"~{turn}" if turn > 1 else "")
    found = await replayed.find(key, asked(prompt), address=at)
    assert (found.source, found.attempts, found.usd) == ("recording", 0, 0.0)
    return found.reply.text


@pytest.mark.parametrize("name", ["calls.jsonl", "calls.jsonl.gz"])
async def test_what_was_answered_is_found(tmp_path: Path, name: str) -> None:
    events = [*call(1, "a", None), *call(1, "a", "A", attempt=2), *call(2, "b", "B"), *call(3, "c", None)]
    path = await record(tmp_path / name, *events)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    replayed = Replayed.of_file(path)
    assert [await find(replayed, text) for text in ("a", "b", "b")] == ["A", "B", "B"]
    with pytest.raises(CallFailed):
        await find(replayed, "c")


async def test_several_answers_to_the_same(tmp_path: Path) -> None:
    events = [*call(1, "a", "1", at="t/x"), *call(2, "a", "2", at="t/y"), *call(3, "a", "3", at="t/x")]
    replayed = Replayed.of_file(await record(tmp_path / "calls.jsonl", *events))
    assert await find(replayed, "a", at="t/y") == "2"
    assert [await find(replayed, "a", at="t/x", turn=turn) for turn in (2, 1, 3)] == ["3", "1", "1"]
    assert [await find(replayed, "a", at="renamed") for _ in range(4)] == ["1", "2", "3", "1"]


async def test_rows_of_somebody_else_answer_every_model_by_their_last_row(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    rows = [{"messages": [{"role": "user", "content": "a"}], "reply": reply} for reply in ("old", "new")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert await find(Replayed.of_file(path), "a", model="any/thing") == "new"


async def test_an_answer_of_another_model_is_none(tmp_path: Path) -> None:
    path = await record(tmp_path / "calls.jsonl", *call(1, "a", "A"))
    with pytest.raises(CallFailed) as caught:
        await find(Replayed.of_file(path), "a", model="x/other")
    assert caught.value.error.kind == "bad_request"
    assert str(caught.value.error).endswith("calls.jsonl has an answer to these messages of m, none of other")


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("Name a river in Chile.", "it has '…ser Name a river in Peru.', asked is '…ser Name a river in Chile.'"),
        ("Say a lake in Peru.", "it has 'user Name a lake in Peru.', asked is 'user Say a lake in Peru.'"),
    ],
    ids=["its end has changed", "its beginning has changed"],
)
async def test_what_is_missing_is_told_beside_what_is_nearest(tmp_path: Path, prompt: str, words: str) -> None:
    events = [e for n, what in enumerate(("river", "lake", "town")) for e in call(n, f"Name a {what} in Peru.", "x")]
    replayed = Replayed.of_file(await record(tmp_path / "calls.jsonl", *events))
    with pytest.raises(CallFailed) as caught:
        await find(replayed, prompt)
    assert words in str(caught.value.error)
    assert not caught.value.error.retryable


async def test_tools_come_back_and_so_does_what_was_known(tmp_path: Path) -> None:
    reply = Reply("", "tool", (ToolCall("c1", "add", '{"a": 1}'),), Tokens(3, output=4))
    spared = CallSpared(
        at=1.0, call=4, address="t", agent=None, account="x", model="m", source="cache", request=asked("a"), reply=reply
    )
    replayed = Replayed.of_file(await record(tmp_path / "calls.jsonl", spared))
    found: Found = await replayed.find("x/m 01", asked("a"), address="t")
    assert (found.reply.finish, found.reply.tool_calls) == ("tool", reply.tool_calls)


async def test_the_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl.gz"
    await record(path, *call(1, "a", "A"))
    await record(path, *call(1, "b", "B"))
    assert len(load_recordings([path]).replies) == 1
    await record(path)
    with pytest.raises(UserError, match="there is no row in it"):
        Replayed.of_file(path)


async def test_of_a_run_that_goes_on_it_has_what_was_answered_before(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, "r1")
    async with anyio.create_task_group() as group:
        group.start_soon(journal.serve)
        for number in range(300):
            for event in call(number, f"q{number}", f"A{number}"):
                journal.append(event)
        await journal.aclose()
    recorder = Recorder(tmp_path / "calls.jsonl.gz")
    recorder.begin_with(journal.path)
    for event in call(300, "q300", "A300"):
        recorder.event(event)
    await recorder.flush()
    with gzip.open(recorder.path) as lines:
        assert [json.loads(line)["reply"] for line in lines] == [f"A{number}" for number in range(301)]
    assert await find(Replayed.of_run(journal.path), "q7") == "A7"


async def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--record .*: this cannot be written"):
        Recorder(tmp_path).check()
    with pytest.raises(UserError, match=r"--record .*: this cannot be written"):
        Recorder(tmp_path / "none" / "calls.jsonl").check()
    recorder = Recorder(tmp_path / "none" / "calls.jsonl")
    for event in call(1, "a", "A"):
        recorder.event(event)
    with pytest.raises(UserError, match="No such file"):
        await recorder.flush()


async def test_the_matches_of_a_tournament_in_their_order(tmp_path: Path) -> None:
    played = ["contest/b+a/0", "contest/a+c/0", "contest/b+a/1", "other/x", "deep/a+b+c/0"]
    events = [event for number, at in enumerate(played) for event in call(number, f"{number}", "x", at=at)]
    replayed = Replayed.of_file(await record(tmp_path / "calls.jsonl", *events))
    assert list(replayed.matches("contest")) == [("b", "a"), ("a", "c"), ("b", "a")]
    assert list(replayed.matches("deep")) == [("a", "b+c"), ("a+b", "c")]
    assert not replayed.matches("other")

"""Recorded replies: exact matches, token counts, and what is said of broken files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from agentmesh.errors import UserError
from agentmesh.messages import Message, Reply, Request, Tokens, ToolCall
from agentmesh.simulate.behaviour import ServedModel
from agentmesh.simulate.recording import recording
from agentmesh.simulate.replay import RecordedReplies, load_recordings
from agentmesh.simulate.replies import NoReply

ROW = {"model": "gpt", "messages": [{"role": "user", "content": "How long?"}], "reply": "Nine days."}


def write(path: Path, *rows: Any) -> Path:
    lines = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    return path


def ask(files: list[Path], *messages: Message) -> str:
    source = RecordedReplies(load_recordings(files))
    request = Request("any", messages)
    input_tokens, _ = source.weigh(request)
    return source.answer(request, ServedModel("*"), input_tokens=input_tokens).text


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz"])
def test_exactly_the_same_messages_are_answered(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / name, ROW, "")
    assert ask([file], Message("user", "How long?")) == "Nine days."
    for other in ("How long? ", "how long?", ""):
        with pytest.raises(NoReply, match="exactly these messages"):
            ask([file], Message("user", other))
    with pytest.raises(NoReply):
        ask([file], Message("system", "Be brief."), Message("user", "How long?"))


def test_a_system_and_a_developer_message_are_the_same(tmp_path: Path) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "?"}]},
    ]
    file = write(tmp_path / "r.jsonl", {"messages": messages, "reply": "Yes."})
    assert ask([file], Message("system", "Be brief."), Message("user", "?")) == "Yes."


@pytest.mark.parametrize("reply", [None, ""])
def test_empty_replies_are_answers_without_text(tmp_path: Path, reply: str | None) -> None:
    assert ask([write(tmp_path / "r.jsonl", {**ROW, "reply": reply})], Message("user", "How long?")) == ""


def test_tokens_of_messages_and_reply_are_each_rounded_up(tmp_path: Path) -> None:
    source = RecordedReplies(load_recordings([write(tmp_path / "r.jsonl", ROW)]))
    assert source.weigh(Request("any", (Message("user", "How long?"),))) == (3, 3)  # 9 and 10 characters


def test_the_last_row_wins_and_it_is_said(tmp_path: Path) -> None:
    first, second = (
        write(tmp_path / "a.jsonl", ROW),
        write(tmp_path / "b.jsonl", {**ROW, "reply": "Ten.", "model": "q"}),
    )
    recordings = load_recordings([first, second])
    assert ask([first, second], Message("user", "How long?")) == "Ten."
    assert recordings.models == ("gpt", "q")
    assert [str(second) in notice and "1 of 1" in notice for notice in recordings.notices] == [True]
    assert load_recordings([first]).notices == ()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ('{"messages": [', "no JSON"),
        ("[1]", "must be a JSON object"),
        ({"reply": "x"}, "no 'messages'"),
        ({"messages": ROW["messages"]}, "no 'reply'"),
        ({**ROW, "reply": 7}, "text or null"),
        ({**ROW, "messages": []}, "messages"),
        ({**ROW, "messages": [{"role": "user"}]}, r"messages\[0\].content"),
        ({**ROW, "messages": [{"role": "robot", "content": "x"}]}, r"messages\[0\].role"),
    ],
)
def test_a_broken_row_is_told_with_file_and_line(tmp_path: Path, broken: Any, message: str) -> None:
    file = write(tmp_path / "r.jsonl", ROW, "", broken)
    with pytest.raises(UserError, match=message) as raised:
        load_recordings([file])
    assert str(raised.value).startswith(f"{file}:3: ")


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    for path, content in (
        ("none.jsonl", None),
        ("empty.jsonl", b"\n"),
        ("r.jsonl.gz", b"no gzip"),
        ("c.gz", b"\x1f\x8b\x08"),
    ):
        if content is not None:
            (tmp_path / path).write_bytes(content)
        with pytest.raises(UserError, match=path):
            load_recordings([tmp_path / path])
    whole = gzip.compress(json.dumps(ROW).encode() * 50)
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) - 20])
    with pytest.raises(UserError, match=r"cut\.gz"):
        load_recordings([tmp_path / "cut.gz"])


def numbered(call: int, reply: str, **more: Any) -> dict[str, Any]:
    return {**ROW, "format": 1, "call": call, "reply": reply, **more}


def test_rows_that_number_their_calls_are_given_in_turn(tmp_path: Path) -> None:
    file = write(tmp_path / "r.jsonl", numbered(7, "second"), numbered(2, "first"), numbered(3, "other", model="q"))
    recordings = load_recordings([file])
    assert recordings.notices == ()
    source = RecordedReplies(recordings)
    question = (Message("user", "How long?"),)

    def answer(model: str) -> str:
        request = Request(model, question)
        return source.answer(request, ServedModel("*"), input_tokens=source.weigh(request)[0]).text

    assert [answer("gpt") for _ in range(3)] == ["first", "second", "first"]
    assert [answer("q") for _ in range(2)] == ["other", "other"]
    assert [answer("unknown") for _ in range(4)] == ["first", "other", "second", "first"]


def test_a_recorded_call_comes_back_with_tools_finish_and_tokens(tmp_path: Path) -> None:
    call = ToolCall("c1", "search", '{"q": "ice"}')
    messages = (
        Message("system", "Be brief."), Message("user", "?"), Message("assistant", "", tool_calls=(call,)),
        Message("tool", "found", tool_call_id="c1"),
    )  # fmt: skip
    request = Request("m", messages)
    reply = Reply("cut", "length", (call,), Tokens(input=11, cached=5, output=7, reasoning=2))
    file = write(tmp_path / "r.jsonl", recording(request, reply, call=1))
    source = RecordedReplies(load_recordings([file]))
    assert source.weigh(request) == (11, 7)
    again = source.answer(request, ServedModel("*"), input_tokens=11)
    assert (again.text, again.finish, again.tool_calls, again.tokens) == ("cut", "length", (call,), reply.tokens)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"finish": "bored"}, "'finish' must be one of stop, length"),
        ({"usage": {"input_tokens": -1}}, "'usage' must be"),
        ({"usage": 7}, "'usage' must be"),
        ({"tool_calls": [{"id": "c1"}]}, r"tool_calls\[0\]"),
    ],
)
def test_what_a_row_says_more_is_checked_if_it_is_of_this_format(
    tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_recordings([write(tmp_path / "r.jsonl", numbered(1, "x", **more))])
    assert ask([write(tmp_path / "other.jsonl", {**ROW, **more})], Message("user", "How long?")) == "Nine days."

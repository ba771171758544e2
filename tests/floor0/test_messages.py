"""Neutral values of a conversation: settings over settings, hashes, marked pairs, sizes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.messages import (
    Message,
    Opaque,
    Reply,
    Request,
    Settings,
    Tokens,
    ToolCall,
    ToolSpec,
    candidate_pair,
    digest,
    read_candidate_pair,
)


def test_the_nearer_settings_win_and_extras_are_joined() -> None:
    base = Settings(max_tokens=800, temperature=0.7, extra={"a": 1, "b": 1})
    near = Settings(temperature=0.0, stop=(), extra={"b": 2})
    assert near.over(base) == Settings(max_tokens=800, temperature=0.0, stop=(), extra={"a": 1, "b": 2})
    assert Settings().over(base) == base
    assert base.over(Settings()) == base


@pytest.mark.parametrize(
    ("values", "settings"),
    [
        ({}, Settings()),
        ({"max_tokens": 5, "seed": None}, Settings(max_tokens=5)),
        ({"stop": "END"}, Settings(stop=("END",))),
        ({"stop": ["a", "b"]}, Settings(stop=("a", "b"))),
        ({"top_k": 3, "extra": {"user": "x"}}, Settings(extra={"top_k": 3, "user": "x"})),
        ({"extra": None}, Settings()),
    ],
)
def test_settings_from_plain_keys(values: dict[str, Any], settings: Settings) -> None:
    assert Settings.of(values) == settings


def test_unknown_tokens_are_never_counted_as_none() -> None:
    assert Tokens(input=3).total is None
    assert Tokens(output=3).total is None
    assert Tokens(input=3, output=0).total == 3


def test_a_reply_goes_on_as_the_assistants_message() -> None:
    opaque, call = Opaque("anthropic", "m", [{"type": "thinking"}]), ToolCall("1", "f", "{")
    reply = Reply("hm", "tool", tool_calls=(call,), opaque=opaque)
    assert reply.as_message() == Message("assistant", "hm", tool_calls=(call,), opaque=opaque)


def test_the_length_of_a_request_is_of_all_that_a_tokenizer_sees() -> None:
    bare = Request("m", (Message("user", "12345"),))
    assert bare.text_length() == 5
    called = Request("m", (*bare.messages, Message("assistant", tool_calls=(ToolCall("id", "ab", '{"c": 1}'),))))
    assert called.text_length() == 5 + 2 + 8
    tool = ToolSpec("ab", "cde", {"type": "object"})
    assert Request("m", bare.messages, tools=(tool,)).text_length() == 5 + 5 + len('{"type": "object"}')
    assert Request("m", bare.messages, schema={"a": 1}).text_length() == 5 + len('{"a": 1}')


texts = st.text(st.characters(exclude_characters="=", exclude_categories=["Cs"]))


@given(texts, texts, texts, texts)
def test_a_marked_pair_is_read_back_from_within_a_prompt(first: str, second: str, before: str, after: str) -> None:
    assert read_candidate_pair(f"{before}\n{candidate_pair(first, second)}\n{after}") == (first, second)


@pytest.mark.parametrize("text", ["", "no pair", candidate_pair("a", "b")[:-3]])
def test_what_is_no_pair(text: str) -> None:
    assert read_candidate_pair(text) is None


def test_hashes_are_of_canonical_json() -> None:
    assert digest({"b": 1, "a": [True, None]}) == digest({"a": [True, None], "b": 1})
    assert len({digest(value) for value in (1, "1", 1.5, None, [], {}, [1], {"1": 1})}) == 8
    assert len(digest("x", length=64)) == 64
    assert digest("x", length=64).startswith(digest("x"))
    assert digest("\ud83d") != digest("\ud83e")

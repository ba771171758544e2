"""The lines of a batch: what is a request, what is data, what is broken, and equal ids."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentmesh.app.batch.lines import OUTPUT_KEYS, SETTING_KEYS, Lines, read_lines
from agentmesh.messages import Message, Settings


def lines(*values: Any, **options: Any) -> Lines:
    """The lines that these values make; bytes stand there as they are."""
    return read_lines([v if isinstance(v, bytes) else json.dumps(v).encode() + b"\n" for v in values], **options)


def problem(value: Any) -> str:
    (line,) = lines(value).lines
    assert line.problem is not None
    return line.problem


def test_prompts_and_messages() -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "B"}]},
    ]
    one, other = lines({"id": "a", "prompt": "A"}, {"id": "b", "messages": messages}).lines
    assert one.request().messages == (Message("user", "A"),)
    assert other.request(system="Be kind.").messages == (Message("system", "Be brief."), Message("user", "B"))
    assert one.request(system="Be kind.").messages == (Message("system", "Be kind."), Message("user", "A"))


def test_the_system_of_a_line_wins() -> None:
    (line,) = lines({"prompt": "A", "system": "Rhyme."}).lines
    assert line.request(system="Be kind.").messages[0] == Message("system", "Rhyme.")


def test_settings_data_and_neither() -> None:
    (line,) = lines(
        {
            "id": 3, "prompt": "A", "max_tokens": 5, "temperature": 0, "stop": "END", "top_k": 40, "seed": None,
            "extra": {"guided_regex": "a+"}, "stream": True, "gold": [1.5], "metadata": {"k": "v"}, "ok": "yes",
        }
    ).lines  # fmt: skip
    assert line.request().settings == Settings(
        max_tokens=5, temperature=0, stop=("END",), extra={"top_k": 40, "guided_regex": "a+"}
    )
    assert line.data() == {"gold": [1.5], "metadata": {"k": "v"}}
    assert line.id == 3


def test_a_schema_is_passed_on() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
    asked = {"type": "json_schema", "json_schema": {"name": "point", "schema": schema}}
    (line,) = lines({"prompt": "A", "response_format": asked}).lines
    assert (line.request().schema, line.request().schema_name) == (schema, "point")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b'{"prompt": "A"', "not JSON: Expecting ',' delimiter (column 15)"),
        (b'{"prompt": "\xff"}', "not text in UTF-8"),
        (b"[" * 100_000, "not JSON"),
        ([1], "a line must be an object"),
        ({"question": "A"}, "neither prompt nor messages here, only question"),
        ({}, "only nothing"),
        ({"prompt": "A", "messages": [{"role": "user", "content": "B"}]}, "both prompt and messages"),
        ({"prompt": ""}, "prompt must be a text that is not empty, not an empty text"),
        ({"prompt": ["A", "B"]}, "prompt must be a text that is not empty, not a list"),
        ({"messages": []}, "messages must not be empty"),
        ({"messages": [{"role": "user"}]}, "messages[0].content is missing"),
        ({"messages": [{"role": "bot", "content": "A"}]}, "messages[0].role must be"),
        ({"prompt": "A", "temperature": 9}, "temperature must be a number from 0 to 2, not 9"),
        ({"prompt": "A", "max_tokens": "5"}, "max_tokens must be a whole number of at least 1, not '5'"),
        ({"prompt": "A", "model": 5}, "model must be a text"),
        ({"prompt": "A", "n": 2}, "n must be 1"),
        ({"prompt": "A", "extra": 5}, "extra must be an object"),
        ({"prompt": "A", "tools": [{}]}, "tools cannot be used here"),
        ({"prompt": "A", "id": [1]}, "id must be a text or a whole number"),
        ({"prompt": "A", "id": True}, "id must be a text or a whole number"),
        ({"system": "A", "messages": [{"role": "system", "content": "B"}]}, "both system and a system message"),
    ],
)
def test_what_is_broken_is_told(value: Any, words: str) -> None:
    assert words in problem(value)


def test_numbers_are_those_of_the_file() -> None:
    found = lines(b"\xef\xbb\xbf" + b'{"prompt": "A"}\r\n', b"\n", b"  \r\n", {"prompt": "B"}, b"oops", first=3).lines
    assert [(line.number, line.id, line.problem is None) for line in found] == [
        (1, "1", True), (4, "4", True), (5, "5", False),
    ]  # fmt: skip


def test_only_the_first_are_read() -> None:
    def endless() -> Any:
        while True:
            yield b'{"prompt": "A"}\n'

    assert len(read_lines(endless(), first=3).lines) == 3


def test_equal_ids_are_told_apart_and_reported() -> None:
    ids = ["a", "a", 7, "7", "a~2", "a", "", None]
    found = lines(*({"id": one, "prompt": "A"} for one in ids))
    assert [line.id for line in found.lines] == ["a", "a~2", 7, "7~2", "a~2~2", "a~3", "7~3", "8"]
    (told,) = found.notices
    assert told.startswith("5 lines have ids that an earlier line has already, and became a~2 (line 2), 7~2 (line 4), ")
    assert told.endswith(", a~2~2 (line 5) and 2 more")


def test_a_broken_line_keeps_its_id() -> None:
    good, broken = lines({"id": "a", "prompt": "A"}, {"id": "a"}).lines
    assert (good.id, broken.id) == ("a", "a~2")


def test_settings_that_were_written_wrong_are_told() -> None:
    row = {"prompt": "A", "max_token": 5, "score": 1, "topic": "x", "source": "y", "answer": "z", "userid": 3}
    found = lines({"prompt": "A"}, row, row)
    assert found.notices == ["line 2: 'max_token' is no setting and comes back as data (did you mean 'max_tokens'?)"]


def test_the_models_that_are_asked() -> None:
    found = lines(
        {"prompt": "A"}, {"prompt": "B", "model": "x/y"}, {"prompt": "C", "model": "x/y"}, {"model": "no/prompt"},
        model="x/default",
    )  # fmt: skip
    assert {model: line.number for model, line in found.models().items()} == {"x/default": 1, "x/y": 2}
    assert [line.number for line in lines({"prompt": "A"}).models().values()] == [1]


def test_keys_have_one_meaning() -> None:
    assert not SETTING_KEYS & set(OUTPUT_KEYS) - {"model"}

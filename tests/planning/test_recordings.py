"""Reading recorded replies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from asynchow_samples import row, write_pickle, write_rows

from agentmesh.errors import InputProblems, UserError
from agentmesh.messages import Message
from agentmesh.science.planning.asynchow import Item, load_items
from agentmesh.science.planning.recordings import join_items, read_recordings


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    return load_items(write_pickle(tmp_path / "async_benchmark.pkl"))


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz"])
def test_rows_of_a_file(tmp_path: Path, items: list[Item], name: str) -> None:
    file = write_rows(tmp_path / name, [row(items[0], seconds=900), row(items[1])])
    first, second = read_recordings([file]).rows
    assert (first.place, first.model, first.gold_seconds, first.published_correct) == (
        f"{file}:1", "acme-mini", 900, True,
    )  # fmt: skip
    assert first.messages == (Message("user", f"{first.question}\nAnswer in JSON."),)
    assert (second.reply, second.published_correct) == (None, False)
    assert join_items([first, second], items) == items[:2]
    assert join_items([first, second], items[1:]) == [None, items[1]]


def test_a_folder_and_a_file_of_it_are_read_once(tmp_path: Path, items: list[Item]) -> None:
    file = write_rows(tmp_path / "a.jsonl", [row(items[0])])
    write_rows(tmp_path / "b.jsonl.gz", [row(items[1])])
    assert [found.place for found in read_recordings([tmp_path, file]).rows] == [
        f"{file}:1", f"{tmp_path / 'b.jsonl.gz'}:1",
    ]  # fmt: skip


def test_other_data_sets_and_methods_are_counted_and_left_out(tmp_path: Path, items: list[Item]) -> None:
    other: list[dict[str, Any]] = [
        row(items[0], method="cpsat_formalizer"), {"dataset": "robo", "method": "planner", "id": "x"},
    ]  # fmt: skip
    bare = {"model": "m", "messages": [{"role": "user", "content": "Why?"}], "reply": "Because."}
    found = read_recordings([write_rows(tmp_path / "r.jsonl", [*other, row(items[0], method="planner"), bare])])
    assert dict(found.left_out) == {"asynchow cpsat_formalizer": 1, "robo planner": 1}
    assert [kept.place.rpartition(":")[2] for kept in found.rows] == ["3", "4"]
    assert (found.rows[1].question, found.rows[1].gold_seconds, found.rows[1].published_correct) == ("Why?", None, None)


def test_every_broken_line_is_named(tmp_path: Path, items: list[Item]) -> None:
    good = row(items[0])
    bad = [
        "{not json", "[1]", json.dumps(good | {"messages": "hello"}), json.dumps(good | {"gold_seconds": "much"}),
        json.dumps({k: v for k, v in good.items() if k != "reply"}), "[" * 100_000,
    ]  # fmt: skip
    file = tmp_path / "r.jsonl"
    file.write_bytes("\n".join([json.dumps(good), "", *bad]).encode() + b"\n\xff\xfe\n")
    with pytest.raises(InputProblems) as caught:
        read_recordings([file])
    assert [problem.line for problem in caught.value.problems] == [3, 4, 5, 6, 7, 8, 9]
    assert f"{file}:5: messages: " in str(caught.value)
    assert f"{file}:7: reply: Field required" in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path, items: list[Item]) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_recordings([tmp_path / "none.jsonl"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has no \.jsonl"):
        read_recordings([tmp_path / "empty"])
    whole = write_rows(tmp_path / "r.jsonl.gz", [row(items[0])]).read_bytes()
    for body in (whole[: len(whole) // 2], b"no gzip", whole[:20] + b"\0\0\0\0" + whole[24:]):
        (tmp_path / "r.jsonl.gz").write_bytes(body)
        with pytest.raises(UserError, match=r"r\.jsonl\.gz: "):
            read_recordings([tmp_path / "r.jsonl.gz"])

"""What a batch leaves on disk while it runs, when it is interrupted, and when the disk refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest
from batch_provider import read_rows, write_lines, write_provider

from agentmesh.app.batch.answers import Answers
from agentmesh.app.batch.lines import read_lines
from agentmesh.app.batch.run import Batch, run_batch
from agentmesh.app.settings import Options
from agentmesh.app.summary import Summary
from agentmesh.catalog import Catalog
from agentmesh.errors import UserError

LINES = [
    b'{"id": "slow", "prompt": "A", "model": "acme/slow"}', b'{"id": "b", "prompt": "B"}',
    b'{"id": "c", "prompt": "C"}', b"broken", b'{"id": "late", "prompt": "E", "model": "acme/late"}',
]  # fmt: skip


async def run(folder: Path, answers: Answers) -> tuple[Summary, int]:
    catalog = Catalog.load([folder / "files"])
    batch = Batch("lines.jsonl", read_lines(LINES, model="acme/fast").lines)
    options = Options(no_journal=True, display="none")
    with answers:
        return await run_batch(batch, answers, catalog=catalog, options=options)


@pytest.mark.anyio
@pytest.mark.virtual_time
async def test_answers_are_on_disk_as_soon_as_they_are_there(tmp_path: Path) -> None:
    write_provider(tmp_path)
    answers = Answers(tmp_path / "out.jsonl", len(LINES))
    seen = []

    async def look() -> None:
        for pause in (1, 5):
            await anyio.sleep(pause)
            seen.append({row["id"] for row in read_rows(answers.partial)})

    async with anyio.create_task_group() as group:
        group.start_soon(look)
        _, code = await run(tmp_path, answers)
    assert code == 1
    assert seen == [{"b", "c", "4"}, {"b", "c", "4", "late"}]
    assert [row["id"] for row in read_rows(answers.path)] == ["slow", "b", "c", "4", "late"]
    assert not answers.partial.exists()


@pytest.mark.anyio
@pytest.mark.virtual_time
async def test_once_interrupted_what_comes_within_the_grace_is_kept(tmp_path: Path) -> None:
    write_provider(tmp_path)
    answers = Answers(tmp_path / "out.jsonl", len(LINES))

    async def interrupt() -> None:
        await anyio.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    async with anyio.create_task_group() as group:
        group.start_soon(interrupt)
        summary, code = await run(tmp_path, answers)
    assert (code, summary.status) == (143, "cancelled")
    assert 5 < summary.seconds < 7
    assert {row["id"] for row in read_rows(answers.partial)} == {"b", "c", "4", "late"}
    assert not answers.path.exists()
    ((told, where),) = summary.outputs.items()
    assert told == f"4 of 5 answers, as they came; {answers.path} was not written"
    assert where == str(answers.partial)
    assert (summary.usage.calls, summary.usage.uncertain) == (4, 1)  # the one that was cut short was sent


@pytest.mark.anyio
@pytest.mark.virtual_time
async def test_a_disk_that_refuses_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_provider(tmp_path)
    answers = Answers(tmp_path / "out.jsonl", len(LINES))
    written = []

    class Full:
        def write(self, rows: bytes) -> None:
            written.append(rows)
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            raise OSError(28, "No space left on device")  # what waits in its buffer

    enter = Answers.__enter__

    def with_full_disk(self: Answers) -> Answers:
        file = enter(self)._file
        assert file is not None
        file.close()
        monkeypatch.setattr(self, "_file", Full())
        return self

    monkeypatch.setattr(Answers, "__enter__", with_full_disk)
    with pytest.raises((UserError, ExceptionGroup)) as caught:
        await run(tmp_path, answers)
    error: BaseException = caught.value
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    assert (
        str(error)
        == f"{answers.partial} cannot be written: No space left on device; make room, then give the same command again"
    )
    assert written
    assert not answers.path.exists()


def test_rows_are_put_in_order_and_missing_ones_made(tmp_path: Path) -> None:
    with Answers(tmp_path / "new" / "out.jsonl", 3) as answers:
        answers.put(2, b"third")
        answers.put(0, b"first")
        answers._append(b"third\nfirst\n")
        assert not answers.complete
        answers.put_in_order(lambda place: f"made {place}".encode())
    assert answers.path.read_text() == "first\nmade 1\nthird\n"
    assert [path.name for path in answers.path.parent.iterdir()] == ["out.jsonl"]


def test_ctrl_c_twice_keeps_what_was_received(tmp_path: Path) -> None:
    providers = write_provider(tmp_path)
    lines = write_lines(tmp_path / "lines.jsonl", *(line.decode() for line in LINES))
    out, partial = tmp_path / "out.jsonl", tmp_path / "out.jsonl.partial"
    command = [sys.executable, "-m", "agentmesh", "batch", str(lines), "-o", str(out), "--model", "acme/fast"]
    process = subprocess.Popen(
        [*command, "--provider-file", str(providers), "--display", "plain"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stderr is not None
    try:
        deadline = time.monotonic() + 30
        while not (partial.exists() and partial.read_text().count("\n") >= 3):
            assert time.monotonic() < deadline, "no answers came"
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        told = ""
        while "once more ends them" not in told:
            line = process.stderr.readline()
            assert line, f"it ended without a word on stopping: {told}"
            told += line
        process.send_signal(signal.SIGINT)
        told += process.stderr.read()
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert {row["id"] for row in read_rows(partial)} >= {"b", "c", "4"}
    assert not out.exists()
    assert f"of 5 answers, as they came; {out} was not written" in told
    assert "Traceback" not in told

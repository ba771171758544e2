"""What `agentmesh rm` and `agentmesh gc` delete, and what they never do."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from agentmesh.app.cli import main
from agentmesh.clock import in_thread
from agentmesh.events import RunEnded, RunStarted, RunStatus
from agentmesh.journal import Journal
from agentmesh.outcome import Usage

RUNS = Path(".agentmesh/runs")
DAY = 86400.0


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AGENTMESH_JOURNAL", raising=False)


def write(run_id: str, *, age: float, ended: bool = True, status: RunStatus = "done") -> Path:
    async def written() -> Path:
        journal = await in_thread(Journal.create, Path(".agentmesh"), run_id)
        at = time.time() - age
        journal.append(RunStarted(at=at, run=run_id, name="h"))
        if ended:
            journal.append(RunEnded(at=at, status=status, seconds=1.0, usage=Usage(), usd=0.5))
        await journal.aclose()
        os.utime(journal.path, (at, at))
        return journal.path

    return anyio.run(written)


@pytest.fixture
def running() -> Iterator[Path]:
    """A run that is old and still being written, by this process."""
    journal = Journal.create(Path(".agentmesh"), "r9live")
    yield journal.path
    anyio.run(journal.aclose)


def there() -> list[str]:
    return sorted(path.name for path in RUNS.iterdir() if path.name != ".gitignore")


def test_rm_deletes_the_file_and_what_lies_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    write("r1aaaa", age=0)
    write("r1aaaab", age=0)
    for name in ("r1aaaa.db-x", "r1aaaa.inbox", "r1aaaa.status"):
        (RUNS / name).write_bytes(b"12345")
    (RUNS / "r1aaaa.parts").mkdir()
    (RUNS / "r1aaaa.parts/x").write_bytes(b"12345")
    size = (RUNS / "r1aaaa.db").stat().st_size + 20
    assert main(["rm", "r1aaaa", "--yes", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["format"], told["bytes"], told["deleted"][0]["id"]) == (1, size, "r1aaaa")
    assert len(told["deleted"][0]["files"]) == 5
    assert there() == ["r1aaaab.db"]


def test_rm_asks_on_a_terminal_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write("r1aaaa", age=0)
    assert main(["rm", "last"]) == 2
    assert capsys.readouterr().err.endswith("\nnothing was deleted: to delete 1 run without being asked, add --yes\n")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    for answer, left in (("n", ["r1aaaa.db"]), ("y", [])):
        monkeypatch.setattr("typer.confirm", lambda *_, answer=answer, **__: answer == "y")
        assert main(["rm", "last"]) == 0
        assert there() == left
    told = capsys.readouterr()
    assert "aaaa  h  done" in told.err
    assert "nothing was deleted" in told.err
    assert told.out.startswith("deleted 1 run, ")


def test_rm_of_several_deletes_none_if_one_is_running(running: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write("r1aaaa", age=0)
    assert main(["rm", "aaaa", "live", "--yes"]) == 2
    assert f"run live is being written by process {os.getpid()} on" in capsys.readouterr().err
    assert "r1aaaa.db" in there()
    assert running.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rm", "zzzz", "--yes"], "there is no run 'zzzz'"),
        (["rm", "r1", "--yes"], "'r1' fits 2 runs"),
        (["gc", "--older-than", "30"], "--older-than: must be written as 30d, 12h or 90m, not '30'"),
        (["gc", "--older-than", "soon"], "--older-than: must be written as 30d, 12h or 90m, not 'soon'"),
        (["gc"], "Missing option '--older-than'"),
    ],
)
def test_what_makes_no_sense_deletes_nothing(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("r1aaaa", age=90 * DAY)
    write("r1bbbb", age=0)
    assert main(arguments) == 2
    assert words in capsys.readouterr().err
    assert there() == ["r1aaaa.db", "r1bbbb.db"]


def test_gc_deletes_the_old_and_says_so(running: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.utime(running, (1.0, 1.0))
    write("r1aaaa", age=40 * DAY)
    write("r2bbbb", age=35 * DAY, status="partial")
    write("r3cccc", age=DAY)
    (RUNS / "r4dddd.db").write_bytes(b"nothing" * 2000)
    os.utime(RUNS / "r4dddd.db", (1.0, 1.0))
    before = there()
    assert main(["gc", "--older-than", "30d", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert [name for name in ("dddd", "bbbb", "aaaa", "cccc", "live") if name in told] == ["dddd", "bbbb", "aaaa"]
    assert "would delete 3 runs, " in told
    assert main(["gc", "--older-than", "30d", "--dry-run", "--json"]) == 0
    dry = json.loads(capsys.readouterr().out)
    assert [name for name in there() if name.endswith(".db")] == [name for name in before if name.endswith(".db")]
    assert main(["gc", "--older-than", "30d", "--json"]) == 0
    told_json = json.loads(capsys.readouterr().out)
    assert [row["short"] for row in told_json["deleted"]] == ["dddd", "bbbb", "aaaa"]
    assert told_json["bytes"] == dry["bytes"] > 14000
    assert [name for name in there() if name.endswith(".db")] == ["r3cccc.db", "r9live.db"]
    assert main(["gc", "--older-than", "30d"]) == 0
    assert capsys.readouterr().out == "deleted 0 runs, 0 B\n"


def test_gc_keeps_what_could_be_gone_on_with_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    write("r1aaaa", age=40 * DAY)
    write("r2bbbb", age=40 * DAY, ended=False)
    write("r3cccc", age=40 * DAY, status="stopped")
    write("r4dddd", age=40 * DAY, status="cancelled")
    write("r5eeee", age=1, ended=False)
    kept = (
        "kept 3 unfinished runs of that age (dddd, cccc, bbbb): `agentmesh resume` can still go on; --unfinished "
        "deletes such runs, too"
    )
    gc = ["gc", "--older-than", "30d"]
    assert main([*gc, "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:][1] == kept
    assert main([*gc, "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["short"] for row in told["would_delete"]] == ["aaaa"]
    assert [(row["short"], row["status"]) for row in told["kept"]] == [
        ("dddd", "cancelled"), ("cccc", "stopped"), ("bbbb", "interrupted"),
    ]  # fmt: skip
    assert main(gc) == 0
    assert capsys.readouterr().out.splitlines()[-1] == kept
    assert main([*gc, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["deleted"], len(told["kept"])) == ([], 3)
    assert main([*gc, "--unfinished"]) == 0
    assert capsys.readouterr().out.startswith("deleted 3 runs, ")
    assert there() == ["r5eeee.db"]


def test_rm_says_what_is_lost_with_an_unfinished_run(capsys: pytest.CaptureFixture[str]) -> None:
    write("r2bbbb", age=1, ended=False)
    write("r3cccc", age=1)
    assert main(["rm", "bbbb", "cccc"]) == 2
    first, second, refused = capsys.readouterr().err.splitlines()
    assert first.endswith("0 tasks done for $0.00 would be lost, since it is unfinished")
    assert "lost" not in second
    assert refused == "nothing was deleted: to delete 2 runs without being asked, add --yes"

"""What `agentmesh export` writes, and that an exported run can be asked again of its own recording."""

from __future__ import annotations

import gzip
import json
import os
import stat
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pydantic
import pytest

import agentmesh as am
from agentmesh.app.cli import main
from agentmesh.catalog import Catalog
from agentmesh.clock import in_thread
from agentmesh.errors import ErrorInfo
from agentmesh.events import CallEnded, CallIntent, Event, RunStarted, TaskDropped, TaskEnded, TaskReopened
from agentmesh.journal import Journal
from agentmesh.messages import Message, Reply, Request
from agentmesh.outcome import Outcome, Usage
from agentmesh.simulate.behaviour import Served, ServedModel
from agentmesh.simulate.provider import SimulatedProvider
from agentmesh.simulate.replay import RecordedReplies, load_recordings
from agentmesh.simulate.transport import InProcessTransport

DOWN = ErrorInfo("server", "500 from sim", status=500)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AGENTMESH_JOURNAL", raising=False)


def write(events: list[Event], *, content: bool = True) -> Path:
    async def written() -> Path:
        journal = await in_thread(lambda: Journal.create(Path(".agentmesh"), "r1", content=content))
        for event in events:
            journal.append(event)
        await journal.aclose()
        return journal.path

    return anyio.run(written)


def a_run() -> list[Event]:
    who: dict[str, Any] = {"call": 1, "address": "t/a", "agent": None, "account": "sim", "model": "m"}
    request = Request("m", (Message("user", "How long?"),))
    failed: dict[str, Any] = {"result": "failed", "seconds": 1.0, "error": DOWN}
    answered: dict[str, Any] = {"result": "ok", "seconds": 1.0, "reply": Reply("Nine days.", "stop")}
    return [
        RunStarted(at=1.0, run="r1", name="h"),
        CallIntent(at=1.0, attempt=1, request=request, **who),
        CallEnded(at=2.0, attempt=1, **who, **failed),
        TaskEnded(at=2.0, outcome=Outcome("t", "a", state="failed", error=DOWN)),
        TaskEnded(at=2.0, outcome=Outcome("t", "b", item={"n": 1}, value="x", usage=Usage(1, input_tokens=3))),
        TaskEnded(at=2.0, outcome=Outcome("t", "c", value="y")),
        TaskReopened(at=3.0, address="t/a", state="failed"),
        TaskReopened(at=3.0, address="t/c", state="done"),
        CallIntent(at=3.0, attempt=2, request=request, **who),
        CallEnded(at=4.0, attempt=2, **who, **answered),
        TaskEnded(at=4.0, outcome=Outcome("t", "a", value="Nine days.")),
        CallIntent(at=5.0, attempt=1, request=request, **(who | {"call": 2})),
        TaskEnded(at=5.0, outcome=Outcome("t", "d", value="z")),
        TaskDropped(at=6.0, address="t/d", state="done"),
    ]  # fmt: skip


def rows(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    assert {row["format"] for row in found} <= {1}
    return found


def test_events_are_raw_and_numbered(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    write(a_run())
    assert main(["export", "last", "--events"]) == 0
    found = rows(capfdbinary.readouterr().out.decode())
    assert [row["number"] for row in found] == list(range(1, 15))
    assert (found[0]["event"], found[0]["data"]["name"]) == ("RunStarted", "h")
    assert found[1]["data"]["request"]["messages"][0]["text"] == "How long?"


def test_results_are_the_outcomes_that_hold(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    write(a_run())
    assert main(["export", "--results"]) == 0
    b, a = rows(capfdbinary.readouterr().out.decode())
    assert (a["key"], a["state"], a["ok"], a["value"], a["error"]) == ("a", "done", True, "Nine days.", None)
    assert list(b) == [
        "format", "task", "key", "sample", "state", "item", "ok", "value", "error", "finish", "model", "attempts",
        "seconds", "usage", "usd",
    ]  # fmt: skip
    assert (b["item"], b["usage"]["input_tokens"], b["usage"]["output_tokens"]) == ({"n": 1}, 3, None)


@pytest.mark.parametrize("name", ["calls.jsonl", "calls.jsonl.gz"])
def test_calls_are_what_replay_reads(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(a_run())
    Path(name).write_text("what was there before")
    assert main(["export", "last", "--calls", "-o", name]) == 0
    assert capsys.readouterr().err == f"{name}: 1 row\n"
    data = Path(name).read_bytes()
    (row,) = rows((gzip.decompress(data) if name.endswith(".gz") else data).decode())
    assert (row["reply"], row["finish"], row["call"], row["model"]) == ("Nine days.", "stop", 1, "m")
    assert len(load_recordings([name]).replies) == 1
    assert stat.S_IMODE(Path(name).stat().st_mode) == 0o600
    assert sorted(path.name for path in Path().iterdir()) == [".agentmesh", name]


def test_a_damaged_run_gives_what_is_intact_and_ends_with_1(capfd: pytest.CaptureFixture[str]) -> None:
    path = write([TaskEnded(at=1.0, outcome=Outcome("t", str(n), value=os.urandom(2000).hex())) for n in range(200)])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 // 8192 * 8192])
    assert main(["export", "--results"]) == 1
    told = capfd.readouterr()
    found = rows(told.out)
    assert [row["key"] for row in found] == [str(n) for n in range(len(found))]
    assert len(found) > 60
    assert f"{200 - len(found)} records are damaged and left out: {len(found) + 1}-200\n" in told.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["last"], "--events, --results or --calls, one of them"),
        (["last", "--events", "--calls"], "one of them"),
        (["zzzz", "--events"], "there is no run 'zzzz'"),
        (["last", "--events", "-o", "no/such.jsonl"], "-o no/such.jsonl: cannot be written: No such file"),
        (["last", "--events", "-o", "."], "cannot be written"),
    ],
)
def test_what_makes_no_sense_writes_nothing(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(a_run())
    assert main(["export", *arguments]) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert told.out == ""
    assert [path.name for path in Path().iterdir()] == [".agentmesh"]


def test_a_run_without_content_has_no_calls_to_export(capsys: pytest.CaptureFixture[str]) -> None:
    write(a_run(), content=False)
    assert main(["export", "--calls", "-o", "calls.jsonl"]) == 2
    assert capsys.readouterr().err == "run r1 keeps no content of 1 call: they cannot be exported\n"
    assert not Path("calls.jsonl").exists()


class Claim(pydantic.BaseModel):
    title: str
    strength: int


@am.tool
def search(query: str) -> str:
    """Search the literature."""
    return f"three papers on {query}"


FILE = "provider: lab\ndialect: {dialect}\nbase_url: http://lab.invalid\nmodels: {{m: {{prices: free}}, n: {{}}}}\n"


async def answers(provider: SimulatedProvider, dialect: str) -> tuple[list[Any], Usage]:
    """What comes of structured output, tools, samples of one prompt, and one prompt to two models."""
    Path("lab.yaml").write_text(FILE.format(dialect=dialect))
    opened = partial(am.Mesh, catalog=Catalog.load([Path("lab.yaml")]), journal=".agentmesh")
    structured = am.Agent("s", model="lab/m", instructions="Be brief.", output=Claim)
    helped = am.Agent("h", model="lab/m", tools=[search])
    plain = [am.Agent[str]("p", model=f"lab/{name}", settings={"temperature": 1}) for name in "mn"]
    async with opened(http=InProcessTransport(provider)) as mesh, mesh.open_run("r") as run:
        tasks: list[Any] = [run.start(structured.on("A claim about {{ x }}", x=x)) for x in ("ice", "fire")]
        tasks += [run.start(helped.on("Use search for {{ x }}", x=x)) for x in ("salt", "sand")]
        tasks += [run.start(one.on("Say hello."), name=f"hello{place}") for place, one in enumerate(plain)]
        values = [await task for task in tasks]
    return values, run.record.usage


@pytest.mark.anyio
@pytest.mark.parametrize("dialect", ["openai-chat", "anthropic"])
async def test_an_exported_run_replays_exactly(dialect: str) -> None:
    models = {name: ServedModel(name) for name in "mn"}
    values, usage = await answers(SimulatedProvider(Served(models)), dialect)
    assert await in_thread(main, ["export", "last", "--calls", "-o", "calls.jsonl.gz"]) == 0
    recorded = RecordedReplies(load_recordings(["calls.jsonl.gz"]))
    again, used = await answers(SimulatedProvider(Served({"*": ServedModel("*")}), recorded), dialect)
    assert again == values
    assert used == usage
    assert usage.calls == 8  # two of them had a second turn, with what the tool gave
    assert again[4] != again[5]

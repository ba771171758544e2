"""ask, map and stream; a mesh opened, closed, left early, and used where it should not be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from scripted import LAB, Scripted, kinds, provider_file

import agentmesh as am
from agentmesh.clock import monotonic
from agentmesh.journal import RunFile

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


@pytest.mark.both_backends
async def test_asks_at_once_share_one_run(tmp_path: Path) -> None:
    model = Scripted(tmp_path, lambda body: body["messages"][-1]["content"].upper())
    events: list[Any] = []
    answers: dict[str, str] = {}
    async with am.open_mesh(**model.options, watchers=[events.append]) as mesh:

        async def ask(text: str) -> None:
            answers[text] = await mesh.ask("scripted/m", text, temperature=0.5, max_tokens=9, top_k=3)

        async with anyio.create_task_group() as group:
            for text in ("a", "b", "b"):
                group.start_soon(ask, text)
        assert answers == {"a": "A", "b": "B"}
        assert monotonic() < 100
    assert {name: model.asked[0][name] for name in ("temperature", "max_completion_tokens", "top_k")} == {
        "temperature": 0.5, "max_completion_tokens": 9, "top_k": 3,
    }  # fmt: skip
    assert kinds(events).count("RunStarted") == kinds(events).count("RunEnded") == 1


@pytest.mark.both_backends
async def test_outcomes_come_as_they_come_under_the_keys_of_their_items(tmp_path: Path) -> None:
    async with am.open_mesh(journal=None) as mesh:

        async def wait(item: Any) -> Any:
            seconds = item["seconds"] if isinstance(item, dict) else float(item) if str(item).isdigit() else 7.0
            await anyio.sleep(seconds)
            if seconds == 4:
                raise ValueError("four")
            return seconds

        items = [5, {"id": "two", "seconds": 2.0}, "3", 4, 3, object(), "a/b c"]
        outcomes = [one async for one in mesh.map(lambda item: am.call(wait, item), items, name="waits")]
        assert [outcome.value for outcome in outcomes[:5]] == [2.0, 3.0, 3.0, None, 5.0]
        assert [str(outcome.address) for outcome in outcomes[:5] if outcome.key != "3~2"] == [
            "waits/two", "waits/3", "waits/4", "waits/5",
        ]  # fmt: skip
        assert {outcome.key for outcome in outcomes} > {"two", "3", "3~2", "4", "5", "a%2Fb%20c"}
        assert [outcome.item for outcome in outcomes if outcome.key == "two"] == [items[1]]
        assert str(outcomes[3].error) == "tool: ValueError: four"
        assert [one async for one in mesh.map(lambda item: am.call(wait, item), [])] == []


@pytest.mark.both_backends
async def test_whoever_asks_first_and_gives_up_at_once_leaves_one_run_to_the_others(tmp_path: Path) -> None:
    events: list[Any] = []
    async with am.open_mesh(
        journal=tmp_path / "j", provider_files=[provider_file(tmp_path)], watchers=[events.append]
    ) as mesh:
        async with anyio.create_task_group() as asking:
            asking.start_soon(mesh.ask, "lab/free", "Never mind.")
            await anyio.lowlevel.checkpoint()
            asking.cancel_scope.cancel()
        assert await mesh.ask("lab/free", "Hello.")
    assert kinds(events).count("RunStarted") == 1


@pytest.mark.both_backends
async def test_who_leaves_a_map_early_does_not_pay_for_the_rest(tmp_path: Path) -> None:
    async with am.open_mesh(journal=None, provider_files=[provider_file(tmp_path)]) as mesh:
        agent = am.Agent("one", model="lab/one")  # one at a time
        asked = mesh.map(lambda n: agent.on("{{ n }}", n=n), range(400))
        async with aclosing(asked):
            seen = []
            async for outcome in asked:
                seen.append(outcome)
                if len(seen) == 2:
                    break
        began = monotonic()
        assert await mesh.ask("lab/free", "Hello.")
        session = await mesh._session.run()
    states = session.record.counts["one"]
    assert states["done"] in (2, 3), "the third may have been in flight"
    assert states["done"] + states["cancelled"] == 400
    assert session.status == "done"
    assert monotonic() - began < 5


@pytest.mark.both_backends
async def test_an_exception_in_a_mesh_ends_what_was_asked_in_it(tmp_path: Path) -> None:
    events: list[Any] = []
    began = monotonic()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - leaving the mesh raises it
        async with am.open_mesh(
            journal=None, provider_files=[provider_file(tmp_path)], watchers=[events.append]
        ) as mesh:
            agent = am.Agent("slow", model="lab/slow")
            async with aclosing(mesh.map(lambda n: agent.on("{{ n }}", n=n), range(1000))) as asked:
                async for outcome in asked:
                    raise ZeroDivisionError(outcome.address)
    assert monotonic() - began == pytest.approx(10.0, abs=0.1)
    assert events[-1].status == "cancelled"


@pytest.mark.both_backends
async def test_cancelling_while_a_mesh_is_left_cancels_what_it_waits_for(tmp_path: Path) -> None:
    began = monotonic()
    with anyio.move_on_after(25) as scope:
        async with am.open_mesh(journal=None, provider_files=[provider_file(tmp_path)]) as mesh:
            asked = mesh.map(lambda n: am.call(anyio.sleep, 10 * n), range(1, 9))
            assert (await anext(asked)).key == "1"
        pytest.fail("it waits for the others, and is cancelled there")
    assert scope.cancelled_caught
    assert monotonic() - began == pytest.approx(25)
    await asked.aclose()


async def test_a_mesh_is_opened_and_closed_in_different_tasks(tmp_path: Path) -> None:
    mesh = am.open_mesh(journal=tmp_path, provider_files=[provider_file(tmp_path)])
    await asyncio.create_task(mesh.__aenter__())
    assert (await asyncio.create_task(mesh.ask("lab/free", "Hello."))).startswith("(A simulated")

    async def a_run() -> str:
        async with mesh.open_run("r") as run:
            return await run.start(am.Agent("x", model="lab/free").on("Hello."))

    assert (await asyncio.create_task(a_run())).startswith("(A simulated")
    await asyncio.create_task(mesh.__aexit__(None, None, None))
    assert len(list(tmp_path.glob("runs/*.db"))) == 2
    await mesh.__aenter__()  # a mesh may be opened again
    assert await mesh.ask("lab/free", "Hello.")
    await mesh.__aexit__(None, None, None)
    assert not [task for task in asyncio.all_tasks() if "agentmesh" in task.get_name()], "nothing of it is left"


async def test_a_mesh_that_is_closed_under_a_run_ends_it(tmp_path: Path) -> None:
    mesh = am.open_mesh(journal=tmp_path, provider_files=[provider_file(tmp_path)])
    await mesh.__aenter__()
    status: list[Any] = []

    async def a_run() -> None:
        async with mesh.open_run("r") as run:
            task = run.start(am.Agent("x", model="lab/slow").on("Hello."))
        status.extend([run.status, run.reason, (await task.outcome()).state])

    running = asyncio.create_task(a_run())
    await asyncio.sleep(1)
    await mesh.__aexit__(None, None, None)
    await running
    assert status == ["cancelled", "the run was cut short", "cancelled"]
    assert monotonic() < 5


async def test_a_mesh_that_is_not_open_says_so() -> None:
    mesh = am.open_mesh(journal=None)
    agent = am.Agent("x", model="sim/small")

    async def use_all() -> AsyncIterator[str]:
        for use in (
            mesh.ask("sim/small", "x"), anext(mesh.map(agent.on, ["x"])), anext(mesh.stream("sim/small", "x")),
            mesh.open_run("r").__aenter__(), mesh.workflow("summarise"),
        ):  # fmt: skip
            with pytest.raises(am.UserError) as error:
                await use
            yield str(error.value)

    expected = ["the mesh is not open: use it inside of `async with am.open_mesh() as mesh`"] * 5
    assert [text async for text in use_all()] == expected
    async with mesh:
        with pytest.raises(am.UserError, match="this mesh is open already"):
            await mesh.__aenter__()
    assert [text async for text in use_all()] == expected


@pytest.mark.both_backends
async def test_a_journal_that_cannot_be_written_is_told_and_nothing_is_asked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    model = Scripted(tmp_path, "never")
    with pytest.raises(am.UserError, match="file"):  # noqa: PT012 - and leaving the mesh raises it again
        async with am.open_mesh(**model.options | {"journal": tmp_path / "file"}) as mesh:
            for _ in range(2):
                with pytest.raises(am.UserError, match="file"):
                    await mesh.ask("scripted/m", "Hello.")
            with pytest.raises(am.UserError, match="file"):
                async with mesh.open_run("r"):
                    pytest.fail("there is no run")
    assert model.asked == []


async def test_a_disk_that_fails_ends_the_run_with_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentmesh.journal.store import Store

    model = Scripted(tmp_path, "yes")
    written = 0
    write = Store.write

    def failing(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal written
        written += 1
        if written > 3:
            raise OSError("no space left")
        return write(self, *args, **kwargs)

    monkeypatch.setattr(Store, "write", failing)
    async with am.open_mesh(**model.options | {"journal": tmp_path / "j"}) as mesh:
        with pytest.raises(am.UserError, match="cannot be written: no space left"):  # noqa: PT012
            async with mesh.open_run("r") as run:
                agent = am.Agent("x", model="scripted/m")
                for number in range(20):
                    await run.start(agent.on(f"{number}"))
    assert 0 < len(model.asked) < 5


@pytest.mark.both_backends
async def test_text_comes_as_it_is_written(tmp_path: Path) -> None:
    slow = LAB.replace("per_token: 0.0", "per_token: 0.1")
    async with am.open_mesh(journal=None, provider_files=[provider_file(tmp_path, slow)]) as mesh:
        began = monotonic()
        times, pieces = [], []
        async for piece in mesh.stream("lab/free", "Hello.", max_tokens=12):
            times.append(monotonic() - began)
            pieces.append(piece)
        assert "".join(pieces) == await mesh.ask("lab/free", "Hello.", max_tokens=12)
    assert len(pieces) > 3
    assert times[-1] - times[0] > 0.5


class Streams(httpx.AsyncBaseTransport):
    """Streams that break: each is pieces of text, and an error where it does not come to its end."""

    def __init__(self, *streams: list[Any]) -> None:
        self.streams = list(streams)
        self.requests = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        return httpx.Response(200, stream=_Broken(self.streams.pop(0)), headers={"content-type": "text/event-stream"})


class _Broken(httpx.AsyncByteStream):
    def __init__(self, parts: list[Any]) -> None:
        self.parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            if isinstance(part, Exception):
                raise part
            yield b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % part.encode()
        yield b'data: {"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


async def test_a_stream_that_breaks_is_begun_again_only_while_nothing_was_handed_out(tmp_path: Path) -> None:
    broken = httpx.ReadError("gone")
    http = Streams([broken], ["ab", "cd"], ["ab", broken], ["never"])
    options = Scripted(tmp_path, "").options | {"http": http}
    async with am.open_mesh(**options) as mesh:
        assert [piece async for piece in mesh.stream("scripted/m", "x")] == ["ab", "cd"]
        pieces: list[str] = []
        with pytest.raises(am.TaskFailed, match="connection"):  # noqa: PT012 - what came before counts
            async for piece in mesh.stream("scripted/m", "x"):
                pieces.append(piece)  # noqa: PERF401 - the error comes after it
        assert pieces == ["ab"]
        assert http.requests == 3


async def test_ask_sync_works_where_a_loop_runs() -> None:
    text = am.ask_sync("sim/small", "Hello.", max_tokens=3)
    assert text.startswith("(A sim")


def test_ask_sync_works_where_none_runs(tmp_path: Path) -> None:
    model = Scripted(tmp_path, "yes", seconds=0.0)
    assert am.ask_sync("scripted/m", "Hello.", mesh=model.options, temperature=0) == "yes"
    assert model.asked[0]["temperature"] == 0
    with pytest.raises(am.TaskFailed, match="bad_request"):
        am.ask_sync("scripted/m", "Hello.", mesh=Scripted(tmp_path, 400, seconds=0.0).options)
    assert not (Path.cwd() / ".agentmesh").exists()


async def test_the_session_has_a_journal_like_any_run(tmp_path: Path) -> None:
    model = Scripted(tmp_path, "yes")
    async with am.open_mesh(**model.options | {"journal": tmp_path / "j"}) as mesh:
        assert await mesh.ask("scripted/m", "Hello.") == "yes"
    (path,) = (tmp_path / "j" / "runs").glob("*.db")
    with RunFile.open(path) as file:
        assert kinds([event for _, event in file.events()]) == [
            "RunStarted", "TaskAdded", "TaskStarted", "CallIntent", "CallEnded", "TaskEnded", "RunEnded",
        ]  # fmt: skip


async def test_ended_tasks_weigh_little(tmp_path: Path) -> None:
    import gc
    import tracemalloc

    model = Scripted(tmp_path, "yes", seconds=0.0)
    async with am.open_mesh(**model.options) as mesh:
        await mesh.ask("scripted/m", "warm " * 2000)
        gc.collect()
        tracemalloc.start()
        try:
            model.asked.clear()
            for number in range(200):
                await mesh.ask("scripted/m", f"{number} " * 2000)  # about 8 kB each
            model.asked.clear()
            gc.collect()
            weight, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert weight / 200 < 4000, "bytes that an ended task keeps: its outcome and address, not what it was asked"

"""A second mesh right after the first meets no 429: what lanes know is kept in the user's cache folder between them.

Both send to one strict server in this process, on a virtual clock that wall time follows here.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

import agentmesh as am
from agentmesh.catalog import Catalog
from agentmesh.clock import monotonic, sleep
from agentmesh.events import Event, Notice
from agentmesh.limits import lane as lanes
from agentmesh.limits.memory import load_memory, save_memory
from agentmesh.mesh import endpoints, memories
from agentmesh.rates import Limit
from agentmesh.simulate.behaviour import Behaviour, Served, ServedModel
from agentmesh.simulate.provider import SimulatedProvider
from agentmesh.simulate.transport import InProcessTransport

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

MINUTE = {"requests_per_minute": {"limit": 30, "shape": "sliding"}}
RECORDS = (Limit("requests", 30, shape="sliding"),)


@pytest.fixture(autouse=True)
def _wall_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lanes, memories):
        monkeypatch.setattr(module, "wall", lambda: 1_935_000_000.0 + monotonic())


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    return Network(monkeypatch)


class Network:
    """In the place of the network, a strict server with these limits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.provider: SimulatedProvider

    def serves(self, limits: Sequence[Limit]) -> None:
        model = ServedModel("m", Behaviour(first_token_s=0.5, output_tokens=20))
        self.provider = SimulatedProvider(Served({"m": model}, limits=tuple(limits)))
        self._patch.setattr(endpoints, "default_http", self.transport)

    def transport(self) -> httpx.AsyncBaseTransport:
        return InProcessTransport(self.provider)

    @property
    def refused(self) -> int:
        return self.provider.statistics().refused


def catalog(folder: Path, limits: dict[str, Any], *, base_url: str = "http://acme.invalid/v1") -> Catalog:
    file = {"provider": "acme", "dialect": "openai-chat", "base_url": base_url, "limits": limits}
    path = folder / "acme.yaml"
    path.write_text(json.dumps({**file, "models": {"m": {"prices": "free"}}}), encoding="utf-8")
    return Catalog.load([path], folder, user_dir=folder, environ={})


@contextlib.asynccontextmanager
async def opened(known: Catalog, *, said: list[str] | None = None, **options: Any) -> AsyncIterator[am.Mesh]:
    """A mesh without a journal, that says its notices here."""

    def hear(event: Event) -> None:
        if isinstance(event, Notice) and said is not None:
            said.append(event.text)

    async with am.open_mesh(catalog=known, journal=None, watchers=[hear], **options) as mesh:
        yield mesh


async def ask(mesh: am.Mesh, calls: int) -> None:
    async with anyio.create_task_group() as group:
        for number in range(calls):
            group.start_soon(partial(mesh.ask, "acme/m", f"call {number}", max_tokens=30))


def kept() -> list[Path]:
    return sorted((Path.home() / ".cache" / "agentmesh" / "lanes").glob("*.json"))


LIMITS = [
    ({"requests_per_minute": {"limit": 30, "shape": "sliding"}}, RECORDS),
    ({"requests_per_minute": {"limit": 30, "shape": "fixed"}}, (Limit("requests", 30, shape="fixed"),)),
    ({"requests_per_minute": {"limit": 60, "burst": 30}}, (Limit("requests", 60, burst=30),)),
    ({"requests_per_day": 45, "in_flight": 20}, (Limit("requests", 45, 86400.0), Limit("in_flight", 20))),
    ({"tokens_per_minute": {"limit": 1500, "shape": "sliding"}}, (Limit("tokens", 1500, shape="sliding"),)),
]


@pytest.mark.both_backends
@pytest.mark.parametrize(("limits", "records"), LIMITS)
async def test_the_second_of_two_meets_no_refusal(
    tmp_path: Path, network: Network, limits: dict[str, Any], records: tuple[Limit, ...]
) -> None:
    network.serves(records)
    for _ in range(2):
        async with opened(catalog(tmp_path, limits)) as mesh:
            await ask(mesh, 30)
        await sleep(2.0)
    assert network.provider.statistics().completed == 60
    assert network.refused == 0
    assert len(kept()) == 1


async def test_who_remembers_nothing_is_refused(tmp_path: Path, network: Network) -> None:
    network.serves(RECORDS)
    for _ in range(2):
        async with opened(catalog(tmp_path, MINUTE), remembers=False) as mesh:
            await ask(mesh, 30)
    assert network.refused > 0
    assert kept() == []


@pytest.mark.parametrize("written", [{"requests_per_minute": {"limit": 500, "burst": 20}}, {"in_flight": 50}])
async def test_a_figure_that_answers_told_holds_from_the_first_call_of_the_next_run(
    tmp_path: Path, network: Network, written: dict[str, Any]
) -> None:
    network.serves([Limit("requests", 300, burst=12)])
    said: list[str] = []
    async with opened(catalog(tmp_path, written), said=said) as mesh:
        await ask(mesh, 5)
    assert [text for text in said if "allows 300" in text] == said
    assert len(said) == ("requests_per_minute" in written)
    async with opened(catalog(tmp_path, written), said=said) as mesh:
        await mesh.read_models(["acme/m"])
        mesh.route(["acme/m"])
        (lane,) = mesh.statistics()
        assert [limit.limit for limit in lane.limits if limit.name == "requests_per_minute"] == [300]
        await ask(mesh, 40)
    assert len(said) == ("requests_per_minute" in written)  # it is not said again
    assert network.refused == 0


async def test_a_run_that_is_killed_forgets_half_a_minute_at_most(
    tmp_path: Path, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.serves(RECORDS)
    written: list[float] = []

    def note(path: Path, memory: Any, *, wall: float) -> str | None:
        written.append(wall)
        return save_memory(path, memory, wall=wall)

    monkeypatch.setattr(memories, "save_memory", note)
    async with opened(catalog(tmp_path, MINUTE)) as mesh:
        began = monotonic()
        await ask(mesh, 30)
        await sleep(30.0)
        (file,) = kept()
        memory, trouble = load_memory(file)
        assert trouble is None
        assert sum(units for _, units in memory.limits["acme/requests_per_minute"].uses) == 30
        await sleep(600.0)
        assert len(written) == 1  # nothing has happened since
        await ask(mesh, 1)
        assert monotonic() - began < 640
    assert len(written) == 2


@pytest.mark.parametrize("broken", ["file", "folder"])
async def test_trouble_with_the_files_is_one_notice_and_no_failure(
    tmp_path: Path, network: Network, broken: str
) -> None:
    network.serves(RECORDS)
    async with opened(catalog(tmp_path, MINUTE)) as mesh:
        await ask(mesh, 1)
    (file,) = kept()
    if broken == "file":
        file.write_text("garbage", encoding="utf-8")
    else:
        file.unlink()
        for one in file.parent.iterdir():
            one.unlink()
        file.parent.rmdir()
        file.parent.write_text("in the way", encoding="utf-8")
    said: list[str] = []
    async with opened(catalog(tmp_path, MINUTE), said=said) as mesh:
        for number in range(2):
            async with mesh.open_run(f"run{number}") as run:
                assert await run.start(am.Agent("one", model="acme/m").on("Say hello."))
    expected = {"file": ["is not used"], "folder": ["cannot be read", "cannot be kept"]}[broken]
    assert len(said) == len(expected)
    assert all(part in text for part, text in zip(expected, said, strict=True))


async def test_what_stands_in_for_the_network_leaves_nothing_behind(tmp_path: Path, network: Network) -> None:
    network.serves(RECORDS)
    async with opened(catalog(tmp_path, MINUTE), http=network.transport()) as mesh:
        await ask(mesh, 3)
    async with opened(catalog(tmp_path, MINUTE, base_url="inprocess://acme")) as mesh:
        await ask(mesh, 3)
    assert not (Path.home() / ".cache").exists()

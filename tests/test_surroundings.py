"""What conftest.py promises all tests, seen to hold."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from conftest import Turns

import agentmesh
from agentmesh.clock import on_asyncio

PACKAGE = Path(agentmesh.__file__).parent


def code_of(place: Path) -> Any:
    """An async function that blocks, as if it stood in that file."""
    names: dict[str, Any] = {"time": time}
    exec(compile("async def block():\n    time.sleep(0)\n", str(place), "exec"), names)
    return names["block"]


@pytest.mark.anyio
async def test_a_blocking_call_of_our_own_code_fails() -> None:
    with pytest.raises(Exception, match=r"Blocking call to time\.sleep"):
        await code_of(PACKAGE / "flow" / "none.py")()
    await code_of(Path(__file__))()


def test_a_blocking_call_outside_of_a_loop_is_nobodys_business() -> None:
    coroutine = code_of(PACKAGE / "flow" / "none.py")()
    with pytest.raises(StopIteration):
        coroutine.send(None)


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80), ("example.org", 80)])
def test_no_test_reaches_the_network(address: tuple[str, int]) -> None:
    with pytest.raises(pytest.fail.Exception, match=f"reached out to {address[0]}"):
        socket.create_connection(address, timeout=0.01)


def test_loopback_and_names_that_cannot_exist_behave_as_always() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass
    with pytest.raises(socket.gaierror):
        socket.create_connection(("nobody.invalid", 80))


def test_home_and_folder_are_the_tests_own() -> None:
    assert list(Path.home().iterdir()) == list(Path.cwd().iterdir()) == []
    assert not [name for name in os.environ if name.startswith("AGENTMESH_") or name.endswith("_API_KEY")]


@pytest.mark.anyio
@pytest.mark.both_backends
@pytest.mark.virtual_time
async def test_marks_choose_backend_and_clock(request: pytest.FixtureRequest) -> None:
    began = time.monotonic()
    await anyio.sleep(3600)
    assert time.monotonic() - began < 60
    assert ("[asyncio]" if on_asyncio() else "[trio]") in request.node.name


def test_who_is_to_be_alone_waits_for_those_inside_and_lets_nobody_pass(tmp_path: Path) -> None:
    workers = [Turns(tmp_path) for _ in range(4)]
    inside: list[str] = []
    seen: list[list[str]] = []

    def work(name: str, turns: Turns) -> None:
        with turns.take(alone=name == "alone"):
            inside.append(name)
            seen.append(inside.copy())
            inside.remove(name)

    with workers[0].take(alone=False), workers[1].take(alone=False):  # two at once
        inside.append("test")
        alone = threading.Thread(target=work, args=("alone", workers[2]))
        alone.start()
        while not taken(tmp_path / "door"):
            assert alone.is_alive()
        later = threading.Thread(target=work, args=("later", workers[3]))
        later.start()
        assert not seen
        inside.remove("test")
    alone.join(10)
    later.join(10)
    assert seen == [["alone"], ["later"]]
    assert not taken(tmp_path / "door")
    assert not taken(tmp_path / "room")
    for turns in workers:
        turns.close()


def taken(path: Path, how: int = fcntl.LOCK_EX) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@pytest.mark.parametrize("mark", [pytest.param("shared"), pytest.param("alone", marks=pytest.mark.alone)])
def test_a_worker_holds_its_turn_during_a_test(mark: str, pytestconfig: pytest.Config) -> None:
    if not hasattr(pytestconfig, "workerinput"):
        pytest.skip("this process runs all tests: none can disturb another")
    room = Path(pytestconfig.getoption("basetemp")).parent / "room"
    assert taken(room)
    assert taken(room, fcntl.LOCK_SH) is (mark == "alone")

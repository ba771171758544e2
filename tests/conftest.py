"""What holds for all tests: no network, a home and a working folder of their own, and a loop that nothing blocks.

Async tests are marked `anyio` and run on asyncio. `both_backends` runs them on trio too, `virtual_time` on a virtual
clock. Tests that measure real time are marked `alone`: the other workers of the same run wait meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import inspect
import ipaddress
import itertools
import os
import re
import socket
import sys
import types
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from blockbuster import BlockBuster

import agentmesh
from agentmesh.simulate.virtual import VirtualLoop

_OF_THE_USER = re.compile(
    r"(AGENTMESH|XDG)_|(NO|FORCE)_COLOR$|COLUMNS$|CI$|.*_(API_KEY|BASE_URL|TOKEN|PROXY)$", re.IGNORECASE
)
# Loaded machines are slow at times, and what lands must not depend on luck; elsewhere chance goes on looking.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.register_profile("repeatable", parent=hypothesis.settings.get_profile("patient"), derandomize=True)
hypothesis.settings.load_profile("repeatable" if os.environ.get("CI") else "patient")

# Whoever runs the tests: each of the hundreds of processes that they start would compile everything anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
gc.disable()  # until all tests are there

_PACKAGE = f"{Path(agentmesh.__file__).parent}{os.sep}"
_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_numbers = itertools.count()
_clean: list[Path] = []
_turns = pytest.StashKey["Turns"]()


class Turns:
    """Lets one test have the machine for itself: the others share a lock on a file, it has that lock alone.

    Each worker has one. Whoever comes passes a door first, and who is to be alone stands in it until the room is empty:
    else others would come and go for ever. A process that dies leaves both.
    """

    def __init__(self, folder: Path) -> None:
        self._door, self._room = (os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600) for name in ("door", "room"))

    @contextlib.contextmanager
    def take(self, *, alone: bool) -> Iterator[None]:
        """Be in the room, alone or not. Not to be taken again before that has ended."""
        fcntl.flock(self._door, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._door)
        os.close(self._room)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "both_backends: run an async test on asyncio and on trio")
    config.addinivalue_line("markers", "virtual_time: run an async test on a virtual clock")
    config.addinivalue_line("markers", "alone: run a test while the other workers of pytest-xdist do nothing")
    if hasattr(config, "workerinput"):  # this is one of several processes: each has its folder in that of the run
        config.stash[_turns] = turns = Turns(Path(config.getoption("basetemp")).parent)
        config.add_cleanup(turns.close)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """One worker imports a module of tests at a time: the others then find its bytecode."""
    if not isinstance(collector, pytest.Module):
        return (yield)
    with collector.path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        return (yield)


def pytest_collection_finish() -> None:
    """Thousands of tests with their modules stay to the end: each `gc.collect()` looked at them for 0.2 s and more."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around the time limit: a test that waits for its turn does nothing
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    turns = item.config.stash.get(_turns, None)
    with turns.take(alone=item.get_closest_marker("alone") is not None) if turns else contextlib.nullcontext():
        return (yield)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    wanted = metafunc.definition.get_closest_marker("both_backends") and "anyio_backend" in metafunc.fixturenames
    chosen = any("anyio_backend" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if wanted and not chosen:
        metafunc.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The event loop of an async test."""
    name = getattr(request, "param", "asyncio")
    if request.node.get_closest_marker("virtual_time") is None:
        return name, {}
    if name == "asyncio":
        return name, {"loop_factory": VirtualLoop}
    from trio.testing import MockClock

    return name, {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture(scope="session", autouse=True)
def _nothing_blocks_the_loop(_no_network: None) -> Iterator[None]:
    """A blocking call in a running asyncio loop fails the test, if a coroutine of our own made it.

    What a test itself does there is no fault. Imports are allowed: each happens once.
    """
    guard = BlockBuster()
    for function in guard.functions.values():
        function.can_block_predicate = _or_not_ours(function.can_block_predicate)
        function.can_block_in("<frozen importlib._bootstrap>", "_find_and_load")
        function.can_block_in("agentmesh/journal/ends.py", {"_read_with_next", "earlier"})  # local, bounded: see there
    guard.activate()
    yield
    guard.deactivate()


def _or_not_ours(allowed: Callable[..., bool]) -> Callable[..., bool]:
    def predicate(*args: Any, **kwargs: Any) -> bool:
        return allowed(*args, **kwargs) or not _in_a_coroutine_of_ours()

    return predicate


def _in_a_coroutine_of_ours() -> bool:
    frame: types.FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_flags & _ASYNC and frame.f_code.co_filename.startswith(_PACKAGE):
            return True
        frame = frame.f_back
    return False


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Connections leave this machine from no test. Names that cannot exist are answered as they would be."""
    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and name.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        _must_be_local(name)
        return look_up(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        for method in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, method, _local_only(getattr(socket.socket, method)))
        yield


def _local_only(method: Any) -> Any:
    def guarded(self: socket.socket, *args: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _must_be_local(args[-1][0])
        return method(self, *args)

    return guarded


def _must_be_local(host: str | None) -> None:
    if host in (None, "", "localhost"):
        return
    try:
        if ipaddress.ip_address(host.partition("%")[0]).is_loopback:
            return
    except ValueError:
        pass  # a name
    pytest.fail(f"a test reached out to {host}: only loopback is allowed")


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No key, setting, home or file of who runs the tests reaches them, and nothing of theirs is left behind.

    The folders of a test that has left nothing in them are those of the next one.
    """
    folder = _clean.pop() if _clean else tmp_path_factory.getbasetemp() / "surroundings" / str(next(_numbers))
    home, work = folder / "home", folder / "work"
    for path in (home, work):
        path.mkdir(parents=True, exist_ok=True)
    for name in filter(_OF_THE_USER.match, list(os.environ)):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    yield
    with contextlib.suppress(FileNotFoundError):
        if not os.listdir(home) and not os.listdir(work):
            _clean.append(folder)

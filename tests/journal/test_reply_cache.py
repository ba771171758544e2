"""The cache's file: what is found by whom, who may use it at the same time, and what is refused."""

from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest

from agentmesh.errors import UserError
from agentmesh.journal import cache
from agentmesh.journal.cache import CACHE_FILE, Cached, CacheFile, Entry, Wanted, cache_key
from agentmesh.messages import Opaque, Reply, Tokens, ToolCall

REPLY = Reply(
    "yes", "tool", (ToolCall("1", "f", "{"),), Tokens(3, output=4), "small", "id", Opaque("anthropic", "m", [{"a": 1}])
)


def opened(folder: Path, *, write: bool = True) -> CacheFile:
    file = CacheFile.open(folder, write=write)
    assert file is not None
    return file


def wanted(key: str, at: str, run: str) -> Wanted:
    return Wanted(cache_key(key, address=at), run)


def entry(key: str, at: str, *, run: str = "one", text: str = "yes", when: float = 1.0) -> Entry:
    return wanted(key, at, run), when, Cached(Reply(text, "stop"), 0.25)


def texts(found: list[Cached | None]) -> list[str | None]:
    return [None if one is None else one.reply.text for one in found]


def test_a_reply_comes_back_whole_with_its_price(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as file:
        file.put([(wanted("m k", "a", "one"), 1.0, Cached(REPLY, None))])
        assert file.find([wanted("m k", "a", "two"), wanted("m other", "a", "two")]) == [Cached(REPLY, None), None]
    assert stat.S_IMODE((tmp_path / CACHE_FILE).stat().st_mode) == 0o600


def test_a_runs_own_replies_are_no_answers_to_it(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as file:
        file.put([entry("k", "a", run="one", text="first")])
        assert texts(file.find([wanted("k", "a", "one"), wanted("k", "a", "two")])) == [None, "first"]
        file.put([entry("k", "b", run="two", text="second")])
        assert texts(file.find([wanted("k", "b", "two"), wanted("k", "a", "one")])) == ["first", "second"]


def test_the_one_of_the_same_address_comes_first_and_a_new_one_replaces_it(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as file:
        file.put([entry("k", f"at/{number}", text=str(number)) for number in range(20)])
        asked = [wanted("k", f"at/{number}", "two") for number in range(20)]
        assert texts(file.find(asked)) == [str(number) for number in range(20)]
        assert texts(file.find([wanted("k", "elsewhere", "two")]))[0] in {str(number) for number in range(20)}
        file.put([entry("k", "at/3", run="two", text="new")])
        assert texts(file.find([wanted("k", "at/3", "three")])) == ["new"]


def test_to_read_nothing_is_made_and_nothing_need_be_writable(tmp_path: Path) -> None:
    assert CacheFile.open(tmp_path, write=False) is None
    assert not list(tmp_path.iterdir())
    with closing(opened(tmp_path / "kept")) as file:
        file.put([entry("k", "a")])
    (tmp_path / "kept").chmod(0o500)
    try:
        with closing(opened(tmp_path / "kept", write=False)) as file:
            assert texts(file.find([wanted("k", "a", "two")])) == ["yes"]
            with pytest.raises(UserError, match="readonly"):
                file.put([entry("k", "b")])
    finally:
        (tmp_path / "kept").chmod(0o700)


def test_several_write_and_read_at_the_same_time(tmp_path: Path) -> None:
    troubles: list[Exception] = []

    def work(run: str) -> None:
        try:
            with closing(opened(tmp_path)) as file:
                for number in range(20):
                    file.put([entry(f"k{number}", run, run=run, text=f"{run} {number}")])
                    file.find([wanted(f"k{number}", run, "reader")])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is shown below
            troubles.append(error)

    threads = [threading.Thread(target=work, args=(f"run{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not troubles
    with closing(opened(tmp_path)) as file:
        asked = [wanted(f"k{number}", f"run{run}", "reader") for run in range(4) for number in range(20)]
        assert texts(file.find(asked)) == [f"run{run} {number}" for run in range(4) for number in range(20)]


@pytest.mark.parametrize(("network", "mode"), [(False, "wal"), (True, "delete")])
def test_there_is_no_write_ahead_log_on_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: bool, mode: str
) -> None:
    monkeypatch.setattr(cache, "file_system", lambda folder: "nfs4" if network else "ext4")
    with closing(opened(tmp_path)) as file:
        file.put([entry("k", "a")])
        with closing(sqlite3.connect(tmp_path / CACHE_FILE)) as other:
            assert other.execute("PRAGMA journal_mode").fetchone() == (mode,)


def test_what_is_old_can_be_dropped(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as file:
        file.put([entry("k", "a", when=10.0), entry("k", "b", when=20.0), entry("k", "c", when=30.0)])
        assert file.drop(before=20.0) == 1
        assert file.drop(before=100.0) == 2


def test_what_is_damaged_or_cannot_be_written_as_json_is_no_answer(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as file:
        file.put([entry("half", "a", text="\ud800"), entry("good", "a")])
        assert texts(file.find([wanted("half", "a", "two"), wanted("good", "a", "two")])) == [None, "yes"]
        with closing(sqlite3.connect(tmp_path / CACHE_FILE)) as other, other:
            other.execute("UPDATE reply SET body = x'00'")
        assert texts(file.find([wanted("good", "a", "two")])) == [None]


@pytest.mark.parametrize("write", [True, False])
def test_another_kind_of_file_is_refused_and_left_as_it_is(tmp_path: Path, write: bool) -> None:
    path = tmp_path / CACHE_FILE
    path.write_text("my notes, which are long enough to be no database" * 30)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"cache\.db cannot be used: file is not a database"):
        CacheFile.open(tmp_path, write=write)
    assert path.read_bytes() == before
    path.unlink()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE mine (x)")
    before = path.read_bytes()
    with pytest.raises(UserError, match="it is no cache of replies"):
        CacheFile.open(tmp_path, write=write)
    assert path.read_bytes() == before


def test_one_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / CACHE_FILE)) as other, other:
        other.execute("PRAGMA user_version = 9")
    with pytest.raises(UserError, match="a newer agentmesh has written it"):
        CacheFile.open(tmp_path, write=True)

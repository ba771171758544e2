"""The inbox beside a run's file: what is said is answered, or it is certain that nobody has read it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentmesh.errors import UserError
from agentmesh.journal.ids import new_run_id
from agentmesh.journal.inbox import Answer, Inbox, Message, inbox_path, tell_run
from agentmesh.journal.lock import release_lock, take_lock

Answerer = Callable[[Inbox, Message], None]


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    return tmp_path / "r1.db"


@contextmanager
def held(run_file: Path) -> Iterator[None]:
    """A process that runs it: this one."""
    path = run_file.with_suffix(".lock")
    lock = take_lock(path)
    try:
        yield
    finally:
        release_lock(lock, path)


@contextmanager
def answering(
    run_file: Path, answer: Callable[[Inbox, Message], None], *, messages: int = 1
) -> Iterator[list[Message]]:
    """A run whose process answers so many messages, and then ends."""
    read: list[Message] = []
    inbox = Inbox.open(run_file)

    def serve() -> None:
        while len(read) < messages:
            time.sleep(0.005)
            for message in inbox.read():
                read.append(message)
                answer(inbox, message)
        inbox.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield read
    thread.join(5)


def test_a_message_and_its_answer(run_file: Path) -> None:
    def answer(inbox: Inbox, message: Message) -> None:
        assert inbox.path.stat().st_mode & 0o777 == 0o600
        inbox.answer(message, Answer(ok=message.verb == "rate", text=f"{message.data}"))

    with held(run_file), answering(run_file, answer, messages=2) as read:
        assert tell_run(run_file, "rate", rates=["a.in_flight=1"]) == Answer(True, "{'rates': ['a.in_flight=1']}")
        assert tell_run(run_file, "pause") == Answer(False, "{}")
    assert [message.verb for message in read] == ["rate", "pause"]
    assert read[0].sender.startswith("process ")
    assert not inbox_path(run_file).exists()


def test_an_answer_is_read_even_if_the_run_ends_with_it(run_file: Path) -> None:
    def answer(inbox: Inbox, message: Message) -> None:
        inbox.answer(message, Answer(True, "cancelled"))
        inbox.close()
        inbox.close()

    inbox = Inbox.open(run_file)
    with held(run_file):
        said: list[Answer] = []
        teller = threading.Thread(target=lambda: said.append(tell_run(run_file, "cancel")))
        teller.start()
        while not inbox.has_news():
            time.sleep(0.001)
        answer(inbox, inbox.read()[0])
        teller.join(5)
    assert said == [Answer(True, "cancelled")]


def test_what_an_earlier_process_has_not_read_is_not_for_this_one(run_file: Path) -> None:
    """Killed, it leaves its inbox; who finds that, says it again to the process that goes on."""
    killed = Inbox.open(run_file)
    with held(run_file):
        said: list[Answer] = []
        teller = threading.Thread(target=lambda: said.append(tell_run(run_file, "pause")))
        teller.start()
        while not killed.has_news():
            time.sleep(0.001)
        with answering(run_file, lambda inbox, message: inbox.answer(message, Answer(True, "by the new one"))) as read:
            teller.join(5)
            assert said == [Answer(True, "by the new one")]
        assert len(read) == 1
        mine = Inbox.open(run_file)
        killed.close()
        assert mine.path.exists(), "it is not the killed one's to delete"
        assert not mine.has_news()


def test_what_is_no_message_is_passed_over_and_half_a_line_waits_for_its_end(run_file: Path) -> None:
    inbox = Inbox.open(run_file)
    whole = b'{"format":1,"id":"1","verb":"pause","from":"me"}\n'
    strange = [b"\n", b"nonsense\n", b"[1]\n", b"\xff\xfe\n", b'{"format":2,"id":"1","verb":"pause","from":"me"}\n']
    strange += [
        b'{"format":1,"id":7,"verb":"pause","from":"me"}\n',
        b'{"format":1,"answers":"1","ok":true,"text":""}\n',
    ]
    path = inbox_path(run_file)
    with path.open("ab") as file:
        file.write(b"".join(strange) + whole + whole[:20])
    assert inbox.read() == [Message("1", "pause", "me", {})]
    assert inbox.read() == []
    assert inbox.has_news()
    with path.open("ab") as file:
        file.write(whole[20:])
    assert [message.id for message in inbox.read()] == ["1"]
    assert not inbox.has_news()
    inbox.close()


def test_a_run_that_nobody_runs(run_file: Path) -> None:
    with pytest.raises(UserError, match="run r1 is not running"):
        tell_run(run_file, "pause")
    Inbox.open(run_file)  # left by a process that was killed
    with pytest.raises(UserError, match="run r1 is not running"):
        tell_run(run_file, "pause")


def test_runs_are_called_by_the_name_that_people_know(tmp_path: Path) -> None:
    path = tmp_path / f"{new_run_id(1.0)[:-4]}a3f9.db"
    with pytest.raises(UserError, match=r"^run a3f9 is not running"):
        tell_run(path, "pause")
    lock = take_lock(path.with_suffix(".lock"))
    with pytest.raises(UserError, match=r"^run a3f9 is being written by process"):
        take_lock(path.with_suffix(".lock"))
    with pytest.raises(UserError, match=r"^run a3f9: process .* has not answered within 0\.1 s"):
        tell_run(path, "pause", seconds=0.1)
    release_lock(lock, path.with_suffix(".lock"))


def test_a_run_that_ends_before_it_has_read(run_file: Path) -> None:
    inbox = Inbox.open(run_file)

    def end() -> None:
        while not inbox.has_news():
            time.sleep(0.001)
        inbox.close()
        release_lock(lock, run_file.with_suffix(".lock"))

    lock = take_lock(run_file.with_suffix(".lock"))
    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(UserError, match="run r1 has just ended"):
        tell_run(run_file, "pause")
    thread.join(5)


def test_a_process_that_does_not_answer(run_file: Path) -> None:
    with held(run_file):
        with pytest.raises(UserError, match=r"process \d+ on \S+, which runs it, has not answered within 0\.1 s"):
            tell_run(run_file, "pause", seconds=0.1)
        Inbox.open(run_file)
        with pytest.raises(UserError, match="has not answered"):
            tell_run(run_file, "pause", seconds=0.1)

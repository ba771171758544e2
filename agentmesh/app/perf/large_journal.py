"""A journal of any size, as a run of many calls with long replies leaves it."""

from __future__ import annotations

import base64
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import anyio

from ...clock import in_thread
from ...events import CallEnded, CallIntent, Event, RunEnded, RunStarted, TaskAdded, TaskEnded
from ...journal import Journal, new_run_id
from ...messages import Message, Reply, Request
from ...outcome import Outcome, Usage
from .calls import MODEL

__all__ = ["write_large_journal"]

_BEGAN = 1_700_000_000.0
_TEXT_BYTES, _TEXTS = 6000, 64
_TOGETHER = 500


def write_large_journal(folder: Path, size: int) -> tuple[Path, str]:
    """Write a finished run of about `size` bytes into a journal folder; its file, and the address of an item in it."""
    return anyio.run(_write, folder, size)


async def _write(folder: Path, size: int) -> tuple[Path, str]:
    run_id = new_run_id(_BEGAN)
    journal = await in_thread(Journal.create, folder, run_id)
    chance = random.Random(0)
    texts = [base64.b64encode(chance.randbytes(_TEXT_BYTES * 3 // 4)).decode() for _ in range(_TEXTS)]
    items = 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        journal.append(RunStarted(at=_BEGAN, run=run_id, name="large", tasks=("read",)))
        while (await in_thread(journal.path.stat)).st_size < size:
            for number in range(items + 1, items + 1 + _TOGETHER):
                for event in _item(number, texts):
                    journal.append(event)
            items += _TOGETHER
            await journal.durable()
        journal.append(RunEnded(at=_BEGAN + items, status="done", seconds=items, usage=Usage(items), usd=0.001 * items))
        await journal.aclose()
    return journal.path, f"read/{items // 2}"


def _item(number: int, texts: list[str]) -> Iterator[Event]:
    at, key = _BEGAN + number, str(number)
    address = f"read/{key}"
    question, answer = itertools.islice(itertools.cycle(texts), number % _TEXTS, number % _TEXTS + 2)
    yield TaskAdded(at=at, task="read", key=key)
    yield CallIntent(
        at=at, call=number, attempt=1, address=address, agent="reader", account="measured", model=MODEL,
        request=Request(MODEL, (Message("user", question[: _TEXT_BYTES // 4]),)), waited=0.1,
    )  # fmt: skip
    yield CallEnded(
        at=at + 0.5, call=number, attempt=1, address=address, agent="reader", account="measured", model=MODEL,
        result="ok", seconds=0.5, reply=Reply(answer, "stop"), usage=Usage(1, input_tokens=400, output_tokens=1500),
        usd=0.001,
    )  # fmt: skip
    yield TaskEnded(at=at + 0.5, outcome=Outcome("read", key, seconds=0.5, value=answer))

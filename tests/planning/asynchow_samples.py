"""A small self-made set of questions, in the structure of the AsyncHow files, and rows of recorded replies."""

from __future__ import annotations

import datetime
import gzip
import json
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentmesh.science.planning.asynchow import Item
from agentmesh.science.planning.prompts import question


@dataclass(frozen=True)
class Sample:
    """A made-up item; `gold` is (low, high) in seconds, as it is stored."""

    title: str
    steps: tuple[tuple[str, str], ...]
    edges: tuple[tuple[str, str], ...]
    gold: tuple[int, int]


TEA = Sample(
    "How to Serve Tea on the Balcony",
    (("Boil the water.", "6 min"), ("Warm the pot.", "90 seconds"), ("Pour and wait.", "4 minutes"),
     ("Sweep the balcony (all of it).", "15 min")),
    (("1", "2"), ("2", "3")),
    (900, 900),
)  # fmt: skip
KITE = Sample(
    "How to Fly a Paper Kite",
    (("Fold the paper.", "10 min"), ("Cut a tail.", "5 min"), ("Wait for wind.", "1 month"), ("Run.", "0 seconds")),
    (("1", "4"), ("2", "4"), ("3", "4")),
    (28 * 86_400, 31 * 86_400),
)
BREAD = Sample(
    "How to Bake Rye Bread",
    (("Feed the starter.", "1 day 6 hours"), ("Mill the rye.", "20 min"), ("Bake.", "1 hour")),
    (("1", "3"), ("2", "3")),
    (25_200, 25_200),  # the day of the first step was lost, as in some items of the real files
)
SAMPLES = (TEA, KITE, BREAD)


def columns(samples: Iterable[Sample] = SAMPLES) -> dict[str, Any]:
    """The content of a file; every second item has a set of edges, as many real items have."""
    samples = tuple(samples)

    def seconds(value: int) -> datetime.timedelta:
        return datetime.timedelta(seconds=value)

    return {
        "titles": [sample.title for sample in samples],
        "steps": [[step for step, _ in sample.steps] for sample in samples],
        "step_nums": [len(sample.steps) for sample in samples],
        "step_deps": [set(sample.edges) if k % 2 else list(sample.edges) for k, sample in enumerate(samples)],
        "time_dic": [{str(k): text for k, (_, text) in enumerate(sample.steps, 1)} for sample in samples],
        "ve_count": [len(sample.steps) + 2 + len(_all_edges(sample)) for sample in samples],
        "task_time": [[seconds(value) for value in sample.gold] for sample in samples],
        "nshot_instructions": {"idxs": [0]},
    }


def _all_edges(sample: Sample) -> list[tuple[str, str]]:
    numbers = [str(k) for k in range(1, len(sample.steps) + 1)]
    starts = [("START", n) for n in numbers if n not in {after for _, after in sample.edges}]
    ends = [(n, "END") for n in numbers if n not in {before for before, _ in sample.edges}]
    return [*sample.edges, *starts, *ends]


def write_pickle(path: Path, content: object = None) -> Path:
    """Write a file of the same form as the data set's."""
    path.write_bytes(pickle.dumps(columns() if content is None else content, protocol=4))
    return path


def row(item: Item, *, model: str = "acme-mini", seconds: int | None = None, **changes: Any) -> dict[str, Any]:
    """A recorded row that answers `seconds` to an item, with the verdict that the recordings' rule gives."""
    reply = None if seconds is None else json.dumps({"actions": [], "final_answer_seconds": seconds})
    return {
        "dataset": "asynchow",
        "model": model,
        "method": "baselines",
        "question": question(item),
        "messages": [{"role": "user", "content": f"{question(item)}\nAnswer in JSON."}],
        "reply": reply,
        "gold_seconds": item.gold.low,
        "published_seconds": seconds,
        "published_correct": seconds == item.gold.low,
    } | changes


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    body = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(body) if path.suffix == ".gz" else body)
    return path

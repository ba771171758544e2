"""The main job in real processes: two models under limits, asked the same questions over HTTP, as fast as these allow.

With the published recordings where they lie beside the project, at ten times the limits that a small account has; and
with a few self-made questions.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from asynchow_samples import Sample, columns, row, write_pickle, write_rows
from planner_servers import Serving, Side, run_agentmesh, serving

from agentmesh.science.planning.asynchow import load_items
from agentmesh.science.planning.recordings import read_recordings

pytestmark = pytest.mark.alone  # servers and client share the machine's cores already

PUBLISHED = Path(__file__).parents[3] / "shared" / "data"
WORKFLOW = Path(__file__).with_name("asynchow_workflow.yaml")
ENOUGH = 0.95
"""What must be used of the limit that binds, from the first call until nothing waits any more."""


@dataclass(frozen=True)
class Job:
    """Questions, recorded replies of two models to them, and how many of these are right."""

    data: Path
    sides: tuple[Side, Side]
    right: tuple[int, int]
    questions: int
    latency: str

    def at(self, pace: float) -> Job:
        """The same with so many times its limits."""
        one, two = (
            replace(side, limits={name: pace * value for name, value in side.limits.items()}) for side in self.sides
        )
        return replace(self, sides=(one, two))


def published() -> Job:
    def side(provider: str, model: str, **limits: float) -> Side:
        recorded = PUBLISHED / "recorded" / f"asynchow__baselines__{model}.jsonl.gz"
        return Side(provider, model, recorded, {f"{unit}_per_minute": 10 * value for unit, value in limits.items()})

    sides = (side("first", "gpt-5-mini", requests=600, tokens=200_000), side("second", "qwen3.6-35b-a3b", requests=300))
    return Job(PUBLISHED / "asynchow", sides, right=(309, 306), questions=320, latency="0.5:2")


def self_made(folder: Path) -> Job:
    """Thirty questions: the first model is bound by tokens for two seconds, the second by requests for as long."""
    minutes = ("4 min", "10 min", "1 hour", "90 seconds")
    samples = [
        Sample(
            f"How to Paint Fence {k}",
            (("Wash it.", minutes[k % 4]), ("Mix the paint.", "5 min"), (f"Paint {k} boards.", f"{k + 1} min")),
            (("1", "3"), ("2", "3")),
            (max((240, 600, 3600, 90)[k % 4], 300) + 60 * (k + 1),) * 2,
        )
        for k in range(30)
    ]
    items = load_items(write_pickle(folder / "async_benchmark.pkl", columns(samples)))
    answers = {  # the first model is wrong on every seventh question, the second on every fifth
        model: [int(item.gold.low) + (k % wrong == 0) for k, item in enumerate(items)]
        for model, wrong in (("acme-mini", 7), ("acme-large", 5))
    }
    files = {
        model: write_rows(
            folder / f"{model}.jsonl", [row(i, model=model, seconds=s) for i, s in zip(items, seconds, strict=True)]
        )
        for model, seconds in answers.items()
    }
    tokens = _tokens(files["acme-mini"]) / (10 + 2) * 60  # ten seconds' worth at once, and two seconds more
    first = Side("first", "acme-mini", files["acme-mini"], {"requests_per_minute": 6000, "tokens_per_minute": tokens})
    second = Side("second", "acme-large", files["acme-large"], {"requests_per_minute": 600})
    return Job(folder / "async_benchmark.pkl", (first, second), right=(25, 24), questions=30, latency="0.1:0.4")


def _tokens(recorded: Path) -> int:
    return sum(
        -(-sum(len(message.text) for message in one.messages) // 4) + -(-len(one.reply or "") // 4)
        for one in read_recordings([recorded]).rows
    )


class Pulse(threading.Thread):
    """Notices when the machine stands still: it sleeps for 20 ms at a time, and adds up how much too late it wakes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()
        self.began = monotonic()
        self.lost = 0.0

    def run(self) -> None:
        while not self._over.is_set():
            before = monotonic()
            time.sleep(0.02)
            self.lost += max(0.0, monotonic() - before - 0.1)

    def share(self) -> float:
        """The part of the time that was lost."""
        self._over.set()
        return self.lost / (monotonic() - self.began)


@contextlib.contextmanager
def served(job: Job, folder: Path) -> Iterator[list[Serving]]:
    with serving(job.sides, folder, latency=job.latency) as both:
        yield both


def provider_files(servers: Sequence[Serving]) -> list[object]:
    return [word for one in servers for word in ("--provider-file", one.provider_file)]


def well_used(job: Job, folder: Path, work: Callable[[list[Serving]], dict[str, Any]]) -> None:
    """Do the work, which returns what the lanes say of themselves: every lane is used up, hardly a call is refused.

    A machine that is slow or busy with other things is asked again, for less; one that stands still is let off.
    """
    pulse = Pulse()
    pulse.start()
    for pace in (1.0, 1.0, 0.5, 0.25):
        with served(job.at(pace), folder) as servers:
            lanes = work(servers)
            shares = {one.side.provider: one.used() for one in servers}
            refused = {one.side.provider: one.stats()["refused"] for one in servers}
            accepted = [one.stats()["accepted"] for one in servers]
        assert accepted == [job.questions] * 2  # nothing was asked twice
        if all(max(used.values()) > ENOUGH for used in shares.values()) and max(refused.values()) <= max(
            1, job.questions // 100
        ):
            break
    if (lost := pulse.share()) > (1 - ENOUGH) / 2 and not all(max(used.values()) > ENOUGH for used in shares.values()):
        pytest.skip(f"the machine stood still for {lost:.0%} of the time")
    assert all(max(used.values()) > ENOUGH for used in shares.values()), shares
    assert max(refused.values()) <= max(1, job.questions // 100), refused
    for provider, used in shares.items():
        said = {limit["name"]: limit["use"] for limit in lanes[provider]["limits"]}
        binding = max(used, key=used.__getitem__)
        assert said[binding] == pytest.approx(used[binding], abs=0.04)
        assert lanes[provider]["bounded_by"] == f"{provider} {binding}"
        assert lanes[provider]["pushed_back"] == refused[provider]


def bench(job: Job, folder: Path) -> None:
    out = folder / "answers.jsonl"

    def work(servers: list[Serving]) -> dict[str, Any]:
        words = [word for side in job.sides for word in ("--prompts", side.recorded, "--model", side.name)]
        printed = run_agentmesh(
            "bench", "asynchow", "--data", job.data, *words, *provider_files(servers), "--journal", folder / "journal",
            "--display", "none", "--json", "-o", out, folder=folder,
        )  # fmt: skip
        found: dict[str, Any] = json.loads(printed)
        for score, side, right in zip(found["scores"], job.sides, job.right, strict=True):
            assert score["model"] == side.name
            assert (score["equal"]["right"], score["equal"]["items"]) == (right, job.questions)
            assert (score["agrees"], score["published"], score["errors"]) == (job.questions, job.questions, 0)
        lanes: dict[str, Any] = found["run"]["lanes"]
        return lanes

    well_used(job, folder, work)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert all(row["agrees"] and row["attempts"] == 1 for row in rows)
    names = [side.name for side in job.sides]
    assert [row["model"] for row in rows] == names * job.questions
    assert len({row["id"] for row in rows}) == job.questions


@pytest.mark.skipif(not (PUBLISHED / "asynchow").is_dir(), reason="the data set is not here")
def test_the_published_scores_come_out_again_at_the_speed_of_the_limits(tmp_path: Path) -> None:
    bench(published(), tmp_path)


def test_a_self_made_benchmark_runs_at_the_speed_of_the_limits(tmp_path: Path) -> None:
    bench(self_made(tmp_path), tmp_path)


def test_a_workflow_of_ones_own_gives_the_same_figures(tmp_path: Path) -> None:
    job = self_made(tmp_path)
    questions = tmp_path / "questions.jsonl"
    by_place = zip(*(read_recordings([side.recorded]).rows for side in job.sides), strict=True)
    questions.write_text(
        "".join(
            json.dumps({
                "id": f"q{place}", "prompt": mini.messages[0].text, "gold_seconds": mini.gold_seconds,
                "published": {"mini": mini.published_correct, "large": large.published_correct},
            }) + "\n"
            for place, (mini, large) in enumerate(by_place)
        )
    )  # fmt: skip
    out = tmp_path / "out.json"

    def work(servers: list[Serving]) -> dict[str, Any]:
        run_agentmesh(
            "run", WORKFLOW, "--input", f"questions=@{questions}", *provider_files(servers),
            "--journal", tmp_path / "journal", "--display", "none", "-o", out, folder=tmp_path,
        )  # fmt: skip
        found = json.loads(out.read_text())
        assert found["status"] == "done"
        assert found["outputs"]["table"] == [
            {"model": name, "scored": job.questions, "right": right, "agree": job.questions}
            for name, right in zip(("mini", "large"), job.right, strict=True)
        ]
        assert found["usage"]["calls"] == 2 * job.questions
        lanes: dict[str, Any] = found["lanes"]
        return lanes

    well_used(job, tmp_path, work)

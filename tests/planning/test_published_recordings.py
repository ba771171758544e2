"""The published verdicts on AsyncHow, where the data set and the recordings lie beside the project."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from agentmesh.science.planning.asynchow import Item, find_items, load_items, wrong_gold
from agentmesh.science.planning.bench import plan_asynchow, recorded_answers, report
from agentmesh.science.planning.recordings import read_recordings

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not (DATA / "asynchow").is_dir(), reason="the data set is not here")


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return load_items(DATA / "asynchow")


def test_all_items_load_and_eight_have_a_wrong_gold(items: list[Item]) -> None:
    assert {kind: sum(item.kind == kind for item in items) for kind in ("async", "seq", "para")} == {
        "async": 1598, "seq": 200, "para": 200,
    }  # fmt: skip
    assert [item.id for item in wrong_gold(items)] == [
        "async-163", "async-356", "async-589", "async-594", "async-829", "async-1113", "seq-99", "seq-161",
    ]  # fmt: skip
    assert (items[163].text_gold.low, items[163].gold.low) == (13_500, 6_300)


@pytest.mark.parametrize(
    ("model", "right", "interval", "unreadable"), [("gpt-5-mini", 309, 317, 1), ("qwen3.6-35b-a3b", 306, 314, 0)]
)
def test_planner_scores(items: list[Item], model: str, right: int, interval: int, unreadable: int) -> None:
    rows = read_recordings([DATA / "recorded" / f"asynchow__baselines__{model}.jsonl.gz"]).rows
    found = report(recorded_answers(rows, items=items))
    (score,) = found.scores
    assert (score.equal.items, score.equal.right, score.interval.items, score.interval.right) == (
        320, right, 320, interval,
    )  # fmt: skip
    assert [row.agrees for row in found.rows] == [True] * 320
    assert (score.reasons["no reply"], score.reasons["unreadable"]) == (0, unreadable)
    assert sum(counted.items for counted in score.by_complexity.values()) == 320
    assert sum(counted.right for counted in score.by_complexity.values()) == right


def test_both_planners_were_asked_the_same(items: list[Item]) -> None:
    rows = read_recordings([DATA / "recorded"]).rows
    cases = plan_asynchow(items=items, prompts=rows)
    assert (len(rows), len(cases), len({case.id for case in cases})) == (640, 320, 320)
    assert all(len(case.published) == 2 and case.item for case in cases)


@pytest.mark.parametrize(("model", "right", "interval"), [("gpt-5-mini", 312, 314), ("qwen3.6-35b-a3b", 311, 318)])
def test_formalizer_values_against_the_gold(items: list[Item], model: str, right: int, interval: int) -> None:
    with gzip.open(DATA / "recorded" / f"asynchow__cpsat_formalizer__{model}.jsonl.gz") as stream:
        rows = [SimpleNamespace(**json.loads(line)) for line in stream]
    joined = list(zip(rows, find_items([row.question for row in rows], items), strict=True))
    assert sum(row.published_seconds == item.gold.low for row, item in joined if item) == right
    assert sum(row.published_seconds in item.gold for row, item in joined if item and row.published_seconds) == interval

"""Ten thousand items enter the graph quickly, and twice as many take about twice as long."""

from __future__ import annotations

import gc
import time
from pathlib import Path

import pytest

from agentmesh.workflow.build import Build
from agentmesh.workflow.load import load_workflow
from agentmesh.workflow.mesh import open_mesh

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

WORKFLOW = """\
agentmesh: 1
agents: {one: {model: sim/small}}
tasks:
  ask: {samples: 10000, agent: one, prompt: "question {{ sample }}"}
  over: {for_each: tasks.ask, agent: one, prompt: "{{ item }}"}
  read: {agent: one, prompt: "{{ tasks.over | length }}"}
"""


async def build_seconds(samples: int) -> float:
    Path("w.yaml").write_text(WORKFLOW.replace("10000", str(samples)))
    workflow = load_workflow("w.yaml")
    async with open_mesh(journal=None) as mesh:
        await mesh.read_models(["sim/small"])
        async with mesh.open_run("many", failures="report") as run:
            build = Build(run, workflow)
            gc.collect()
            began = time.process_time()
            build.build()
            seconds = time.process_time() - began
            assert len(build.tasks["over"].items) == samples
            run.cut()
    return seconds


async def test_ten_thousand_items_and_as_many_over_them_are_there_within_two_seconds() -> None:
    assert await build_seconds(10_000) < 2.0


async def test_building_takes_time_in_proportion_to_the_items() -> None:
    few = min([await build_seconds(300) for _ in range(3)])
    many = min([await build_seconds(2_400) for _ in range(2)])
    assert many < 24 * few, "eight times as many items; were each to look at all others, it would take 64 times as long"


async def test_reading_a_whole_collection_by_key_is_quick() -> None:
    Path("w.yaml").write_text(
        """\
agentmesh: 1
tasks:
  number: {samples: 3000, value: sample}
  twice: {for_each: tasks.number, value: "tasks.other[sample] + tasks.other | length"}
  other: {samples: 3000, value: sample * 2}
outputs: {sum: tasks.twice | sum}
"""
    )
    from agentmesh.workflow.run import run_workflow

    workflow = load_workflow("w.yaml")
    began = time.process_time()
    async with open_mesh(journal=None) as mesh:
        result = await run_workflow(mesh, workflow)
    assert result.outputs == {"sum": sum(2 * number + 3000 for number in range(3000))}
    assert time.process_time() - began < 6

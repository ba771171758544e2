"""Which values a workflow keeps: those that somebody can still read, and of the others none."""

# ruff: noqa: E501  # workflows are read best whole

from __future__ import annotations

from pathlib import Path

import pytest
from workflow_lab import Answer, Asked, run

from agentmesh.mesh.run import Run

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

CHAIN = """\
tasks:
  draft: {samples: 3, agent: echo, prompt: "d{{ sample }}"}
  review: {for_each: tasks.draft, agent: echo, prompt: "r {{ item }}"}
  grade: {for_each: tasks.review, agent: echo, prompt: "g {{ item }} {{ tasks.draft }}"}
"""


class Kept:
    """The values that the graph of a run has."""

    def __init__(self) -> None:
        self.run: Run | None = None

    def watch(self, run: Run) -> None:
        self.run = run

    @property
    def tasks(self) -> set[str]:
        """The tasks of which some value is there."""
        assert self.run is not None
        nodes = self.run.runner.state.nodes.values()
        return {node.address.task for node in nodes if node.outcome is not None and node.outcome.value is not None}

    @property
    def addresses(self) -> set[str]:
        assert self.run is not None
        nodes = self.run.runner.state.nodes.values()
        return {str(node.address) for node in nodes if node.outcome is not None and node.outcome.value is not None}


async def test_a_value_is_there_until_all_that_stands_over_its_item_has_ended() -> None:
    kept, seen = Kept(), {}

    def script(asked: Asked) -> Answer:
        seen[asked.prompt] = kept.addresses
        return Answer(f"<{asked.prompt}>", seconds=10 if asked.prompt == "g <r <d1>> <d1>" else 1)

    ran = await run(CHAIN, script=script, on_run=kept.watch)
    assert ran.values("grade") == {f"{n}": f"<g <r <d{n}>> <d{n}>>" for n in range(3)}
    assert seen["g <r <d1>> <d1>"] >= {"draft/1", "review/1"}
    assert kept.tasks == set()


@pytest.mark.parametrize(
    ("rest", "lasting"),
    [
        ("outputs: {all: tasks.review}", {"review"}),
        ("outputs: {of: {one: so_far(tasks.draft)}}", {"draft"}),
        ('  whole: {agent: echo, prompt: "{{ len(tasks.review) }}"}', {"review", "whole"}),
        ('  look: {agent: echo, prompt: "{{ so_far(tasks.grade) | length }}"}', {"grade", "look"}),
        ('  pairs: {for_each: {a: tasks.draft, b: [1, 2]}, agent: echo, prompt: "{{ a }}{{ b }}"}', {"draft"}),
        (
            """\
  other: {for_each: [x], agent: echo, prompt: "{{ item }}"}
  late: {for_each: tasks.draft, samples: len(tasks.other), agent: echo, prompt: "{{ item }}"}
""",
            {"draft", "other"},
        ),
        ('  best: {rank: tasks.review, judge: echo, criteria: x, stop: {matches: 2}}', {"draft", "review", "best"}),
    ],
)  # fmt: skip
async def test_what_is_read_otherwise_is_kept(rest: str, lasting: set[str]) -> None:
    kept = Kept()
    ran = await run(CHAIN + rest + "\n", on_run=kept.watch)
    assert ran.result.status == "done"
    assert kept.tasks == lasting


async def test_rows_of_a_tournament_have_the_values_below_their_entrants() -> None:
    ran = await run(
        CHAIN
        + """\
  best: {rank: tasks.review, judge: echo, criteria: x, stop: {matches: 2}}
  praise: {for_each: "top(tasks.best, 1)", agent: echo, prompt: "{{ item.item }} {{ tasks.draft }}"}
"""
    )
    (praise,) = ran.values("praise").values()
    assert praise.startswith("<<r <d")
    assert "None" not in praise


async def test_lists_in_items_are_let_go_with_them() -> None:
    kept = Kept()
    ran = await run(
        """\
        tasks:
          plan: {samples: 2, agent: lists, prompt: "p{{ sample }}"}
          part: {for_each: 'flat(tasks.plan, "topics")', agent: echo, prompt: "{{ item }} of {{ tasks.plan.topics | length }}"}
          sum: {for_each: tasks.part, agent: echo, prompt: "{{ item }}"}
        """,
        head="agentmesh: 1\nmodels: {main: lab/main}\nagents:\n  echo: {model: main}\n  lists: {model: main, output: {topics: [text]}}\n",
        script=lambda asked: '{"topics": ["x", "y"]}' if asked.wants_fields else f"<{asked.prompt}>",
        on_run=kept.watch,
    )
    assert sorted(ran.values("sum").values()) == ["<<x of 2>>", "<<x of 2>>", "<<y of 2>>", "<<y of 2>>"]
    assert kept.tasks == set()


async def test_a_chain_that_is_gone_on_with_reads_what_was_recorded(tmp_path: Path) -> None:
    first, second = Kept(), Kept()

    def stopping(asked: Asked) -> str:
        if asked.prompt.startswith("r") and first.run is not None:
            first.run.stop("stopped", "for the test")
        return f"<{asked.prompt}>"

    await run(CHAIN, script=stopping, journal=tmp_path, on_run=first.watch)
    ran = await run(CHAIN, journal=tmp_path, on_run=second.watch, resume=True)
    assert ran.values("grade") == {f"{n}": f"<g <r <d{n}>> <d{n}>>" for n in range(3)}
    assert not any(prompt.startswith("d") for prompt in ran.prompts())
    assert second.tasks == set()

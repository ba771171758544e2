"""Python tasks, inputs and outputs: what functions get, what is written, and when it is null."""

# ruff: noqa: E501  # workflows are read best whole

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from workflow_lab import HEAD, run

from agentmesh.errors import InputProblems

pytestmark = [pytest.mark.anyio, pytest.mark.both_backends, pytest.mark.virtual_time]


async def test_python_tasks_get_arguments_of_their_own_types() -> None:
    Path("scoring_lib.py").write_text(
        """\
import agentmesh as am

def score(reply: str, row: dict, scale: float = 1.0) -> dict:
    return {"points": len(reply) * scale, "id": row["id"]}

async def total(rows: list, *, extra: list) -> float:
    assert type(rows) is list and type(extra) is list, (type(rows), type(extra))
    rows.sort(key=lambda row: -row["points"])
    return sum(row["points"] for row in rows[:10]) + len(extra)

async def ask(question: str, ctx: am.Context) -> str:
    return f"{ctx.address} {ctx.agent}: " + await ctx.ask("lab/main", question)

def number(ctx: am.Context) -> float:
    return ctx.rng.random()
"""
    )
    text = """\
        inputs: {rows: {type: rows, default: [{id: a, q: one}, {id: b, q: three}]}}
        tasks:
          ask: {for_each: inputs.rows, agent: echo, prompt: "{{ item.q }}"}
          score: {for_each: {reply: tasks.ask}, python: "scoring_lib:score", with: {reply: reply, row: item, scale: 0.5}, version: 2}
          total: {python: "scoring_lib:total", with: {rows: tasks.score, extra: tasks.ask}}
          again: {value: tasks.score | map(attribute="id") | list}
          asked: {python: "scoring_lib:ask", with: {question: "'why?'"}}
          number: {python: "scoring_lib:number"}
        outputs: {total: tasks.total, scores: tasks.score, again: tasks.again, asked: tasks.asked, number: tasks.number}
        """
    ran = await run(text, seed=5)
    assert ran.errors("total") == {}
    assert ran.outputs["total"] == 2.5 + 3.5 + 2
    assert ran.outputs["scores"] == [{"points": 2.5, "id": "a"}, {"points": 3.5, "id": "b"}]
    assert ran.outputs["again"] == ["a", "b"], "a function that sorts its list leaves everybody else's alone"
    assert ran.outputs["asked"] == "asked None: <why?>"
    assert ran.outcomes["asked"].usage.calls == 1
    assert (await run(text, seed=5)).outputs["number"] == ran.outputs["number"]
    assert (await run(text, seed=6)).outputs["number"] != ran.outputs["number"]


async def test_what_a_function_raises_is_its_items_failure_and_retry_is_only_by_wish() -> None:
    Path("moody_lib.py").write_text(
        """\
calls = []

def moody(item):
    calls.append(item)
    if item != "fine" and calls.count(item) < 3:
        raise ValueError(f"not today: {item}")
    return item

async def slow():
    import anyio
    await anyio.sleep(100)
"""
    )
    ran = await run(
        """\
        tasks:
          once: {for_each: [fine, bad], python: "moody_lib:moody", with: {item: item}}
          again: {for_each: [again], python: "moody_lib:moody", with: {item: item}, retry: {attempts: 3}}
          other: {for_each: [other], python: "moody_lib:moody", with: {item: item}, retry: {attempts: 3, on: [timeout]}}
          slow: {python: "moody_lib:slow", timeout: 5s}
        """
    )
    assert ran.errors("once") == {"bad": "tool: ValueError: not today: bad"}
    assert ran.values("again") == {"again": "again"}
    assert ran.outcomes["again/again"].attempts == 3
    assert ran.errors("other") == {"other": "tool: ValueError: not today: other"}
    assert ran.errors("slow") == {"": "timeout: no result within 5 s"}
    assert ran.ended["slow"] == pytest.approx(5)


async def test_outputs_are_written_whole_and_null_where_there_is_nothing() -> None:
    ran = await run(
        """\
        tasks:
          text: {agent: echo, prompt: hello}
          rows: {for_each: [1, 2], value: {n: item}}
          bad: {agent: echo, prompt: bad}
        outputs:
          text: {value: tasks.text, file: out/text.md}
          rows: {value: tasks.rows, file: rows.json}
          bad: {value: tasks.bad, file: bad.md}
          part: {value: "{t: tasks.text, b: tasks.bad}", file: part.json}
          made: tasks.text ~ "!"
        """.replace(
            '{value: "{t: tasks.text, b: tasks.bad}", file: part.json}',
            "{value: {t: tasks.text, b: tasks.bad}, file: part.json}",
        ),
        script=lambda asked: 400 if asked.prompt == "bad" else f"<{asked.prompt}>",
    )
    assert ran.result.status == "partial"
    assert ran.outputs == {
        "text": "<hello>",
        "rows": [{"n": 1}, {"n": 2}],
        "bad": None,
        "part": None,
        "made": "<hello>!",
    }
    assert Path("out/text.md").read_text() == "<hello>"
    assert json.loads(Path("rows.json").read_text()) == [{"n": 1}, {"n": 2}]
    assert not Path("bad.md").exists()
    assert not Path("part.json").exists()
    assert [path.name for path in Path("out").iterdir()] == ["text.md"]
    assert dict(ran.result.files) == {"text": "out/text.md", "rows": "rows.json"}


async def test_an_output_that_cannot_be_made_is_told_and_makes_the_run_partial() -> None:
    ran = await run(
        """\
        tasks: {rows: {python: "two_rows:load"}}
        outputs: {fine: tasks.rows, missing: "tasks.rows[5].name"}
        """,
        head=_module("two_rows", "def load():\n    return [{'a': 1}]\n"),
    )
    assert ran.outputs == {"fine": [{"a": 1}], "missing": None}
    assert ran.result.status == "partial"
    assert ["missing" in note and "no element 5" in note for note in ran.result.notes] == [True]


async def test_what_is_no_number_is_null() -> None:
    ran = await run(
        """\
        tasks: {mean: {python: "no_numbers:mean"}}
        outputs: {mean: {value: tasks.mean, file: mean.json}}
        """,
        head=_module("no_numbers", "def mean():\n    return {'mean': float('nan'), 'most': [float('inf'), 1.5]}\n"),
    )
    assert ran.outputs == {"mean": {"mean": None, "most": [None, 1.5]}}
    assert json.loads(Path("mean.json").read_text()) == ran.outputs["mean"]


async def test_an_output_file_that_cannot_be_written_loses_nothing_else() -> None:
    Path("taken").mkdir()
    ran = await run(
        """\
        tasks: {text: {agent: echo, prompt: hello}}
        outputs: {one: {value: tasks.text, file: taken}, two: {value: tasks.text, file: fine.md}}
        """
    )
    assert ran.outputs == {"one": "<hello>", "two": "<hello>"}
    assert dict(ran.result.files) == {"two": "fine.md"}
    assert ["taken" in note for note in ran.result.notes] == [True]
    assert ran.result.status == "partial"


async def test_the_result_has_the_words_of_its_file() -> None:
    ran = await run("tasks: {text: {agent: echo, prompt: hello}}\noutputs: {text: tasks.text}\n")
    written = ran.result.as_json()
    assert list(written)[:11] == [
        "format", "run", "workflow", "status", "seconds", "outputs", "tasks", "failures", "usage", "usd", "lanes",
    ]  # fmt: skip
    assert written["format"] == 1
    assert written["workflow"] == "workflow"
    assert written["tasks"] == {"text": {"done": 1, "failed": 0, "skipped": 0, "cancelled": 0}}
    assert written["usage"]["calls"] == 1
    assert written["usage"]["input_tokens"] == 10
    assert written["usd"] == pytest.approx(20e-6)
    assert "bounded_by" in written["lanes"]["lab"]
    assert json.loads(json.dumps(written)) == written


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", "id,q\na,one\nb,two\n"),
        ("rows.tsv", "id\tq\na\tone\nb\ttwo\n"),
        ("rows.jsonl", '{"id": "a", "q": "one"}\n\n{"id": "b", "q": "two"}\n'),
        ("rows.json", '[{"id": "a", "q": "one"}, {"id": "b", "q": "two"}]'),
    ],
)
async def test_rows_are_read_from_files(name: str, content: str) -> None:
    from agentmesh.workflow.load import load_workflow

    Path(name).write_text(content)
    Path("w.yaml").write_text(
        HEAD
        + 'inputs: {rows: {type: rows}}\ntasks: {ask: {for_each: inputs.rows, agent: echo, prompt: "{{ item.q }}"}}\n'
    )
    workflow = load_workflow("w.yaml", input_options=[f"rows=@{name}"])
    assert workflow.inputs["rows"] == [{"id": "a", "q": "one"}, {"id": "b", "q": "two"}]


async def test_a_broken_line_17_is_told_and_nothing_is_asked() -> None:
    from agentmesh.workflow.load import load_workflow

    good = [json.dumps({"id": str(number)}) for number in range(1, 30)]
    Path("rows.jsonl").write_text("\n".join([*good[:16], '{"id": ', *good[17:]]))
    Path("w.yaml").write_text(HEAD + "inputs: {rows: {type: rows}}\ntasks: {a: {for_each: inputs.rows, value: item}}\n")
    with pytest.raises(InputProblems, match=r"rows\.jsonl:17:\d+: this line is not JSON"):
        load_workflow("w.yaml", input_options=["rows=@rows.jsonl"])
    with pytest.raises(InputProblems, match=r"there is no file gone\.csv"):
        load_workflow("w.yaml", input_options=["rows=@gone.csv"])


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)  # trio runs what is due at once in random order
async def test_a_run_is_repeatable_by_its_seed() -> None:
    def results(ran: Any) -> Any:
        return (ran.outputs, ran.prompts(), ran.added)

    text = """\
        tasks:
          draft: {samples: 6, agent: echo, prompt: "idea {{ sample }}"}
          contest: {rank: tasks.draft, judge: echo, stop: {matches: 12}}
        outputs: {best: "top(tasks.contest, 3)"}
        """
    assert results(await run(text, seed=3)) == results(await run(text, seed=3))
    assert (await run(text, seed=3)).prompts() != (await run(text, seed=4)).prompts()


def _module(name: str, source: str) -> str:
    """The usual head; and a Python module beside the workflow."""
    Path(f"{name}.py").write_text(source)
    return HEAD

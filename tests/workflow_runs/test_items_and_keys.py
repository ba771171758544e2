"""One or many, keys and addresses: which items there are, and what they are called."""

# ruff: noqa: E501  # workflows are read best whole

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from workflow_lab import Answer, Asked, plain_script, run

pytestmark = [pytest.mark.anyio, pytest.mark.both_backends, pytest.mark.virtual_time]

ROWS = [{"id": "p1", "text": "one"}, {"id": "p2", "text": "two"}, {"id": "p3", "text": "three"}]
INPUTS = """\
inputs:
  rows: {type: rows, optional: true}
  words: {type: [text], optional: true}
  n: {type: integer, default: 2}
"""


async def test_single_values_are_one_task_each() -> None:
    ran = await run(
        """\
        tasks:
          ask: {agent: echo, prompt: hello}
          mark: {agent: fields, prompt: "{{ tasks.ask }}"}
          sum: {value: {twice: tasks.mark.score * 2, text: tasks.ask}}
        outputs: {all: tasks.sum, score: tasks.mark.score}
        """
    )
    assert ran.result.status == "done"
    assert ran.outputs == {"all": {"twice": 14, "text": "<hello>"}, "score": 7}
    assert ran.added == ["ask", "mark", "sum"]
    assert ran.ended["ask"] == ran.began["mark"] == pytest.approx(1.0)


async def test_rows_are_known_by_their_id_and_lists_by_their_words() -> None:
    ran = await run(
        INPUTS
        + """\
tasks:
  each: {for_each: inputs.rows, agent: echo, prompt: "{{ item.text }}"}
  word: {for_each: inputs.words, agent: echo, prompt: "{{ item }}"}
outputs: {each: tasks.each, word: tasks.word}
""",
        inputs={"rows": ROWS, "words": ["b c", "a/b", "50%", "ä", "x" * 41]},
    )
    assert ran.values("each") == {"p1": "<one>", "p2": "<two>", "p3": "<three>"}
    assert list(ran.values("word"))[:4] == ["b%20c", "a%2Fb", "50%25", "%C3%A4"]
    assert [len(key) for key in ran.values("word")][4] == 8
    assert ran.outputs["each"] == ["<one>", "<two>", "<three>"]


@pytest.mark.parametrize(
    ("elements", "keys"),
    [
        (["a", "a", "b", "a"], ["a", "a~2", "b", "a~3"]),
        (["~", "a~2", "a", "a"], ["%7E", "a%7E2", "a", "a~2"]),
        ([1, 2.5, 1], ["1", "2.5", "1~2"]),
        ([True, False], ["true", "false"]),
        ([{"id": 7}, {"id": "x y"}], ["7", "x%20y"]),
    ],
)
async def test_keys_are_ids_or_short_scalars_and_equals_are_counted(elements: list[Any], keys: list[str]) -> None:
    Path("given_elements.py").write_text(f"def give():\n    return {elements!r}\n")
    ran = await run(
        """\
        tasks:
          give: {python: "given_elements:give"}
          each: {for_each: tasks.give, value: item}
        """
    )
    assert ran.errors("each") == {}
    assert list(ran.values("each")) == keys


async def test_what_has_no_id_is_known_by_its_hash_and_never_by_its_place() -> None:
    rows = [{"b": 1, "a": 2}, {"x": [1, {"y": None}]}]
    text = INPUTS + "tasks: {each: {for_each: inputs.rows, value: item}}\n"
    one = await run(text, inputs={"rows": rows})
    other = await run(text, inputs={"rows": [{"x": [1, {"y": None}]}, {"a": 2, "b": 1}]})
    assert all(len(key) == 8 and int(key, 16) >= 0 for key in one.values("each"))
    assert set(one.values("each")) == set(other.values("each"))


async def test_a_key_can_be_computed_and_falls_back_to_the_elements_own() -> None:
    rows = [
        {"id": "1", "doi": "10.1/x"},
        {"id": "2", "doi": None},
        {"id": "3", "doi": ""},
        {"id": "4", "doi": "10.1/x"},
    ]
    ran = await run(
        INPUTS + "tasks: {each: {for_each: inputs.rows, key: item.doi, value: item.id}}\n", inputs={"rows": rows}
    )
    assert ran.values("each") == {"10.1%2Fx": "1", "2": "2", "3": "3", "10.1%2Fx~2": "4"}


async def test_a_key_can_be_computed_from_another_tasks_items_once_they_are_there() -> None:
    ran = await run(
        """\
        tasks:
          draft: {samples: 3, agent: fields, prompt: "no {{ sample }}"}
          use: {for_each: tasks.draft, key: "item.title ~ '!'", value: tasks.draft.score}
        outputs: {one: 'tasks.use["no 1!"]'}
        """
    )
    assert ran.values("use") == {"no%200%21": 4, "no%201%21": 4, "no%202%21": 4}
    assert ran.outputs == {"one": 4}


async def test_samples_alone_count_from_0_and_are_their_own_keys() -> None:
    ran = await run(INPUTS + "tasks: {each: {samples: inputs.n, agent: echo, prompt: 's{{ sample }}'}}\n")
    assert ran.values("each") == {"0": "<s0>", "1": "<s1>"}
    assert {(o.key, o.sample) for o in ran.outcomes.values()} == {("0", None), ("1", None)}


async def test_samples_with_for_each_stand_behind_the_key() -> None:
    ran = await run(
        INPUTS
        + """\
tasks:
  each: {for_each: inputs.rows, samples: 2, agent: echo, prompt: "{{ item.text }}{{ sample }}"}
  over: {for_each: tasks.each, samples: 2, value: "item ~ sample"}
outputs: {all: tasks.each, list: 'tasks.each["p2"]', whole: 'tasks.over["p2/1"]', row: "tasks.each[inputs.rows[2]]"}
""",
        inputs={"rows": ROWS},
    )
    assert list(ran.values("each")) == ["p1/0", "p1/1", "p2/0", "p2/1", "p3/0", "p3/1"]
    assert set(ran.values("over")) == {f"p{n}/{s}/{t}" for n in (1, 2, 3) for s in (0, 1) for t in (0, 1)}
    assert ran.outputs["all"] == ["<one0>", "<one1>", "<two0>", "<two1>", "<three0>", "<three1>"]
    assert ran.outputs["list"] == ["<two0>", "<two1>"]
    assert ran.outputs["whole"] == ["<two1>0", "<two1>1"]
    assert ran.outputs["row"] == ["<three0>", "<three1>"]


async def test_samples_may_depend_on_the_element() -> None:
    ran = await run(
        INPUTS
        + """\
tasks:
  ask: {for_each: inputs.rows, agent: fields, prompt: "{{ item.text }}"}
  again: {for_each: tasks.ask, samples: item.score | int, value: sample}
outputs: {counts: "tasks.again | length"}
""",
        inputs={"rows": ROWS},
        script=lambda asked: 400 if "two" in asked.prompt else plain_script(asked),
    )
    assert ran.outputs == {"counts": 3 + 5}
    assert ran.counts("again") == {"done": 8, "skipped": 1}


async def test_a_product_names_its_elements_and_joins_their_keys() -> None:
    ran = await run(
        INPUTS
        + """\
tasks:
  ask:
    for_each: {q: inputs.rows, model: [lab/a, lab/b]}
    agent: echo
    model: "{{ model }}"
    prompt: "{{ q.text }}"
  note: {for_each: tasks.ask, value: {id: q.id, model: model, text: item}}
outputs: {notes: tasks.note}
""",
        inputs={"rows": ROWS},
    )
    assert set(ran.values("ask")) == {f"p{n}+lab%2F{m}" for n in (1, 2, 3) for m in "ab"}
    assert sorted((asked.model, asked.prompt) for asked in ran.asked) == [
        (model, text) for model in "ab" for text in ("one", "three", "two")
    ]
    assert [(note["id"], note["model"]) for note in ran.outputs["notes"]] == [
        (f"p{n}", f"lab/{m}") for n in (1, 2, 3) for m in "ab"
    ]
    assert all(ran.outcomes[f"ask/p1+lab%2F{m}"].model == f"lab/{m}" for m in "ab")


async def test_a_product_over_tasks_and_inputs_takes_items_as_they_come() -> None:
    def script(asked: Asked) -> Any:
        return Answer(asked.prompt, seconds=10 if asked.prompt == "d1" else 1)

    ran = await run(
        INPUTS
        + """\
tasks:
  draft: {samples: 2, agent: echo, prompt: "d{{ sample }}"}
  judge: {for_each: {d: tasks.draft, w: inputs.words}, agent: echo, prompt: "{{ d }} {{ w }} {{ tasks.draft }} {{ sample }}"}
outputs: {judged: tasks.judge}
""",
        inputs={"words": ["x", "y"]},
        script=script,
    )
    assert ran.outputs["judged"] == ["d0 x d0 0", "d0 y d0 0", "d1 x d1 1", "d1 y d1 1"]
    assert set(ran.values("judge")) == {"0+x", "0+y", "1+x", "1+y"}
    assert ran.ended["judge/0+x"] == pytest.approx(2)
    assert ran.ended["judge/1+y"] == pytest.approx(11)


async def test_a_list_expands_nowhere_else_and_flat_fans_out_lists_inside_items() -> None:
    def script(asked: Asked) -> str:
        if asked.prompt.startswith("plan"):
            return '{"topics": ["a", "b b", "a"]}' if "p1" in asked.prompt else '{"topics": []}'
        return asked.prompt

    ran = await run(
        INPUTS
        + """\
tasks:
  plan: {for_each: inputs.rows, agent: planner, prompt: "plan {{ item.id }}"}
  read: {for_each: {topic: 'flat(tasks.plan, "topics")'}, agent: echo, prompt: "{{ topic }} of {{ tasks.plan.topics | length }}, {{ item.id }}"}
  lists: {for_each: tasks.plan, value: item.topics}
outputs: {read: tasks.read, lists: tasks.lists, one: 'tasks.read["p1+b%20b"]'}
""",
        head="agentmesh: 1\nagents: {echo: {model: lab/m}, planner: {model: lab/m, output: {topics: [text]}}}\n",
        inputs={"rows": ROWS[:2]},
        script=script,
    )
    assert set(ran.values("read")) == {"p1+a", "p1+b%20b", "p1+a~2"}
    assert ran.outputs["read"] == ["a of 3, p1", "b b of 3, p1", "a of 3, p1"]
    assert ran.outputs["lists"] == [["a", "b b", "a"], []]
    assert ran.outputs["one"] == "b b of 3, p1"


async def test_flat_over_flat_tells_each_end_once() -> None:
    def script(asked: Asked) -> Any:
        if asked.prompt == "p2":
            return 400
        return json.dumps({"topics": [f"{asked.prompt}1", f"{asked.prompt}2"]})

    ran = await run(
        INPUTS
        + """\
tasks:
  a: {for_each: inputs.rows, agent: planner, prompt: "{{ item.id }}"}
  b: {for_each: {t: 'flat(tasks.a, "topics")'}, agent: planner, prompt: "{{ t }}"}
  c: {for_each: {u: 'flat(tasks.b, "topics")'}, value: "t ~ u"}
  d: {for_each: tasks.c, key: item, value: item}
""",
        head="agentmesh: 1\nagents: {planner: {model: lab/m, output: {topics: [text]}}}\n",
        inputs={"rows": ROWS},
        script=script,
    )
    assert ran.counts("a") == {"done": 2, "failed": 1}
    assert ran.counts("b") == {"done": 4, "skipped": 1}
    assert ran.counts("c") == ran.counts("d") == {"done": 8, "skipped": 1}


async def test_an_empty_collection_is_done_at_once() -> None:
    ran = await run(
        INPUTS
        + """\
tasks:
  each: {for_each: inputs.words, agent: echo, prompt: "{{ item }}"}
  over: {for_each: tasks.each, agent: echo, prompt: "{{ item }}"}
  sum: {value: "tasks.over | length"}
  strict: {value: "tasks.over | length", require: all}
outputs: {sum: tasks.sum, over: tasks.over, strict: tasks.strict}
""",
        inputs={"words": []},
    )
    assert ran.result.status == "done"
    assert ran.outputs == {"sum": 0, "over": [], "strict": 0}
    assert ran.asked == []

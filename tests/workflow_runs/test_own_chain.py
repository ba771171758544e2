"""Own chain, and the others: what an item sees, when it starts, and what it waits for."""

# ruff: noqa: E501  # workflows are read best whole

from __future__ import annotations

import pytest
from workflow_lab import Answer, Asked, run

pytestmark = [pytest.mark.anyio, pytest.mark.both_backends, pytest.mark.virtual_time]

ROWS = """\
inputs:
  rows: {type: rows, default: [{id: a, w: 1}, {id: b, w: 5}, {id: c, w: 3}]}
"""


def by_weight(asked: Asked) -> Answer:
    """Answers after as many seconds as the prompt's last word says."""
    return Answer(f"<{asked.prompt}>", seconds=float(asked.prompt.split()[-1]))


async def test_item_7_of_the_third_task_starts_when_item_7_of_the_second_is_done() -> None:
    ran = await run(
        """\
        tasks:
          one: {samples: 10, agent: echo, prompt: "x {{ 10 - sample }}"}
          two: {for_each: tasks.one, agent: echo, prompt: "y {{ sample + 1 }}"}
          three: {for_each: tasks.two, agent: echo, prompt: "z 1"}
        """,
        script=by_weight,
    )
    for number in range(10):
        assert ran.ended[f"one/{number}"] == pytest.approx(10 - number)
        assert ran.began[f"two/{number}"] == ran.ended[f"one/{number}"]
        assert ran.began[f"three/{number}"] == ran.ended[f"two/{number}"] == pytest.approx(11)
    assert ran.began["two/7"] < ran.ended["one/0"]


async def test_the_chain_is_seen_along_its_whole_length_and_item_is_the_nearest() -> None:
    ran = await run(
        ROWS
        + """\
tasks:
  draft: {for_each: {row: inputs.rows, tone: [dry, warm]}, samples: 2, agent: echo, prompt: "{{ row.id }}{{ tone }}{{ sample }}"}
  review: {for_each: tasks.draft, agent: echo, prompt: "{{ item }}"}
  grade: {for_each: tasks.review, samples: 1, agent: echo, prompt: "{{ item }}"}
  line:
    for_each: tasks.grade
    value: {row: row.id, tone: tone, sample: sample, draft: tasks.draft, review: tasks.review, grade: tasks.grade, item: item}
outputs: {one: 'tasks.line["b+warm/1/0"]', whole: tasks.line}
"""
    )
    assert ran.outputs["one"] == {
        "row": "b", "tone": "warm", "sample": 0, "draft": "<bwarm1>", "review": "<<bwarm1>>", "grade": "<<<bwarm1>>>",
        "item": "<<<bwarm1>>>",
    }  # fmt: skip
    assert len(ran.outputs["whole"]) == 12
    assert "line/b+warm/1/0" in ran.states


async def test_a_task_named_twice_in_a_product_has_no_own_chain() -> None:
    ran = await run(
        """\
        tasks:
          draft: {samples: 3, agent: echo, prompt: "d {{ sample }}"}
          pair: {for_each: {left: tasks.draft, right: tasks.draft}, agent: echo, prompt: "{{ left }} {{ right }} {{ tasks.draft | length }}"}
        """
    )
    assert len(ran.values("pair")) == 9
    assert ran.values("pair")["0+2"] == "<<d 0> <d 2> 3>"
    assert min(ran.began[address] for address in ran.began if address.startswith("pair")) >= max(
        ran.ended[f"draft/{number}"] for number in range(3)
    )


async def test_another_collection_is_waited_for_and_read_in_input_order() -> None:
    ran = await run(
        ROWS
        + """\
tasks:
  one: {for_each: inputs.rows, agent: echo, prompt: "{{ item.id }} {{ item.w }}"}
  other: {for_each: inputs.rows, agent: echo, prompt: "o {{ item.w * 2 }}"}
  use: {for_each: tasks.one, agent: echo, prompt: "{{ tasks.other | join(',') }} 1"}
  join: {value: "tasks.one | join('')"}
outputs: {join: tasks.join, use: tasks.use.failed | length}
""",
        script=by_weight,
    )
    assert ran.outputs["join"] == "<a 1><b 5><c 3>"
    assert [ran.began[f"use/{key}"] for key in "abc"] == [ran.ended["other/b"]] * 3 == [pytest.approx(10)] * 3
    assert ran.values("use")["a"] == "<<o 2>,<o 10>,<o 6> 1>"
    assert ran.ended["join"] == pytest.approx(5)


async def test_a_whole_collection_by_key_by_element_and_its_failures() -> None:
    ran = await run(
        ROWS
        + """\
tasks:
  one: {for_each: inputs.rows, agent: echo, prompt: "{{ item.id }}", on_failure: skip}
  look:
    value:
      a: 'tasks.one["a"]'
      b: 'tasks.one["b"]'
      none: 'tasks.one["nobody"]'
      row: tasks.one[inputs.rows[2]]
      failed: "tasks.one.failed | map(attribute='key') | list"
      why: tasks.one.failed[0].error.kind
      about: tasks.one.failed[0].item.w
      number: tasks.one | length
      len: len(tasks.one)
      first: tasks.one | first
      two: tasks.one[:2]
outputs: {look: tasks.look}
""",
        script=lambda asked: 400 if asked.prompt == "b" else asked.prompt,
    )
    assert ran.result.status == "done"
    assert ran.outputs["look"] == {
        "a": "a", "b": None, "none": None, "row": "c", "failed": ["b"], "why": "bad_request", "about": 5, "number": 2,
        "len": 2, "first": "a", "two": ["a", "c"],
    }  # fmt: skip


async def test_numbers_in_brackets_are_keys_and_never_places() -> None:
    text = """\
        tasks:
          draft: {samples: 3, agent: echo, prompt: "{{ sample }}", on_failure: skip}
          read: {for_each: {n: [0, 1, 2, 7]}, value: "tasks.draft[n]"}
        outputs: {read: tasks.read}
        """
    ran = await run(text, script=lambda asked: 400 if asked.prompt == "0" else asked.prompt)
    assert ran.outputs["read"] == [None, "1", "2", None]
    ran = await run(ROWS + 'tasks: {one: {for_each: inputs.rows, value: item.w}, bad: {value: "tasks.one[0]"}}\n')
    assert "key" in ran.errors("bad")[""]
    assert "number 0" in ran.errors("bad")[""]


async def test_needs_is_order_without_data() -> None:
    ran = await run(
        """\
        tasks:
          slow: {agent: echo, prompt: "x 9"}
          many: {samples: 2, agent: echo, prompt: "y {{ 3 + sample }}"}
          last: {agent: echo, prompt: "z 1", needs: [slow, many]}
          each: {samples: 2, agent: echo, prompt: "w 1", needs: many}
        """,
        script=by_weight,
    )
    assert ran.began["last"] == pytest.approx(9)
    assert ran.began["each/0"] == ran.began["each/1"] == pytest.approx(4)


async def test_so_far_reads_what_is_there_now_and_may_point_backwards() -> None:
    ran = await run(
        """\
        tasks:
          draft: {samples: 4, agent: echo, prompt: "d {{ so_far(tasks.review) | length }} {{ sample + 1 }}"}
          review: {for_each: tasks.draft, agent: echo, prompt: "r {{ so_far(tasks.draft) | length }} 1"}
          early: {agent: echo, prompt: "e {{ so_far(tasks.one) is none }} {{ so_far(tasks.contest) | length }} 1"}
          one: {agent: echo, prompt: "x 1"}
          contest: {rank: tasks.draft, judge: echo, stop: {matches: 3}}
        """,
        script=lambda asked: (
            by_weight(asked) if "candidate" not in asked.prompt else Answer('{"reasons": "", "winner": "first"}')
        ),
    )
    assert ran.errors("draft") == {}
    prompts = sorted(ran.prompts())
    assert [prompt for prompt in prompts if prompt.startswith("d")] == [f"d 0 {n}" for n in (1, 2, 3, 4)]
    assert [prompt for prompt in prompts if prompt.startswith("r")] == [f"r {n} 1" for n in (1, 2, 3, 4)]
    assert "e true 0 1" in ran.prompts()


async def test_if_that_is_false_skips_without_an_error() -> None:
    ran = await run(
        ROWS
        + """\
tasks:
  one: {for_each: inputs.rows, if: item.w > 2, agent: echo, prompt: "{{ item.id }}"}
  over: {for_each: tasks.one, value: item}
  no: {value: 1, if: false}
  yes: {value: 1, if: tasks.one | length == 2}
outputs: {over: tasks.over, no: tasks.no, yes: tasks.yes}
"""
    )
    assert ran.states["one/a"] == ran.states["no"] == "skipped"
    assert ran.outcomes["one/a"].error is None
    assert ran.kind("over/a") == "dependency"
    assert ran.outputs == {"over": ["<b>", "<c>"], "no": None, "yes": 1}
    assert ran.result.status == "done"
    assert ran.result.failures == ()
    assert len(ran.asked) == 2


@pytest.mark.parametrize(
    ("require", "state"),
    [("any", "done"), ("all", "skipped"), ("75%", "done"), ("76%", "skipped"), ("0%", "done")],
)
async def test_require_says_how_much_of_a_collection_is_needed(require: str, state: str) -> None:
    ran = await run(
        f"""\
        tasks:
          one: {{samples: 4, agent: echo, prompt: "{{{{ sample }}}}", on_failure: skip}}
          read: {{value: "tasks.one | length", require: {require}}}
          each: {{for_each: "tasks.one | sort", value: item, require: {require}}}
        """,
        script=lambda asked: 400 if asked.prompt == "2" else asked.prompt,
    )
    assert ran.states["read"] == state
    assert ran.counts("each") == ({"done": 3} if state == "done" else {"skipped": 1})
    if state == "skipped":
        assert "3 of 4 of one succeeded" in ran.errors("read")[""]
        assert "3 of 4 of one succeeded" in ran.errors("each")[""]


@pytest.mark.parametrize(("require", "state"), [("any", "skipped"), ("0%", "done")])
async def test_nothing_at_all_is_enough_for_0_percent_only(require: str, state: str) -> None:
    ran = await run(
        f"""\
        tasks:
          one: {{samples: 2, agent: echo, prompt: x, on_failure: skip}}
          read: {{value: "tasks.one | length", require: {require}}}
        outputs: {{read: tasks.read}}
        """,
        script=lambda asked: 400,
    )
    assert ran.states["read"] == state
    assert ran.outputs == {"read": 0 if state == "done" else None}
    assert ran.result.status == "done"

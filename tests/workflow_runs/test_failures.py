"""End states and failures: each item ends by itself, and what failed says why, where and in which field."""

# ruff: noqa: E501  # workflows are read best whole

from __future__ import annotations

import json
from pathlib import Path

import pytest
from workflow_lab import Answer, Asked, run

pytestmark = [pytest.mark.anyio, pytest.mark.both_backends, pytest.mark.virtual_time]

ROWS = "inputs: {rows: {type: rows, default: [{id: a}, {id: b}, {id: c}]}}\n"


def b_fails(asked: Asked) -> str | int:
    return 400 if asked.prompt == "b" else f"<{asked.prompt}>"


def with_on_failure(on_failure: str, more: str = "") -> str:
    return (
        ROWS
        + f"""\
tasks:
  ask: {{for_each: inputs.rows, agent: echo, prompt: "{{{{ item.id }}}}", on_failure: {on_failure}}}
  over: {{for_each: tasks.ask, value: "item ~ '!'"}}
  sum: {{value: tasks.over | join}}
{more}
outputs: {{sum: tasks.sum, ask: tasks.ask}}
"""
    )


async def test_a_failure_makes_the_run_partial_and_all_else_goes_on() -> None:
    ran = await run(with_on_failure("fail"), script=b_fails)
    assert ran.result.status == "partial"
    assert ran.outputs == {"sum": "<a>!<c>!", "ask": ["<a>", "<c>"]}
    assert ran.counts("ask") == {"done": 2, "failed": 1}
    assert ran.counts("over") == {"done": 2, "skipped": 1}
    assert ran.kind("over/b") == "dependency"
    assert "ask/b was failed" in str(ran.outcomes["over/b"].error)
    assert [str(one.address) for one in ran.result.failures] == ["ask/b"]
    written = ran.result.as_json()
    assert written["failures"] == [
        {"task": "ask", "key": "b", "sample": None, "error": {
            "kind": "bad_request", "message": "lab/main: status 400", "status": 400, "retryable": False}}
    ]  # fmt: skip
    assert written["tasks"]["over"] == {"done": 2, "failed": 0, "skipped": 1, "cancelled": 0}


async def test_skip_ends_the_item_keeps_its_error_and_the_run_may_be_done() -> None:
    ran = await run(with_on_failure("skip"), script=b_fails)
    assert ran.result.status == "done"
    assert ran.states["ask/b"] == "skipped"
    assert [str(one.address) for one in ran.result.failures] == ["ask/b"]
    assert ran.kind("ask/b") == "bad_request"
    assert ran.counts("over") == {"done": 2, "skipped": 1}


async def test_default_ends_it_done_with_this_value_and_its_error_is_kept() -> None:
    ran = await run(with_on_failure("{default: none}"), script=b_fails)
    assert ran.result.status == "done"
    assert ran.outputs == {"sum": "<a>!none!<c>!", "ask": ["<a>", "none", "<c>"]}
    assert ran.outcomes["ask/b"].ok
    assert ran.kind("ask/b") == "bad_request"


async def test_another_model_is_tried_where_the_first_failed() -> None:
    def script(asked: Asked) -> str | int:
        return 400 if (asked.model, asked.prompt) == ("main", "b") else f"<{asked.prompt} {asked.model}>"

    ran = await run(with_on_failure("{fallback: {model: lab/other}}"), script=script)
    assert ran.result.status == "done"
    assert ran.outputs["ask"] == ["<a main>", "<b other>", "<c main>"]
    assert ran.outcomes["ask/b"].model == "lab/other"
    assert ran.outcomes["ask/b"].usage.calls == 2
    assert ran.outcomes["ask/b"].error is None


async def test_another_task_is_tried_for_the_one_item_and_sees_what_it_saw() -> None:
    ran = await run(
        with_on_failure("{fallback: {task: other}}", '  other: {agent: echo, prompt: "second try of {{ item.id }}"}'),
        script=b_fails,
    )
    assert ran.result.status == "done"
    assert ran.outputs["ask"] == ["<a>", "<second try of b>", "<c>"]
    assert "other" not in ran.result.tasks
    assert len(ran.asked) == 4


async def test_fallbacks_may_have_fallbacks_and_the_last_failure_counts() -> None:
    ran = await run(
        with_on_failure(
            "{fallback: {task: other}}",
            "  other: {agent: echo, prompt: b, on_failure: {fallback: {task: last}}}\n  last: {value: item.id | list | sum}",
        ),
        script=b_fails,
    )
    assert list(ran.errors("ask")) == ["b"]
    assert "unsupported operand" in ran.errors("ask")["b"]


async def test_a_fallback_that_is_not_even_tried_leaves_the_first_reason() -> None:
    ran = await run(
        with_on_failure("{fallback: {task: other}}", "  other: {if: item.id == 'z', value: 1}"), script=b_fails
    )
    assert ran.states["ask/b"] == "failed"
    assert ran.errors("ask") == {"b": "bad_request: lab/main: status 400"}


async def test_what_a_fallback_reads_is_no_dependency_until_it_is_tried() -> None:
    def script(asked: Asked) -> Answer | int:
        return 400 if asked.prompt == "b" else Answer(f"<{asked.prompt}>", seconds=30 if asked.prompt == "slow" else 1)

    ran = await run(
        with_on_failure(
            "{fallback: {task: other}}",
            "  slow: {samples: 2, agent: echo, prompt: slow}\n  other: {value: tasks.slow | join}",
        ),
        script=script,
    )
    assert ran.ended["ask/a"] == pytest.approx(1)
    assert ran.ended["ask/b"] == pytest.approx(30)
    assert ran.values("ask")["b"] == "<slow><slow>"


async def test_a_fallback_whose_own_needs_failed_leaves_the_first_reason() -> None:
    ran = await run(
        with_on_failure(
            "{fallback: {task: other}}", "  gone: {agent: echo, prompt: b}\n  other: {value: tasks.gone ~ item.id}"
        ),
        script=b_fails,
    )
    assert ran.errors("ask") == {"b": "bad_request: lab/main: status 400"}
    assert ran.states["ask/b"] == "failed"


async def test_after_a_timeout_the_fallback_has_its_own_time() -> None:
    def script(asked: Asked) -> Answer:
        return Answer(asked.model, seconds=100 if asked.model == "main" else 4)

    ran = await run(
        """\
        tasks:
          ask: {agent: echo, prompt: x, timeout: 5s, retry: {attempts: 1}, on_failure: {fallback: {model: lab/quick}}}
        outputs: {ask: tasks.ask}
        """,
        script=script,
    )
    assert ran.outputs == {"ask": "quick"}
    assert ran.ended["ask"] == pytest.approx(9)


async def test_a_missing_field_names_task_item_and_field() -> None:
    ran = await run(
        """\
        tasks:
          load: {python: "missing_field_rows:load"}
          ask: {for_each: tasks.load, agent: echo, prompt: "{{ item.id }} {{ item.x }}"}
          calculate: {for_each: tasks.load, value: item.x + 1}
          key: {for_each: tasks.load, key: item.x.y, value: 1}
          name: {for_each: tasks.load, if: item.x > 0, value: 1}
        """,
        head=_module(
            "missing_field_rows",
            "def load():\n    return [{'id': 'a', 'x': 1}, {'id': 'b'}]\n",
        ),
    )
    assert ran.result.status == "partial"
    no_x = "bad_request: item.x: no field 'x'; there are id"
    assert ran.errors("ask") == ran.errors("calculate") == ran.errors("name") == {"b": no_x}
    assert ran.values("ask") == {"a": "<a 1>"}
    assert ran.errors("key") == {
        "a": "bad_request: key: item.x.y: a number has no fields", "b": "bad_request: key: item.x.y: no field 'x'; there are id",
    }  # fmt: skip


async def test_a_for_each_that_gives_no_list_is_one_failed_item() -> None:
    ran = await run(
        """\
        tasks:
          load: {python: "no_list:load"}
          ask: {for_each: tasks.load, agent: echo, prompt: "{{ item }}"}
          field: {for_each: tasks.load.rows, agent: echo, prompt: "{{ item }}"}
          flat: {for_each: 'flat(tasks.many, "rows")', value: item}
          many: {for_each: [1, 2], python: "no_list:load"}
          times: {samples: tasks.load, value: sample}
          over: {for_each: tasks.ask, value: item}
          contest: {rank: tasks.load, judge: echo}
          join: {value: "tasks.over | length"}
        """,
        head=_module("no_list", "def load():\n    return 'words'\n"),
    )
    assert ran.errors("ask") == {"": "bad_request: a list is needed for item, not text: words"}
    assert ran.errors("contest") == {"": "bad_request: a list is needed for item, not text: words"}
    assert "text has no fields" in ran.errors("field")[""]
    assert ran.errors("flat") == {key: f"bad_request: many/{key}: text has no fields" for key in "12"}
    assert ran.errors("times") == {"": "bad_request: samples must be a whole number from 0 on, not 'words'"}
    assert ran.states["over"] == ran.states["join"] == "skipped"
    assert ran.counts("ask") == {"failed": 1}
    assert ran.asked == []


async def test_what_the_elements_come_from_has_failed() -> None:
    ran = await run(
        """\
        tasks:
          load: {python: "fails_to_load:load"}
          ask: {for_each: tasks.load, agent: echo, prompt: "{{ item }}"}
          times: {samples: tasks.load | int, value: sample}
          contest: {rank: tasks.load, judge: echo}
          over: {for_each: "top(tasks.contest, 2)", value: item.key}
        """,
        head=_module("fails_to_load", "def load():\n    raise OSError('no such place')\n"),
    )
    assert ran.errors("load") == {"": "tool: OSError: no such place"}
    assert {ran.states[name] for name in ("ask", "times", "contest", "over")} == {"skipped"}
    assert "load was failed" in ran.errors("ask")[""]
    assert "load was failed" in ran.errors("contest")[""]
    assert ran.result.status == "partial"


async def test_a_model_nobody_serves_fails_the_items_that_name_it() -> None:
    ran = await run(
        """\
        tasks:
          load: {python: "model_rows:load"}
          ask: {for_each: tasks.load, agent: echo, model: "{{ item.model }}", prompt: "{{ item.id }}"}
        """,
        head=_module(
            "model_rows", "def load():\n    return [{'id': 'a', 'model': 'lab/x'}, {'id': 'b', 'model': 'nobody/y'}]\n"
        ),
    )
    assert ran.values("ask") == {"a": "<a>"}
    assert ran.errors("ask")["b"].startswith("bad_request:")
    assert "nobody" in ran.errors("ask")["b"]


async def test_elements_that_are_no_data_fail_each_as_itself() -> None:
    ran = await run(
        """\
        tasks:
          load: {python: "odd_elements:load"}
          ask: {for_each: tasks.load, agent: echo, prompt: "{{ item }}"}
        """,
        head=_module("odd_elements", "class Odd: pass\ndef load():\n    return ['fine', Odd()]\n"),
    )
    assert ran.values("ask") == {"fine": "<fine>"}
    assert ["element 1: a value of type Odd is not data" in why for why in ran.errors("ask").values()] == [True]


async def test_a_reply_that_does_not_fit_is_the_failure_of_its_item() -> None:
    def script(asked: Asked) -> str:
        bad = asked.body["messages"][0]["content"] == "b"
        return json.dumps({"title": 1} if bad else {"title": "t", "score": 1})

    ran = await run(
        ROWS + 'tasks: {ask: {for_each: inputs.rows, agent: fields, prompt: "{{ item.id }}"}}\n', script=script
    )
    assert ran.counts("ask") == {"done": 2, "failed": 1}
    assert ran.errors("ask")["b"].startswith("invalid_output: ")
    assert "after 2 repairs" in ran.errors("ask")["b"]
    assert ran.outcomes["ask/b"].usage.calls == 3


def _module(name: str, source: str) -> str:
    """The usual head; and a Python module beside the workflow."""
    from workflow_lab import HEAD

    Path(f"{name}.py").write_text(source)
    return HEAD

"""The plan of a good workflow: kinds, sources, chains, names, dependencies, and what a builder needs to know."""

# ruff: noqa: E501  # files are read best whole

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agentmesh.agents.output import InvalidOutput
from agentmesh.errors import InputProblems
from agentmesh.template import Template
from agentmesh.workflow.load import find_workflow, load_workflow, shipped_workflows
from agentmesh.workflow.plan import TaskPlan, Workflow

HEAD = """\
agentmesh: 1
inputs:
  n: {type: integer, default: 2}
  rows: {type: rows, default: [{id: a, question: q}]}
models: {large: sim/large, small: {of: [sim/small, sim/large]}}
agents:
  writer: {model: large, retry: {attempts: 2, on: [server]}, settings: {max_tokens: 5, extra: {top_k: 3}}}
  planner: {model: small, output: {topics: [text], good: boolean}, timeout: 30s}
tasks:
"""


def plan(folder: Path, tasks: str, **options: Any) -> Workflow:
    file = folder / "w.yaml"
    file.write_text(HEAD + tasks)
    return load_workflow(file, **options)


def of(task: TaskPlan) -> dict[str, Any]:
    """What is not empty of a task's place in the graph."""
    found = {name: getattr(task, name) for name in ("streams", "before", "waits", "order", "so_far", "chain")}
    return {name: value for name, value in found.items() if value} | {"names": set(task.names), "path": task.path}


def test_items_over_items_keep_their_chain(tmp_path: Path) -> None:
    tasks = plan(
        tmp_path,
        """\
  ask: {for_each: {q: inputs.rows, model: [sim/a, sim/b]}, samples: inputs.n, agent: writer, prompt: "{{ q.id }}", model: "{{ model }}"}
  check: {for_each: tasks.ask, agent: planner, prompt: "{{ item }} {{ q.question }} {{ sample }} {{ tasks.ask }}"}
  note: {for_each: tasks.check, value: {a: item.good, b: tasks.ask, c: tasks.check.topics}}
  all: {value: "tasks.note | length"}
""",
    ).tasks
    assert of(tasks["ask"]) == {"names": {"q", "model", "sample"}, "path": 4}
    assert of(tasks["check"]) == {
        "streams": ("ask",), "chain": ("ask",), "names": {"q", "model", "sample", "item"}, "path": 3,
    }  # fmt: skip
    assert of(tasks["note"])["chain"] == ("check", "ask")
    assert of(tasks["all"]) == {"waits": ("note",), "names": set(), "path": 1}
    assert [s.form for s in tasks["check"].sources] == ["items"]
    assert tasks["all"].is_collection is False


def test_a_task_named_twice_in_a_product_has_no_own_chain(tmp_path: Path) -> None:
    tasks = plan(
        tmp_path,
        """\
  a: {samples: 2, agent: planner, prompt: x}
  b: {samples: 2, agent: planner, prompt: x}
  pair: {for_each: {left: tasks.a, right: tasks.a}, agent: writer, prompt: "{{ left.good }} {{ tasks.a | length }}"}
  cross: {for_each: {left: tasks.a, right: tasks.b}, agent: writer, prompt: "{{ tasks.a.good }} {{ tasks.b.good }}"}
""",
    ).tasks
    assert of(tasks["pair"]) == {"streams": ("a",), "waits": ("a",), "names": {"left", "right"}, "path": 1}
    assert set(tasks["cross"].chain) == {"a", "b"}


def test_flat_fans_out_what_is_inside_items_as_they_come(tmp_path: Path) -> None:
    task = plan(
        tmp_path,
        """\
  plan: {samples: 2, agent: planner, prompt: x}
  read: {for_each: 'flat(tasks.plan, "topics")', agent: writer, prompt: "{{ item }} {{ tasks.plan.good }} {{ sample }}"}
""",
    ).tasks["read"]
    assert of(task) == {"streams": ("plan",), "chain": ("plan",), "names": {"item", "sample"}, "path": 1}
    assert [(s.form, s.task, s.field) for s in task.sources] == [("flat", "plan", "topics")]


def test_a_list_in_one_value_is_waited_for(tmp_path: Path) -> None:
    task = plan(
        tmp_path,
        """\
  one: {agent: planner, prompt: x}
  read: {for_each: tasks.one.topics, agent: writer, prompt: "{{ item }} {{ tasks.one.good }}"}
""",
    ).tasks["read"]
    assert of(task) == {"before": ("one",), "names": {"item"}, "path": 1}
    assert task.is_collection
    assert [s.form for s in task.sources] == ["values"]


def test_a_tournament_and_what_reads_it(tmp_path: Path) -> None:
    tasks = plan(
        tmp_path,
        """\
  draft: {samples: 3, agent: planner, prompt: x}
  review: {for_each: tasks.draft, agent: writer, prompt: "{{ item.good }}"}
  contest: {rank: tasks.draft, judge: writer, entrant: "{{ item.topics }} {{ sample }}", stop: {matches: 9}}
  best: {for_each: "top(tasks.contest, 2)", value: {r: item.rating, d: tasks.draft.good, v: "tasks.review[item.key]"}}
  extend: {samples: 2, agent: writer, prompt: "{{ so_far(tasks.draft) | length }} {{ so_far(tasks.contest) }}"}
""",
    ).tasks
    rank = tasks["contest"].rank
    assert rank is not None
    assert (rank.entrants.form, rank.entrants.task, rank.judge, rank.regret, rank.matches) == (
        "items", "draft", "writer", 0.05, 9,
    )  # fmt: skip
    assert tasks["contest"].is_collection is False
    assert of(tasks["contest"]) == {"streams": ("draft",), "chain": ("draft",), "names": {"item", "sample"}, "path": 2}
    assert of(tasks["best"]) == {
        "before": ("contest",), "waits": ("review",), "chain": ("draft",), "names": {"item", "sample"}, "path": 1,
    }  # fmt: skip
    assert of(tasks["extend"]) == {"so_far": ("draft", "contest"), "names": {"sample"}, "path": 1}


def test_a_fallback_sees_what_the_failed_item_sees(tmp_path: Path) -> None:
    workflow = plan(
        tmp_path,
        """\
  ask: {for_each: {q: inputs.rows}, agent: writer, prompt: x, on_failure: {fallback: {task: cheap}}}
  cheap: {agent: planner, prompt: "{{ q.question }}", on_failure: {fallback: {task: last}}}
  last: {value: q.id}
  use: {value: tasks.ask, needs: ask, require: 95%}
""",
    )
    tasks = workflow.tasks
    assert [name for name, task in tasks.items() if task.is_fallback] == ["cheap", "last"]
    assert tasks["ask"].on_failure.task == "cheap"
    assert tasks["ask"].needs == ()
    assert tasks["last"].names == {"q"}
    assert tasks["use"].order == ("ask",)
    assert tasks["use"].require.share == 0.95


def test_every_task_comes_after_what_it_needs(tmp_path: Path) -> None:
    workflow = plan(tmp_path, "  d: {value: tasks.c}\n  c: {value: tasks.b}\n  b: {value: inputs.n}\n  a: {value: 1}\n")
    assert list(workflow.tasks) == ["b", "c", "d", "a"]
    assert {name: task.path for name, task in workflow.tasks.items()} == {"b": 3, "c": 2, "d": 1, "a": 1}


def test_values_are_literal_where_the_language_says_so(tmp_path: Path) -> None:
    tasks = plan(
        tmp_path,
        """\
  a: {value: {n: inputs.n, m: 3, yes: true, l: [inputs.n, x], deep: {k: inputs.n + 1}}, if: false}
""",
    ).tasks
    value, condition = tasks["a"].value, tasks["a"].condition
    assert value is not None
    assert condition is not None
    assert value.evaluate({"inputs": {"n": 2}}) == {
        "n": 2, "m": 3, "yes": True, "l": ["inputs.n", "x"], "deep": {"k": 3},
    }  # fmt: skip
    assert condition.evaluate({}) is False


def test_agents_and_limits(tmp_path: Path) -> None:
    workflow = plan(
        tmp_path,
        "  a: {agent: writer, prompt: {raw: '{{ as it is }}'}, priority: high, timeout: 2m, budget: {usd: 1}}\n",
    )
    task, writer, planner = workflow.tasks["a"], workflow.agents["writer"], workflow.agents["planner"]
    assert task.prompt == "{{ as it is }}"
    assert (task.limits.priority, task.limits.timeout) == (1.0, 120.0)
    assert task.limits.budget is not None
    assert task.limits.budget.usd == 1
    assert writer.limits.retry is not None
    assert (writer.limits.retry.attempts, writer.limits.retry.on) == (2, ["server"])
    assert writer.limits.settings.max_tokens == 5
    assert writer.limits.settings.extra == {"top_k": 3}
    assert planner.limits.timeout == 30
    assert planner.output is not None
    with pytest.raises(InvalidOutput, match="good: is missing"):
        planner.output.validate('{"topics": []}')


def test_models_that_a_run_puts_in_place(tmp_path: Path) -> None:
    text = "  a: {agent: writer, prompt: x}\n"
    assert plan(tmp_path, text).routes("small") == ("sim/small", "sim/large")
    assert plan(tmp_path, text).routes("acme/x") == ("acme/x",)
    changed = plan(tmp_path, text, model_options=("large=openai/gpt",))
    assert (changed.routes("large"), changed.routes("small")) == (("openai/gpt",), ("sim/small", "sim/large"))
    assert plan(tmp_path, text, model_options=("openai/gpt",)).routes("small") == ("openai/gpt",)


def test_prompts_and_schemas_are_looked_for_beside_the_file_then_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "here" / "p.md").write_text("beside {{ inputs.n }}\n")
    (tmp_path / "work" / "p.md").write_text("in the working directory\n")
    (tmp_path / "work" / "q.md").write_text("work\n")
    tasks = plan(
        tmp_path / "here", "  a: {agent: writer, prompt: {file: p.md}}\n  b: {agent: writer, prompt: {file: q.md}}\n"
    ).tasks
    assert tasks["a"].prompt == Template("beside {{ inputs.n }}\n")
    assert tasks["b"].prompt == Template("work\n")


def test_python_tasks_are_imported_from_beside_the_file(tmp_path: Path) -> None:
    """Two workflows may each have a module of the same name beside them."""
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "scoring_for_tests.py").write_text(
            f"import pydantic\nclass Score(pydantic.BaseModel):\n    points: int\n"
            f"def score(reply: str, limit: int = 3) -> Score:\n    return Score(points={number})\n"
        )
        text = (
            "  a: {agent: writer, prompt: x}\n"
            "  s: {python: 'scoring_for_tests:score', with: {reply: tasks.a}, version: 2}\n"
            "  u: {value: tasks.s.points}\n"
        )
        task = plan(folder, text).tasks["s"]
        assert task.function is not None
        assert task.function("x").points == number
        assert (task.target, task.version) == ("scoring_for_tests:score", "2")
        with pytest.raises(InputProblems, match=r"tasks\.s has no field 'point'; there are points"):
            plan(folder, text.replace(".points", ".point"))
        with pytest.raises(
            InputProblems, match=r"missing a required argument: 'reply' \(it takes reply: str, limit: int = 3\)"
        ):
            plan(folder, text.replace("reply: tasks.a", "rely: tasks.a"))
        with pytest.raises(
            InputProblems, match=r"no name in the module scoring_for_tests 'scor'.*did you mean 'score'"
        ):
            plan(folder, text.replace("tests:score", "tests:scor"))
    sys.modules.pop("scoring_for_tests")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "import nothing_of_this_name\n",
            "broken_for_tests cannot be imported: No module named 'nothing_of_this_name'",
        ),
        ("1 / 0\n", "broken_for_tests cannot be imported: ZeroDivisionError: division by zero"),
        ("def f(:\n", "broken_for_tests cannot be imported: SyntaxError"),
        ("raise SystemExit(3)\n", "broken_for_tests cannot be imported: SystemExit: 3"),
        ("f = 3\n", "broken_for_tests:f is int, and no function"),
    ],
)
def test_modules_that_cannot_be_imported(body: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "broken_for_tests.py").write_text(body)
    with pytest.raises(InputProblems) as raised:
        plan(tmp_path, "  a: {python: 'broken_for_tests:f'}\n")
    sys.modules.pop("broken_for_tests", None)
    assert [p.message.startswith(message) for p in raised.value.problems] == [True], str(raised.value)


def test_output_model_and_output_schema(tmp_path: Path) -> None:
    (tmp_path / "types_for_tests.py").write_text("import pydantic\nclass M(pydantic.BaseModel):\n    a: int\n")
    (tmp_path / "s.json").write_text('{"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]}')
    file = tmp_path / "w.yaml"
    file.write_text(
        "agentmesh: 1\nagents:\n  m: {model: sim/x, output_model: 'types_for_tests:M'}\n"
        "  s: {model: sim/x, output_schema: s.json}\n"
        "tasks:\n  a: {agent: m, prompt: x}\n  b: {agent: s, prompt: '{{ tasks.a.a }}'}\n  c: {value: tasks.b.b}\n"
    )
    agents = load_workflow(file).agents
    sys.modules.pop("types_for_tests")
    assert agents["m"].output is not None
    assert agents["m"].output.validate('{"a": 1}').a == 1
    assert agents["s"].output is not None
    assert agents["s"].output.validate('{"b": 2}') == {"b": 2}


@pytest.mark.parametrize("name", ["compare", "hypotheses", "screening", "summarise"])
def test_shipped_workflows_are_right(name: str) -> None:
    workflow = load_workflow(name)
    assert workflow.name == name
    assert workflow.outputs
    assert all(model.startswith("sim/") for route in workflow.models.values() for model in route)


def test_the_flagship_is_as_it_is_told() -> None:
    workflow = load_workflow("hypotheses")
    assert list(workflow.agents) == ["scientist", "critic", "judge", "writer"]
    assert list(workflow.tasks) == ["draft", "review", "contest", "report"]
    assert workflow.inputs["ideas"] == 24
    assert list(workflow.outputs) == ["best", "report"]
    assert workflow.tasks["report"].require.share == 0


def test_workflows_are_found_by_path_and_by_name(tmp_path: Path) -> None:
    assert set(shipped_workflows()) >= {"compare", "hypotheses", "screening", "summarise"}
    file = tmp_path / "own.yaml"
    file.write_text("agentmesh: 1\ntasks: {a: {value: 1}}\n")
    assert find_workflow(file) == file
    assert load_workflow(file).name == "own"
    with pytest.raises(InputProblems, match=r"hypothesis: there is no such workflow .did you mean 'hypotheses'"):
        find_workflow("hypothesis")
    with pytest.raises(InputProblems, match="this is a directory"):
        find_workflow(tmp_path)


def test_checking_is_quick() -> None:
    def seconds() -> float:
        began = time.process_time()
        load_workflow("hypotheses")
        return time.process_time() - began

    assert min(seconds() for _ in range(3)) < 0.1  # 10 ms on a quiet machine

"""Bad workflow files: every mistake with its place, what is wrong, and what would be right."""

# ruff: noqa: E501  # files and messages are read best whole

from __future__ import annotations

from pathlib import Path

import pytest

from agentmesh.errors import InputProblems
from agentmesh.workflow.load import load_workflow

HEAD = """\
agentmesh: 1
inputs:
  goal: {type: text, default: g}
  n: {type: integer, default: 2}
  rows: {type: rows, default: [{id: a, question: q}]}
  names: {type: [text], default: [sim/small, smal]}
models: {large: sim/large, small: {of: [sim/small]}}
agents:
  writer: {model: large}
  scientist: {model: large, output: {title: text, claim: text, parts: [text]}}
  free: {instructions: hello}
tasks:
"""
"""Twelve lines: what follows begins on line 13."""

DRAFT = "  draft: {samples: inputs.n, agent: scientist, prompt: x}\n"
CONTEST = "  contest: {rank: tasks.draft, judge: writer}\n"
OVER_A = "  b: {for_each: tasks.a, agent: writer, prompt: '{{ item }}'}\n"
ONE = "  one: {agent: writer, prompt: x}\n"


def problems(path: Path, text: str, *, model_options: tuple[str, ...] = (), first: str = "") -> list[str]:
    file = path / "w.yaml"
    file.write_text(text)
    try:
        load_workflow(file, model_options=model_options)
    except InputProblems as error:
        return [str(problem).removeprefix(f"{file}:") for problem in error.problems]
    return []


TASKS = [
    # --- templates and the fields of what is upstream
    (DRAFT + "  r: {for_each: tasks.draft, agent: writer, prompt: '{{ item.clam }}'}",
     ["14:53: tasks.r.prompt: item has no field 'clam'; there are title, claim, parts (did you mean 'claim'?)"]),
    (DRAFT + "  r: {for_each: tasks.draft, agent: writer, prompt: '{{ tasks.draft.clam }}'}",
     ["14:53: tasks.r.prompt: tasks.draft has no field 'clam'; there are title, claim, parts (did you mean 'claim'?)"]),
    (DRAFT + "  r:\n    for_each: tasks.draft\n    agent: writer\n    prompt: |\n      a\n      {{ item.claim.x }}\n",
     ["19:7: tasks.r.prompt: item.claim is text and has no field 'x'"]),
    (DRAFT + "  r: {agent: writer, prompt: '{{ tasks.draft.claim }}'}",
     ["14:30: tasks.r.prompt: tasks.draft is a list of items, not one"]),
    (DRAFT + "  r: {agent: writer, prompt: '{% for d in tasks.draft %}{{ d.clam }}{% endfor %}'}",
     ["14:30: tasks.r.prompt: d has no field 'clam'; there are title, claim, parts (did you mean 'claim'?)"]),
    (DRAFT + "  r: {agent: writer, prompt: '{{ tasks.draft.failed[0].eror }}'}",
     [("14:30: tasks.r.prompt: tasks.draft.failed[0] has no field 'eror'; there are task, key, sample, state, item, "
      "value, finish, model, attempts, seconds, usd, usage, error (did you mean 'error'?)")]),
    (DRAFT + CONTEST + "  r: {agent: writer, prompt: '{% for h in top(tasks.contest, 3) %}{{ h.item.clam }}{{ h.rate }}{% endfor %}'}",
     [("15:30: tasks.r.prompt: h has no field 'rate'; there are rank, key, item, rating, low, high, matches "
      "(did you mean 'rating'?)"),
      "15:30: tasks.r.prompt: h.item has no field 'clam'; there are title, claim, parts (did you mean 'claim'?)"]),
    ("  a: {for_each: inputs.rows, agent: writer, prompt: '{{ item.qestion }}'}",
     ["13:53: tasks.a.prompt: item has no field 'qestion'; there are id, question (did you mean 'question'?)"]),
    ("  a: {agent: writer, prompt: '{{ inputs.gaol }}{{ inputs.goal.x }}'}",
     ["13:30: tasks.a.prompt: inputs.goal is text and has no field 'x'",
      "13:30: tasks.a.prompt: there is no input 'gaol' (did you mean 'goal'?)"]),
    ("  a: {agent: writer, prompt: '{{ item }} {{ sample }} {{ gaol }}'}",
     ["13:30: tasks.a.prompt: there is no name 'gaol' here (there are inputs, tasks)",
      "13:30: tasks.a.prompt: there is no name 'item' here (item is there in a task with for_each)",
      ("13:30: tasks.a.prompt: there is no name 'sample' here (sample is there in a task with samples, and in those "
      "over its items)")]),
    ("  a: {agent: writer, prompt: '{{ tasks.b }} {{ tasks }} {{ tasks[inputs.goal] }}'}",
     ["13:30: tasks.a.prompt: tasks are named one by one (write tasks.name)",
      "13:30: tasks.a.prompt: there is no task 'b' (there are a)"]),
    ("  a: {agent: writer, prompt: '{{ tasks | length }}'}",
     ["13:30: tasks.a.prompt: tasks are named one by one (write tasks.name)"]),
    ("  a: {agent: writer, prompt: '{{ inputs.goal | uper }}'}",
     ["13:30: tasks.a.prompt: there is no filter 'uper' (did you mean 'upper'?)"]),
    ("  a: {agent: writer, prompt: '{{ inputs.goal.upper() }}'}",
     ["13:30: tasks.a.prompt: there are no methods: upper(...) (write the filter: x | upper)"]),
    ("  a: {agent: writer, prompt: '{% if inputs.n %}'}", ["13:30: tasks.a.prompt: {% if %} is not closed"]),
    # --- expressions
    ("  a: {samples: '{{ inputs.n }}', agent: writer, prompt: x}",
     ["13:16: tasks.a.samples: an expression stands here, without braces (inputs.n)"]),
    ("  a: {value: hello world}",
     [("13:14: tasks.a.value: unexpected 'world' after the expression (an expression stands here; a text in it is "
      "written in quotes of its own: \"'text'\")")]),
    ("  a: {value: {x: inputs.gaol}}", ["13:18: tasks.a.value.x: there is no input 'gaol' (did you mean 'goal'?)"]),
    ("  a: {samples: 0, agent: writer, prompt: x}", ["13:16: tasks.a.samples: must be at least 1, not 0"]),
    # --- nothing that only follows from another mistake
    ("  a: {for_each: '{{ 1 + }}', key: item, agent: writer, prompt: '{{ item.x }}'}\n" + OVER_A,
     ["13:17: tasks.a.for_each: an expression stands here, without braces (1 +)"]),
    ("  a: {for_each: {x: inputs.rows, y: 'inputs.'}, agent: writer, prompt: '{{ x.question }}{{ y }}{{ x.qestion }}'}",
     [("13:37: tasks.a.for_each.y: expected name or number (an expression stands here; a text in it is "
       "written in quotes of its own: \"'text'\")"),
      "13:72: tasks.a.prompt: x has no field 'qestion'; there are id, question (did you mean 'question'?)"]),
    ("  a: {samples: 'inputs.n +', agent: writer, prompt: '{{ sample }}'}",
     [("13:16: tasks.a.samples: unexpected 'end of template' (an expression stands here; a text in it is written in "
       "quotes of its own: \"'text'\")")]),
    # --- one or many
    (ONE + "  a: {for_each: tasks.one, agent: writer, prompt: x}",
     [("14:17: tasks.a.for_each: for_each takes a list or a collection, and tasks.one is text "
      "(a task is a collection with for_each or samples)")]),
    ("  p: {agent: scientist, prompt: x}\n  a: {for_each: tasks.p, agent: writer, prompt: x}",
     [("14:17: tasks.a.for_each: for_each takes a list or a collection, and tasks.p is one value "
      "(take its list: tasks.p.parts)")]),
    (DRAFT + "  a: {for_each: 'flat(tasks.draft, \"title\")', agent: writer, prompt: x}",
     [("14:17: tasks.a.for_each: for_each takes a list or a collection, and tasks.draft[].title is text "
      "(a task is a collection with for_each or samples)")]),
    (DRAFT + "  a: {agent: writer, prompt: '{{ top(tasks.draft, 3) }}'}",
     [("14:30: tasks.a.prompt: top takes the standings of a rank task, and draft is none "
      "(rank it first: rank: tasks.draft)")]),
    (DRAFT + "  a: {for_each: so_far(tasks.draft), agent: writer, prompt: x}",
     [("14:17: tasks.a.for_each: so_far is for what is read, not for where elements come from "
      "(write tasks.draft: its items are taken as they come)")]),
    (DRAFT + "  a: {rank: tasks.draft, judge: writer, for_each: tasks.draft, samples: 2}",
     [("14:41: tasks.a.for_each: a rank task is one tournament and has no for_each "
      "(rank takes a collection by itself: rank: tasks.name)"),
      ("14:64: tasks.a.samples: a rank task is one tournament and has no samples "
      "(rank takes a collection by itself: rank: tasks.name)")]),
    (ONE + "  a: {rank: tasks.one, judge: writer}",
     [("14:13: tasks.a.rank: rank takes a list or a collection, and tasks.one is text "
      "(a task is a collection with for_each or samples)")]),
    (DRAFT + "  a: {rank: tasks.draft, judge: scientist}",
     ["14:33: tasks.a.judge: rank brings its own verdict, and scientist has an output (a judge has none)"]),
    (DRAFT + "  a: {rank: tasks.draft, judge: writer, entrant: '{{ item.titel }}'}",
     ["14:50: tasks.a.entrant: item has no field 'titel'; there are title, claim, parts (did you mean 'title'?)"]),
    ("  a: {agent: writer, prompt: x, key: inputs.goal}",
     ["13:33: tasks.a.key: there are no elements to name (a key goes with for_each)"]),
    ("  a: {for_each: {sample: inputs.rows, B: [1]}, agent: writer, prompt: x}",
     ["13:18: tasks.a.for_each.sample: this name is taken",
      "13:39: tasks.a.for_each.B: a name begins with a-z and goes on with a-z, 0-9 and _"]),
    # --- kinds
    ("  a: {prompt: x}", ["13:3: tasks.a: nothing says what this task does (agent: is missing)"]),
    ("  a: {timeout: 5s}", ["13:3: tasks.a: nothing says what this task does (agent, python, value or rank says it)"]),
    ("  a: {agent: writer}", ["13:3: tasks.a: prompt is missing"]),
    ("  a: {agent: writer, prompt: x, value: 1}",
     ["13:33: tasks.a.value: a task is of one kind, and this one has agent and value"]),
    ("  a: {value: inputs.n, prompt: x}",
     ["13:24: tasks.a.prompt: prompt belongs to agent tasks, and this is a value task"]),
    ("  a: {workflow: b.yaml, with: {x: y}}", ["13:7: tasks.a.workflow: sub-workflows are not supported yet"]),
    ("  a: {collect: x}\n  b: {beside: x}",
     ["13:7: tasks.a.collect: collect is not supported yet", "14:7: tasks.b.beside: beside is not supported yet"]),
    ("  a: {agnet: writer, prompt: x}", ["13:7: tasks.a.agnet: unknown key (did you mean 'agent'?)"]),
    # --- names
    ("  a: {agent: writr, prompt: x}", ["13:14: tasks.a.agent: there is no agent 'writr' (did you mean 'writer'?)"]),
    ("  Draft-1: {agent: writer, prompt: x}",
     ["13:3: tasks.Draft-1: a name begins with a-z and goes on with a-z, 0-9 and _ (such as draft_1)"]),
    (ONE + "  a: {agent: writer, prompt: x, needs: [oen]}",
     ["14:41: tasks.a.needs[0]: there is no task 'oen' (did you mean 'one'?)"]),
    # --- cycles
    ("  a: {value: tasks.b}\n  b: {value: tasks.a}",
     ["13:3: tasks.a: tasks wait for each other: a -> b -> a (so_far(tasks.x) reads what is there without waiting)"]),
    ("  a: {agent: writer, prompt: x, needs: a}",
     ["13:3: tasks.a: this task waits for itself (so_far(tasks.x) reads what is there without waiting)"]),
    ("  a: {value: 'so_far(tasks.b)'}\n  b: {value: tasks.a}", []),
    # --- failures
    ("  a: {agent: writer, prompt: x, on_failure: {fallback: {task: nix}}}",
     ["13:63: tasks.a.on_failure.fallback.task: there is no task 'nix' (there are a)"]),
    ("  a: {agent: writer, prompt: x, on_failure: {fallback: {model: lrge}}}",
     ["13:64: tasks.a.on_failure.fallback.model: there is no model 'lrge' (did you mean 'large'?)"]),
    ("  a: {agent: writer, prompt: x, on_failure: {fallback: {}}}",
     ["13:56: tasks.a.on_failure.fallback: says either task or model ({fallback: {task: x}})"]),
    ("  a: {agent: scientist, prompt: x, on_failure: {default: {title: t, parts: []}}}",
     ["13:58: tasks.a.on_failure.default: claim: is missing (it stands for a reply of scientist)"]),
    ("  a: {agent: writer, prompt: x, on_failure: {fallback: {task: b}}}\n  b: {samples: 2, agent: writer, prompt: x}",
     [("13:63: tasks.a.on_failure.fallback.task: b has elements of its own, and a fallback is tried for the one item "
      "that failed (take for_each and samples out of b)")]),
    (("  a: {agent: writer, prompt: x, on_failure: {fallback: {task: b}}}\n  b: {agent: writer, prompt: x}\n"
     "  c: {value: tasks.b}"),
     [("15:14: tasks.c.value: b is a fallback, and has no items of its own "
      "(write tasks.a: it has the values of its fallback)")]),
    # --- units
    ("  a: {agent: writer, prompt: x, timeout: 60}",
     ["13:42: tasks.a.timeout: 60 has no unit: write 60s, 5m or 2h"]),
    ("  a: {agent: writer, prompt: x, require: half}",
     ["13:42: tasks.a.require: must be any, all or a percentage such as 95%: must be written as 95%, not 'half'"]),
    ("  a: {agent: writer, prompt: x, require: 120%}",
     ["13:42: tasks.a.require: must be any, all or a percentage such as 95%: must be at most 100%, not 120%"]),
    # --- models of tasks
    ("  a: {agent: free, prompt: x}", ["13:14: tasks.a.agent: the agent free has no model, and the task names none"]),
    ("  a: {agent: free, prompt: x, model: gpt-9}",
     ["13:38: tasks.a.model: there is no model 'gpt-9' (write provider/model or large or small)"]),
    ("  a: {agent: free, prompt: x, model: lrge}",
     ["13:38: tasks.a.model: there is no model 'lrge' (did you mean 'large'?)"]),
    ("  a: {for_each: {m: [large, smal]}, agent: free, prompt: x, model: '{{ m }}'}",
     ["13:29: tasks.a.for_each.m[1]: there is no model 'smal' (did you mean 'small'?)"]),
    ("  a: {for_each: {m: inputs.names}, agent: free, prompt: x, model: '{{ m }}'}",
     ["13:21: tasks.a.for_each.m: there is no model 'smal' (did you mean 'small'?)"]),
    # --- python
    ("  a: {python: nomodule_x:f}", ["13:15: tasks.a.python: there is no module nomodule_x (looked in {folders})"]),
    ("  a: {python: just_a_word}",
     ["13:15: tasks.a.python: 'just_a_word' does not name anything in Python (write module:name)"]),
    # --- files
    ("  a: {agent: writer, prompt: {file: nope.md}}",
     ["13:37: tasks.a.prompt.file: there is no file nope.md (looked in {folders})"]),
]  # fmt: skip


@pytest.mark.parametrize(("tasks", "expected"), TASKS, ids=[str(number) for number in range(len(TASKS))])
def test_tasks(tasks: str, expected: list[str], tmp_path: Path) -> None:
    folders = " and ".join(map(str, dict.fromkeys((tmp_path.resolve(), Path.cwd()))))
    assert sorted(problems(tmp_path, HEAD + tasks)) == sorted(text.replace("{folders}", folders) for text in expected)


WHOLE = [
    ("agentmesh: 2\ntasks: {a: {value: 1}}\n", ["1:12: agentmesh: must be 1, not 2"]),
    ("tasks: {a: {value: 1}}\n", ["1:1: agentmesh is missing (write agentmesh: 1, the version of this language)"]),
    ("agentmesh: 1\n", ["1:1: tasks: there are no tasks"]),
    ("- a\n", ["1:1: a workflow is a map of keys (it begins with agentmesh: 1)"]),
    ("agentmesh: 1\ntasks: [a]\n", ["2:8: tasks: must be a map of names"]),
    ("agentmesh: 1\ntaks: {a: {value: 1}}\n", ["2:1: taks: unknown key (did you mean 'tasks'?)"]),
    ("agentmesh: 1\ntasks:\n  one:\n  value: 1\n",
     ["4:3: tasks.one: must be a map, not nothing",
      "4:10: tasks.value: must be a map, not 1 (if value belongs to what stands above it, indent it further)"]),
    ("agentmesh: 1\nagents: {a: {model: sim/small, instructions: You are: kind}}\n",
     ["2:53: a colon that YAML does not allow here (quote a text that contains ': '; check the indentation)"]),
    ("agentmesh: 1\ntaks: 1\ntasks: {a: {value: 1}}\n", ["2:1: taks: unknown key (did you mean 'tasks'?)"]),
    ("agentmesh: 1\nsettings: {max_token: 3}\ntasks: {a: {value: 1}}\n",
     ["2:12: settings.max_token: unknown key (did you mean 'max_tokens'?)"]),
    ("agentmesh: 1\nbudget: {time: 15, usd: -1}\ntasks: {a: {value: 1}}\n",
     ["2:16: budget.time: 15 has no unit: write 60s, 5m or 2h", "2:25: budget.usd: must be at least 0, not -1"]),
    (("agentmesh: 1\ninputs: {a: txt, b: {type: integer, default: x}, c: {type: integer, default: 1, minimum: 2}}\n"
     "tasks: {a: {value: 1}}\n"),
     ["2:10: inputs.a.type: there is no type 'txt' (did you mean 'text'?)",
      "2:46: inputs.b.default: 'x' is not a whole number", "2:78: inputs.c.default: 1 is under 2"]),
    ("agentmesh: 1\ninputs: {a: text, b: rows, c: {type: text, optional: true}}\ntasks: {a: {value: 1}}\n",
     ["2:10: inputs.a: no value is given (--input a=VALUE)", "2:19: inputs.b: no value is given (--input b=@file.csv)"]),
    ("agentmesh: 1\nmodels: {a: sim, b: {of: [sim/x], route: weighted}, c: {of: []}, D: sim/x}\ntasks: {a: {value: 1}}\n",
     ["2:13: models.a: 'sim' is no model (write provider/model)",
      "2:42: models.b.route: the route weighted is not supported yet (use fallback)",
      "2:66: models.D: a name begins with a-z and goes on with a-z, 0-9 and _ (such as d)"]),
    (("agentmesh: 1\nagents:\n  a: {model: lrge, output: {title: string, n: {type: number, min: 3}}}\nmodels: {large: sim/x}\n"
     "tasks: {a: {value: 1}}\n"),
     ["3:14: agents.a.model: there is no model 'lrge' (did you mean 'large'?)",
      "3:36: agents.a.output.title: there is no type 'string' (write text)",
      "3:62: agents.a.output.n.min: unknown key (known here: type, enum, fields, optional, description, minimum, maximum)"]),
    (("agentmesh: 1\nagents:\n  a: {model: sim/x, instructions: '{{ item }}{{ inputs.x }}', tools: [{mcp: x}, {}]}\n"
     "tasks: {a: {value: 1}}\n"),
     ["3:35: agents.a.instructions: there is no name 'item' here (only inputs are known here)",
      "3:35: agents.a.instructions: there is no input 'x'",
      "3:72: agents.a.tools[0].mcp: mcp tools are not supported yet (use python: module:function)",
      "3:81: agents.a.tools[1]: a tool says python: module:function"]),
    ("agentmesh: 1\ntasks: {a: {value: 1}}\noutputs: {x: tasks.b, y: {value: tasks.a, file: /etc/x}, z: {value: tasks.a, fil: x}}\n",
     ["3:14: outputs.x: there is no task 'b' (there are a)",
      "3:49: outputs.y.file: /etc/x is not below the working directory (such as x)",
      "3:78: outputs.z.fil: unknown key (did you mean 'file'?)"]),
    ("agentmesh: 1\ntasks: {a: {value: 1}}\noutputs: {x: {value: tasks.a, file: f}, y: {value: tasks.a, file: f}}\n",
     ["3:67: outputs.y.file: f is written by x already"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), WHOLE, ids=[str(number) for number in range(len(WHOLE))])
def test_whole_files(text: str, expected: list[str], tmp_path: Path) -> None:
    found = problems(tmp_path, text)
    for line in expected:
        assert line in found, found


def test_what_is_wrong_upstream_is_told_once(tmp_path: Path) -> None:
    """Names that a wrong task would have brought along are not told as missing too."""
    text = HEAD + (
        "  bad: {for_each: {q: inputs.rows}, agent: writer, prompt: x, timeout: 3}\n"
        "  next: {for_each: tasks.bad, agent: writer, prompt: '{{ q.id }} {{ item.x }} {{ sample }}'}\n"
    )
    assert problems(tmp_path, text) == ["13:72: tasks.bad.timeout: 3 has no unit: write 60s, 5m or 2h"]


def test_models_are_asked_for_once_and_told_with_who_uses_them(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(HEAD + ONE + "  two: {agent: free, model: acme/x, prompt: x}\n")
    asked: list[str] = []

    def resolve(model: str) -> str | None:
        asked.append(model)
        return f"ACME_KEY is not set, which {model} needs"

    with pytest.raises(InputProblems) as raised:
        load_workflow(file, resolve=resolve)
    assert asked == ["sim/large", "acme/x"]
    lines = [str(problem).removeprefix(f"{file}:") for problem in raised.value.problems]
    assert lines == [
        "7:17: models.large: ACME_KEY is not set, which sim/large needs (for sim/large, used by agents writer, scientist)",
        "14:29: tasks.two.model: ACME_KEY is not set, which acme/x needs (for acme/x, used by agent free)",
    ]


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("lrge=sim/x", "--model lrge=sim/x: there is no model 'lrge' in this workflow (there are large, small)"),
        ("large=x", "--model large=x: 'x' is no model (write provider/model)"),
        ("x", "--model x: 'x' is no model (write provider/model)"),
    ],
)
def test_model_options(option: str, expected: str, tmp_path: Path) -> None:
    assert problems(tmp_path, HEAD + ONE, model_options=(option,)) == [expected]


def test_a_mistake_in_a_prompt_file_has_its_place_there(tmp_path: Path) -> None:
    (tmp_path / "p.md").write_text("one\ntwo {{ nobody }}\n")
    assert problems(tmp_path, HEAD + "  a: {agent: writer, prompt: {file: p.md}}\n") == [
        "p.md:2: there is no name 'nobody' here (there are inputs, tasks)"
    ]

"""The same words at all levels: settings, retry, timeout, priority and budget; how a run is stopped; models of a run."""

# ruff: noqa: E501  # workflows are read best whole

from __future__ import annotations

from collections import Counter

import pytest
from workflow_lab import Answer, Asked, run

from agentmesh.errors import InputProblems
from agentmesh.mesh.run import Run

pytestmark = [pytest.mark.anyio, pytest.mark.both_backends, pytest.mark.virtual_time]

ONE_AT_A_TIME = """\
provider: lab
dialect: openai-chat
base_url: https://lab.invalid/v1
limits: {in_flight: 1}
models: {"*": {prices: {input: 1.0, output: 1.0}}}
"""


async def test_settings_of_the_task_win_over_the_agents_and_those_over_the_workflows() -> None:
    ran = await run(
        """\
        tasks:
          plain: {agent: other, prompt: plain}
          agent: {agent: careful, prompt: agent}
          task: {agent: careful, prompt: task, settings: {temperature: 1, extra: {b: 3}}}
        """,
        head="""\
agentmesh: 1
settings: {max_tokens: 10, temperature: 0, extra: {a: 1, b: 1}}
agents:
  other: {model: lab/m}
  careful: {model: lab/m, settings: {max_tokens: 20, extra: {b: 2}}}
""",
    )
    sent = {asked.prompt: asked.body for asked in ran.asked}
    said = {
        name: [body.get(key) for key in ("max_completion_tokens", "temperature", "a", "b")]
        for name, body in sent.items()
    }
    assert said == {"plain": [10, 0, 1, 1], "agent": [20, 0, 1, 2], "task": [20, 1, 1, 3]}


async def test_retry_of_the_nearer_level_wins_part_by_part() -> None:
    def script(asked: Asked) -> Answer:
        return Answer(status=400 if asked.prompt == "bad" else 500)

    ran = await run(
        """\
        retry: {attempts: 2}
        tasks:
          workflow: {agent: plain, prompt: workflow}
          agent: {agent: eager, prompt: agent}
          task: {agent: eager, prompt: task, retry: {attempts: 1}}
          kinds: {agent: eager, prompt: kinds, retry: {on: [timeout]}}
          bad: {agent: eager, prompt: bad}
        """,
        head="agentmesh: 1\nagents: {plain: {model: lab/m}, eager: {model: lab/m, retry: {attempts: 3}}}\n",
        script=script,
    )
    assert Counter(ran.prompts()) == {"workflow": 2, "agent": 3, "task": 1, "kinds": 1, "bad": 1}
    assert "after 3 attempts" in ran.errors("agent")[""]
    assert ran.outcomes["agent"].attempts == 3


async def test_timeouts_count_from_admission_and_all_hold() -> None:
    def script(asked: Asked) -> Answer:
        return Answer("ok", seconds=float(asked.prompt))

    ran = await run(
        """\
        tasks:
          wait: {samples: 6, agent: plain, prompt: "4", timeout: 5s}
          attempt: {agent: hurried, prompt: "60", retry: {attempts: 3}}
          whole: {agent: hurried, prompt: "60", timeout: 12s, retry: {attempts: 9}}
        """,
        head="agentmesh: 1\nagents: {plain: {model: lab/m}, hurried: {model: lab/m, timeout: 5s}}\n",
        script=script,
        provider=ONE_AT_A_TIME,
    )
    assert ran.counts("wait") == {"done": 6}, "waiting for the lane is no part of a timeout"
    assert ran.errors("attempt")[""].startswith("timeout: ")
    assert ran.outcomes["attempt"].attempts == 3
    assert ran.outcomes["whole"].attempts == 3
    assert ran.errors("whole")[""].startswith("timeout: ")
    assert ran.outcomes["attempt"].usage.uncertain == 3


async def test_the_workflows_timeout_stops_the_run_and_what_is_left_is_unfinished() -> None:
    ran = await run(
        """\
        timeout: 10s
        tasks:
          quick: {samples: 2, agent: echo, prompt: "1"}
          slow: {agent: echo, prompt: "60"}
          after: {value: tasks.slow}
        outputs: {quick: tasks.quick, slow: tasks.slow}
        """,
        script=lambda asked: Answer("ok", seconds=float(asked.prompt)),
    )
    assert ran.result.status == "stopped"
    assert "10 s" in str(ran.result.reason)
    assert ran.result.seconds == pytest.approx(10)
    assert ran.result.unfinished == 2
    assert "slow" not in ran.outcomes
    assert ran.outputs == {"quick": ["ok", "ok"], "slow": None}
    assert ran.result.failures == ()


async def test_priority_of_the_nearer_level_goes_first() -> None:
    ran = await run(
        """\
        priority: low
        tasks:
          low: {samples: 2, agent: plain, prompt: low}
          normal: {samples: 2, agent: sooner, prompt: normal}
          high: {samples: 2, agent: sooner, prompt: high, priority: high}
          number: {samples: 2, agent: plain, prompt: number, priority: 0.5}
        """,
        head="agentmesh: 1\nagents: {plain: {model: lab/m}, sooner: {model: lab/m, priority: normal}}\n",
        provider=ONE_AT_A_TIME,
    )
    first, *others = ran.prompts()  # which is under way before the others are there
    order = ["high", "number", "normal", "low"]
    assert others == sorted(others, key=order.index)
    assert sorted([first, *others]) == sorted(order * 2)


async def test_the_runs_budget_stops_it_with_what_is_there() -> None:
    ran = await run(
        """\
        budget: {calls: 3}
        tasks:
          ask: {samples: 6, agent: echo, prompt: "{{ sample }}"}
          sum: {value: tasks.ask | length}
        outputs: {ask: tasks.ask, sum: tasks.sum}
        """,
        provider=ONE_AT_A_TIME,
    )
    assert ran.result.status == "stopped"
    assert "budget of the workflow of 3 calls" in str(ran.result.reason)
    assert len(ran.asked) == ran.result.usage.calls == 3
    assert ran.counts("ask") == {"done": 3}
    assert ran.result.unfinished == 4
    assert ran.outputs["sum"] is None
    assert len(ran.outputs["ask"]) == 3
    assert ran.result.failures == ()


async def test_a_dollar_budget_is_never_overshot_and_makes_max_tokens_explicit() -> None:
    ran = await run(
        """\
        budget: {usd: 0.01}
        tasks: {ask: {samples: 20, agent: echo, prompt: "{{ sample }}", settings: {max_tokens: 1000}}}
        """,
        script=lambda asked: Answer("x", tokens=(10, 990)),
        provider=ONE_AT_A_TIME,
    )
    assert ran.result.status == "stopped"
    assert ran.result.usd is not None
    assert ran.result.usd <= 0.01
    assert ran.counts("ask")["done"] == 9
    ran = await run(
        "budget: {usd: 1}\ntasks: {ask: {agent: echo, prompt: x}}\n",
    )
    assert ran.asked[0].body["max_completion_tokens"] == 4096


async def test_budgets_nest_and_those_of_tasks_and_agents_fail_their_items_only() -> None:
    ran = await run(
        """\
        budget: {calls: 100}
        tasks:
          bounded: {samples: 5, agent: plain, prompt: b, budget: {calls: 2}}
          free: {samples: 5, agent: plain, prompt: f}
          shared: {samples: 3, agent: thrifty, prompt: s}
          too: {samples: 3, agent: thrifty, prompt: t, budget: {calls: 50}}
        """,
        head="agentmesh: 1\nagents: {plain: {model: lab/m}, thrifty: {model: lab/m, budget: {calls: 4}}}\n",
    )
    assert ran.result.status == "partial"
    assert ran.counts("bounded") == {"done": 2, "failed": 3}
    assert ran.counts("free") == {"done": 5}
    assert sum(ran.counts(name).get("done", 0) for name in ("shared", "too")) == 4
    assert all(why.startswith("budget: the budget of task bounded") for why in ran.errors("bounded").values())
    assert all("budget of agent thrifty" in why for name in ("shared", "too") for why in ran.errors(name).values())


async def test_a_budget_of_time_ends_what_has_not_begun() -> None:
    ran = await run(
        "budget: {time: 3s}\ntasks: {ask: {samples: 9, agent: echo, prompt: x}}\n",
        provider=ONE_AT_A_TIME,
    )
    assert ran.result.status == "stopped"
    assert ran.counts("ask") == {"done": 3}
    assert ran.result.unfinished == 6


async def test_a_model_for_all_or_for_one_name() -> None:
    text = """\
        tasks:
          a: {agent: one, prompt: a}
          b: {agent: two, prompt: b}
          c: {agent: two, prompt: c, model: lab/own}
        """
    head = "agentmesh: 1\nmodels: {first: lab/first, second: lab/second}\nagents: {one: {model: first}, two: {model: second}}\n"

    async def models(*options: str) -> dict[str, str]:
        ran = await run(text, head=head, models=options)
        return {asked.prompt: asked.model for asked in ran.asked}

    assert await models() == {"a": "first", "b": "second", "c": "own"}
    assert await models("second=lab/x") == {"a": "first", "b": "x", "c": "own"}
    assert await models("second=first") == {"a": "first", "b": "first", "c": "own"}
    assert await models("lab/only") == {"a": "only", "b": "only", "c": "only"}
    with pytest.raises(InputProblems, match="secnd"):
        await models("secnd=lab/x")
    with pytest.raises(InputProblems, match="nobody"):
        await models("nobody/x")


async def test_a_route_falls_back_to_the_next_model() -> None:
    ran = await run(
        "tasks: {ask: {agent: one, prompt: x}}\noutputs: {ask: tasks.ask}\n",
        head="agentmesh: 1\nmodels: {any: {of: [lab/a, lab/b], route: fallback}}\nagents: {one: {model: any, retry: {attempts: 1}}}\n",
        script=lambda asked: 500 if asked.model == "a" else f"from {asked.model}",
    )
    assert ran.outputs == {"ask": "from b"}


async def test_a_cancelled_run_starts_nothing_new_and_keeps_what_arrives_in_time() -> None:
    import anyio

    def cancel_at_3_s(run: Run) -> None:
        async def cancel() -> None:
            await anyio.sleep(3)
            await run.cancel()

        run.mesh._services.start_soon(cancel)

    ran = await run(
        """\
        tasks:
          ask: {for_each: [1, 4, 60], agent: echo, prompt: "{{ item }}"}
          next: {for_each: tasks.ask, agent: echo, prompt: "1{{ item }}"}
        outputs: {ask: tasks.ask, next: tasks.next}
        """,
        script=lambda asked: Answer(asked.prompt, seconds=float(asked.prompt)),
        on_run=cancel_at_3_s,
    )
    assert ran.result.status == "cancelled"
    assert ran.result.seconds == pytest.approx(8)
    assert ran.states == {"ask/1": "done", "ask/4": "done", "ask/60": "cancelled", "next/1": "cancelled"}
    assert ran.result.unfinished == 2
    assert ran.outputs == {"ask": ["1", "4"], "next": []}

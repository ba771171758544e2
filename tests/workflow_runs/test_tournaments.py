"""Tournaments in workflows: who enters and when, what the judge sees, when it is over, and what comes after."""

# ruff: noqa: E501  # workflows are read best whole

from __future__ import annotations

import json
from pathlib import Path

import pytest
from workflow_lab import HEAD, Answer, Asked, Ran, plain_script, run

from agentmesh.events import MatchEnded, Notice, StandingsChanged
from agentmesh.messages import read_candidate_pair

pytestmark = [pytest.mark.anyio, pytest.mark.both_backends, pytest.mark.virtual_time]

ROWS = "inputs: {rows: {type: rows, default: [{id: a, w: one}, {id: b, w: seventeen}, {id: c, w: three}, {id: d, w: fifteen}]}}\n"


def is_match(asked: Asked) -> bool:
    return read_candidate_pair(asked.prompt) is not None


def standings(ran: Ran) -> list[StandingsChanged]:
    return [event for event in ran.events if isinstance(event, StandingsChanged)]


async def test_entrants_join_as_they_appear_and_late_ones_are_ranked_too() -> None:
    def script(asked: Asked) -> Answer | str:
        slow = asked.prompt == "idea 3 with the longest text of them all"
        return Answer(asked.prompt, seconds=60) if slow else plain_script(asked)

    ran = await run(
        """\
        tasks:
          draft: {samples: 4, agent: echo, prompt: "idea {{ sample }}{% if sample == 3 %} with the longest text of them all{% endif %}"}
          contest: {rank: tasks.draft, judge: echo, criteria: "length", stop: {matches: 30}}
        outputs: {all: tasks.contest, best: "top(tasks.contest, 2)", many: "top(tasks.contest, 99)"}
        """,
        script=script,
    )
    matches = [event for event in ran.events if isinstance(event, MatchEnded)]
    early = [address for address, at in ran.called.items() if address.startswith("contest/") and at < 60]
    assert early, "those who are there play while the last is awaited"
    assert not any("3" in address.split("/")[1].split("+") for address in early)
    assert ran.outputs["best"][0]["key"] == "3"
    assert [row["rank"] for row in ran.outputs["all"]] == [1, 2, 3, 4]
    assert len(ran.outputs["many"]) == 4
    assert set(ran.outputs["best"][0]) == {"rank", "key", "item", "rating", "low", "high", "matches"}
    assert ran.outputs["best"][0]["item"] == "idea 3 with the longest text of them all"
    assert all(
        match.address == f"contest/{match.first}+{match.second}/{match.address.rsplit('/', 1)[1]}" for match in matches
    )
    assert len({match.address for match in matches}) == len(matches) <= 30
    assert "length" in next(asked.prompt for asked in ran.asked if is_match(asked))
    assert ran.outcomes["contest"].usage.calls == len(matches)


async def test_the_first_standings_come_before_the_first_match_and_say_the_limit() -> None:
    ran = await run(ROWS + "tasks: {contest: {rank: inputs.rows, judge: echo, stop: {matches: 7}}}\n")
    first, *_, last = standings(ran)
    assert (first.matches, first.entrants, first.limit) == (0, 4, 7)
    assert (last.matches, last.failed) == (7, 0)


async def test_the_judge_sees_the_entrant_text_with_its_own_chain_and_names() -> None:
    ran = await run(
        ROWS
        + """\
tasks:
  draft: {for_each: {row: inputs.rows}, samples: 1, agent: echo, prompt: "{{ row.w }}"}
  review: {for_each: tasks.draft, value: {good: tasks.draft | length}}
  contest: {rank: tasks.review, entrant: "{{ row.id }}{{ sample }} {{ tasks.draft }} {{ item.good }}", judge: echo, criteria: "all {{ tasks.draft | length }}"}
  after: {for_each: {r: "top(tasks.contest, 2)"}, value: {key: r.key, row: row.id, draft: tasks.draft, review: tasks.review.good, rank: r.rank, sample: sample}}
outputs: {after: tasks.after, of: tasks.after['b/0']}
""".replace("of: tasks.after['b/0']", "of: 'tasks.after[\"b/0\"]'")
    )
    assert ran.errors("contest") == {}
    texts = {text for asked in ran.asked if (pair := read_candidate_pair(asked.prompt)) for text in pair}
    assert texts == {"a0 <one> 5", "b0 <seventeen> 11", "c0 <three> 7", "d0 <fifteen> 9"}
    assert all("all 4" in asked.prompt for asked in ran.asked if is_match(asked))
    assert ran.outputs["after"][0] == {
        "key": "b/0", "row": "b", "draft": "<seventeen>", "review": 11, "rank": 1, "sample": 0,
    }  # fmt: skip
    assert ran.outputs["of"] == ran.outputs["after"][0]


async def test_rows_rank_again_and_are_taken_in_the_order_of_their_rank() -> None:
    ran = await run(
        ROWS
        + """\
tasks:
  first: {rank: inputs.rows, entrant: "{{ item.w }}", judge: echo}
  final: {rank: "top(tasks.first, 2)", entrant: "{{ item.item.w }}", judge: echo}
  line: {for_each: tasks.final, value: item.item.item.w}
outputs: {line: tasks.line, keys: "tasks.final | map(attribute='key') | list"}
"""
    )
    assert ran.outputs == {"line": ["seventeen", "fifteen"], "keys": ["b", "d"]}


async def test_entrants_inside_items_and_entrants_with_computed_keys() -> None:
    ran = await run(
        """\
        tasks:
          plan: {samples: 2, agent: planner, prompt: "plan {{ sample }}"}
          contest: {rank: 'flat(tasks.plan, "ideas")', judge: echo}
          named: {rank: tasks.plan, key: item.name, entrant: "{{ item.name }}", judge: echo}
        outputs: {keys: "tasks.contest | map(attribute='key') | sort", named: "tasks.named | map(attribute='key') | sort"}
        """,
        head="agentmesh: 1\nagents: {echo: {model: lab/m}, planner: {model: lab/m, output: {name: text, ideas: [text]}}}\n",
        script=lambda asked: (
            plain_script(asked) if is_match(asked) else json.dumps({"name": "same", "ideas": ["x", "y"]})
        ),
    )
    assert ran.outputs == {"keys": ["0+x", "0+y", "1+x", "1+y"], "named": ["same", "same~2"]}


@pytest.mark.parametrize(("rows", "states", "length"), [(1, "done", 1), (0, "skipped", None)])
async def test_one_entrant_gives_standings_of_one_and_none_is_skipped(
    rows: int, states: str, length: int | None
) -> None:
    ran = await run(
        ROWS
        + """\
tasks:
  contest: {rank: inputs.rows, judge: echo}
  after: {for_each: "top(tasks.contest, 3)", value: item.key}
outputs: {contest: tasks.contest, after: tasks.after}
""",
        inputs={"rows": [{"id": "a", "w": "x"}][:rows]},
    )
    assert ran.states["contest"] == states
    assert (ran.outputs["contest"] and len(ran.outputs["contest"])) == length
    assert ran.outputs["after"] == (["a"] if rows else [])
    assert ran.result.status == "done"
    assert ran.asked == []
    if not rows:
        assert ran.errors("contest") == {"": "dependency: there is nobody to rank"}


async def test_those_who_failed_do_not_enter() -> None:
    ran = await run(
        ROWS
        + """\
tasks:
  draft: {for_each: inputs.rows, agent: echo, prompt: "{{ item.id }}", on_failure: skip}
  contest: {rank: tasks.draft, judge: echo}
outputs: {keys: "tasks.contest | map(attribute='key') | sort"}
""",
        script=lambda asked: 400 if asked.prompt == "b" else plain_script(asked),
    )
    assert ran.outputs["keys"] == ["a", "c", "d"]


async def test_an_entrant_whose_text_cannot_be_made_does_not_take_part_and_the_run_says_so() -> None:
    Path("uneven_entrants.py").write_text(
        "def load():\n    return [{'id': 'a', 't': 'x'}, {'id': 'b'}, {'id': 'c', 't': 'yy'}]\n"
    )
    ran = await run(
        """\
        tasks:
          load: {python: "uneven_entrants:load"}
          contest: {rank: tasks.load, entrant: "{{ item.t }}", judge: echo}
        outputs: {keys: "tasks.contest | map(attribute='key') | list"}
        """
    )
    assert ran.outputs["keys"] == ["c", "a"]
    notices = [event.text for event in ran.events if isinstance(event, Notice)]
    assert notices == ["contest: b does not take part: item.t: no field 't'; there are id"]


async def test_a_failed_match_is_counted_and_fails_nothing() -> None:
    def script(asked: Asked) -> Answer | str | int:
        pair = read_candidate_pair(asked.prompt)
        return 400 if pair is not None and {"one", "three"} == set(pair) else plain_script(asked)

    ran = await run(
        ROWS + 'tasks: {contest: {rank: inputs.rows, entrant: "{{ item.w }}", judge: echo, stop: {matches: 20}}}\n',
        script=script,
    )
    assert ran.result.status == "done"
    assert ran.result.failures == ()
    last = standings(ran)[-1]
    failed = [event for event in ran.events if isinstance(event, MatchEnded) and event.error is not None]
    assert last.failed == len(failed) > 0
    assert last.matches + last.failed <= 20
    assert {frozenset((event.first, event.second)) for event in failed} == {frozenset("ac")}


async def test_if_no_match_can_be_judged_the_contest_fails_by_their_reason() -> None:
    ran = await run(
        ROWS + "tasks: {contest: {rank: inputs.rows, judge: echo, stop: {matches: 5}}}\noutputs: {c: tasks.contest}\n",
        script=lambda asked: 401 if is_match(asked) else "x",
    )
    assert ran.states["contest"] == "failed"
    assert ran.kind("contest") == "auth"
    assert ran.outputs == {"c": None}


async def test_judges_have_the_words_of_all_levels_too() -> None:
    ran = await run(
        ROWS
        + """\
tasks:
  contest: {rank: inputs.rows, judge: careful, settings: {temperature: 0}, stop: {matches: 3}}
""",
        head="agentmesh: 1\nsettings: {max_tokens: 9}\nagents: {careful: {model: lab/judge, instructions: Be fair., settings: {temperature: 1, seed: 4}}}\n",
    )
    body = ran.asked[0].body
    assert (body["temperature"], body["seed"], body["max_completion_tokens"], body["model"]) == (0, 4, 9, "judge")
    assert body["messages"][0]["content"] == "Be fair."


async def test_a_contest_of_its_own_time_or_budget_ends_when_that_is_over() -> None:
    ran = await run(
        ROWS
        + """\
tasks:
  hurried: {rank: inputs.rows, judge: echo, timeout: 2500ms, stop: {matches: 400, regret: 0}}
  bounded: {rank: inputs.rows, judge: echo, budget: {calls: 5}, stop: {matches: 400, regret: 0}}
  spare: {rank: inputs.rows, judge: echo, if: inputs.rows | length > 99}
""",
        script=lambda asked: Answer(plain_script(asked), seconds=1) if is_match(asked) else "x",  # type: ignore[arg-type]
    )
    assert ran.kind("hurried") == "timeout"
    assert ran.ended["hurried"] == pytest.approx(2.5, abs=0.1)
    assert ran.kind("bounded") == "budget"
    assert sum(1 for address in ran.called if address.startswith("bounded/")) <= 5
    assert ran.states["spare"] == "skipped"
    assert ran.outcomes["spare"].error is None


async def test_a_budget_of_the_run_leaves_the_contest_unfinished_and_its_standings_so_far_can_be_read() -> None:
    ran = await run(
        ROWS
        + """\
budget: {calls: 6}
tasks: {contest: {rank: inputs.rows, entrant: "{{ item.w }}", judge: echo, stop: {regret: 0}}}
outputs: {final: tasks.contest, so_far: "so_far(tasks.contest) | length"}
"""
    )
    assert ran.result.status == "stopped"
    assert ran.result.unfinished == 1
    assert ran.outputs == {"final": None, "so_far": 4}
    assert ran.result.failures == ()


async def test_instructions_that_cannot_be_made_fail_the_contest_and_nothing_else() -> None:
    ran = await run(
        """\
        inputs: {notes: {type: rows, optional: true}}
        tasks:
          contest: {rank: [{id: a}, {id: b}], judge: picky}
          other: {value: 1}
        """,
        head=HEAD + '  picky: {model: main, instructions: "Mind {{ inputs.notes | length }} notes."}\n',
    )
    assert ran.states == {"contest": "failed", "other": "done"}
    assert ran.kind("contest") == "bad_request"

"""Simulated replies: pure, seeded, and fitting the request."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from dataclasses import replace

import pytest
from pydantic import BaseModel

from agentmesh.messages import Message, Reply, Request, Settings, ToolCall, ToolSpec, candidate_pair
from agentmesh.simulate.behaviour import Behaviour, Served, ServedModel
from agentmesh.simulate.replies import SimulatedReplies, planted_strength, token_count

RAIN = ToolSpec(
    "rain", "mm today", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
)
VERDICT = {
    "type": "object",
    "properties": {"reasons": {"type": "string"}, "winner": {"enum": ["first", "second"]}},
    "required": ["reasons", "winner"],
}

PLAIN = Behaviour()


class Hypothesis(BaseModel):
    title: str
    claim: str


def asked(text: str = "Why do bacteria survive antibiotics?", **kwargs: object) -> Request:
    return Request("large", (Message("user", text),), **kwargs)  # type: ignore[arg-type]


def answer(request: Request, *, seed: int = 0, behaviour: Behaviour = PLAIN) -> Reply:
    source = SimulatedReplies(Served({}, seed=seed))
    input_tokens, _ = source.weigh(request)
    return source.answer(request, ServedModel("large", behaviour), input_tokens=input_tokens)


def test_same_request_seed_and_model_give_the_same_reply() -> None:
    assert answer(asked()) == answer(asked())
    others = [
        answer(asked(), seed=1),
        answer(asked("Why do bacteria survive antibiotics ?")),
        answer(replace(asked(), model="small")),
        answer(asked(settings=Settings(seed=5))),
        answer(asked(settings=Settings(temperature=0.1))),
    ]
    texts = {reply.text for reply in [answer(asked()), *others]}
    assert len(texts) == 6


def test_streaming_and_a_roomy_max_tokens_change_nothing() -> None:
    assert answer(asked(stream=True)).text == answer(asked()).text
    assert answer(asked(settings=Settings(max_tokens=5000))).text == answer(asked()).text


def test_text_says_that_it_is_simulated_and_uses_words_of_the_prompt() -> None:
    reply = answer(asked())
    assert "simulated" in reply.text
    assert "bacteria" in reply.text or "antibiotics" in reply.text
    assert reply.finish == "stop"


def test_length_follows_the_behaviour() -> None:
    lengths = [answer(asked(str(i)), behaviour=Behaviour(output_tokens=200)).tokens.output or 0 for i in range(60)]
    assert 180 < statistics.mean(lengths) < 230
    assert len(set(lengths)) > 30


def test_tokens_are_quarters_of_characters_rounded_up() -> None:
    assert [token_count(n) for n in (0, 1, 4, 5)] == [0, 1, 1, 2]
    request = asked(schema=Hypothesis.model_json_schema(), tools=(RAIN,))
    reply = answer(request)
    assert reply.tokens.input == math.ceil(request.text_length() / 4)
    assert reply.tokens.output == math.ceil(len(reply.text) / 4)


def test_max_tokens_cuts_off() -> None:
    reply = answer(asked(settings=Settings(max_tokens=10)))
    assert reply.text == answer(asked()).text[:40]
    assert (reply.finish, reply.tokens.output) == ("length", 10)


def test_a_stop_sequence_ends_the_text_before_it() -> None:
    assert answer(asked(settings=Settings(stop=("large",)))).text == "(A simulated reply of "


def test_a_schema_is_met() -> None:
    for number in range(20):
        Hypothesis.model_validate_json(answer(asked(f"idea {number}", schema=Hypothesis.model_json_schema())).text)


def test_drafts_of_like_prompts_differ() -> None:
    texts = {answer(asked(f"Proposal {i}", schema=Hypothesis.model_json_schema())).text for i in range(50)}
    assert len(texts) == 50


@pytest.mark.parametrize(
    ("choice", "text", "calls"),
    [
        ("auto", "Use rain for Oslo", True),
        ("auto", "How wet is Oslo?", False),
        ("required", "How wet is Oslo?", True),
        ("rain", "How wet is Oslo?", True),
        ("none", "Use rain for Oslo", False),
    ],
)
def test_tools_are_called_when_they_are_meant(choice: str, text: str, calls: bool) -> None:
    reply = answer(asked(text, tools=(RAIN,), tool_choice=choice))
    assert (reply.finish == "tool") is calls
    if calls:
        assert reply.tool_calls[0].name == "rain"
        assert isinstance(json.loads(reply.tool_calls[0].arguments)["city"], str)


def test_after_results_the_text_quotes_them_and_a_new_question_calls_again() -> None:
    call = ToolCall("c1", "rain", '{"city":"Oslo"}')
    turn = (
        Message("user", "Use rain for Oslo"),
        Message("assistant", tool_calls=(call,)),
        Message("tool", "4.2 mm", tool_call_id="c1"),
    )
    reply = answer(Request("large", turn, tools=(RAIN,), tool_choice="required"))
    assert reply.finish == "stop"
    assert "rain answered: 4.2 mm" in reply.text
    again = (*turn, reply.as_message(), Message("user", "And rain in Bergen?"))
    assert answer(Request("large", again, tools=(RAIN,))).finish == "tool"


def test_planted_strength_is_a_normal_of_the_text() -> None:
    values = [planted_strength(f"candidate {i}", 3) for i in range(4000)]
    assert abs(statistics.mean(values)) < 0.06
    assert abs(statistics.stdev(values) - 1.1) < 0.05
    assert planted_strength("x", 3) == planted_strength(" x\n", 3) != planted_strength("x", 4)


def winner(first: str, second: str, behaviour: Behaviour, *, note: int = 0, schema: object = VERDICT) -> str:
    prompt = f"Which is better? ({note})\n{candidate_pair(first, second)}\nBe fair."
    verdict: str = json.loads(answer(asked(prompt, schema=schema), behaviour=behaviour).text)["winner"]
    return verdict


def test_a_judge_of_great_skill_always_finds_the_stronger() -> None:
    texts = [f"candidate {i}" for i in range(30)]
    for first, second in itertools.pairwise(texts):
        stronger = "first" if planted_strength(first, 0) > planted_strength(second, 0) else "second"
        assert winner(first, second, Behaviour(skill=1e6)) == stronger


def test_verdicts_follow_the_logistic_of_the_difference_and_the_bias() -> None:
    difference = planted_strength("one", 0) - planted_strength("two", 0)
    for skill, bias in ((0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (0.0, 1.0)):
        behaviour = Behaviour(skill=skill, order_bias=bias)
        wins = sum(winner("one", "two", behaviour, note=n) == "first" for n in range(1500))
        assert abs(wins / 1500 - 1 / (1 + math.exp(-(skill * difference + bias)))) < 0.045


def test_ties_come_only_where_the_schema_has_them() -> None:
    with_tie = {**VERDICT, "properties": {**VERDICT["properties"], "winner": {"enum": ["first", "second", "tie"]}}}  # type: ignore[dict-item]
    seen = [winner("one", "two", Behaviour(skill=0.0), note=n, schema=with_tie) for n in range(600)]
    assert 0.09 < seen.count("tie") / 600 < 0.21
    assert "tie" not in [winner("one", "two", Behaviour(skill=0.0), note=n) for n in range(200)]


def test_without_marks_a_verdict_is_an_ordinary_instance() -> None:
    assert json.loads(answer(asked("Which is better, A or B?", schema=VERDICT)).text)["winner"] in ("first", "second")

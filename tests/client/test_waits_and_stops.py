"""Refusals that take long, end, or can be met with fewer tokens: who waits, who stops and until when, what is said."""

from __future__ import annotations

import json
import random
import re
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import anyio
import httpx
import pytest
from acme import Acme, acme, question, refused, said, streamed

from agentmesh.client import notices
from agentmesh.client.budget import Budget, Budgets
from agentmesh.client.caller import Retry
from agentmesh.client.patience import pause
from agentmesh.client.route import Route
from agentmesh.clock import sleep
from agentmesh.errors import CallFailed, ErrorInfo
from agentmesh.events import LaneFrozen, Notice
from agentmesh.limits.hearing import Adopted
from agentmesh.outcome import Usage
from agentmesh.rates import Limit

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


def notices_of(world: Acme) -> list[str]:
    return [event.text for event in world.events if isinstance(event, Notice)]


def frozen_for(world: Acme) -> list[float]:
    return [event.seconds for event in world.events if isinstance(event, LaneFrozen)]


async def failing(world: Acme, **options: Any) -> ErrorInfo:
    with pytest.raises(CallFailed) as raised:
        await world.endpoint.call(question(), world.caller(**options))
    assert world.at_rest()
    return raised.value.error


# --- waits


def test_a_told_wait_has_jitter_and_grows_where_it_is_next_to_none() -> None:
    rng = random.Random(1)
    assert all(20.0 <= pause(20.0, times=1, rng=rng) <= 22.0 for _ in range(100))
    assert all(3000.0 <= pause(3000.0, times=1, rng=rng) <= 3010.0 for _ in range(100))
    least = [min(pause(0.001, times=times, rng=rng) for _ in range(100)) for times in (1, 2, 3, 4, 5, 6, 5000)]
    assert least == pytest.approx([0.001, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0], rel=0.02)


async def test_a_tiny_wait_told_again_and_again_is_no_hot_loop() -> None:
    async with acme(*[refused(429, retry_after_ms="1")] * 30, said(), seconds=0.0) as world:
        caller = world.caller(retry=Retry(1))
        await world.endpoint.call(question(), caller)
        assert (caller.tally.attempts, caller.tally.usage.pushed_back) == (1, 30)
        gaps = [after[0] - before[0] for before, after in pairwise(world.asked)]
        assert min(gaps[6:]) >= 1.0


USED_UP = [Limit("requests", 10, 3600.0, shape="sliding")]


@pytest.mark.parametrize(("limits", "waits"), [(USED_UP, True), ([Limit("requests", 600)], False), ([], False)])
async def test_half_an_hour_is_waited_for_where_our_own_use_explains_it(limits: list[Limit], waits: bool) -> None:
    answers = [*[said()] * 9, refused(429, "Slower.", retry_after="1800"), said()]
    async with acme(*answers, limits=limits) as world:
        for age in range(9):
            await world.endpoint.call(question(), world.caller(age))
        if waits:
            caller = world.caller(9)
            await world.endpoint.call(question(), caller)
            assert caller.tally.attempts == 1
            assert world.asked[-1][0] - world.asked[-2][0] == pytest.approx(1801.0, abs=15.0)
            [notice] = notices_of(world)
            assert re.match(r"acme/m has used up .* wait until [\d: -]+: Slower\.", notice)
            assert frozen_for(world) == pytest.approx([1800.0], abs=11.0)
        else:
            assert (await failing(world)).kind == "quota"
            [notice] = notices_of(world)
            assert re.match(r"acme/m stopped until [\d: -]+: quota: Slower\.", notice)
            assert frozen_for(world) == []


async def test_who_waits_for_long_is_told_once() -> None:
    """All that were on their way are refused; one of them says so."""

    async def answer(request: httpx.Request) -> httpx.Response:
        return said() if world.seconds > 1500.0 else refused(429, "x", retry_after="1800")

    async with acme(answer, limits=[Limit("requests", 8, 3600.0, shape="sliding")]) as world:
        async with anyio.create_task_group() as group:
            for age in range(8):
                group.start_soon(world.endpoint.call, question(), world.caller(age))
        assert len(notices_of(world)) == 1
        assert world.at_rest()


@pytest.mark.parametrize("limits", [[Limit("requests", 10, 86400.0, shape="sliding")], USED_UP, []])
@pytest.mark.parametrize("wait", [3601, 86400])
async def test_nobody_waits_for_longer_than_an_hour(limits: list[Limit], wait: int) -> None:
    answers = [*[said()] * 9, refused(429, "Enough.", retry_after=str(wait)), said()]
    async with acme(*answers, limits=limits) as world:
        for age in range(9):
            await world.endpoint.call(question(), world.caller(age))
        assert (await failing(world)).kind == "quota"
        assert world.seconds < 12.0


# --- stops


async def test_a_stopped_endpoint_serves_again_at_the_instant_that_was_told() -> None:
    async with acme(refused(429, "Enough.", retry_after="7200"), said()) as world:
        await failing(world)
        later = await failing(world)
        assert re.search(r"Enough\. \(it may answer again in 2 h\): no calls to it until [\d: -]+$", later.message)
        assert (later.status, later.retryable, len(world.asked)) == (429, True, 1)
        await sleep(7190.0)
        assert world.endpoint.stopped is not None
        await sleep(20.0)
        assert world.endpoint.stopped is None
        assert (await world.endpoint.call(question(), world.caller())).text == "fine"


async def test_the_fallback_serves_until_then() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        at_m = b'"m"' in request.content
        return refused(429, "Enough.", retry_after="7200") if at_m and world.seconds < 7000.0 else said()

    async with acme(answer) as world:
        route = Route("r", [world.endpoint, world.make("n")])
        for _ in range(3):
            await route.call(question(), world.caller())
        await sleep(7300.0)
        await route.call(question(), world.caller())
        assert [model for _, model, _ in world.asked] == ["m", "n", "n", "n", "m"]


async def test_a_wrong_key_stops_for_good() -> None:
    async with acme(refused(401, "bad key"), said()) as world:
        await failing(world)
        await sleep(1e6)
        assert (await failing(world)).kind == "auth"


# --- requests that are too large


def asked_for(request: httpx.Request) -> int | None:
    body: dict[str, int | None] = json.loads(request.content)
    return body.get("max_tokens") or body.get("max_completion_tokens")


def too_large(limit: int, requested: int, **headers: str) -> httpx.Response:
    text = f"Request too large for m on tokens per minute (TPM): Limit {limit}, Requested {requested}."
    return refused(413, text, **headers)


@pytest.mark.parametrize(("asked", "excess", "sent"), [
    (1000, 500, [1000, 500]), (1000, 750, [1000, 250]), (1000, 751, [1000]), (1000, 2000, [1000]),
    (40, 24, [40, 16]), (40, 25, [40]), (None, 500, [None]),
])  # fmt: skip
async def test_fewer_tokens_are_asked_for_once(asked: int | None, excess: int, sent: list[int | None]) -> None:
    seen: list[int | None] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        seen.append(asked_for(request))
        return too_large(8000, 8000 + excess) if len(seen) == 1 else said()

    async with acme(answer) as world:
        caller = world.caller(budgets=Budgets([Budget(calls=5)]))
        call = world.endpoint.call(question(max_tokens=asked), caller)
        if len(sent) == 1:
            with pytest.raises(CallFailed, match=rf"acme/m: .* \({excess:,} tokens too many: send a shorter prompt or"):
                await call
            assert notices_of(world) == []
        else:
            assert (await call).text == "fine"
            assert caller.tally.attempts == 2
            [notice] = notices_of(world)
            assert f"max_tokens {asked:,}" in notice
            assert f"the first with {sent[1]:,}" in notice
        assert seen == sent
        assert world.at_rest()


async def test_it_is_lowered_once_and_then_it_fails() -> None:
    async with acme(too_large(8000, 8100)) as world:
        with pytest.raises(CallFailed) as raised:
            await world.endpoint.call(question(max_tokens=1000), world.caller())
        assert (raised.value.error.kind, len(world.asked)) == ("bad_request", 2)
        assert "100 tokens too many" in raised.value.error.message
        assert raised.value.error.message.endswith("(after 2 attempts)")


async def test_one_attempt_is_one_attempt() -> None:
    async with acme(too_large(8000, 8100), said()) as world:
        await failing(world, retry=Retry(1))
        assert len(world.asked) == 1


async def test_a_limit_that_was_told_meanwhile_lowers_those_that_come_later_too() -> None:
    """The first answer tells the limit; what comes later would else be refused by the lane, unsent."""
    seen: list[int | None] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        seen.append(asked := asked_for(request))
        headers = {"x_ratelimit_limit_tokens": "8000", "x_ratelimit_remaining_tokens": "8000"}
        headers |= {"x_ratelimit_reset_tokens": "0s"}
        assert asked is not None
        return too_large(8000, asked + 10, **headers) if asked + 10 > 8000 else said()

    async with acme(answer) as world:
        for age in range(4):
            await world.endpoint.call(question(max_tokens=20_000), world.caller(age))
            await sleep(60.0)
        assert seen[0] == 20_000
        assert all(one is not None and 7900 < one < 8000 for one in seen[1:])
        assert len(seen) == 5
        assert len(notices_of(world)) == 1


async def test_a_limit_that_was_known_before_fails_at_once() -> None:
    async with acme(said(), limits=[Limit("tokens", 8000)]) as world:
        with pytest.raises(CallFailed, match=r"allows 8,000 at once"):
            await world.endpoint.call(question(max_tokens=20_000), world.caller())
        assert world.asked == []


@pytest.mark.parametrize("text", [
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    "max_tokens: must be greater than thinking.budget_tokens", "temperature is not supported with this model",
])  # fmt: skip
async def test_parameters_that_are_not_supported_fail(text: str) -> None:
    async with acme(refused(400, text), said()) as world:
        error = await failing(world)
        assert (error.kind, error.message, len(world.asked)) == ("bad_request", f"acme/m: {text}", 1)


# --- what may have been paid, and signs of load


@pytest.mark.parametrize(("answer", "uncertain"), [
    (refused(504), True), (refused(524), True), (refused(520), True), (httpx.Response(502, html="<h1>Bad</h1>"), True),
    (refused(502), False), (refused(500), False), (refused(503), False), (httpx.Response(500, html="<p>"), False),
])  # fmt: skip
async def test_a_gateway_that_gave_up_may_have_been_paid(answer: httpx.Response, uncertain: bool) -> None:
    budget = Budget(tokens=1000)
    async with acme(answer) as world:
        caller = world.caller(retry=Retry(1), budgets=Budgets([budget]))
        with pytest.raises(CallFailed):
            await world.endpoint.call(question(), caller)
        assert caller.tally.usage == Usage(1, 0, int(uncertain))
        assert (budget.statistics().spent_tokens > 50) == uncertain


async def test_an_answer_with_a_sign_of_load_is_no_failure_and_no_room_to_grow() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        response = said(input_tokens=30)
        if loaded:
            response.headers["x-ratelimit-over-limit"] = "yes"
        return response

    limits = {}
    for loaded in (False, True):
        async with acme(answer) as world:
            callers = [world.caller(age) for age in range(60)]
            async with anyio.create_task_group() as group:
                for caller in callers:
                    group.start_soon(world.endpoint.call, question(), caller)
            assert {event.result for event in world.ended} == {"ok"}
            assert all(caller.tally.usage == Usage(1, 0, 0, 30, None, 5, None) for caller in callers)
            assert world.endpoint.row.window is not None
            assert world.endpoint.row.estimate.input(12) == pytest.approx(30, rel=0.1), "its tokens are learned from"
            limits[loaded] = world.endpoint.row.window.limit
    assert limits[True] < limits[False] / 2


# --- streams


def broken_stream(*events: str) -> httpx.Response:
    async def body() -> AsyncIterator[bytes]:
        for event in events:
            yield f"data: {event}\n\n".encode()

    return httpx.Response(200, content=body())


SLOW = '{"error": {"message": "Rate limit reached. Try again in 7s", "type": "rate_limit_error", "code": 429}}'
WORD = '{"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"content": "all "}}]}'


async def test_a_push_back_in_a_stream_that_has_said_nothing_goes_back_to_its_place() -> None:
    pieces: list[str] = []
    async with acme(broken_stream(SLOW), streamed("all is well"), limits=[Limit("in_flight", 1)]) as world:
        caller = world.caller(retry=Retry(1))
        await world.endpoint.call(question(), caller, on_text=pieces.append)
        assert (caller.tally.attempts, caller.tally.usage.pushed_back) == (1, 1)
        assert frozen_for(world) == pytest.approx([7.0], abs=0.8)
        assert len(pieces) == 3
        assert world.at_rest()


async def test_a_push_back_in_a_stream_that_has_begun_ends_the_call() -> None:
    pieces: list[str] = []
    async with acme(broken_stream(WORD, SLOW), streamed("never")) as world:
        with pytest.raises(CallFailed) as raised:
            await world.endpoint.call(question(), world.caller(), on_text=pieces.append)
        assert (raised.value.error.kind, raised.value.error.retryable, pieces) == ("rate", False, ["all "])
        assert raised.value.error.message.startswith("acme/m: Rate limit reached.")
        assert len(world.asked) == 1
        assert world.at_rest()


async def test_an_event_that_nobody_can_take_leaves_no_slot_behind() -> None:
    class Full(Exception):
        pass

    def emit(event: object) -> None:
        if type(event).__name__ == "CallEnded":
            raise Full

    async with acme(refused(429, retry_after="5"), limits=[Limit("in_flight", 1)]) as world:
        with pytest.raises(Full):
            await world.endpoint.call(question(), world.caller(emit=emit))
        assert world.at_rest()


# --- words


def test_a_limit_that_is_another_is_told_plainly() -> None:
    file = Limit("requests", 6000)
    told = Adopted("m", Limit("requests", 60), file)
    assert notices.adopted("acme/m", told, file="/x/acme.yaml") == (
        "acme/m: the provider allows 60 requests per minute, not 6,000 as in acme.yaml; what it says holds from now on"
    )
    mine = Adopted("m", Limit("requests", 0.5, 1.0), Limit("requests", 2, 1.0, ceiling=True))
    assert "allows 0.5 requests per second, not 2 as you set it" in notices.adopted("acme/m", mine, file="acme.yaml")


async def test_it_is_told_once_for_each_limit() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        response = said()
        response.headers["x-ratelimit-limit-requests"] = "60" if len(world.asked) % 2 else "61.9"
        response.headers["x-ratelimit-remaining-requests"] = "30"
        return response

    async with acme(answer, limits=[Limit("requests", 6000)]) as world:
        for age in range(6):
            await world.endpoint.call(question(), world.caller(age))
        [notice] = notices_of(world)
        assert notice.startswith("acme/m: the provider allows 60 requests per minute, not 6,000 as in acme.yaml")

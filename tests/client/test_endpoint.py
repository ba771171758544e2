"""An endpoint on a virtual clock: what is tried again and what is not, what is counted, and what every end leaves."""

from __future__ import annotations

import datetime
import json
import random
from collections import Counter
from itertools import pairwise
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from acme import KEY, Acme, acme, question, refused, said, streamed

from agentmesh.catalog.prices import Price, Prices
from agentmesh.catalog.spec import AuthHeader, AuthQuery
from agentmesh.client.budget import Budget, Budgets
from agentmesh.client.caller import Caller, Halted, Retry, Stopwatch
from agentmesh.client.endpoint import DEFAULT_MAX_TOKENS
from agentmesh.client.route import Route
from agentmesh.client.transport import Timeouts
from agentmesh.clock import monotonic, sleep
from agentmesh.errors import BudgetExceeded, CallFailed, ErrorInfo
from agentmesh.events import CallEnded, CallIntent, LaneFrozen, Notice, write_event
from agentmesh.outcome import Usage
from agentmesh.rates import Limit

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time, pytest.mark.both_backends]

ONE_EACH_SECOND = Limit("requests", 60)


async def failure(world: Acme, caller: Caller | None = None, **options: Any) -> ErrorInfo:
    with pytest.raises(CallFailed) as raised:
        await world.endpoint.call(question(), caller or world.caller(**options))
    assert world.at_rest()
    return raised.value.error


# --- what goes well


async def test_a_call_and_what_it_leaves() -> None:
    budget = Budget(usd=1, tokens=1000, calls=10)
    async with acme(said("fine"), limits=[Limit("tokens", 6000)]) as world:
        caller = world.caller(3, budgets=Budgets([budget]), agent="critic")
        reply = await world.endpoint.call(question(), caller)
        assert (reply.text, reply.finish) == ("fine", "stop")
        intent, ended = world.events
        assert isinstance(intent, CallIntent)
        assert isinstance(ended, CallEnded)
        assert (intent.call, intent.attempt, intent.address, intent.agent) == (1, 1, "t/3", "critic")
        assert (ended.result, ended.uncertain, ended.reply) == ("ok", False, reply)
        assert ended.seconds == pytest.approx(1.0)
        assert ended.usage == caller.tally.usage == Usage(1, 0, 0, 10, None, 5, None)
        assert ended.usd == caller.tally.usd == pytest.approx(20e-6)
        assert (caller.tally.attempts, caller.tally.model, caller.tally.finish) == (1, "acme/m", "stop")
        statistics = budget.statistics()
        assert (statistics.spent_tokens, statistics.spent_calls, statistics.reserved_usd) == (15, 1, 0)
        assert statistics.spent_usd == pytest.approx(20e-6)
        assert world.at_rest()
        assert world.lane.statistics().limits[-1].used == 15


async def test_without_content_events_have_no_prompt_and_no_reply() -> None:
    async with acme(said("fine")) as world:
        await world.endpoint.call(question("hidden words"), world.caller(keep_content=False))
        assert b"hidden" not in b"".join(write_event(event) for event in world.events)
        assert b"fine" not in b"".join(write_event(event) for event in world.events)


@pytest.mark.parametrize(
    ("budget", "asked", "sent"),
    [
        (None, None, None),
        (Budget(calls=5), None, None),
        (Budget(tokens=100_000), None, 1000),
        (Budget(usd=5), None, 1000),
        (Budget(usd=5), 7, 7),
    ],
)
async def test_a_budget_that_counts_size_makes_the_length_explicit(
    budget: Budget | None, asked: int | None, sent: int | None
) -> None:
    seen: list[Any] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        seen.append(body.get("max_tokens", body.get("max_completion_tokens")))
        return said()

    async with acme(answer) as world:
        await world.endpoint.call(question(max_tokens=asked), world.caller(budgets=Budgets([budget])))
        unbounded = world.make("n", max_output=None)
        await unbounded.call(question(max_tokens=asked), world.caller(budgets=Budgets([budget])))
    assert seen == [sent, DEFAULT_MAX_TOKENS if sent == 1000 else sent]


# --- pushed back


async def test_a_push_back_is_no_attempt_and_goes_back_to_its_place() -> None:
    """Three wait for one slot; the first is refused, and still is the first to be answered."""
    async with acme(refused(429, retry_after="20"), said(), limits=[Limit("in_flight", 1)]) as world:
        callers = [world.caller(age, retry=Retry(1)) for age in range(3)]
        done: list[int] = []

        async def call(age: int) -> None:
            await world.endpoint.call(question(f"number {age}"), callers[age])
            done.append(age)

        async with anyio.create_task_group() as group:
            for age in range(3):
                group.start_soon(call, age)
                await anyio.lowlevel.checkpoint()
        assert done == [0, 1, 2]
        assert [text for _, _, text in world.asked] == ["number 0", "number 0", "number 1", "number 2"]
        assert 21.0 <= world.asked[1][0] <= 1.0 + 20 * 1.1 + 0.1  # the wait, and jitter above it
        assert [caller.tally.attempts for caller in callers] == [1, 1, 1]
        assert callers[0].tally.usage == Usage(1, 1, 0, 10, None, 5, None)
        assert [event.result for event in world.ended] == ["pushed_back", "ok", "ok", "ok"]
        assert [event.attempt for event in world.ended] == [1, 1, 1, 1]
        frozen = [event for event in world.events if isinstance(event, LaneFrozen)]
        assert [(event.concerns, 20 <= event.seconds <= 22) for event in frozen] == [("m", True)]
        assert world.lane.statistics().pushed_back == 1
        assert world.at_rest()


@pytest.mark.parametrize(
    ("limits", "expected"),
    [([Limit("requests", 6000)], [1, 2, 4, 8, 16, 30, 30]), ([], [2, 4, 8, 10, 10, 10, 10])],
    ids=["known limits", "a learned pace"],
)
async def test_push_backs_without_a_time_wait_longer_each_time(limits: list[Limit], expected: list[float]) -> None:
    async with acme(*[refused(429)] * 7, said(), seconds=0.0, limits=limits) as world:
        caller = world.caller()
        await world.endpoint.call(question(), caller)
        waits = [after[0] - before[0] for before, after in pairwise(world.asked)]
        assert all(low <= wait <= 1.1 * low + 0.2 for wait, low in zip(waits, expected, strict=True)), waits
        assert caller.tally.attempts == 1
        assert caller.tally.usage.pushed_back == 7


@pytest.mark.parametrize("wait", ["86400", "400"])
async def test_who_asks_for_a_day_gets_no_more_calls_and_the_route_goes_on(wait: str) -> None:
    """Nobody else of those who wait for that endpoint is sent there."""

    async def answer(request: httpx.Request) -> httpx.Response:
        return said() if b'"n"' in request.content else refused(429, "enough for today", retry_after=wait)

    async with acme(answer, limits=[ONE_EACH_SECOND]) as world:
        route = Route("r", [world.endpoint, world.make("n")])
        assert route.lane == "acme"
        replies: Counter[str] = Counter()

        async def call(age: int) -> None:
            replies[(await route.call(question(f"{age}"), world.caller(age))).text] += 1

        async with anyio.create_task_group() as group:
            for age in range(10):
                group.start_soon(call, age)
        assert replies == {"fine": 10}
        models = Counter(model for _, model, _ in world.asked)
        assert models["n"] == 10
        assert models["m"] <= 2  # the one that was told, and one that was on its way
        assert world.endpoint.stopped is not None
        assert world.endpoint.stopped.kind == "quota"
        assert len([event for event in world.events if isinstance(event, Notice)]) == 1
        assert (await failure(world)).kind == "quota"
        assert world.at_rest()


async def test_a_busy_server_that_says_when_is_a_push_back_and_else_an_attempt() -> None:
    async with acme(refused(503, retry_after="5"), refused(503), refused(529, retry_after="5"), said()) as world:
        caller = world.caller(retry=Retry(2))
        await world.endpoint.call(question(), caller)
        assert [event.result for event in world.ended] == ["pushed_back", "failed", "pushed_back", "ok"]
        assert (caller.tally.attempts, caller.tally.usage.calls, caller.tally.usage.pushed_back) == (2, 2, 2)


# --- tried again, or not


@pytest.mark.parametrize(
    ("answer", "attempts", "kind"),
    [
        (refused(500), 8, "server"),
        (refused(502), 8, "server"),
        (refused(408), 8, "timeout"),
        (httpx.Response(200, html="<html>Sign in</html>"), 8, "server"),
        (httpx.Response(200, content=b'{"cut": '), 8, "server"),
        (httpx.Response(200, content=b"{}"), 8, "server"),
        (httpx.ReadError("reset"), 8, "connection"),
        (httpx.ConnectError("refused"), 8, "connection"),
        (refused(400), 1, "bad_request"),
        (refused(404), 1, "bad_request"),
        (refused(422), 1, "bad_request"),
        (refused(401), 1, "auth"),
        (refused(402), 1, "quota"),
    ],
)
async def test_what_waiting_may_cure_is_tried_up_to_the_attempts(
    answer: httpx.Response | Exception, attempts: int, kind: str
) -> None:
    async with acme(answer) as world:
        caller = world.caller()
        error = await failure(world, caller)
        assert (error.kind, len(world.asked), caller.tally.attempts) == (kind, attempts, attempts)
        assert ("(after 8 attempts)" in error.message) == (attempts == 8)
        assert [event.attempt for event in world.ended] == list(range(1, attempts + 1))
        waits = [after[0] - before[0] - 1.0 for before, after in pairwise(world.asked)]
        for wait, middle in zip(waits, [0.5, 1, 2, 4, 8, 16, 30], strict=False):
            assert 0.5 * middle <= wait <= 1.5 * middle


async def test_the_next_attempt_may_succeed_and_all_are_counted() -> None:
    async with acme(refused(500), httpx.ConnectError("refused"), httpx.Response(200, content=b"<p>"), said()) as world:
        caller = world.caller()
        assert (await world.endpoint.call(question(), caller)).text == "fine"
        assert caller.tally.attempts == 4
        assert caller.tally.usage == Usage(3, 0, 1, 10, None, 5, None)  # what was never sent is no call
        assert [event.uncertain for event in world.ended] == [False, False, True, False]


@pytest.mark.parametrize(
    ("retry", "attempts"), [(Retry(1), 1), (Retry(2), 2), (Retry(4, on=["timeout"]), 1), (Retry(3, on=["server"]), 3)]
)
async def test_how_often_is_the_callers_choice(retry: Retry, attempts: int) -> None:
    async with acme(refused(500)) as world:
        await failure(world, retry=retry)
        assert len(world.asked) == attempts


async def test_a_wait_that_comes_with_a_server_error_is_kept_to_but_not_for_ever() -> None:
    async with acme(refused(500, retry_after="40"), refused(500, retry_after="50000"), said()) as world:
        await world.endpoint.call(question(), world.caller())
        times = [at for at, _, _ in world.asked]
        assert times[1] - times[0] == pytest.approx(41.0)
        assert times[2] - times[1] == pytest.approx(301.0)


async def test_a_wrong_key_stops_the_endpoint_for_all() -> None:
    async with acme(refused(401, "bad key")) as world:
        await failure(world)
        error = await failure(world)
        assert (error.kind, len(world.asked)) == ("auth", 1)
        assert [event.text for event in world.events if isinstance(event, Notice)] == ["acme/m stopped: auth: bad key"]


async def test_a_missing_key_is_told_before_anything_is_sent() -> None:
    async with acme(said()) as world:
        world.endpoint = world.make("n", key=None, key_problem="ACME_API_KEY is not set")
        error = await failure(world)
        assert (error.kind, error.message, world.asked) == ("auth", "acme/n: ACME_API_KEY is not set", [])
        assert world.events == []


@pytest.mark.parametrize(("first", "asked"), [(refused(400), ["m"]), (refused(500), ["m"] * 8 + ["n"])])
async def test_another_endpoint_is_asked_where_it_may_do_better(first: httpx.Response, asked: list[str]) -> None:
    async with acme(*[first] * len(asked[:8]), said()) as world:
        route = Route("r", [world.endpoint, world.make("n")])
        if len(asked) == 1:
            with pytest.raises(CallFailed):
                await route.call(question(), world.caller())
        else:
            assert (await route.call(question(), world.caller())).text == "fine"
        assert [model for _, model, _ in world.asked] == asked
        assert repr(route) == "<Route r: acme/m, acme/n>"


# --- time


async def test_an_attempt_has_its_timeout_and_the_next_one_too() -> None:
    async with acme(said(), seconds=100.0) as world:
        caller = world.caller(timeout=5.0, retry=Retry(2))
        error = await failure(world, caller)
        assert (error.kind, error.retryable, len(world.asked)) == ("timeout", True, 2)
        assert caller.tally.usage == Usage(2, 0, 2)
        assert world.seconds == pytest.approx(10.0, abs=0.8)


async def test_a_tasks_timeout_counts_neither_the_lane_nor_the_pauses() -> None:
    async with acme(refused(500), said(), seconds=3.0, limits=[Limit("requests", 1)]) as world:
        stopwatch = Stopwatch(7.0)
        await world.endpoint.call(question(), world.caller(stopwatch=stopwatch))
        assert world.seconds > 60.0
        assert stopwatch.left == pytest.approx(1.0)


async def test_a_tasks_timeout_holds_over_its_attempts() -> None:
    async with acme(refused(500), said(), seconds=3.0) as world:
        stopwatch = Stopwatch(5.0)
        caller = world.caller(stopwatch=stopwatch)
        error = await failure(world, caller)
        assert (error.kind, len(world.asked), stopwatch.left) == ("timeout", 2, 0.0)
        again = await failure(world, caller)
        assert (again.kind, len(world.asked)) == ("timeout", 2)
        assert again.message == "the 5 s of t are over"


async def test_a_server_that_stalls_ends_at_the_first_byte() -> None:
    async with acme(said(), seconds=1e6, timeouts=Timeouts(first_byte=30.0)) as world:
        error = await failure(world, retry=Retry(1))
        assert "no answer after 30.0 s" in error.message


# --- whatever ends it, nothing is left behind


async def test_cancelled_in_flight() -> None:
    budget = Budget(usd=1, tokens=1000, calls=10)
    async with acme(said(), seconds=100.0, limits=[Limit("tokens", 6000)]) as world:
        caller = world.caller(budgets=Budgets([budget]))
        with anyio.move_on_after(5.0):
            await world.endpoint.call(question(), caller)
        assert world.at_rest()
        (ended,) = world.ended
        assert ended.error is not None
        assert (ended.result, ended.error.kind, ended.uncertain) == ("failed", "cancelled", True)
        assert ended.seconds == pytest.approx(5.0)
        statistics = budget.statistics()
        assert (statistics.reserved_usd, statistics.spent_calls, statistics.waiting) == (0, 1, 0)
        assert statistics.spent_tokens >= 60  # it may have been paid: at its highest cost
        assert caller.tally.usage == Usage(1, 0, 1)


async def test_cancelled_before_its_intent_was_on_disk() -> None:
    budget = Budget(calls=10)
    async with acme(said(), limits=[ONE_EACH_SECOND]) as world:
        with anyio.move_on_after(5.0):
            await world.endpoint.call(question(), world.caller(budgets=Budgets([budget]), durable=anyio.sleep_forever))
        assert world.at_rest()
        assert world.asked == []
        assert (world.ended[0].uncertain, world.ended[0].usage) == (False, Usage())
        assert budget.statistics().spent_calls == 0
        assert world.lane.statistics().limits[-1].used == 0


async def test_cancelled_while_it_waits_for_the_lane_or_for_the_budget() -> None:
    budget = Budget(calls=2)
    async with acme(said(), seconds=50.0, limits=[Limit("in_flight", 1)]) as world:
        async with anyio.create_task_group() as group:
            for age in range(4):
                caller = world.caller(age, budgets=Budgets([budget]))
                group.start_soon(world.endpoint.call, question(), caller)
            await sleep(5.0)
            assert (budget.statistics().waiting, world.lane.statistics().waiting) == (2, 1)
            group.cancel_scope.cancel()
        assert world.at_rest()
        statistics = budget.statistics()
        assert (statistics.waiting, statistics.spent_calls) == (0, 1)
        assert budget.fits((0.0, 0.0, 1.0))
        assert len(world.ended) == 1


async def test_what_waited_is_not_sent_once_the_run_is_halted() -> None:
    halted = False
    async with acme(said(), limits=[ONE_EACH_SECOND]) as world:
        await world.endpoint.call(question(), world.caller())
        budget = Budget(calls=5)
        caller = world.caller(1, halted=lambda: halted, budgets=Budgets([budget]))
        halted = True
        with pytest.raises(Halted):
            await world.endpoint.call(question(), caller)
        assert world.at_rest()
        assert (len(world.asked), budget.statistics().spent_calls) == (1, 0)


@pytest.mark.parametrize("where", ["emit", "durable", "hook"])
async def test_an_exception_of_those_around_it_leaves_order_too(where: str) -> None:
    class Broken(Exception):
        pass

    def emit(event: object) -> None:
        world.events.append(event)  # type: ignore[arg-type]
        if where == "emit" and isinstance(event, CallIntent):
            raise Broken

    async def durable() -> None:
        if where == "durable":
            raise Broken

    budget = Budget(calls=10)
    async with acme(Broken("a hook") if where == "hook" else said()) as world:
        with pytest.raises(Broken):
            await world.endpoint.call(question(), world.caller(budgets=Budgets([budget]), emit=emit, durable=durable))
        assert world.at_rest()
        (ended,) = world.ended
        assert str(ended.error).startswith("internal: Broken")
        assert (ended.uncertain, budget.statistics().spent_calls) == (where == "hook", where == "hook")


# --- streams


async def test_a_stream_gives_its_pieces_and_the_whole() -> None:
    pieces: list[str] = []
    async with acme(streamed("all is well")) as world:
        reply = await world.endpoint.call(question(), world.caller(), on_text=pieces.append)
        assert "".join(pieces) == reply.text
        assert len(pieces) == 3


async def test_a_stream_that_broke_after_its_first_words_is_not_begun_again() -> None:
    pieces: list[str] = []
    async with acme(streamed("all is well", whole=False), streamed("never")) as world:
        route = Route("r", [world.endpoint, world.make("n")])
        with pytest.raises(CallFailed) as raised:
            await route.call(question(), world.caller(), on_text=pieces.append)
        assert pieces == ["all"]
        assert (raised.value.error.kind, raised.value.error.retryable) == ("server", False)
        assert len(world.asked) == 1
        assert world.ended[0].uncertain
        assert world.at_rest()


async def test_a_stream_that_broke_before_is() -> None:
    pieces: list[str] = []
    async with acme(httpx.ReadError("reset"), refused(500), streamed("all is well")) as world:
        await world.endpoint.call(question(), world.caller(), on_text=pieces.append)
        assert (len(world.asked), len(pieces)) == (3, 3)


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # httpx on trio leaves its own unclosed then
async def test_who_takes_the_text_and_raises_ends_the_call() -> None:
    def fail(text: str) -> None:
        raise LookupError(text)

    async with acme(streamed("all is well")) as world:
        with pytest.raises(LookupError):
            await world.endpoint.call(question(), world.caller(), on_text=fail)
        assert world.at_rest()
        assert world.ended[0].uncertain


# --- budgets


async def test_a_dollar_budget_needs_a_price() -> None:
    async with acme(said()) as world:
        world.endpoint = world.make("n", prices=Prices(None))
        error = await failure(world, budgets=Budgets([Budget(usd=1)]))
        assert (error.kind, world.asked) == ("budget", [])
        assert "price of acme/n is unknown" in error.message
        world.endpoint = world.make("n", prices=Prices((Price(input=1.0, output=2.0, above_input=5),)))
        error = await failure(world, budgets=Budgets([Budget(usd=1)]))
        assert (error.kind, world.asked) == ("budget", [])
        assert "price of acme/n is known under some conditions only" in error.message


@pytest.mark.parametrize("tokens", [(None, None), (10, None)])
async def test_a_reply_that_does_not_say_what_it_used_costs_the_most_it_may(tokens: tuple[int | None, None]) -> None:
    budget = Budget(usd=1, tokens=1000)
    async with acme(said(input_tokens=tokens[0], output_tokens=tokens[1])) as world:
        caller = world.caller(budgets=Budgets([budget]))
        await world.endpoint.call(question(), caller)
        statistics = budget.statistics()
        assert statistics.spent_tokens > 50 + len("How are you?")
        assert statistics.spent_usd > 50 * 2e-6
        assert caller.tally.usd is None


async def test_a_price_that_does_not_hold_just_now_costs_the_most_it_may() -> None:
    elsewhere = Prices((Price(input=1.0, output=2.0, until=datetime.date(2001, 1, 1)),))
    budget = Budget(usd=1)
    async with acme(said(input_tokens=3)) as world:
        world.endpoint = world.make("n", prices=elsewhere)
        await world.endpoint.call(question(), world.caller(budgets=Budgets([budget])))
        assert budget.statistics().spent_usd > 50 * 2e-6


async def test_tokens_are_bounded_by_bytes() -> None:
    """A tokenizer may make a token of each byte: three of each of these."""
    budget = Budget(tokens=1000)
    async with acme(said(input_tokens=300, output_tokens=50)) as world:
        caller = world.caller(budgets=Budgets([budget]))
        await world.endpoint.call(question("字" * 100), caller)
        await world.endpoint.call(question("字" * 100), caller)
        with pytest.raises(BudgetExceeded) as raised:
            await world.endpoint.call(question("字" * 100), caller)
        assert budget.statistics().spent_tokens == 700
        assert raised.value.unit == "tokens"
        assert raised.value.budget is budget


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("unit", ["usd", "tokens", "calls"])
async def test_budgets_are_never_overshot_by_fifty_callers_and_their_retries(unit: str, seed: int) -> None:
    """Inner and outer budgets, a server that fails in every way, and replies as long as they may be."""
    rng = random.Random(seed)
    bounds = {"usd": 4000e-6, "tokens": 2500, "calls": 37}
    outer = Budget(**{unit: bounds[unit]}, name="outer")
    inner = [Budget(**{unit: bounds[unit] / 4}, name=f"inner {n}") for n in range(5)]
    charged = 0.0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal charged
        await sleep(rng.random() * 3)
        what = rng.choice(["ok"] * 5 + ["500", "429", "html", "reset", "refused"])
        output = rng.choice([0, 5, 50])
        if what in ("ok", "html", "reset"):
            charged += {"usd": (10 + 2 * output) * 1e-6, "tokens": 10 + output, "calls": 1}[unit]
        elif what == "500":
            charged += unit == "calls"
        match what:
            case "ok":
                return said(output_tokens=output)
            case "500" | "429":
                return refused(int(what), retry_after="1")
            case "html":
                return httpx.Response(200, html="<p>")
            case "reset":
                raise httpx.ReadError("reset")
        raise httpx.ConnectError("refused")

    def spent(budget: Budget) -> float:
        statistics = budget.statistics()
        return {"usd": statistics.spent_usd, "tokens": statistics.spent_tokens, "calls": statistics.spent_calls}[unit]

    ends: Counter[str] = Counter()

    async def call(world: Acme, age: int) -> None:
        budgets = Budgets([inner[age % 5], outer])
        try:
            for _ in range(4):
                await world.endpoint.call(question(), world.caller(age, budgets=budgets))
                assert all(spent(budget) <= bound + 1e-9 for budget, bound in zip(everyone, limits, strict=True))
            ends["done"] += 1
        except CallFailed as failed:
            ends[failed.error.kind] += 1
        except BudgetExceeded as over:
            ends[f"budget of {over.unit}"] += 1

    everyone, limits = [outer, *inner], [bounds[unit]] + [bounds[unit] / 4] * 5
    async with acme(answer, seconds=0.0, limits=[Limit("in_flight", 7)]) as world:
        async with anyio.create_task_group() as group:
            for age in range(50):
                group.start_soon(call, world, age)
        assert world.at_rest()
    assert ends.total() == 50
    assert [end for end in ends if end.startswith("budget")] == [f"budget of {unit}"]
    assert all(spent(budget) <= bound + 1e-9 for budget, bound in zip(everyone, limits, strict=True))
    assert spent(outer) == pytest.approx(sum(spent(budget) for budget in inner))
    assert charged <= spent(outer) + 1e-9, "what may have been paid is counted"
    for budget in everyone:
        assert budget.statistics().waiting == 0
        assert budget.statistics().reserved_usd == pytest.approx(0.0, abs=1e-12)
    assert spent(outer) > 0.6 * bounds[unit]


# --- keys


@pytest.mark.parametrize(
    "auth", ["bearer", AuthHeader(header="x-key"), AuthQuery(query="key")], ids=["bearer", "header", "query"]
)
async def test_keys_are_in_no_event_error_or_repr(auth: Any) -> None:
    """Even where servers and exceptions quote them, as they stand or as they are in a URL."""
    seen: list[str] = []

    async def quoting(request: httpx.Request) -> httpx.Response:
        seen.append(f"{request.url} {dict(request.headers)}")
        quoted = f"Incorrect API key provided: {KEY} ({request.url})"
        match len(seen):
            case 1:
                return refused(500, quoted)
            case 2:
                return httpx.Response(200, text=quoted)
            case 3:
                raise httpx.ReadError(quoted)
            case 4:
                return refused(429, quoted, retry_after="1")
        return refused(401, quoted)

    async with acme(quoting) as world:
        world.endpoint = world.make("n", auth=auth)
        errors = [await failure(world), await failure(world)]
        with pytest.raises(CallFailed) as raised:
            await Route("r", [world.endpoint]).call(question(), world.caller())
        shown = [repr(world.events), repr(errors), str(raised.value), repr(world.endpoint), repr(world.endpoint.model)]
        shown += [repr(world.endpoint.stopped), repr(world.lane), repr(world.lane.statistics())]
        shown += [write_event(event).decode() for event in world.events]
    assert len(seen) == 5
    assert all("planted" in one for one in seen)
    assert [one for one in shown if "planted" in one or "reaped" in one] == []  # either half
    assert "[key]" in shown[1]


async def test_time_goes_by_the_virtual_clock_here() -> None:
    async with acme(said(), seconds=3600.0, timeouts=Timeouts(first_byte=1e5, whole=1e5)) as world:
        began = monotonic()
        await world.endpoint.call(question(), world.caller())
        assert monotonic() - began == pytest.approx(3600.0)

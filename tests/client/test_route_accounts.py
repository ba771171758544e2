"""Accounts of one model within a route: who is asked, who stands in, and that nothing is left behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import httpx
import pytest
from acme import Acme, Answer, acme, question, refused, said, streamed

from agentmesh.client.endpoint import Endpoint
from agentmesh.client.route import Accounts, Route
from agentmesh.errors import CallFailed
from agentmesh.events import Notice
from agentmesh.limits.lane import Lane
from agentmesh.rates import Limit

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time, pytest.mark.both_backends]

ONE_EACH_SECOND = Limit("requests", 60)


@asynccontextmanager
async def accounts(
    *answers: httpx.Response | Exception | Answer, limits: tuple[list[Limit], ...] = ([], []), **options: Any
) -> AsyncIterator[tuple[Acme, list[Endpoint]]]:
    """A world, and an endpoint for each list of limits: models m0, m1, ... of accounts of their own."""
    async with acme(*answers, **options) as world, anyio.create_task_group() as group:
        made = []
        for number, own in enumerate(limits):
            lane = Lane(f"acme#{number}", own)
            group.start_soon(lane.serve)
            model = replace(world.endpoint.model, model=f"m{number}", name=f"acme#{number}/m{number}")
            made.append(Endpoint(model, lane, world.transport))
        yield world, made
        group.cancel_scope.cancel()


async def ask(world: Acme, route: Route, calls: int) -> None:
    async with anyio.create_task_group() as group:
        for age in range(calls):
            group.start_soon(route.call, question(f"{age}"), world.caller(age))


def models(world: Acme) -> list[str]:
    return [model for _, model, _ in world.asked]


async def test_accounts_that_have_room_take_turns() -> None:
    async with accounts(said()) as (world, made):
        route = Route("r", [Accounts(made)])
        assert (route.lane, repr(route)) == ("acme#0+acme#1", "<Route r: acme#0/m0 + acme#1/m1>")
        for age in range(6):
            await route.call(question(), world.caller(age))
        assert sorted(models(world)) == ["m0"] * 3 + ["m1"] * 3
        assert all(one != other for one, other in zip(models(world)[::2], models(world)[1::2], strict=True))


async def test_other_models_are_asked_only_when_no_account_serves() -> None:
    async with accounts(*[refused(500)] * 16, said(), limits=([], [], [])) as (world, made):
        route = Route("r", [Accounts(made[:2]), made[2]])
        await route.call(question(), world.caller())
        assert sorted(models(world)) == ["m0"] * 8 + ["m1"] * 8 + ["m2"]
        assert models(world)[-1] == "m2"


async def test_a_bad_request_is_no_accounts_fault() -> None:
    async with accounts(refused(400)) as (world, made):
        with pytest.raises(CallFailed):
            await Route("r", [Accounts(made)]).call(question(), world.caller())
        assert len(world.asked) == 1


async def test_stopped_accounts_are_passed_over_and_told_once() -> None:
    async with accounts(said()) as (world, made):
        model = replace(made[0].model, key=None, key_problem="KEY_0 is not set")
        both = Accounts([Endpoint(model, made[0].lane, world.transport), made[1]])
        for age in range(3):
            await both.call(question(), world.caller(age))
        assert models(world) == ["m1"] * 3
        notices = [event.text for event in world.events if isinstance(event, Notice)]
        assert notices == ["acme#0/m0: KEY_0 is not set: the other accounts do without it"]
        assert Route("r", [both]).lane == "acme#0+acme#1"


async def test_what_waits_leaves_a_lane_whose_endpoint_is_stopped() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        return refused(401, "bad key") if b'"m0"' in request.content else said()

    async with accounts(answer, limits=([Limit("requests", 2)], [Limit("requests", 120)])) as (world, made):
        both = Accounts(made)
        route = Route("r", [both])
        await ask(world, route, 20)
        assert models(world).count("m0") == 1
        assert models(world).count("m1") == 20
        assert world.seconds < 15, "nobody waits half a minute for a key that is not taken"
        assert [lane.statistics().waiting for lane in both.lanes] == [0, 0]


async def test_calls_leave_a_lane_for_one_that_has_nothing_to_do() -> None:
    """All chose while the second lane was frozen; it thaws in a moment, and then they share."""
    limits = ([ONE_EACH_SECOND], [ONE_EACH_SECOND])
    async with accounts(said(), limits=limits) as (world, made):
        route = Route("r", [Accounts(made)])
        made[1].row.gate.frozen_until = anyio.current_time() + 100.0
        async with anyio.create_task_group() as group:
            group.start_soon(ask, world, route, 30)
            await anyio.sleep(0.5)
            assert (made[0].row.waiting, made[1].row.waiting) == (29, 0)
            made[1].row.gate.frozen_until = anyio.current_time()
        assert 13 <= models(world).count("m0") <= 17
        assert world.seconds < 18
        order = [int(text) for _, _, text in world.asked][1:]  # whoever came first went at once
        assert all(abs(number - place) <= 2 for place, number in enumerate(order)), "in their order across both"


async def test_whoever_is_cancelled_on_the_way_holds_nobody_up() -> None:
    async with accounts(said(), limits=([ONE_EACH_SECOND], [ONE_EACH_SECOND])) as (world, made):
        both = Accounts(made)
        made[1].row.gate.frozen_until = anyio.current_time() + 100.0
        async with anyio.create_task_group() as group:
            for age in range(6):
                group.start_soon(both.call, question(), world.caller(age))
            await anyio.sleep(0.5)
            ticket = made[0].lane.first_guest(made[0].row)
            assert ticket is not None
            made[1].row.gate.frozen_until = anyio.current_time()
            both._balance()
            assert ticket.state == "gone"
            group.cancel_scope.cancel()
        await ask(world, Route("r", [both]), 6)
        assert both._moving == set()
        assert set(models(world)[1:]) == {"m0", "m1"}
        assert [lane.statistics().waiting for lane in both.lanes] == [0, 0]


async def test_a_call_is_not_sent_back_to_who_failed_it() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        return refused(500) if b'"m0"' in request.content else said()

    async with accounts(answer, limits=([], [Limit("requests", 2)])) as (world, made):
        both = Accounts(made)
        await ask(world, Route("r", [both]), 3)
        assert models(world).count("m1") == 3
        assert models(world).count("m0") <= 24
        assert world.seconds > 50, "two wait for the slow one, though the broken one has room"


async def test_a_reply_that_has_begun_is_not_begun_again_elsewhere() -> None:
    pieces: list[str] = []
    async with accounts(streamed("some words here", whole=False), limits=([], [], [])) as (world, made):
        route = Route("r", [Accounts(made[:2]), made[2]])
        with pytest.raises(CallFailed):
            await route.call(question(), world.caller(), on_text=pieces.append)
        assert len(world.asked) == 1
        assert pieces

"""A graph that grows while it runs: drafts, a review of each, grades, and a tournament among them all the while."""

from __future__ import annotations

import asyncio

import pydantic

import agentmesh as am

TOPICS = ["antibiotics", "biofilms", "dormancy", "efflux"]


class Hypothesis(pydantic.BaseModel):
    """What a scientist answers with."""

    title: str
    claim: str


async def grade(review: str) -> int:
    """Any function can be a task."""
    return len(review.split())


async def main() -> None:
    scientist = am.Agent(
        "scientist", model="sim/large", instructions="You propose one hypothesis.", output=Hypothesis
    )  # fmt: skip
    critic = am.Agent("critic", model="sim/small", instructions="You name the flaw that would sink it.")
    judge = am.Agent("judge", model="sim/large", instructions="You compare two hypotheses.")

    async with am.open_mesh(budget=am.Budget(usd=2)) as mesh, mesh.open_run("hypotheses") as run:
        drafts = [run.start(scientist.on("Goal: {{ t }}", t=topic), key=topic) for topic in TOPICS]
        reviews = [
            run.start(
                critic.on("Review: {{ d.claim }}", d=draft),  # a handle is a dependency
                retry=2,
                budget=am.Budget(calls=3),
                on_failure="skip",
            )
            for draft in drafts
        ]
        grades = [run.start(am.call(grade, review), priority="high", timeout=5) for review in reviews]
        total = run.start(am.call(sum, grades), name="total", require="50%")  # a list of handles is a collection
        contest = run.tournament(
            judge,
            entrants=drafts,
            criteria="novelty",
            entrant="{{ item.title }}: {{ item.claim }}",
            stop=am.Stop(regret=0.05, matches=24),
        )

        seen = 0
        async for standings in contest.changes():  # the newest standings, never a queue of old ones
            seen += 1
            if seen == 1 and standings:
                print("first to enter:", standings[0].key)
        for row in await contest:
            print(f"{row.rank}. {row.rating} ({row.low} to {row.high}, {row.matches} matches) {row.key}")
        print("words of review:", await total)
        print("first draft:", (await drafts[0]).title)


if __name__ == "__main__":
    asyncio.run(main())

"""Typed tools: what a model may call. Async or not, retried where that is harmless, told of the task they serve."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import agentmesh as am


@dataclass
class Paper:
    """What the search finds: tools take and return plain data."""

    title: str
    year: int


SHELF = [Paper("Persister cells", 2004), Paper("Toxin-antitoxin modules", 2011), Paper("Memory of stress", 2019)]


@am.tool(idempotent=True, timeout=30)
async def search_papers(query: str, limit: int = 5) -> list[Paper]:
    """Search the literature."""
    await asyncio.sleep(0.1)  # a real one would wait for a database here
    return SHELF[: max(1, limit)]


@am.tool
def roll_dice(sides: int, ctx: am.Context) -> str:
    """Roll a die. Not async, so it runs in a thread; the context is filled in and not shown to the model."""
    return f"{ctx.agent} rolled {ctx.rng.randint(1, max(1, abs(sides)))}"


@am.tool(name="second_opinion")
async def opinion(question: str, ctx: am.Context) -> str:
    """Ask another model, in the name of the same task: through its lane and on its budgets."""
    return await ctx.ask("sim/small", question)


async def main() -> None:
    scientist = am.Agent(
        "scientist",
        model="sim/large",
        instructions="You look things up before you answer.",
        tools=[search_papers, roll_dice, opinion],
        max_turns=3,
    )
    questions = {
        "papers": "What do we know? Use search_papers.",
        "luck": "Which of them shall I read first? Use roll_dice.",
        "advice": "Is it worth it? Use second_opinion.",
    }
    typed = am.Agent("typed", model="sim/large", instructions="...", output=Paper, tools=[search_papers])
    async with am.open_mesh(seed=7) as mesh, mesh.open_run("tools") as run:
        answers = {key: run.start(scientist.on(question), key=key) for key, question in questions.items()}
        for key, answer in answers.items():
            outcome = await answer.outcome()
            print(f"{key} ({outcome.usage.calls} calls): {outcome.value}")
            print()
        print("of a type:", await run.start(typed.on("Which one is the best? Use search_papers.")))
    print("outside of agents a tool is a function:", await search_papers("anything", limit=1))


if __name__ == "__main__":
    asyncio.run(main())

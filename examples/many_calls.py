"""Many calls at once, as fast as the limits allow: outcomes as they come, failures beside successes, one budget."""

from __future__ import annotations

import asyncio

import agentmesh as am

TOPICS = ["sleep", "soil", "stars", "salt", "steel", "storms", "silence", "speech"]


async def main() -> None:
    writer = am.Agent("writer", model="sim/small", instructions="You write one sentence.", settings={"max_tokens": 30})
    async with am.open_mesh(budget=am.Budget(usd=2)) as mesh:
        async for answer in mesh.map(lambda t: writer.on("On {{ t }}.", t=t), TOPICS):
            print(answer.key, answer.value if answer.ok else answer.error)

        # A budget is never overshot: what does not fit any more is not asked, and says so.
        short = am.Agent("short", model="sim/small", budget=am.Budget(calls=5), settings=am.Settings(max_tokens=30))
        outcomes = [answer async for answer in mesh.map(lambda t: short.on("On {{ t }}.", t=t), TOPICS)]
        print()
        print(sum(answer.ok for answer in outcomes), "of", len(outcomes), "answered within a budget of 5 calls")
        print(next(answer.error for answer in outcomes if not answer.ok))


if __name__ == "__main__":
    asyncio.run(main())

"""Replies as values of a type: a model of pydantic, a dataclass, a list. What does not fit is sent back for repair."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field

import agentmesh as am


class Review(BaseModel):
    """Descriptions and bounds become part of what the model is asked for."""

    flaws: list[str] = Field(description="The worst first.")
    score: float = Field(ge=0, le=10)
    verdict: Literal["accept", "revise", "reject"]


@dataclass
class City:
    """A dataclass works as well."""

    name: str
    inhabitants: int


async def main() -> None:
    critic = am.Agent("critic", model="sim/large", instructions="You review claims.", output=Review, repairs=1)
    guide = am.Agent("guide", model="sim/small", output=list[City])
    async with am.open_mesh() as mesh, mesh.open_run("structured") as run:
        review = await run.start(critic.on("Review: {{ claim }}", claim="Tea cures everything."))
        print(review.verdict, review.score, review.flaws)  # an instance of Review, as type checkers know
        for city in await run.start(guide.on("Name some cities.")):
            print(city)


if __name__ == "__main__":
    asyncio.run(main())

"""A provider of one's own is one YAML file. This one is simulated; a real one has its `base_url` and `api_key_env`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import agentmesh as am

PROVIDER = Path(__file__).with_name("lab.yaml")  # or ./providers/lab.yaml, which is found by itself


async def main() -> None:
    async with am.open_mesh(provider_files=[PROVIDER], settings={"max_tokens": 40}) as mesh:
        tutor = am.Agent("tutor", model=["lab/tutor", "sim/small"])  # the second is asked when the first cannot serve
        async for answer in mesh.map(lambda n: tutor.on("What is {{ n }} times {{ n }}?", n=n), range(1, 13)):
            print(answer.key, answer.model, answer.error or answer.finish, f"{answer.seconds:.2f} s")
        for lane in mesh.statistics():
            print(lane.account, [f"{limit.name}: {limit.limit:g}" for limit in lane.limits])


if __name__ == "__main__":
    asyncio.run(main())

"""A workflow file from Python: the same as `agentmesh run summarise`, its result as plain data."""

from __future__ import annotations

import asyncio

import agentmesh as am

PASSAGES = ["Dark roofs absorb sunlight by day and give the heat back at night.", "Trees cool by shade and by water."]


async def main() -> None:
    async with am.open_mesh(budget=am.Budget(usd=2)) as mesh:
        result = await mesh.workflow("summarise", inputs={"about": "heat in cities", "passages": PASSAGES})
        # A path works as well: await mesh.workflow("workflows/hypotheses.yaml", inputs={"goal": "..."})
    print(result["status"], f"{result['usage']['calls']} calls", f"${result['usd']:.4f}")
    for task, states in result["tasks"].items():
        print(f"  {task}: {states['done']} done, {states['failed']} failed")


if __name__ == "__main__":
    asyncio.run(main())

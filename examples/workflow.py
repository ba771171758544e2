"""A workflow file from Python: the same as `agentmesh run`, its result as plain data; its report is in report.md."""

from __future__ import annotations

import asyncio
from pathlib import Path

import agentmesh as am

FILE = Path(__file__).parents[1] / "workflows" / "hypotheses.yaml"  # the name of a shipped one, hypotheses, works too


async def main() -> None:
    async with am.open_mesh(budget=am.Budget(usd=2)) as mesh:
        result = await mesh.workflow(FILE, inputs={"goal": "Why do leaves fall?", "ideas": 4})
    print(result["status"], f"{result['usage']['calls']} calls", f"${result['usd']:.4f}")
    for task, states in result["tasks"].items():
        print(f"  {task}: {states['done']} done, {states['failed']} failed")
    for row in result["outputs"]["best"]:
        print(f"{row['rank']}. {row['rating']} {row['item']['title']}")


if __name__ == "__main__":
    asyncio.run(main())

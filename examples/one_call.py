"""One call: ask, ask without async, and read a reply as it is written."""

from __future__ import annotations

import asyncio

import agentmesh as am


async def main() -> None:
    async with am.open_mesh(budget=am.Budget(usd=2)) as mesh:
        print(await mesh.ask("sim/small", "Say hello."))  # any model: openai/gpt-5-mini, anthropic/..., vllm/...
        print()
        async for piece in mesh.stream("sim/small", "Tell me about the sea.", max_tokens=60):
            print(piece, end="", flush=True)
        print()


if __name__ == "__main__":
    asyncio.run(main())
    print()
    print(am.ask_sync("sim/small", "And goodbye.", max_tokens=20))  # also where an event loop runs: in a notebook

"""The official OpenAI client with a semaphore of rate times latency and its own retries."""

from __future__ import annotations

import asyncio

from asking import Call, Given, Notes, ask_each, main
from openai import AsyncOpenAI


async def ask(given: Given, notes: Notes) -> None:
    async with AsyncOpenAI(base_url=given.base_url, api_key=given.api_key, max_retries=50) as client:
        slots = asyncio.Semaphore(given.slots)
        completions = client.chat.completions

        async def ask_one(call: Call) -> str | None:
            async with slots:
                reply = await completions.create(
                    model=given.model, max_tokens=call.max_tokens, messages=[{"role": "user", "content": call.prompt}]
                )
                return reply.choices[0].message.content

        await ask_each(given, notes, ask_one)


main(ask, "openai")

"""aiolimiter before each attempt of the OpenAI client without its retries; a refused call tries again by hand."""

from __future__ import annotations

import asyncio

from aiolimiter import AsyncLimiter
from asking import Call, Given, Notes, ask_each, main
from openai import APIStatusError, AsyncOpenAI

_ATTEMPTS = 50
_REQUESTS_S, _TOKENS_S = 0.5, 9.0  # seconds of the rate that go at once; the limiter refuses amounts above that


async def ask(given: Given, notes: Notes) -> None:
    limiters = []
    if given.requests_per_minute:
        limiters.append((AsyncLimiter(given.requests_per_minute * _REQUESTS_S / 60.0, _REQUESTS_S), False))
    if given.tokens_per_minute:
        limiters.append((AsyncLimiter(given.tokens_per_minute * _TOKENS_S / 60.0, _TOKENS_S), True))
    async with AsyncOpenAI(base_url=given.base_url, api_key=given.api_key, max_retries=0) as client:
        completions = client.chat.completions

        async def ask_one(call: Call) -> str | None:
            for attempt in range(_ATTEMPTS):
                for limiter, tokens in limiters:
                    await limiter.acquire(call.tokens + given.output_tokens if tokens else 1)
                try:
                    reply = await completions.create(
                        model=given.model, max_tokens=call.max_tokens,
                        messages=[{"role": "user", "content": call.prompt}],
                    )  # fmt: skip
                except APIStatusError as error:
                    if error.status_code != 429 or attempt == _ATTEMPTS - 1:
                        raise
                    await asyncio.sleep(float(error.response.headers.get("retry-after-ms", 1000)) / 1000)
                else:
                    return reply.choices[0].message.content
            return None

        await ask_each(given, notes, ask_one)


main(ask, "aiolimiter", "openai")

"""LiteLLM's router with the account's limits as rpm and tpm and its own retries, behind a semaphore.

The semaphore is needed: where `max_parallel_requests` are under way, the router refuses the next by itself.
"""

from __future__ import annotations

import asyncio

import litellm
from asking import Call, Given, Notes, ask_each, main
from litellm import Router


async def ask(given: Given, notes: Notes) -> None:
    litellm.suppress_debug_info = True
    limits = {"rpm": given.requests_per_minute, "tpm": given.tokens_per_minute}
    deployment = {
        "model": f"openai/{given.model}", "api_base": given.base_url, "api_key": given.api_key,
        **{name: int(limit) for name, limit in limits.items() if limit},
    }  # fmt: skip
    router = Router(
        model_list=[{"model_name": given.model, "litellm_params": deployment}],
        num_retries=50, retry_after=0, disable_cooldowns=True,
    )  # fmt: skip

    slots = asyncio.Semaphore(given.slots)

    async def ask_one(call: Call) -> str | None:
        async with slots:
            reply = await router.acompletion(
                given.model, messages=[{"role": "user", "content": call.prompt}], max_tokens=call.max_tokens
            )
            return reply.choices[0].message.content

    warm = {"messages": [{"role": "user", "content": "Hello"}], "mock_response": "Hello"}
    await router.acompletion(given.model, **warm)  # what is only imported now is no call's doing
    await ask_each(given, notes, ask_one)


main(ask, "litellm", "openai")

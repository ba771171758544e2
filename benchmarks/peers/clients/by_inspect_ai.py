"""inspect_ai's model with adaptive connections, which find how many calls in flight the account bears."""

from __future__ import annotations

from asking import Call, Given, Notes, ask_each, main
from inspect_ai.model import GenerateConfig, get_model


async def ask(given: Given, notes: Notes) -> None:
    model = get_model(
        f"openai/{given.model}", base_url=given.base_url, api_key=given.api_key, responses_api=False,
        config=GenerateConfig(adaptive_connections=True, max_retries=50),
    )  # fmt: skip

    async def ask_one(call: Call) -> str | None:
        reply = await model.generate(call.prompt, config=GenerateConfig(max_tokens=call.max_tokens))
        return reply.completion

    await ask_each(given, notes, ask_one)


main(ask, "inspect_ai", "openai")

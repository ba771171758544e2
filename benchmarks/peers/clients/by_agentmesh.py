"""agentmesh as a user has it: a provider file with the account's limits, an agent, a journal on disk."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from asking import Call, Given, Notes, main

import agentmesh as am

_PROVIDER = "measured"


def provider_file(given: Given, folder: str) -> Path:
    """What a user writes down of an account."""
    limits = {"requests_per_minute": given.requests_per_minute, "tokens_per_minute": given.tokens_per_minute}
    spec = {
        "provider": _PROVIDER, "dialect": "openai-chat", "base_url": given.base_url,
        "limits": {name: limit for name, limit in limits.items() if limit}, "models": {given.model: {"prices": "free"}},
    }  # fmt: skip
    file = Path(folder, f"{_PROVIDER}.yaml")
    file.write_text(json.dumps(spec), encoding="utf-8")  # JSON is YAML
    return file


async def ask(given: Given, notes: Notes) -> None:
    model = f"{_PROVIDER}/{given.model}"
    agents = {
        most: am.Agent("asker", model=model, settings={"max_tokens": most})
        for most in {call.max_tokens for call in given.calls}
    }

    def turn(call: Call) -> am.Call[str]:
        return agents[call.max_tokens].on("{{ prompt }}", prompt=call.prompt)

    with TemporaryDirectory() as folder:
        file, journal = provider_file(given, folder), Path(folder, "journal")
        async with am.open_mesh(provider_files=[file], journal=journal) as mesh:
            mesh.route([model])  # what is only imported now is no call's doing
            notes.start()
            async for outcome in mesh.map(turn, given.calls):
                if outcome.ok:
                    notes.answer(outcome.value)
                else:
                    notes.fail(outcome.error)


main(ask, "agentmesh-async")

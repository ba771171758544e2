"""prompto: an experiment file, sent at a fixed pace; what was refused is tried again in rounds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from asking import Given, Notes, main
from prompto.experiment import Experiment
from prompto.settings import Settings

_NAME = "calls.jsonl"


def experiment(given: Given, folder: str) -> Experiment:
    """An experiment with all calls, its pace that of the limits."""
    settings = Settings(data_folder=folder, max_queries=round(60 * given.per_second), max_attempts=50)
    rows = (
        {
            "id": call.number, "api": "openai", "model_name": given.model, "prompt": call.prompt,
            "parameters": {"max_tokens": call.max_tokens},
        }
        for call in given.calls
    )  # fmt: skip
    Path(settings.input_folder, _NAME).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Experiment(_NAME, settings=settings)


async def ask(given: Given, notes: Notes) -> None:
    def note(row: dict[str, Any]) -> dict[str, Any]:
        notes.answer(row["response"])
        return row

    os.environ.update(OPENAI_API_KEY=given.api_key, OPENAI_BASE_URL=given.base_url)
    with TemporaryDirectory() as folder:
        prepared = experiment(given, folder)
        notes.start()
        await prepared.process(evaluation_funcs=[note])


main(ask, "prompto", "openai")

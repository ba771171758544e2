"""The options that are the same everywhere: commands take these types, and `Options.load` makes sense of them.

None stands for an option that was not given, so that the environment and the project's file are asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .settings import CacheMode, DisplayKind

__all__ = [
    "CacheOption",
    "DisplayOption",
    "JournalOption",
    "JsonFlag",
    "NoContentFlag",
    "NoJournalFlag",
    "OutputOption",
    "ProviderFileOption",
    "RateOption",
    "RecordOption",
    "ReplayOption",
    "RunArgument",
    "SeedOption",
]

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="The end or the beginning of a run's id, or `last`.")
]  # fmt: skip

ProviderFileOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--provider-file", metavar="FILE", help="A provider file or a folder of them, read first. Repeatable."
    ),
]
DisplayOption = Annotated[
    DisplayKind | None,
    typer.Option("--display", help="What stderr shows; by default full on a terminal and plain elsewhere."),
]
JournalOption = Annotated[
    Path | None, typer.Option("--journal", metavar="DIR", help="The folder of the journals; by default .agentmesh.")
]
NoContentFlag = Annotated[
    bool,
    typer.Option(
        "--no-content", help="Keep prompts and replies out of the journal: a resume asks again what it needs of them."
    ),
]
NoJournalFlag = Annotated[bool, typer.Option("--no-journal", help="Keep no journal.")]
RateOption = Annotated[
    list[str] | None,
    typer.Option(
        "--rate",
        metavar="TARGET.LIMIT=N",
        help="Set a limit of a provider, an account or a model: openai/gpt-6-luna.requests_per_minute=300. Repeatable.",
    ),
]
CacheOption = Annotated[
    CacheMode | None,
    typer.Option(
        "--cache",
        help="Answer what earlier runs asked from their replies: use does, and keeps new ones; read keeps none; "
        "refresh asks everything and keeps it; by default off.",
    ),
]
RecordOption = Annotated[
    Path | None,
    typer.Option("--record", metavar="FILE", help="Write every call and its reply there (JSONL, or JSONL.gz)."),
]
ReplayOption = Annotated[
    str | None,
    typer.Option(
        "--replay",
        metavar="FILE|RUN",
        help="Ask nobody: answer from a recording, or from what a run has in its journal (`last`: that asked "
        "models itself). Needs no key.",
    ),
]
SeedOption = Annotated[int | None, typer.Option("--seed", metavar="N", help="Makes what is left to chance repeatable.")]
OutputOption = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the result there.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]

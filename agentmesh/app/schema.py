"""The command `schema`: the JSON Schema of workflow or provider files, for editors and other programs."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

__all__ = ["schema_command"]


def schema_command(
    kind: Annotated[Literal["workflow", "provider"], typer.Argument(help="Of which files.", show_default=False)],
) -> None:
    """Print the JSON Schema of workflow files or of provider files.

    Example: agentmesh schema workflow > workflow.json
    """
    if kind == "workflow":
        from ..workflow.schema import workflow_json_schema

        text = workflow_json_schema()
    else:
        from ..catalog import json_schema

        text = json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"
    typer.echo(text, nl=False)

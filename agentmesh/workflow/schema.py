"""The JSON Schema of workflow files, from which editors complete keys and show what they mean."""

from __future__ import annotations

import json
from typing import Any

from .spec import WorkflowSpec

__all__ = ["workflow_json_schema"]


def workflow_json_schema() -> str:
    """The schema as text, the same for the same version of agentmesh; a copy is shipped in `agentmesh/schema/`."""
    schema: dict[str, Any] = WorkflowSpec.model_json_schema(by_alias=True, mode="validation")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "agentmesh workflow"}
    _without_titles(schema)
    return json.dumps(head | schema, indent=1, ensure_ascii=False) + "\n"


def _without_titles(node: Any) -> None:
    """Titles that only repeat a key's name say nothing; a property that is called `title` is no title."""
    if isinstance(node, list):
        for inner in node:
            _without_titles(inner)
    elif isinstance(node, dict):
        if isinstance(node.get("title"), str):
            del node["title"]
        for inner in node.values():
            _without_titles(inner)

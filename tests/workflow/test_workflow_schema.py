"""The shipped JSON Schema of workflow files."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from agentmesh.workflow.schema import workflow_json_schema
from agentmesh.workflow.spec import TaskSpec, WorkflowSpec

SCHEMA: dict[str, Any] = json.loads(workflow_json_schema())


def test_the_shipped_copy_is_the_generated_one() -> None:
    assert files("agentmesh").joinpath("schema", "workflow.json").read_text(encoding="utf-8") == workflow_json_schema()


def test_keys_are_those_that_people_write() -> None:
    assert set(SCHEMA["properties"]) == set(WorkflowSpec.model_fields)
    keys = set(SCHEMA["$defs"]["TaskSpec"]["properties"])
    assert {"if", "with", "for_each", "on_failure"} <= keys
    assert keys == {field.alias or name for name, field in TaskSpec.model_fields.items()}
    assert SCHEMA["required"] == ["agentmesh", "tasks"]


def test_unknown_keys_are_refused_and_names_have_their_pattern() -> None:
    assert SCHEMA["additionalProperties"] is False
    assert SCHEMA["properties"]["tasks"]["propertyNames"] == {"pattern": "^[a-z][a-z0-9_]*$"}


def test_units_are_texts_in_the_schema() -> None:
    timeout = SCHEMA["$defs"]["TaskSpec"]["properties"]["timeout"]["anyOf"][0]
    assert timeout["type"] == "string"
    assert "60s" in timeout["examples"]

"""The JSON Schema of provider files: what editors complete with is what the loader checks by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import agentmesh
from agentmesh.app.cli import main
from agentmesh.catalog import json_schema

SHIPPED = Path(agentmesh.__file__).parent / "schema" / "provider.json"


def test_the_shipped_schema_is_the_one_of_the_models() -> None:
    assert json.loads(SHIPPED.read_text(encoding="utf-8")) == json_schema(), (
        "renew it: agentmesh schema provider > agentmesh/schema/provider.json"
    )


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "provider"]) == 0
    assert capsys.readouterr().out == SHIPPED.read_text(encoding="utf-8")

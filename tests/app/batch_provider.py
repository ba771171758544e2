"""What the tests of `batch` share: a provider without latency and limits, and the command itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agentmesh.app.cli import main

PROVIDER = """
provider: acme
dialect: openai-chat
base_url: inprocess://acme
models:
  fast: {prices: {input: 1, output: 4}}
  slow: {simulate: {latency: {first_token: 60}}}
  late: {simulate: {latency: {first_token: 3}}}
  down: {simulate: {failures: {"500": 1.0}}}
  tight: {limits: {requests_per_minute: 1}}
  "*": {}
simulate: {latency: {first_token: 0, per_token: 0, jitter: 0}, length: 20}
"""
LOCKED = """
provider: locked
dialect: openai-chat
base_url: https://locked.invalid/v1
api_key_env: LOCKED_API_KEY
models: {m: {}}
"""


def write_provider(folder: Path) -> Path:
    """Both provider files in a folder of their own, which is returned."""
    providers = folder / "files"
    providers.mkdir()
    (providers / "acme.yaml").write_text(PROVIDER)
    (providers / "locked.yaml").write_text(LOCKED)
    return providers


def write_lines(path: Path, *lines: dict[str, Any] | str) -> Path:
    """A batch file; a text stands there as it is."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Command:
    """`agentmesh batch` in a folder: `lines.jsonl` in, `out.jsonl` out, no journal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines, self.out = folder / "lines.jsonl", folder / "out.jsonl"
        self.providers = write_provider(folder)

    def __call__(self, *options: object, model: str | None = "acme/fast", source: object = None) -> int:
        """Run it; returns the exit code."""
        named = [] if model is None else ["--model", model]
        rest = ["-o", self.out, "--provider-file", self.providers, "--no-journal", *named, *options]
        return main([str(one) for one in ("batch", source or self.lines, *rest)])

    def ask(self, *lines: dict[str, Any] | str) -> None:
        """Write the input."""
        write_lines(self.lines, *lines)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return read_rows(self.out)

    @property
    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir() if path.is_file()} - {self.lines.name}

"""The README is true: its files are written, its commands and its Python are run, in order, in a folder of their own.

`sh` blocks are run; `console` blocks need make, a network or a key, and are held against the Makefile and the help.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentmesh.app.cli import COMMANDS, main

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
SECONDS = 60  # for one block; the longest takes about three


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def test_there_is_something_to_run() -> None:
    kinds = [kind for kind, _ in BLOCKS]
    assert kinds[0] == "console"
    assert {"sh", "python", "yaml"} <= set(kinds)
    assert set(kinds) <= {"console", "sh", "python", "yaml"}


def test_every_block_does_what_it_says(tmp_path: Path) -> None:
    # A project's own file wins: this one answers sooner, and ten times as often.
    simulated = (ROOT / "providers" / "sim.yaml").read_text()
    simulated = re.sub(r"(first_token|per_token): [\d.]+", r"\1: 0.001", simulated)
    simulated = re.sub(r"requests_per_minute: (\d+)", r"requests_per_minute: \g<1>0", simulated)
    (tmp_path / "providers").mkdir()
    (tmp_path / "providers" / "sim.yaml").write_text(simulated)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with contextlib.ExitStack() as servers:
        for kind, text in BLOCKS:
            text = text.replace("8401", str(port))
            if kind == "yaml":
                file = tmp_path / text.partition("\n")[0].removeprefix("# ")
                file.write_text(text)
            elif kind == "sh" and text.startswith("agentmesh serve"):
                servers.enter_context(serving(text, tmp_path))
            elif kind in ("sh", "python"):
                command = [sys.executable, "-c", text] if kind == "python" else ["bash", "-euc", text]
                done = subprocess.run(
                    command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=SECONDS
                )
                assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
                assert done.stdout.strip() or done.stderr.strip(), text
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["status"], len(result["outputs"]["verdicts"])) == ("done", 1)
    for name in ("answers.jsonl", "over-http.jsonl"):
        rows = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        assert [(row["id"], row["ok"], row["error"]) for row in rows] == [("a", True, None), ("b", True, None)]


@contextlib.contextmanager
def serving(command: str, folder: Path) -> Iterator[None]:
    """The server of a block, from its one line of JSON on until the end."""
    words = [sys.executable, "-m", *shlex.split(command)]
    with subprocess.Popen(words, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert json.loads(process.stdout.readline())["base_url"]
            yield
        finally:
            process.terminate()


COMMAND_LINES = [
    line.removeprefix("$ ").partition("  #")[0]
    for kind, text in BLOCKS
    if kind == "console"
    for line in text.splitlines()
    if line
]


@pytest.mark.parametrize("line", [line for line in COMMAND_LINES if line.startswith("agentmesh ")])
def test_commands_that_need_a_key_or_data_exist_with_their_options(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(line)[1:]
    assert words[0] in COMMANDS
    group = words[: 1 + (words[0] in ("bench", "serve"))]
    assert main([*group, "--help"]) == 0
    shown = capsys.readouterr().out
    for option in (word for word in words if word.startswith("-")):
        assert re.search(rf"{option}\b", shown), option


def test_the_commands_without_make_are_those_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert [line.strip() for line in COMMAND_LINES[:2]] == ["make demo", "make test"]
    typed = [part.removeprefix(".venv/bin/") for line in COMMAND_LINES for part in line.split(" && ")]
    for tool in ("ruff check", "ruff format --check", "mypy", "pytest -n auto"):
        assert f"python -m {tool}" in typed
        assert f"$(PY) -m {tool}" in makefile
    for what in ("-e . -c constraints.txt", "-e '.[test,lint]' -c constraints.txt"):
        assert f"python -m pip install {what}" in typed
        assert f"$(PIP) {what}" in makefile


def test_texts_for_people_name_the_distribution_and_never_somebody_elses() -> None:
    for path in [*ROOT.glob("*.md"), *(ROOT / "agentmesh").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]:
        assert not re.search(r"pip install (-\S+ )*agentmesh(?!-async)", path.read_text()), path


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (ROOT / target).exists(), target

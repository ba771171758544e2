"""What `make` says where Python is missing, too old, or lacks a part: in words, before anything is made."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
VERSION = "{}.{}".format(*sys.version_info)

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(folder: Path, target: str) -> subprocess.CompletedProcess[str]:
    """Run a target of the Makefile in a folder of its own, with the commands in its `bin` and the system's only."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    environment = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "HOME": str(folder)}
    names = "PYTHONS=" + " ".join(sorted(path.name for path in (folder / "bin").iterdir()))
    return subprocess.run(["make", names, target], cwd=folder, env=environment, capture_output=True, text=True)


def command(folder: Path, name: str, script: str) -> None:
    (folder / "bin").mkdir(exist_ok=True)
    path = folder / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def python_without(*modules: str) -> str:
    """A Python that works, but for these modules."""
    missing = "; ".join(f"sys.modules[{module!r}] = None" for module in modules)
    return f'shift; exec {sys.executable} -c "import sys; {missing}; exec(sys.argv[1])" "$@"'


def test_without_a_python_that_is_new_enough_it_says_what_is_needed(tmp_path: Path) -> None:
    command(tmp_path, "old", "exit 1")
    done = make(tmp_path, "demo")
    assert done.returncode != 0
    assert "agentmesh needs Python 3.11 or newer; none of these is: old" in done.stderr
    assert "make PYTHONS=/path/to/python3 demo" in done.stderr


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_without_venv_it_says_which_package_to_install(tmp_path: Path, module: str) -> None:
    command(tmp_path, "bare", python_without(module))
    done = make(tmp_path, "test")
    assert done.returncode != 0
    assert f"bare (Python {VERSION}) cannot make virtual environments" in done.stderr
    assert f"sudo apt install python3-venv (or python{VERSION}-venv)" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_it_takes_the_first_python_that_can_do_it(tmp_path: Path) -> None:
    command(tmp_path, "a_shim", "echo no such version >&2; exit 127")
    command(tmp_path, "b_bare", python_without("ensurepip"))
    command(tmp_path, "c_good", f'[ "$1" = -m ] && echo "made by c_good: $@" || exec {sys.executable} "$@"')
    assert "made by c_good: -m venv --clear .venv" in make(tmp_path, ".venv/bin/python").stdout


def test_every_target_is_listed_by_help_and_help_is_the_default() -> None:
    text = (ROOT / "Makefile").read_text()
    first, *targets = re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)[1].split()  # type: ignore[index]
    shown = subprocess.run(["make"], cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True).stdout
    assert first == "help"
    assert [line.split()[1] for line in shown.splitlines()] == targets


def test_the_constraints_pin_everything_that_the_project_asks_for() -> None:
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    asked = re.findall(r'^ *"([a-zA-Z][\w.-]*)>=', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert len(asked) > 15
    assert {name.lower() for name in asked} <= {name.lower() for name in pinned}

"""How long the command line takes to start, in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from tempfile import TemporaryDirectory

from ...errors import UserError

__all__ = ["seconds_to_run"]

_ROUNDS = 15


def seconds_to_run(*commands: Sequence[str]) -> list[float]:
    """Seconds of the fastest of several runs of each `python ...` command, in turns.

    Bytecode is kept in a folder of its own, as an installed package has it. Raises UserError for one that fails.
    """
    best = [float("inf")] * len(commands)
    with TemporaryDirectory(prefix="agentmesh-perf-") as folder:
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environ["PYTHONPYCACHEPREFIX"] = folder
        for number in range(-1, _ROUNDS):  # the first one makes the bytecode
            for place, command in enumerate(commands):
                seconds = _run(command, environ)
                if number >= 0:
                    best[place] = min(best[place], seconds)
    return best


def _run(command: Sequence[str], environ: Mapping[str, str]) -> float:
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *command], env=environ, capture_output=True, text=True, check=False)  # noqa: S603
    seconds = time.perf_counter() - began
    if done.returncode:
        raise UserError(f"python {' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return seconds

"""The clients that are compared, each with what its environment needs, and the making of these environments."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PEERS", "CannotInstall", "Peer", "python_of"]

_INSTALL_S = 600.0
_MARK = "installed.txt"
_SEMAPHORE = "a semaphore of rate × latency, for tokens half as many again"


class CannotInstall(Exception):
    """An environment cannot be made; the message says why."""


@dataclass(frozen=True)
class Peer:
    """One client. Without `requirements` it runs where agentmesh does; `settings` says in words how it is set."""

    name: str
    title: str
    settings: str
    requirements: tuple[str, ...] = ()

    @property
    def script(self) -> Path:
        """What asks."""
        return Path(__file__).with_name("clients") / f"by_{self.name}.py"


PEERS = {
    one.name: one
    for one in (
        Peer("agentmesh", "agentmesh", "the limits in the provider file; a journal on disk"),
        Peer(
            "aiolimiter", "aiolimiter by hand, OpenAI client",
            "a limiter before each attempt: 0.5 s of requests, or 9 s of tokens, at once, prompts counted exactly and "
            "replies at their mean; the client's retries off, after a 429 the advised wait and the limiter again",
            ("aiolimiter==1.3.0", "openai==3.52.0"),
        ),
        Peer(
            "openai", "OpenAI client, semaphore",
            f"{_SEMAPHORE}; max_retries=50",
            ("openai==3.52.0",),
        ),
        Peer(
            "litellm", "LiteLLM router",
            f"rpm or tpm of the deployment set; {_SEMAPHORE}; num_retries=50, no cooldowns",
            ("litellm==1.106.2", "openai==2.54.0"),
        ),
        Peer(
            "inspect_ai", "inspect_ai, adaptive connections",
            "adaptive_connections=True (from 20, at most 100); max_retries=50",
            ("inspect_ai==0.3.285", "openai==3.52.0"),
        ),
        Peer(
            "prompto", "prompto",
            "max_queries at the limit, for tokens at the limit divided by the mean size; max_attempts=50",
            ("prompto[openai]==0.2.1", "openai==1.109.1"),
        ),
    )
}  # fmt: skip


def python_of(peer: Peer) -> str:
    """The Python that has what a client needs; its environment is made if it is missing or of other versions.

    They stand in `~/.cache/agentmesh-peers/NAME` (or under `$XDG_CACHE_HOME`). Raises CannotInstall.
    """
    if not peer.requirements:
        return sys.executable
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agentmesh-peers" / peer.name
    python = folder / "bin" / "python"
    wanted = "\n".join((sys.version, *peer.requirements))
    mark = folder / _MARK
    if mark.is_file() and mark.read_text(encoding="utf-8") == wanted:
        return str(python)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.requirements]
    for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], pip):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_S)
        except subprocess.TimeoutExpired:
            raise CannotInstall(f"not installed within {_INSTALL_S:g} s") from None
        except subprocess.CalledProcessError as error:
            last = (error.stderr or error.stdout).strip().splitlines()[-1:]
            raise CannotInstall(f"not installed: {''.join(last)}") from None
    mark.write_text(wanted, encoding="utf-8")
    return str(python)

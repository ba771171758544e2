"""Variables, `.env` files and keys: what is read from outside, and what must never be shown."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import UserError

__all__ = ["Secret", "key_from_command", "key_from_file", "parse_dotenv", "read_environment"]

COMMAND_SECONDS = 30.0
"""A key helper that takes longer waits for somebody who is not there."""

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*")


class Secret:
    """A text that shows itself to nobody: not in repr, str, format or a traceback. `reveal()` is the only way."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "<secret>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a secret is not written anywhere")


def read_environment(folder: Path, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment, and beneath it what a `.env` in `folder` says. Variables that are empty count as not set."""
    real = os.environ if environ is None else environ
    try:
        text = (folder / ".env").read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / '.env'} cannot be read: {type(error).__name__}") from None
    return {name: value for name, value in {**parse_dotenv(text), **real}.items() if value}


def parse_dotenv(text: str) -> dict[str, str]:
    """Lines `NAME=value`, also with `export` and quotes; what is no such line is passed over.

    In double quotes `\\n`, `\\"` and `\\\\` are read; without quotes a ` #` begins a remark.
    """
    found = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        name, value = match.groups()
        quoted = re.match(r"""(?:"((?:[^"\\]|\\.)*)"|'([^']*)')\s*(?:#.*)?$""", value)
        if quoted is None:
            found[name] = re.split(r"(?:^|\s)#", value, maxsplit=1)[0].rstrip()
        elif quoted[1] is not None:
            found[name] = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], quoted[1])
        else:
            found[name] = quoted[2]
    return found


def key_from_file(name: str, *, folder: Path) -> Secret | str:
    """The key that a file holds, or why there is none. `name` is relative to `folder`; `~` is the user's home."""
    try:
        text = (folder / Path(name).expanduser()).read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else "it cannot be read"
        return f"api_key_file {name}: {reason}"
    return Secret(text) if text and "\n" not in text else f"api_key_file {name}: it does not hold one line with a key"


def key_from_command(command: str | Sequence[str], *, folder: Path, environ: Mapping[str, str]) -> Secret | str:
    """The key that a program prints, or why there is none. No shell is involved; its output is never repeated."""
    try:
        words = shlex.split(command) if isinstance(command, str) else list(command)
        ended = subprocess.run(  # noqa: S603  # the user's own provider file names it
            words, cwd=folder, env={**os.environ, **environ}, capture_output=True, timeout=COMMAND_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"api_key_command did not end within {COMMAND_SECONDS:g} s"
    except (OSError, ValueError, IndexError) as error:
        return f"api_key_command cannot be run: {type(error).__name__}"
    if ended.returncode:
        return f"api_key_command exited with {ended.returncode}"
    text = ended.stdout.decode("utf-8", "replace").strip()
    return Secret(text) if text and "\n" not in text else "api_key_command did not print one line with a key"

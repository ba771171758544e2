"""What becomes of an exception at the root of the command line: a message in words, and an exit code.

| code | meaning |
|---|---|
| 0 | done |
| 1 | finished with failures |
| 2 | bad input or usage |
| 3 | stopped by a budget |
| 4 | internal error; the traceback is in a file |
| 130 | interrupted |
| 141 | nobody reads the output any more |
| 143 | terminated |
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from ..errors import BudgetExceeded, CallFailed, HandleMisuse, InvalidTransition, RunFailed, TaskFailed, UserError

if TYPE_CHECKING:
    from ..events import RunStatus

__all__ = ["EXIT_CODES", "FAILED", "INTERRUPTED", "TERMINATED", "guarded"]

FAILED, USAGE, BUDGET, INTERNAL, INTERRUPTED, BROKEN_PIPE, TERMINATED = 1, 2, 3, 4, 130, 141, 143

EXIT_CODES: Mapping[RunStatus, int] = {"done": 0, "partial": FAILED, "stopped": BUDGET, "cancelled": INTERRUPTED}
"""The exit code of a run by how it ended."""

_JOURNAL_FOLDER = ".agentmesh"


def guarded(command: Callable[[], Any]) -> int:
    """Run a command; returns its exit code: the number it returns, 0 if it returns none, or that of its exception."""
    before = _end_on_sigterm()
    try:
        result = command()
        sys.stdout.flush()
        return result if type(result) is int else 0
    except BaseException as error:  # noqa: BLE001 - the root: whatever it is ends here, in words
        return _explain(_only(error))
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _end_on_sigterm() -> Any:
    """SIGTERM unwinds the stack, so that files are closed and journals are written; a command may do it better.

    Returns what was done at SIGTERM before, None if that cannot be changed from here.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED)

    try:
        return signal.signal(signal.SIGTERM, end)
    except ValueError:  # not in the main thread: whoever runs us there decides
        return None


def _only(error: BaseException) -> BaseException:
    """What a group of errors is really about: an interruption, else a person's mistake, else its first error."""
    leaves = list(_leaves(error))
    for kind in (KeyboardInterrupt, SystemExit, UserError, BudgetExceeded):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0] if len(leaves) == 1 else error


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _explain(error: BaseException) -> int:
    match error:
        case SystemExit():
            return _exit_code(error)
        case UserError():
            return _say(str(error), USAGE)
        case BudgetExceeded():
            return _say(f"stopped by the budget: {error}", BUDGET)
        case RunFailed() | TaskFailed() | CallFailed():
            return _say(str(error), FAILED)
        case KeyboardInterrupt():
            return _say("interrupted", INTERRUPTED)
        case BrokenPipeError():
            return _quiet()
        case HandleMisuse() | InvalidTransition():
            return _internal(error)
    return _usage(error)


def _exit_code(error: SystemExit) -> int:
    if isinstance(error.__context__, BrokenPipeError):  # typer makes an exit of it
        return _quiet()
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    return _say(str(error.code), FAILED)


def _usage(error: BaseException) -> int:
    """What typer says of a wrong command line; everything else is our own fault."""
    from typer import Abort, TyperException

    if isinstance(error, Abort):
        return _say("interrupted", INTERRUPTED)
    if isinstance(error, TyperException):
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "agentmesh"
        message = error.format_message().replace("Value error, ", "")
        if message.startswith("Usage:"):  # nothing was asked of a group of commands: this is its help
            return _say(message, USAGE)
        return _say(f"{path}: {message}\nTry '{path} --help'.", USAGE)
    return _internal(error)


def _internal(error: BaseException) -> int:
    text = "".join(traceback.format_exception(error))
    folder = _JOURNAL_FOLDER if os.path.isdir(_JOURNAL_FOLDER) else None  # None: where temporary files go
    try:
        handle, name = tempfile.mkstemp(prefix="error-", suffix=".txt", dir=folder)
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        return _say(f"internal error; the traceback could not be written to a file:\n{text}", INTERNAL)
    summary = f"{type(error).__name__}: {error}".splitlines()[0]
    return _say(f"internal error: {summary}\nThe traceback is in {Path(name).absolute()}", INTERNAL)


def _say(message: str, code: int) -> int:
    try:
        sys.stderr.write(message.rstrip() + "\n")
    except OSError:  # nobody listens; the code still tells
        return code
    return code


def _quiet() -> int:
    """The reader is gone. The interpreter flushes stdout once more on its way out: let that go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE

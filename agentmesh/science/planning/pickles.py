"""Reads pickles that hold plain data and intervals of time, and can run nothing."""

from __future__ import annotations

import datetime
import io
import pickle
from pathlib import Path
from typing import Any

from ...errors import UserError

__all__ = ["read_pickle"]


class _ForbiddenGlobal(pickle.UnpicklingError):
    """The pickle asks for something other than plain data."""


class _PlainUnpickler(pickle.Unpickler):
    """A pickle can name any function to be called while it is read; this one resolves a single, harmless class."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("datetime", "timedelta"):
            return datetime.timedelta
        raise _ForbiddenGlobal(f"{module}.{name}")


def read_pickle(path: Path) -> Any:
    """The object in a pickle of plain Python data (containers, text, numbers) and `datetime.timedelta`.

    Raises UserError, with the file's name, when the file cannot be read, is no whole pickle, or names any other
    global; that global is never imported.
    """
    try:
        body = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        return _PlainUnpickler(io.BytesIO(body)).load()
    except _ForbiddenGlobal as error:
        raise UserError(
            f"{path}: asks for {error}, and only datetime.timedelta is allowed; nothing of the file was used"
        ) from error
    except Exception as error:  # bytes that are no pickle can make the unpickler raise anything
        raise UserError(f"{path}: is no readable pickle, or only a part of one ({type(error).__name__})") from error

"""Errors that are alone in a group come out of it as they were raised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["lone_errors"]


@contextmanager
def lone_errors() -> Iterator[None]:
    """An error that is alone in a group comes out as it was raised, without the group."""
    try:
        yield
    except BaseException as error:
        lone = _alone(error)
        if lone is error:
            raise
        cause, context, hidden = lone.__cause__, lone.__context__, lone.__suppress_context__
        try:
            raise lone
        finally:
            lone.__cause__, lone.__context__, lone.__suppress_context__ = cause, context, hidden


def _alone(error: BaseException) -> BaseException:
    """The error itself where a group holds just one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error

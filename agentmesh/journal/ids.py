"""Names of runs: they sort by time, are unique without asking anybody, and have a short form for people."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

__all__ = ["new_run_id", "run_time", "short_id"]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_LENGTH = 26
_RANDOM_BITS = 80
_LATEST = 2 ** (5 * _LENGTH - _RANDOM_BITS) - 1  # milliseconds that fit in
_SHORT = 4


def new_run_id(now: float, *, after: str = "") -> str:
    """A new name for a run that begins at `now` (seconds since 1970): 26 characters in the layout of a ULID.

    The first ten are the time in milliseconds, so that names sort by it; the rest is random and never seeded, since
    two runs with one seed are still two runs. The end of it is what `short_id` shows. It sorts behind the name `after`,
    even where the clock has been set back since: then its time is one millisecond later than that one's.
    """
    time = int(now * 1000)
    before = run_time(after)
    if before is not None:
        time = max(time, min(round(before * 1000) + 1, _LATEST))
    number = time << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(5 * (_LENGTH - 1), -1, -5))


def run_time(run_id: str) -> float | None:
    """When a run of this name began, in seconds since 1970; None for a name that `new_run_id` did not make."""
    if len(run_id) != _LENGTH or any(character not in _ALPHABET for character in run_id):
        return None
    number = 0
    for character in run_id:
        number = number << 5 | _ALPHABET.index(character)
    return (number >> _RANDOM_BITS) / 1000


def short_id(run_id: str, others: Iterable[str] = ()) -> str:
    """The shortest end of a run's name, of four characters or more, that no name among `others` shares."""
    rivals = [other for other in others if other != run_id]
    for length in range(_SHORT, len(run_id)):
        tail = run_id[-length:]
        rivals = [other for other in rivals if other.endswith(tail)]
        if not rivals:
            return tail
    return run_id

"""When a quota that is used up is full again, where providers keep to the calendar: days and months by their clocks.

Instants are seconds since 1970, as are results. Months and days begin at midnight UTC, Google's days at midnight in
California.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

__all__ = ["next_day_in_california", "next_day_utc", "next_month_utc"]


def next_day_utc(now: float) -> float:
    """The next midnight UTC."""
    return (_midnight(now) + timedelta(days=1)).timestamp()


def next_month_utc(now: float) -> float:
    """The first midnight UTC of the next month."""
    later = _midnight(now).replace(day=1) + timedelta(days=32)
    return later.replace(day=1).timestamp()


def next_day_in_california(now: float) -> float:
    """The next midnight in California: 07:00 UTC in summer, 08:00 in winter.

    The rule of the Energy Policy Act of 2005 is written out, because many machines have no data of time zones: clocks
    go forward in the night of the second Sunday in March and back in that of the first Sunday in November.
    """
    day = _midnight(now)
    while True:
        summer = _sunday(day.year, 3, number=2) < day.date() <= _sunday(day.year, 11, number=1)
        midnight = (day + timedelta(hours=7 if summer else 8)).timestamp()
        if midnight > now:
            return midnight
        day += timedelta(days=1)


def _midnight(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _sunday(year: int, month: int, *, number: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(6 - first.weekday()) % 7 + 7 * (number - 1))

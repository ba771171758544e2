"""The event log of a run on SQLite: one file per run, one writer, any number of readers."""

from .history import CallHistory, ItemHistory, RunHistory, item_histories, run_history
from .ids import new_run_id, run_time, short_id
from .journal import Journal, JournalStatistics, NullJournal
from .lock import Holder
from .parts import TaskHistory
from .read import RunFile
from .runs import RunSummary, find_run, list_runs, next_run_id, run_files, short_of

__all__ = [
    "CallHistory", "Holder", "ItemHistory", "Journal", "JournalStatistics", "NullJournal", "RunFile", "RunHistory",
    "RunSummary", "TaskHistory", "find_run", "item_histories", "list_runs", "new_run_id", "next_run_id", "run_files",
    "run_history", "run_time", "short_id", "short_of",
]  # fmt: skip

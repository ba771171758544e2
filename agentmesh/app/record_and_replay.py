"""What `--cache`, `--record` and `--replay` mean for a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..client.known import Known
from ..errors import UserError
from ..events import Event
from ..simulate.recording import Recorder
from ..simulate.replayed import Replayed
from .going_on import replayed_run
from .settings import CacheMode, Options

__all__ = ["RecordAndReplay"]


@dataclass(frozen=True, slots=True)
class RecordAndReplay:
    """Where answers come from, if not from models, and where they go. Made by `of`, before anything is asked."""

    recorder: Recorder | None = None
    replayed: Replayed | None = None

    @classmethod
    def of(cls, options: Options, *, goes_on: Path | None = None) -> RecordAndReplay:
        """What the options say, for a run that is new or `goes_on`. Blocks on disk.

        Raises UserError for files and runs that are not there, or no good.
        """
        replayed = None if options.replay is None else _replayed(options.replay, options.journal)
        if replayed is not None and options.display not in ("json", "none"):
            sys.stderr.writelines(f"{notice}\n" for notice in replayed.notices)
        record = None if options.record is None else options.record.expanduser()
        if record is None:
            return cls(None, replayed)
        if (
            options.replay is not None
            and record.exists()
            and Path(options.replay).expanduser().resolve() == record.resolve()
        ):
            raise UserError(f"--record {record}: the run is replayed from this file; name another one")
        recorder = Recorder(record)
        recorder.check()
        if goes_on is not None:
            recorder.begin_with(goes_on)
        return cls(recorder, replayed)

    def cache(self, options: Options) -> CacheMode:
        """How a mesh uses the cache: what is replayed needs none."""
        return "off" if self.replayed is not None else options.cache

    @property
    def known(self) -> Sequence[Known]:
        """Who has answers."""
        return () if self.replayed is None else (self.replayed,)

    @property
    def watchers(self) -> Sequence[Callable[[Event], None]]:
        """Who hears what happens."""
        return () if self.recorder is None else (self.recorder.event,)

    async def finish(self) -> str | None:
        """Write what is left; what went wrong with it, if anything did."""
        if self.recorder is None:
            return None
        try:
            await self.recorder.flush()
        except UserError as error:
            return str(error)
        return None


def _replayed(source: str, folder: Path) -> Replayed:
    run = replayed_run(source, folder)
    return Replayed.of_file(Path(source).expanduser()) if run is None else Replayed.of_run(run)

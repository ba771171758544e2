"""What commands that go on with a run share: their options, how it began, what becomes of calls that were in flight."""

from __future__ import annotations

import json as jsonlib
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import UserError
from .wording import plural

if TYPE_CHECKING:
    from ..events import CallIntent, RunStarted
    from ..journal import RunHistory, RunSummary
    from ..mesh.recall import OnUncertain
    from .settings import Options

__all__ = [
    "PIPE",
    "FailedFlag",
    "FreshFlag",
    "OnUncertainChoice",
    "OnUncertainOption",
    "began_as",
    "can_ask",
    "goes_on_by",
    "newest_options",
    "on_uncertain_of",
    "refuse_output_of_another",
    "replayed_run",
    "told_how_it_goes_on",
    "told_of_failures",
    "told_of_unfinished",
    "tries_failed_again",
    "with_lasting_names",
]

OnUncertainChoice = Literal["resend", "fail", "ask"]
OnUncertainOption = Annotated[
    OnUncertainChoice | None,
    typer.Option("--on-uncertain", help="Calls that were in flight when a run ended: send them again, or not, or ask."),
]
FreshFlag = Annotated[bool, typer.Option("--fresh", help="Begin anew, even where an unfinished run could go on.")]
FailedFlag = Annotated[bool, typer.Option("--failed", help="Try again what has failed, too.")]

PIPE = "-"
"""The name of standard input, where a file is named."""
_FILE_ENDINGS = (".jsonl", ".gz")


def can_ask() -> bool:
    """Whether there is a person who sees a question and can answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def on_uncertain_of(choice: OnUncertainChoice | None) -> OnUncertain:
    """What becomes of open calls: as it was said (`resend` if not), or as a person says when asked.

    Where nobody can be asked, asking raises UserError.
    """
    if choice != "ask":
        return choice or "resend"

    def ask(calls: Sequence[CallIntent]) -> Literal["resend", "fail"]:
        what = f"{plural(len(calls), 'call')} may have been paid without an answer"
        if not can_ask():
            raise UserError(f"{what}, and nobody can be asked here: say --on-uncertain resend or --on-uncertain fail")
        return "resend" if typer.confirm(f"{what}. Send them again", default=True, err=True) else "fail"

    return ask


def began_as(path: Path) -> RunStarted:
    """How a run began, with the options that its newest process was given. Blocks.

    Raises UserError where that cannot be read.
    """
    from ..journal import RunFile, short_id
    from ..journal.history import run_history

    with RunFile.open(path) as file:
        history = run_history(file, failures=0)
    if history.started is None:
        raise UserError(f"run {short_id(path.stem)} ended before it had begun: there is nothing to go on with")
    return replace(history.started, options=newest_options(history))


def newest_options(history: RunHistory) -> Mapping[str, Any]:
    """How the newest process that was begun by a command was told to go on; as the run began, if none was."""
    told = [event.options for event in (history.started, *history.resumed) if event is not None]
    return next((options for options in reversed(told) if "command" in options), told[0] if told else {})


def goes_on_by(run: str, options: Mapping[str, Any], *, content: bool = True) -> str:
    """What to type to go on with a run of these options; `run` is its short name.

    A batch whose lines came through a pipe, or which keeps no content, needs them once more.
    """
    lines = options.get("lines")
    if lines is None or (content and lines != PIPE):
        return f"agentmesh resume {run}"
    words = ["agentmesh", "batch", _short_path(lines)]
    for name in ("model", "system", "max_tokens", "temperature", "first"):
        if options.get(name) is not None:
            words += ["--" + name.replace("_", "-"), str(options[name])]
    for file in options.get("provider_file", ()):
        words += ["--provider-file", _short_path(file)]
    return ("... | " if lines == PIPE else "") + shlex.join([*words, "-o", _short_path(options["output"])])


def _short_path(path: str) -> str:
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path


def told_how_it_goes_on(run: str, history: RunHistory) -> str:
    """How one goes on with an unfinished run, in words; `run` is its short name."""
    options, began = newest_options(history), history.started
    if began is not None and not began.content:
        return "the command that began it goes on with it, as it keeps no content"
    if "command" not in options:
        return "the program that began it goes on with it, by `open_run(..., resume=True)`"
    piped = ", with the same lines through the pipe," if options.get("lines") == PIPE else ""
    return f"`{goes_on_by(run, options)}`{piped} goes on with it"


def told_of_failures(run: RunSummary | None, *, place: str) -> list[str]:
    """What to say when a run that is begun asks what an earlier one asked, which has ended with failures.

    `place` is what a command needs besides to find the journals.
    """
    if run is None or run.status != "partial":
        return []
    from ..journal import short_of

    name, began = short_of(run.path), began_as(run.path)
    failures = f", with {plural(run.failed, 'failure')}" if run.failed else " in part"
    text = f"run {name} asked the same and is finished{failures}; this one begins anew and asks everything again"
    if began.content or began.options.get("command") == "batch":
        command = goes_on_by(name, began.options, content=began.content)
        text += f": `{command}{place} --failed` goes on with that one"
    return [text]


def told_of_unfinished(folder: Path | None, *, name: str, place: str) -> list[str]:
    """What to say when a workflow is begun after a run of it with other inputs that was left unfinished. Blocks."""
    from ..journal import RunSummary, run_files, short_of

    runs = map(RunSummary.readable_or_not, [] if folder is None else run_files(folder))
    last = next((run for run in runs if run.name == name), None)
    if last is None or last.is_running or not last.is_unfinished:
        return []
    try:
        began, run = began_as(last.path), short_of(last.path)
    except UserError:  # how it began cannot be read: nothing goes on with it
        return []
    if began.options.get("command") != "run" or not began.content:
        return []
    goes_on = f"`agentmesh resume {run}{place}` goes on with it"
    return [f"run {run} of {name}, with other inputs or models, is unfinished: {goes_on}"]


def with_lasting_names(options: Options) -> Options:
    """The options with the run that `--replay` names by its id: `last` will be another one soon. Blocks.

    Raises UserError where there is no such run.
    """
    path = None if options.replay is None else replayed_run(options.replay, options.journal)
    return options if path is None else options.model_copy(update={"replay": path.stem})


def replayed_run(source: str, folder: Path) -> Path | None:
    """The file of the run that `--replay` names; None where it names a file. Blocks.

    The last one is the last that has asked models itself, so that the same command again means the same one.
    Raises UserError where there is neither.
    """
    from ..journal import find_run, run_files

    path = Path(source).expanduser()
    if path.is_file():
        return None
    if path.suffix in _FILE_ENDINGS or len(path.parts) > 1:
        raise UserError(f"--replay {source}: there is no such file")
    if source == "last":
        asked = (run for run in run_files(folder) if not _is_replay(run))
        if (newest := next(asked, None)) is not None:
            return newest
    try:
        return find_run(folder, source)
    except UserError as error:
        raise UserError(f"--replay {source}: there is no file of that name; and as a run: {error}") from error


def _is_replay(path: Path) -> bool:
    try:
        return "replay" in began_as(path).options
    except UserError:  # it cannot be read
        return True


def tries_failed_again(failed: bool, before: Mapping[str, Any]) -> tuple[bool, list[str]]:
    """Whether an unfinished run tries again what has failed, as it is said now or was `before`; and what to say of it.

    A process that was told so and did not get to its end leaves some of that undone.
    """
    if failed or not before.get("failed"):
        return failed, []
    return True, ["what has failed is tried again, as this run was last told by --failed"]


def refuse_output_of_another(output: Path | None, began: RunStarted) -> None:
    """Raises UserError where a result would take the place of that of another run than the one that goes on.

    What was there when this run began with the same output was to be replaced from the start.
    """
    if output is None or not output.expanduser().is_file():
        return
    place = output.expanduser()
    if began.options.get("output") == str(output) and place.stat().st_mtime < began.at:
        return
    try:
        there: Any = jsonlib.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        there = None
    from ..journal import short_id

    other = there.get("run") if isinstance(there, Mapping) else None
    if other != began.run:
        what = f"has the result of run {short_id(str(other))}" if other else "is no result of an agentmesh run"
        raise UserError(
            f"-o {output}: it {what}, and run {short_id(began.run)} goes on: name another file, or begin anew with "
            "agentmesh run --fresh"
        )

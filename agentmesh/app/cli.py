"""The root of the command line: which commands there are, and how the one that was named is found and run.

Only the module of the named command is imported, so each starts as fast as it can alone. That is why the table below
repeats each command's purpose in one line.
"""

from __future__ import annotations

import difflib
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .exits import guarded

if TYPE_CHECKING:
    import typer

__all__ = ["COMMANDS", "Command", "main"]


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command is (`module:attribute`, below `agentmesh.app`; a `typer.Typer` or a function), and what for."""

    target: str
    help: str


COMMANDS: dict[str, Command] = {
    "run": Command("workflows:run_command", "Run a workflow, with a live picture of it."),
    "resume": Command("resume:resume_command", "Go on with a run that was killed, interrupted or stopped."),
    "check": Command("workflows:check_command", "Find every mistake in a workflow before the first call."),
    "batch": Command("batch.command:batch_command", "Send the prompts of a JSONL file; one answer line for each."),
    "runs": Command("lookback.runs:runs_command", "List the runs that have a journal."),
    "show": Command("lookback.show:show_command", "Show what a run, or one of its tasks, did."),
    "pause": Command("control:pause_command", "Send nothing new for a run until it is unpaused."),
    "unpause": Command("control:unpause_command", "Go on with a run that was paused."),
    "cancel": Command("control:cancel_command", "End a run that another process runs."),
    "rate": Command("control:rate_command", "Set a limit of a run while it goes on."),
    "export": Command("lookback.export:export_command", "Write a run as JSON lines: events, results or calls."),
    "rm": Command("lookback.tidy:rm_command", "Delete runs."),
    "gc": Command("lookback.tidy:gc_command", "Delete old runs that have got to their end."),
    "bench": Command("bench:app", "Measure models and methods on published tasks."),
    "models": Command("models:models_command", "List providers and models: where found, limits, prices, keys."),
    "serve": Command("serve:app", "Serve a simulated provider, or recorded replies, over HTTP."),
    "schema": Command("schema:schema_command", "Print the JSON Schema of workflow or provider files."),
    "perf": Command("perf.cli:app", "Measure agentmesh itself."),
}

_COMPLETION = ("--install-completion", "--show-completion")
_EXAMPLE = "agentmesh run hypotheses"

_COLLECT = (20_000, 20, 20)
"""How many new objects make Python look for cycles. By its own 700 it looks through a graph of 100,000 tasks so often
while that is built that this is a sixth of the whole work; and hardly anything here is held by cycles."""


def main(arguments: Sequence[str]) -> int:
    """Run `agentmesh ARGUMENTS...`; returns the exit code. Every error ends here, in words."""
    gc.set_threshold(*_COLLECT)
    return guarded(lambda: _dispatch(list(arguments)))


def _dispatch(arguments: list[str]) -> Any:
    if "_AGENTMESH_COMPLETE" in os.environ or any(one.startswith(_COMPLETION) for one in arguments[:1]):
        return _complete(arguments)
    if not arguments:
        sys.stderr.write(_help())
        return 2
    name, *rest = arguments
    if name in ("--help", "-h", "help"):
        if rest and rest[0] in COMMANDS:
            return _run(rest[0], ["--help"])
        sys.stdout.write(_help())
        return 0
    if name == "--version":
        from .. import __version__

        sys.stdout.write(f"agentmesh {__version__}\n")
        return 0
    if name not in COMMANDS:
        sys.stderr.write(_unknown(name))
        return 2
    return _run(name, rest)


def _run(name: str, arguments: list[str]) -> Any:
    from typer.main import get_command

    command = get_command(_root([name], add_completion=False))
    _keep_examples(command)
    return command.main(args=[name, *arguments], prog_name="agentmesh", standalone_mode=False)


def _keep_examples(command: Any) -> None:
    """Mark the examples in help texts, so that their lines are not filled: what is typed stays on one line."""
    if command.help:
        command.help = command.help.replace("\n\nExample", "\n\n\b\nExample")
    for inner in getattr(command, "commands", {}).values():
        _keep_examples(inner)


def _complete(arguments: list[str]) -> Any:
    """Let typer complete, or install its completion: the named command as it is, of the others the names."""
    from typer.main import get_command

    words = (os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or "").split()
    root = _root([name for name in words[1:2] if name in COMMANDS], add_completion=True)
    for name, command in COMMANDS.items():
        if name not in words[1:2]:
            root.command(name, help=command.help)(_nothing)
    return get_command(root).main(args=arguments, prog_name="agentmesh", standalone_mode=False)


def _root(names: Sequence[str], *, add_completion: bool) -> typer.Typer:
    """The root as typer sees it, with these commands, imported now."""
    import typer

    # no markup: square brackets in a help text are what a person types
    root = typer.Typer(rich_markup_mode=None, add_completion=add_completion)
    root.callback()(_nothing)
    for name in names:
        module, _, attribute = COMMANDS[name].target.partition(":")
        found = getattr(importlib.import_module(f"agentmesh.app.{module}"), attribute)
        if isinstance(found, typer.Typer):
            root.add_typer(found, name=name)
        else:
            root.command(name)(found)
    return root


def _nothing() -> None:
    """Stands for a command whose options nobody asked about, and for the root, which does nothing by itself."""


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = ["Usage: agentmesh COMMAND [ARGUMENTS]...", "", "Many LLM agents, as fast as the rate limits allow.", ""]
    lines += ["Commands:", *(f"  {name:{width}}  {command.help}" for name, command in COMMANDS.items()), ""]
    lines += ["Options:", "  --version             Print the version.", "  --help                Print this."]
    lines += [f"  {'--install-completion':{20}}  Complete commands and options in your shell.", ""]
    lines += ["'agentmesh COMMAND --help' tells more of each. A first example, which needs no key:", f"  {_EXAMPLE}"]
    return "\n".join(lines) + "\n"


def _unknown(name: str) -> str:
    if name.startswith("-"):
        return f"agentmesh: there is no option {name} before the command\nTry 'agentmesh --help'.\n"
    close = difflib.get_close_matches(name, COMMANDS, n=2, cutoff=0.5)
    hint = f" (did you mean {' or '.join(close)}?)" if close else ""
    return f"agentmesh: there is no command '{name}'{hint}\nTry 'agentmesh --help'.\n"

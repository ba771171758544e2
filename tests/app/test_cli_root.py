"""The root of the command line: what it imports, how it ends, and that mistakes are told in words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from agentmesh import __version__
from agentmesh.app import cli
from agentmesh.app.exits import guarded
from agentmesh.errors import BudgetExceeded, CallFailed, ErrorInfo, InvalidTransition, RunFailed, UserError

ROOT = Path(__file__).parents[2]
HEAVY = ("anyio", "httpx", "aiohttp", "pydantic", "rich", "typer", "numpy", "sqlite3", "jinja2", "ruamel")


def run(
    *arguments: str, code: str | None = None, cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(["-c", code] if code else ["-m", "agentmesh"]), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
    )  # fmt: skip


IMPORTED = f"""
import sys
sys.argv = ["agentmesh", *sys.argv[1:]]
from agentmesh.__main__ import main
code = main()
print([name for name in {HEAVY} if name in sys.modules])
sys.exit(code)
"""


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_version_and_help_import_nothing_heavy(argument: str) -> None:
    done = run(argument, code=IMPORTED)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stdout.startswith(f"agentmesh {__version__}\n" if argument == "--version" else "Usage: agentmesh ")


def test_help_names_every_command() -> None:
    text = run("--help").stdout
    width = max(map(len, cli.COMMANDS))
    for name, command in cli.COMMANDS.items():
        assert f"  {name:{width}}  {command.help}\n" in text


def test_a_command_that_does_not_exist() -> None:
    done = run("rnu")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("agentmesh: there is no command 'rnu' (did you mean run or runs?)\n")


def test_no_command_at_all_shows_the_help() -> None:
    done = run()
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: agentmesh COMMAND")


def test_a_wrong_option_is_told_in_one_line_and_without_a_traceback(tmp_path: Path) -> None:
    done = run("runs", "--jsn", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("agentmesh runs: No such option: --jsn")
    assert "Traceback" not in done.stderr


def test_examples_in_help_texts_stay_on_one_line() -> None:
    assert "\n  Example: agentmesh schema workflow > workflow.json\n" in run("schema", "--help").stdout


def test_a_mistake_in_the_projects_file_ends_with_2(tmp_path: Path) -> None:
    (tmp_path / "agentmesh.toml").write_text('display = "ful"')
    done = run("models", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("agentmesh.toml: display: must be full, plain, json or none, not 'ful'")


def test_completion_of_commands_and_their_options() -> None:
    words = run(_AGENTMESH_COMPLETE="complete_bash", COMP_WORDS="agentmesh r", COMP_CWORD="1").stdout.split()
    assert words == [name for name in cli.COMMANDS if name.startswith("r")]
    options = run(_AGENTMESH_COMPLETE="complete_bash", COMP_WORDS="agentmesh models --", COMP_CWORD="2").stdout.split()
    assert "--provider-file" in options


def _raise(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("no such file"), 2, "no such file\n"),
        (ExceptionGroup("tasks", [UserError("no such file"), ValueError("x")]), 2, "no such file\n"),
        (BudgetExceeded("$2.00 is spent", unit="usd"), 3, "stopped by the budget: $2.00 is spent\n"),
        (RunFailed("r", []), 1, "0 of the tasks of run r failed: \n"),
        (CallFailed(ErrorInfo("auth", "no key")), 1, "auth: no key\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (BaseExceptionGroup("tasks", [KeyboardInterrupt(), ValueError("x")]), 130, "interrupted\n"),
        (SystemExit(143), 143, ""),
        (SystemExit(), 0, ""),
    ],
)
def test_every_exception_has_its_code_and_message(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(_raise(error)) == code
    assert capsys.readouterr().err == message.replace(": \n", ":\n")


@pytest.mark.parametrize("error", [ZeroDivisionError("x / 0"), InvalidTransition("ended twice", ["done"])])
def test_an_internal_error_is_one_line_and_a_file(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".agentmesh").mkdir()
    monkeypatch.chdir(tmp_path)
    assert guarded(_raise(error)) == 4
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"internal error: {type(error).__name__}: {str(error).splitlines()[0]}"
    file = Path(second.removeprefix("The traceback is in "))
    assert file.parent == tmp_path / ".agentmesh"
    assert "Traceback (most recent call last)" in file.read_text()


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1), ("text", 0), (True, 0)])
def test_what_a_command_returns_is_its_code(returned: object, code: int) -> None:
    assert guarded(lambda: returned) == code


def test_the_handler_of_sigterm_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert guarded(lambda: None) == 0
    assert signal.getsignal(signal.SIGTERM) == before


TERMINATED = """
import os, signal, sys
from agentmesh.app.exits import guarded
def command():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    finally:
        print("closed")
sys.exit(guarded(command))
"""


def test_sigterm_unwinds_and_ends_with_143() -> None:
    done = run(code=TERMINATED)
    assert (done.returncode, done.stdout) == (143, "closed\n")


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    code = "import sys\nfrom agentmesh.app.exits import guarded\nsys.exit(guarded(lambda: print('x' * 1_000_000)))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_only_the_named_command_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("agentmesh.app.made_up")
    seen = []
    module.command = lambda: seen.append("called")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "agentmesh.app.made_up", module)
    commands = {"mine": cli.Command("made_up:command", "Mine."), "other": cli.Command("missing:command", "Not there.")}
    monkeypatch.setattr(cli, "COMMANDS", commands)
    assert cli.main(["mine"]) == 0
    assert seen == ["called"]

"""What `import agentmesh` gives: complete for those who write against it, lazy, and told to type checkers."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import agentmesh as am
from agentmesh import errors

ROOT = Path(am.__file__).parents[1]
USERS = [*(ROOT / "examples").glob("*.py"), *(Path(__file__).parents[1]).rglob("test_*.py")]


def test_the_names_are_these() -> None:
    assert sorted(am.__all__) == [
        "Address", "Agent", "AgentmeshError", "Budget", "BudgetExceeded", "Call", "CallFailed", "Contest", "Context",
        "ErrorInfo", "Event", "HandleMisuse", "InputProblems", "Mesh", "Outcome", "OutputType", "Resume", "Retry",
        "Run", "RunFailed", "Settings", "Standing", "Stop", "Task", "TaskFailed", "Timeouts", "Tool", "Usage",
        "UserError", "__version__", "ask_sync", "call", "open_mesh", "tool",
    ]  # fmt: skip
    assert dir(am) == sorted(am.__all__)


def test_every_name_is_there_and_says_what_it_is() -> None:
    for name in am.__all__:
        found = getattr(am, name)
        if inspect.isclass(found) or inspect.isfunction(found):
            assert found.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        am.nothing  # noqa: B018  # asking is the test


def test_what_can_be_caught_is_public() -> None:
    raised = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    internal = {"InvalidTransition", "Problem"}
    assert {name for name in raised if issubclass(getattr(errors, name), Exception)} - internal <= set(am.__all__)


def test_what_examples_and_tests_use_is_public() -> None:
    used = {
        name for path in USERS for name in re.findall(r"\bam\.([A-Za-z]\w*)", path.read_text()) if name != "nothing"
    }
    assert used <= set(am.__all__)
    assert {"Agent", "call", "tool", "open_mesh", "ask_sync", "Budget", "Stop", "Settings", "Context"} <= used


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(am.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {name.name for node in block.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert seen == set(am.__all__) - {"__version__"}


def test_importing_costs_nothing_but_what_is_used() -> None:
    code = "import sys, agentmesh; agentmesh.Budget; print(sorted({m.split('.')[0] for m in sys.modules}))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not {"numpy", "rich", "typer", "aiohttp", "jinja2", "ruamel"} & set(ast.literal_eval(ended.stdout))


def test_opening_a_mesh_takes_its_options_by_name() -> None:
    parameters = inspect.signature(am.open_mesh).parameters
    assert {"budget", "journal", "provider_files", "settings", "seed", "http", "watchers"} <= parameters.keys()
    with pytest.raises(TypeError, match="jornal"):
        am.open_mesh(jornal=None)  # type: ignore[call-arg]  # a type checker sees it as well


def test_what_users_make_says_what_it_is() -> None:
    assert repr(am.Agent("x", model=["a/b", "c/d"])) == "<Agent x on a/b, c/d>"
    assert repr(am.Budget(usd=2)).startswith("<Budget budget: ")
    assert am.Settings(max_tokens=5).over(am.Settings(temperature=0, max_tokens=9)) == am.Settings(5, 0)
    assert am.Stop(matches=3) == am.Stop(regret=0.05, matches=3)
    for make in (lambda: am.Budget(usd=-1), lambda: am.Budget(time=float("nan")), lambda: am.Stop(matches=0)):
        with pytest.raises(ValueError, match="must be"):
            make()

"""The architecture as tests: who may import whom, which libraries enter through which door, how large things may get.

Every import counts: those for type checkers and those inside functions too.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from functools import cache
from pathlib import Path

import pytest

import agentmesh

PACKAGE = Path(agentmesh.__file__).parent
ROOT = PACKAGE.parent

FLOORS: tuple[tuple[str, ...], ...] = (
    ("",),  # the modules that stand in the package itself
    ("flow", "limits", "dialects", "catalog", "journal"),
    ("client",),
    ("simulate",),
    ("agents", "ranking"),
    ("mesh",),
    ("workflow",),
    ("science",),
    ("app",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ENTRANCES = {"agentmesh", "agentmesh.__main__"}  # they lead to every floor and stand on none

DOORS: dict[str, set[str]] = {
    "aiohttp": {"client.transport"},
    # Connections are made in client.transport and, in process, in simulate.transport; the others speak in httpx's
    # types: a URL, what users hand in, and the bare client that agentmesh is measured against.
    "httpx": {
        "client.transport", "simulate.transport", "client.endpoint", "mesh.mesh", "mesh.endpoints", "app.perf.calls",
    },
    "jinja2": {"template"},
    "numpy": {"ranking.ratings"},
    "pydantic_settings": {"app.settings"},
    "rich": {"app"},
    "ruamel": {"marked_yaml"},
    "sqlite3": {"journal"},
    "subprocess": {"catalog.environment", "app.perf"},  # `api_key_command`; servers to be measured
    "trio": {"clock"},  # its mock clock is told there when to wait
    "tenacity": {"agents.tools", "mesh.perform"},  # tools and Python tasks; calls are tried again by their endpoint
    "typer": {"app"},
    "uvicorn": {"app.serve"},
    "zstandard": {"journal"},
    # threads and processes: only the clock's door, so that virtual time knows of them
    "anyio.to_thread": {"clock"},
    "concurrent": {"clock"},
    "threading": {"clock"},
    "_thread": {"clock"},
    "multiprocessing": set(),
}  # fmt: skip

OWN_NAMES = {"agentmesh"}
BROUGHT_ALONG = {"pydantic_core", "typing_extensions", "yarl"}  # parts of what pydantic and aiohttp offer
EXTRAS = {"trio"}  # imported only where it runs already
MAX_MODULE, MAX_FUNCTION, MAX_POSITIONAL = 400, 60, 2
THREE_POSITIONAL = {
    "agents.tools.perform_tool", "dialects.anthropic.Anthropic.read_refusal",
    "dialects.base.Dialect.read_refusal", "dialects.openai_chat.OpenAIChat.read_refusal",
    "dialects.refusals.read_refusal", "journal.encode.decode", "limits.admission.Admission.push_back",
    "limits.admission.Admission.row", "mesh.perform.answer",
    "mesh.perform.on_failure_of", "mesh.stream.stream_text", "ranking.verdict.judge_prompt",
    "science.planning.ask.ask",
}  # fmt: skip
"""Functions whose three arguments have one natural order. There shall be no more of them."""
FOREIGN_SIGNATURES = {"app.settings"}  # pydantic prescribes it


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package, by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text(), str(path))
    return found


def file_of(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def imports(module: str) -> tuple[tuple[str, int], ...]:
    """Everything that a module imports, by absolute name down to the name itself, with its line."""
    return tuple(_imports(module))


def _imports(module: str) -> Iterator[tuple[str, int]]:
    package = module.split(".") if file_of(module).name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((f"{source}.{alias.name}", node.lineno) for alias in node.names)


def room(module: str) -> str:
    """The room of a module of ours: the folder below the package, or nothing for those in the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else ""


def below(module: str, places: AbstractSet[str]) -> bool:
    name = module.removeprefix("agentmesh.")
    return any(name == place or name.startswith(place + ".") for place in places)


def all_of(module: str) -> list[str] | None:
    for node in modules()[module].body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


@cache
def functions(module: str) -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of a module with its dotted name, methods and inner ones included."""

    def walk(node: ast.AST, name: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            inner = f"{name}.{child.name}" if isinstance(child, ast.stmt) and named else name  # type: ignore[attr-defined]
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield inner, child
            yield from walk(child, inner)

    return list(walk(modules()[module], module.removeprefix("agentmesh.")))


def test_every_room_has_its_floor() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    assert folders == set(FLOOR_OF) - {""}


def test_imports_go_downwards_and_rooms_on_one_floor_do_not_know_each_other() -> None:
    wrong = [
        f"{file_of(module).relative_to(ROOT)}:{line} imports {name}"
        for module in modules().keys() - ENTRANCES
        for name, line in imports(module)
        if name.startswith("agentmesh.")
        and (room(name) != room(module) or name in ENTRANCES)
        and FLOOR_OF[room(name)] >= FLOOR_OF[room(module)]
    ]
    assert not sorted(wrong)


def test_the_lowest_floor_has_no_cycle() -> None:
    """Modules that stand in the package itself have an order too: each imports only what can be there before it."""
    known = {name for name in modules() if not room(name) and name not in ENTRANCES}
    needs = {module: {name.rpartition(".")[0] for name, _ in eager_imports(module)} & known for module in known}
    done: set[str] = set()
    while ready := {module for module in known - done if needs[module] <= done}:
        done |= ready
    assert not known - done


def eager_imports(module: str) -> Iterator[tuple[str, int]]:
    lazy = {
        line
        for node in ast.walk(modules()[module])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING")
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    return ((name, line) for name, line in imports(module) if line not in lazy)


def test_a_library_enters_only_through_its_door() -> None:
    wrong = [
        f"{file_of(module).relative_to(ROOT)}:{line} imports {name}"
        for library in DOORS
        for module in modules()
        for name, line in imports(module)
        if (name == library or name.startswith(library + ".")) and not below(module, DOORS[library])
    ]
    assert not sorted(wrong)


def test_every_door_is_used() -> None:
    """A door that nobody goes through any more is a line to remove."""
    used = {(module, name) for module in modules() for name, _ in imports(module)}
    for library, places in DOORS.items():
        for place in places:
            through = any(below(module, {place}) and name.startswith(library) for module, name in used)
            assert through or place == "clock", f"{library} in {place}"


def test_dependencies_are_what_is_imported_and_nothing_else() -> None:
    """What is imported but not asked for breaks on a bare machine; what is asked for in vain makes installs larger."""
    text = (ROOT / "pyproject.toml").read_text()
    asked = re.findall(r'^    "([\w.-]+)>=', text[: text.index("[project.scripts]")], re.MULTILINE)
    asked_for = {name.replace("-", "_").removesuffix(".yaml") for name in asked}
    names = {name.split(".")[0] for module in modules() for name, _ in imports(module)}
    assert names - set(sys.stdlib_module_names) - OWN_NAMES <= asked_for | BROUGHT_ALONG | EXTRAS
    assert asked_for <= names


def test_modules_and_functions_stay_small() -> None:
    for module in modules():
        lines = len(file_of(module).read_text().splitlines())
        assert lines <= MAX_MODULE, f"{module} has {lines} lines"
        for name, function in functions(module):
            lines = (function.end_lineno or 0) - function.lineno + 1
            assert lines <= MAX_FUNCTION, f"{name} has {lines} lines"


def test_functions_take_two_positional_arguments_and_then_keywords() -> None:
    many = set()
    for module in modules():
        for name, function in functions(module):
            arguments = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
            count = len([one for one in arguments if one not in ("self", "cls")])
            private = re.search(r"\._", name)  # and constructors, which take what a thing is made of
            if count > MAX_POSITIONAL and not private and not is_command(function):
                many.add(name)
    unknown = {name for name in many - THREE_POSITIONAL if not below(name, FOREIGN_SIGNATURES)}
    assert not unknown
    assert not THREE_POSITIONAL - many, "these have become better: remove them from the list"


def is_command(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether typer calls it, by names: its parameters are options and arguments of a command."""
    return function.name.endswith("_command") or any(
        isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.func.attr in ("command", "callback")
        for one in function.decorator_list
    )


def test_a_module_says_what_it_is_for() -> None:
    for module, tree in modules().items():
        opening = " ".join((ast.get_docstring(tree) or "").partition("\n\n")[0].split())
        assert re.fullmatch(r"[^a-z].{20,}[.:]", opening), f"{module} opens with {opening!r}"


def test_all_lists_what_a_module_offers() -> None:
    for module, tree in modules().items():
        if len(tree.body) == 1:
            continue  # a package that is only a folder
        names = all_of(module)
        offered = {
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
            and not (isinstance(node, ast.FunctionDef) and node.decorator_list and is_command(node))
        }
        assert names is not None, f"{module} has no __all__"
        assert len(names) == len(set(names)), module
        assert offered - {"__getattr__", "__dir__"} <= set(names), module
        found = importlib.import_module(module)
        assert [name for name in names if not hasattr(found, name)] == [], module


def test_modules_import_from_each_other_only_what_is_offered() -> None:
    wrong = []
    for module in modules():
        for name, line in imports(module):
            source, _, last = name.rpartition(".")
            if source in modules() and name not in modules() and last not in (all_of(source) or ()):
                wrong.append(f"{file_of(module).relative_to(ROOT)}:{line} takes {last} from {source}")
    assert not wrong


def test_the_public_names_resolve_and_are_told() -> None:
    assert sorted(agentmesh.__all__) == dir(agentmesh)
    for name in agentmesh.__all__:
        found = getattr(agentmesh, name)
        assert name.startswith("__") or found.__doc__, f"{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        agentmesh.nothing  # noqa: B018


def test_nothing_is_left_for_later() -> None:
    words = re.compile(r"\b(TODO|FIXME|XXX)\b")
    for folder in ("agentmesh", "examples", "providers", "workflows"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".yaml"):
                assert not words.search(path.read_text()), path

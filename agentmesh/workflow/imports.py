"""Finds what a workflow names outside its file: other files, and Python functions and classes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["CannotFind", "find_file", "import_object"]


class CannotFind(Exception):
    """There is no such file, module or name; or it cannot be loaded. The message says why, `hint` what would help."""

    def __init__(
        self, message: str, hint: str | None = None, *, word: str = "", candidates: Sequence[str] = ()
    ) -> None:
        self.hint, self.word, self.candidates = hint, word, tuple(candidates)
        super().__init__(message)


def find_file(name: str, folders: Sequence[Path]) -> Path:
    """The file in the first of the folders that has it. Raises CannotFind."""
    for folder in folders:
        if (path := folder / Path(name).expanduser()).is_file():
            return path
    raise CannotFind(f"there is no file {name}", f"looked in {' and '.join(map(str, dict.fromkeys(folders)))}")


def import_object(target: str, folders: Sequence[Path]) -> Any:
    """What `module:name` names, from the first folder that has the module, else from what is installed.

    The folders stay on the import path, since functions may import when they run. Raises CannotFind, whatever goes
    wrong inside the module.
    """
    module_name, colon, name = target.partition(":")
    if not (colon and name.isidentifier() and all(part.isidentifier() for part in module_name.split("."))):
        raise CannotFind(f"'{target}' does not name anything in Python", "write module:name")
    folder = next((folder for folder in folders if _has(folder, module_name)), None)
    if folder is not None:
        _prefer(folder, module_name)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            looked = " and ".join(map(str, dict.fromkeys(folders)))
            raise CannotFind(f"there is no module {error.name}", f"looked in {looked}") from None
        raise CannotFind(f"{module_name} cannot be imported: {error}") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a person's own module may raise anything
        raise CannotFind(f"{module_name} cannot be imported: {type(error).__name__}: {error}") from None
    try:
        return getattr(module, name)
    except AttributeError:
        public = [known for known in vars(module) if not known.startswith("_")]
        raise CannotFind(f"the module {module_name} has no '{name}'", word=name, candidates=public) from None


def _has(folder: Path, module_name: str) -> bool:
    top, path = module_name.split(".")[0], folder.joinpath(*module_name.split("."))
    candidates = (folder / f"{top}.py", folder / top / "__init__.py", path.with_suffix(".py"), path / "__init__.py")
    return any(candidate.is_file() for candidate in candidates)


_preferred: set[Path] = set()
"""Folders of workflows that were loaded before in this process."""


def _prefer(folder: Path, module_name: str) -> None:
    """Put the folder first, and forget a module of the same name that an earlier workflow had beside it."""
    top, place = module_name.split(".")[0], folder.resolve()
    if top in sys.stdlib_module_names:
        raise CannotFind(f"a module called {top} hides Python's own", "give the file another name")
    sys.path[:] = [str(place), *(entry for entry in sys.path if entry != str(place))]
    loaded = sys.modules.get(top)
    origin = getattr(loaded, "__file__", None) or next(iter(getattr(loaded, "__path__", ())), None)
    if origin is not None and not Path(origin).resolve().is_relative_to(place):
        if not any(Path(origin).resolve().is_relative_to(earlier) for earlier in _preferred):
            raise CannotFind(f"a module called {top} is loaded from {origin}", "give the file another name")
        for name in [name for name in sys.modules if name == top or name.startswith(f"{top}.")]:
            del sys.modules[name]
    _preferred.add(place)
    importlib.invalidate_caches()

"""Finds provider files and parses them: only the one that is asked for, and what it extends.

Places are searched in order, the first that describes a provider wins: files named on the command line, `providers/` of
the project, the user's own, and what is shipped. Which file describes a provider is seen by a glance at its text, so a
broken file stops nobody who does not need it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

from ..errors import InputProblems, Problem, UserError
from ..marked_yaml import MarkedYaml, did_you_mean, load_yaml
from .spec import ProviderSpec

__all__ = ["Origin", "ProviderFile", "Source", "shipped_folder"]

Origin = Literal["--provider-file", "project", "user", "shipped"]

_REPLACED_WHOLE = frozenset({"auth", "prices", "accounts"})
_KEY_FIELDS = ("api_key_env", "api_key_file", "api_key_command", "accounts")
_PROVIDER = re.compile(r"""^["']?provider["']?\s*:\s*["']?([A-Za-z0-9_-]+)""", re.MULTILINE)
_PROVIDER_IN_BRACES = re.compile(r"""[{,]\s*["']?provider["']?\s*:\s*["']?([A-Za-z0-9_-]+)""")


@dataclass(frozen=True, slots=True)
class ProviderFile:
    """A provider and where it was found. `spec` has what it extends already in it."""

    spec: ProviderSpec
    path: str
    origin: Origin


@dataclass(frozen=True)
class _Entry:
    """A file, at its rank in the order of search; files of one place share a rank."""

    rank: int
    origin: Origin
    file: Traversable

    @cached_property
    def text(self) -> str:
        try:
            return self.file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{self.file} cannot be read: {type(error).__name__}") from None

    @cached_property
    def name(self) -> str | None:
        """The provider that the file describes, by a glance at its text."""
        match = _PROVIDER.search(self.text) or _PROVIDER_IN_BRACES.search(self.text)
        return match[1] if match else None

    @cached_property
    def yaml(self) -> MarkedYaml:
        return load_yaml(self.text, file=str(self.file))


class Source:
    """The provider files of one project. Reads the disk when asked; what was parsed is kept."""

    def __init__(self, *, provider_files: Iterable[Path], project: Path, user_folder: Path) -> None:
        self._searched = [str(project / "providers"), str(user_folder)]
        named = [file for path in provider_files for file in _named(path)]
        shipped = shipped_folder()
        places: list[tuple[Origin, Sequence[Traversable]]] = [
            ("--provider-file", named),
            ("project", _yaml_files(project / "providers")),
            ("user", _yaml_files(user_folder)),
            ("shipped", _yaml_files(shipped) if shipped else ()),
        ]
        self._entries = [_Entry(rank, origin, file) for rank, (origin, files) in enumerate(places) for file in files]
        self._found: dict[str, ProviderFile] = {}

    def __repr__(self) -> str:
        return f"<Source of {len(self._entries)} provider files, {len(self._found)} in use>"

    def load_named(self) -> None:
        """Parse the files that were named one by one: a mistake in them is never passed over. Raises InputProblems."""
        for entry in self._entries:
            if entry.rank == 0:
                _, spec = self._load(entry, ())
                self.find(spec.provider)

    def names(self) -> list[str]:
        """The names of all providers, sorted, by a glance at each file."""
        return sorted({entry.name for entry in self._entries if entry.name})

    def find(self, name: str) -> ProviderFile:
        """The provider of this name. Raises UserError if there is none, InputProblems if its file is wrong."""
        if name not in self._found:
            entry = self._entry(name, self._entries)
            if entry is None:
                hint = did_you_mean(name, self.names())
                hint = f" ({hint})" if hint else ""
                raise UserError(
                    f"no provider is called '{name}'{hint}; searched {', '.join(self._searched)} "
                    f"and what is shipped; known are {', '.join(self.names())}"
                )
            _, spec = self._load(entry, ())
            self._found[name] = ProviderFile(spec, str(entry.file), entry.origin)
        return self._found[name]

    def _entry(self, name: str, entries: Sequence[_Entry]) -> _Entry | None:
        """The file that describes the provider, at the first place where one does. Raises UserError for two at once."""
        found = [entry for entry in entries if entry.name == name]
        same_place = [str(entry.file) for entry in found if entry.rank == found[0].rank]
        if len(same_place) > 1:
            raise UserError(f"provider {name} is described twice: in {' and in '.join(same_place)}")
        return found[0] if found else None

    def _load(self, entry: _Entry, stack: tuple[_Entry, ...]) -> tuple[Mapping[str, Any], ProviderSpec]:
        """A file's data over what it extends, and its checked form; mistakes of a base are told in its own file."""
        yaml = entry.yaml
        if isinstance(yaml.data, Mapping) and isinstance(yaml.data.get("extends"), str):
            base, _ = self._load(self._base(entry, stack), (*stack, entry))
            yaml = yaml.with_data(_overlay(base, yaml.data))
        spec = yaml.validate(ProviderSpec)
        if problems := list(_check(spec, yaml)):
            raise InputProblems(problems)
        return yaml.data, spec

    def _base(self, entry: _Entry, stack: tuple[_Entry, ...]) -> _Entry:
        """The file that this one extends. A file may extend its own name: then that of a later place is meant."""
        name, own = entry.yaml.data["extends"], entry.yaml.data.get("provider")
        base = self._entry(name, [other for other in self._entries if name != own or other.rank > entry.rank])
        if base is None:
            where = " in a later place" if name == own else ""
            hint = None if name == own else did_you_mean(name, self.names())
            raise InputProblems([entry.yaml.problem(["extends"], f"no provider is called '{name}'{where}", hint=hint)])
        if base in (*stack, entry):
            raise InputProblems([entry.yaml.problem(["extends"], f"{name} extends this provider in turn")])
        return base


def shipped_folder() -> Traversable | None:
    """Where the shipped provider files are: inside the installed package, or beside it in a checkout."""
    package = resources.files("agentmesh")
    inside = package / "_data" / "providers"
    if inside.is_dir():
        return inside
    beside = Path(str(package)).parent / "providers"
    return beside if beside.is_dir() else None


def _named(path: Path) -> list[Traversable]:
    if path.is_dir():
        return _yaml_files(path)
    if not path.is_file():
        raise UserError(f"--provider-file {path}: there is no such file")
    return [path]


def _yaml_files(folder: Traversable) -> list[Traversable]:
    if not folder.is_dir():
        return []
    files = (file for file in folder.iterdir() if file.name.endswith((".yaml", ".yml")) and file.is_file())
    return sorted(files, key=lambda file: file.name)


def _overlay(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The base but for what `own` says. A provider that says where its key is, takes no other from its base."""
    kept = {name: value for name, value in base.items() if name not in ("title", "extends")}
    if any(name in own for name in _KEY_FIELDS):
        kept = {name: value for name, value in kept.items() if name not in _KEY_FIELDS}
    return _merge(kept, own)


def _merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Maps key by key, everything else whole; an empty value takes back what the base says."""
    merged = dict(base)
    for name, value in own.items():
        old = merged.get(name)
        if value is None and name in merged:
            del merged[name]
        elif isinstance(value, Mapping) and isinstance(old, Mapping) and name not in _REPLACED_WHOLE:
            merged[name] = _merge(old, value)
        else:
            merged[name] = value
    return merged


def _check(spec: ProviderSpec, yaml: MarkedYaml) -> Iterable[Problem]:
    """What the shape alone does not tell."""
    for name in ("dialect", "base_url"):
        if getattr(spec, name) is None:
            yield yaml.problem([], f"{name} is missing")
    for name, model in spec.models.items():
        if model.pool is not None and model.pool not in spec.pools:
            hint = did_you_mean(model.pool, spec.pools)
            yield yaml.problem(["models", name, "pool"], f"no pool is called '{model.pool}'", hint=hint)
        for number, price in enumerate(model.prices if isinstance(model.prices, list) else ()):
            if price.from_ and price.until and price.from_ > price.until:
                yield yaml.problem(["models", name, "prices", number], "from is later than until")

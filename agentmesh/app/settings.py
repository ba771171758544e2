"""Global options: from flags, else from `AGENTMESH_*` variables, else from the project's file, the nearest wins.

The project's file is `agentmesh.toml`, or `[tool.agentmesh]` in `pyproject.toml`, in the working directory or the
nearest folder above it. Paths in it are relative to it. Rates add up: of two for the same limit the nearer one holds.
"""

from __future__ import annotations

import os
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from ..errors import InputProblems, Problem, UserError
from ..explain import explain
from ..marked_yaml import did_you_mean

if TYPE_CHECKING:
    from ..catalog import Catalog

__all__ = ["CacheMode", "DisplayKind", "Options", "told"]

DisplayKind = Literal["full", "plain", "json", "none"]
CacheMode = Literal["off", "read", "use", "refresh"]

_PREFIX = "AGENTMESH_"
_PROJECT_FILES = ("agentmesh.toml", "pyproject.toml")  # in one folder, the first that speaks of agentmesh counts
_PATHS = ("provider_file", "journal", "record")


class Options(BaseSettings):
    """The global options of a command. `display` None: by whether stderr is a terminal."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    provider_file: Annotated[tuple[Path, ...], NoDecode] = ()
    display: DisplayKind | None = None
    journal: Path = Path(".agentmesh")
    no_journal: bool = False
    _place: str = PrivateAttr("")
    no_content: bool = False
    seed: int | None = None
    rate: Annotated[tuple[str, ...], NoDecode] = ()
    cache: CacheMode = "off"
    record: Path | None = None
    replay: str | None = None

    @field_validator("rate", mode="before")
    @classmethod
    def _several_rates(cls, value: object) -> object:
        """One text may have several rates, with spaces between them."""
        return tuple(value.split()) if isinstance(value, str) else value

    @field_validator("provider_file", mode="before")
    @classmethod
    def _several_files(cls, value: object) -> object:
        """One text may name several files, as PATH does."""
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_word_on_journals(self) -> Self:
        if self.no_journal and "journal" in self.model_fields_set:
            raise ValueError("journal and no_journal cannot both be meant")
        return self

    @property
    def place(self) -> str:
        """What a command needs besides to find these journals: the flag, if they were named by one."""
        return self._place

    @property
    def journal_folder(self) -> Path | None:
        """Where the journal is to be written; None for nowhere."""
        return None if self.no_journal else self.journal

    def catalog(self) -> Catalog:
        """The catalogue of models as seen from the working directory, with the rates that were set. Blocks on disk.

        Raises UserError for what is named and does not exist.
        """
        from ..catalog import Catalog, override_rate  # here, as few commands need it

        return Catalog.load(self.provider_file).with_rates([override_rate(rate) for rate in self.rate])

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed: `load` reads the other sources, so that it can say where a mistake is."""
        return (init_settings,)

    @classmethod
    def load(cls, *, folder: Path | None = None, **flags: Any) -> Options:
        """The options as they are for a command run in `folder` (default: the working directory).

        `flags` are those of the command line; None, false and empty ones were not given. Raises InputProblems that
        name the file, variable or flag, and the key.
        """
        given = _Source("flag", {name: v for name, v in flags.items() if v is not None and v is not False and v != []})
        sources = [_project(folder or Path.cwd()), _environment(cls), given]
        merged: dict[str, Any] = {}
        origin: dict[str, _Source] = {}
        rates: list[str] = []
        for source in sources:  # the farthest first
            values = source.values
            if values.get("no_journal") and "journal" not in values:
                merged.pop("journal", None)
            elif "journal" in values and "no_journal" not in values:
                merged.pop("no_journal", None)
            merged.update(values)
            if "rate" in values:
                rates += source.rates()
                merged["rate"] = rates
            origin.update(dict.fromkeys(values, source))
        try:
            options = cls(**merged)
        except ValidationError as error:
            raise InputProblems(_problems(error, merged, origin=origin)) from None
        if "journal" in given.values:
            options._place = f" --journal {shlex.quote(str(options.journal))}"
        return options


def told(options: Options) -> dict[str, Any]:
    """How the options say where answers come from and go, as a run records it so that it goes on in the same way."""
    values: dict[str, Any] = {}
    if options.cache != "off":
        values["cache"] = options.cache
    if options.record is not None:
        values["record"] = str(options.record.expanduser().absolute())
    if options.replay is not None:
        file = Path(options.replay).expanduser()
        values["replay"] = str(file.absolute()) if file.is_file() else options.replay
    return values


@dataclass(frozen=True, slots=True)
class _Source:
    """Where values come from: `flag`, `variable`, or the path of a file."""

    place: str
    values: Mapping[str, Any]
    prefix: str = ""

    def rates(self) -> Sequence[str]:
        """The rates, each read once, so that a mistake is told with its place. Raises InputProblems."""
        from ..catalog import override_rate

        said = self.values["rate"]
        rates = said.split() if isinstance(said, str) else said
        if not (isinstance(rates, Sequence) and all(isinstance(rate, str) for rate in rates)):
            raise InputProblems([self.problem("rate", "must be TARGET.requests_per_minute=300, or a list of such")])
        problems = []
        for rate in rates:
            try:
                override_rate(rate)
            except UserError as error:
                problems.append(self.problem("rate", str(error)))
        if problems:
            raise InputProblems(problems)
        return rates

    def problem(self, key: str, message: str, *, hint: str | None = None) -> Problem:
        match self.place:
            case "flag":
                return Problem(message, key="--" + key.replace("_", "-"), hint=hint)
            case "variable":
                return Problem(message, key=_PREFIX + key.upper(), hint=hint)
        return Problem(message, file=self.place, key=self.prefix + key, hint=hint)


def _problems(error: ValidationError, values: Mapping[str, Any], *, origin: Mapping[str, _Source]) -> Sequence[Problem]:
    problems = []
    for found in explain(error, values, model=Options):
        key = str(found.path[0]) if found.path else "no_journal"
        hint = (did_you_mean(found.word, found.candidates) if found.word else None) or found.hint
        problems.append(origin[key].problem(key, found.message, hint=hint))
    return problems


def _environment(model: type[Options]) -> _Source:
    try:
        return _Source("variable", EnvSettingsSource(model)())
    except SettingsError as error:
        raise InputProblems([Problem(str(error))]) from None


def _project(folder: Path) -> _Source:
    """What the nearest project file says; nothing if there is none. Raises InputProblems if it is not TOML."""
    for place in (folder, *folder.parents):
        for name in _PROJECT_FILES:
            path = place / name
            try:
                data = tomllib.loads(path.read_text(encoding="utf-8"))
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise InputProblems([Problem(f"this is not TOML: {error}", file=_shown(path, folder))]) from None
            prefix = "tool.agentmesh." if name == "pyproject.toml" else ""
            tool = data.get("tool")
            table = data if not prefix else tool.get("agentmesh") if isinstance(tool, dict) else None
            if table is None:
                continue
            if not isinstance(table, dict):
                raise InputProblems([Problem("must be a table", file=_shown(path, folder), key="tool.agentmesh")])
            return _Source(_shown(path, folder), _from_project(table, place), prefix)
    return _Source("", {})


def _from_project(table: Mapping[str, Any], place: Path) -> dict[str, Any]:
    """The values with paths seen from the project's folder; `provider-file` is as good as `provider_file`."""
    values = {name.replace("-", "_"): value for name, value in table.items()}
    for name in _PATHS:
        match values.get(name):
            case str() as path:
                values[name] = _below(place, path, several=name == "provider_file")
            case list() as paths if all(isinstance(path, str) for path in paths):
                values[name] = [place / path for path in paths]
    return values


def _below(place: Path, path: str, *, several: bool) -> Any:
    return [place / Path(path).expanduser()] if several else place / Path(path).expanduser()


def _shown(path: Path, folder: Path) -> str:
    """The path as short as it can be from here."""
    return path.name if path.parent == folder else str(path)

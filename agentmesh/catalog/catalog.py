"""All providers and models that can be named, and what each name stands for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import InputProblems, Problem, UserError
from ..marked_yaml import did_you_mean
from .environment import read_environment
from .resolve import RateOverride, ResolvedModel, Surroundings, accounts_of, resolve_endpoint
from .source import ProviderFile, Source
from .spec import ProviderSpec

__all__ = ["Catalog", "user_folder"]

_SEPARATOR = re.compile(r"[/:]")


def user_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where a user's own provider files are: `~/.config/agentmesh/providers`, or below `XDG_CONFIG_HOME`."""
    home = environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "agentmesh" / "providers"


class Catalog:
    """Providers by name, models by `provider/model`. Made by `Catalog.load`; reads a file once, when it is needed."""

    def __init__(self, source: Source, around: Surroundings) -> None:
        self._source = source
        self._around = around
        self._endpoints: dict[tuple[str, bool], list[ResolvedModel]] = {}

    @classmethod
    def load(
        cls,
        provider_files: Iterable[str | Path] = (),
        project: str | Path | None = None,
        *,
        user_dir: str | Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Catalog:
        """The catalogue as it is seen from the folder `project` (default: the working directory).

        `provider_files` are files or folders, and come first. A `.env` in `project` adds to the environment. Blocks
        on disk. Raises UserError and InputProblems for what was named and cannot be read.
        """
        folder = Path.cwd() if project is None else Path(project)
        around = Surroundings(read_environment(folder, environ), folder)
        source = Source(
            provider_files=[Path(path) for path in provider_files],
            project=folder,
            user_folder=user_folder(around.environ) if user_dir is None else Path(user_dir),
        )
        source.load_named()
        return cls(source, around)

    def __repr__(self) -> str:
        return f"<Catalog of {', '.join(self.names())}>"

    def names(self) -> list[str]:
        """The names of all providers, sorted."""
        return self._source.names()

    def provider(self, name: str) -> ProviderFile:
        """A provider and where it was found. Raises UserError if there is none, InputProblems if its file is wrong."""
        return self._source.find(name)

    def providers(self) -> tuple[list[ProviderFile], list[Problem]]:
        """Every provider that can be read, and what is wrong with the files of the others."""
        found: list[ProviderFile] = []
        problems: list[Problem] = []
        for name in self.names():
            try:
                found.append(self.provider(name))
            except UserError as error:
                problems += getattr(error, "problems", None) or [Problem(str(error))]
        return found, problems

    def resolve(self, name: str, *, keys: bool = True) -> list[ResolvedModel]:
        """What `provider/model` stands for: one endpoint, or one for each account of the provider.

        `account#name/model` means one account alone. With `keys`, keys are read (`api_key_command` may take a moment);
        a missing one is no error here but told by `key_problem`. Raises UserError for unknown names.
        """
        if (name, keys) not in self._endpoints:
            self._endpoints[name, keys] = self._resolve(name, replace(self._around, keys=keys))
        return list(self._endpoints[name, keys])

    def has_resolved(self, name: str) -> bool:
        """Whether a model has been resolved with its keys, so that nothing need be read for it."""
        return (name, True) in self._endpoints

    def with_rates(self, overrides: Sequence[RateOverride]) -> Catalog:
        """The same catalogue with limits set from outside.

        Raises UserError for a target that does not exist, and for a figure that makes no sense there.
        """
        around = replace(self._around, overrides=(*self._around.overrides, *overrides))
        changed = Catalog(self._source, around)
        for override in overrides:
            target, slash, _ = override.target.partition("/")
            try:
                models = [override.target] if slash else [f"{target}/{name}" for name in changed._some_model(target)]
                for name in models:
                    changed.resolve(name, keys=False)
            except InputProblems:
                raise  # of the provider's file, with places of their own
            except UserError as error:
                raise UserError(f"the rate {override}: {error}") from None
        for (name, keys), known in tuple(self._endpoints.items()):
            if keys:  # they are not read again
                pairs = zip(known, changed.resolve(name, keys=False), strict=True)
                changed._endpoints[name, keys] = [replace(old, limits=new.limits) for old, new in pairs]
        return changed

    def _some_model(self, target: str) -> list[str]:
        """A name that a model of the provider can have; none if it has no models."""
        names = list(self._accounts(target)[0].spec.models)
        return ["any" if name == "*" else name for name in names[:1]]

    def _resolve(self, name: str, around: Surroundings) -> list[ResolvedModel]:
        separator = _SEPARATOR.search(name)
        if separator is None:
            models = list(self.provider(name).spec.models) if name in self.names() else []
            example = next((f"{name}/{model}" for model in models if model != "*"), "sim/large")
            raise UserError(f"'{name}' names no model: write provider/model, such as {example}")
        target, model = name[: separator.start()], name[separator.end() :]
        file, accounts = self._accounts(target)
        models = [known for known in file.spec.models if known != "*"]
        if model in ("", "*") or (model not in models and "*" not in file.spec.models):
            hint = did_you_mean(model, models)
            raise UserError(
                f"{file.spec.provider} has no model called '{model}'{f' ({hint})' if hint else ''}; "
                f"{file.path} has {', '.join(models) or 'none'}"
            )
        return [resolve_endpoint(a, spec, model=model, around=around, file=file) for a, spec in accounts.items()]

    def _accounts(self, target: str) -> tuple[ProviderFile, dict[str, ProviderSpec]]:
        """The provider and those of its accounts that `provider` or `provider#name` means."""
        provider, hash_sign, _ = target.partition("#")
        file = self.provider(provider)
        accounts = accounts_of(file.spec)
        if not hash_sign:
            return file, accounts
        if target not in accounts:
            hint = did_you_mean(target, accounts)
            raise UserError(f"no account is called '{target}'{f' ({hint})' if hint else ''}")
        return file, {target: accounts[target]}

"""The models of a workflow: short names, what a run puts in their place, and whether they can be called at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from ..catalog import Catalog
from ..errors import Problem, UserError
from ..marked_yaml import did_you_mean
from .report import Report
from .spec import NAME, RouteSpec

__all__ = ["Models", "Resolve", "problem_of_model"]

Resolve = Callable[[str], str | None]
"""What is wrong with a model (unknown, no key), as a text; None if it can be called."""


class Models:
    """Which models are used where. `options` are texts `MODEL` (for all) or `NAME=MODEL` (for one short name)."""

    def __init__(self, specs: Mapping[str, RouteSpec], options: Sequence[str], *, report: Report) -> None:
        self._report = report
        self._used: dict[str, list[str]] = {}
        self._places: dict[str, tuple[str | int, ...] | str] = {}
        self.routes: dict[str, tuple[str, ...]] = {}
        self.only: str | None = None
        for name, spec in specs.items():
            self.routes[name] = tuple(spec.of)
            written = report.marked.data["models"][name]
            for number, model in enumerate(spec.of):
                path = ("models", name) if isinstance(written, str) else ("models", name, "of", number)
                if _is_full(model):
                    self._places.setdefault(model, path)
                else:
                    report.add(path, f"'{model}' is no model", hint="write provider/model")
        for option in options:
            self._override(option)

    def _override(self, option: str) -> None:
        name, equals, model = option.partition("=")
        if not (equals and re.fullmatch(NAME, name)):
            name, model = "", option
        place = f"--model {option}"
        if name and name not in self.routes:
            known = ", ".join(self.routes) or "none"
            self._tell(place, f"there is no model '{name}' in this workflow", hint=f"there are {known}")
        elif model in self.routes and name:
            self.routes[name] = self.routes[model]
        elif not _is_full(model):
            self._tell(place, f"'{model}' is no model", hint="write provider/model")
        elif name:
            self.routes[name] = (model,)
            self._places[model] = place
        else:
            self.only = model
            self._places[model] = place

    def _tell(self, place: Sequence[str | int] | str, message: str, *, hint: str | None = None) -> None:
        if isinstance(place, str):
            self._report.problems.append(Problem(message, key=place, hint=hint))
        else:
            self._report.add(place, message, hint=hint)

    def use(self, word: str, path: tuple[str | int, ...], *, agent: str | None = None) -> None:
        """Note that a model, by short name or in full, is used at `path`."""
        if word not in self.routes and not _is_full(word):
            if word not in self._report.marked.data.get("models", {}):
                hint = did_you_mean(word, self.routes) or " or ".join(["write provider/model", *self.routes])
                self._report.add(path, f"there is no model '{word}'", hint=hint)
            return
        for model in (self.only,) if self.only else self.routes.get(word, (word,)):
            if not _is_full(model):
                continue
            self._places.setdefault(model, path)
            users = self._used.setdefault(model, [])
            if agent is not None and agent not in users:
                users.append(agent)

    def resolve(self, resolve: Resolve | None) -> None:
        """Ask for each model that is used whether it can be called."""
        for model, users in self._used.items():
            trouble = resolve(model) if resolve is not None else None
            if trouble is not None:
                who = f"agent{'s' if len(users) > 1 else ''} {', '.join(users)}" if users else "a task"
                self._tell(self._places[model], f"{trouble} (for {model}, used by {who})")


def _is_full(model: str) -> bool:
    """Whether a word is provider/model; some write a colon."""
    provider, _, name = re.sub("[:/]", "/", model, count=1).partition("/")
    return bool(provider.strip() and name.strip())


def problem_of_model(catalog: Catalog, *, keys: bool = True) -> Resolve:
    """What a check of workflows asks of a model: what is wrong with it, or None. Without `keys` missing ones pass."""

    def problem(name: str) -> str | None:
        try:
            found = catalog.resolve(name, keys=keys)
        except UserError as error:
            return str(error)
        problems = [model.key_problem for model in found]
        return problems[0] if keys and all(problems) else None  # of several accounts, one that has its key will do

    return problem

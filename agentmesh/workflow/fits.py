"""Whether the calls of a workflow fit into the limits of their models and into its budgets, before the first one."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from ..catalog import Catalog, ResolvedModel
from ..client.asking import price_problem
from ..errors import InputProblems, Problem, UserError
from ..marked_yaml import load_yaml
from .plan import AgentPlan, TaskPlan, Text, Workflow

__all__ = ["check_prices", "check_sizes"]

_CHARACTERS_PER_TOKEN = 4.0  # as a lane estimates that knows nothing yet
_HOLE = re.compile(r"\{\{.*?\}\}|\{#.*?#\}", re.DOTALL)


def check_sizes(workflow: Workflow, catalog: Catalog) -> None:
    """Raises InputProblems for each task of which no call can fit into a limit of any of its models.

    Counted is what is certain: the words of instructions and prompt as they are written, and max_tokens.
    """
    marked = load_yaml(workflow.text, file=workflow.file)
    problems: list[Problem] = []
    for task in workflow.tasks.values():
        agent = workflow.agents.get(task.agent or "")
        if agent is None:
            continue
        reasons = [_too_large(task, agent, model, workflow) for model in _models(task, agent, workflow, catalog)]
        if reasons and all(reasons):
            problems.append(marked.problem(["tasks", task.name], str(reasons[0]), of_key=True))
    if problems:
        raise InputProblems(problems)


def check_prices(workflow: Workflow, catalog: Catalog, *, dollars: bool = False) -> None:
    """Raises InputProblems for each model of unknown price whose calls a budget in dollars would count.

    With `dollars` there is such a budget outside of the workflow.
    """
    problems: dict[str, tuple[str, str]] = {}
    for task in workflow.tasks.values():
        agent = workflow.agents.get(task.agent or (task.rank.judge if task.rank is not None else ""))
        if agent is None:
            continue
        levels = (workflow.limits, agent.limits, task.limits)
        if not dollars and all(level.budget is None or level.budget.usd is None for level in levels):
            continue
        for model in _all_models(task, agent, workflow, catalog):
            if (problem := price_problem(model)) is not None:
                problems.setdefault(model.name, (task.name, problem))
    if problems:
        marked = load_yaml(workflow.text, file=workflow.file)
        told = [marked.problem(["tasks", name], problem, of_key=True) for name, problem in problems.values()]
        raise InputProblems(told)


def _all_models(task: TaskPlan, agent: AgentPlan, workflow: Workflow, catalog: Catalog) -> Iterator[ResolvedModel]:
    """The endpoints that may serve a task or stand in for one, as far as their names are known by now."""
    words = [agent.model or ""] if task.model is None else [task.model.text]
    if task.on_failure.model is not None:
        words.append(task.on_failure.model)
    for word in words:
        for name in workflow.routes(word):
            try:
                yield from catalog.resolve(name, keys=False)
            except UserError:  # told where models are looked at
                continue


def _models(task: TaskPlan, agent: AgentPlan, workflow: Workflow, catalog: Catalog) -> Iterator[ResolvedModel]:
    """The endpoints that may serve a task, if they are known by now."""
    if workflow.only_model is None and (agent.model is None or task.model is not None):
        return
    for name in workflow.routes(agent.model or ""):
        try:
            yield from catalog.resolve(name, keys=False)
        except UserError:  # told where models are looked at
            continue


def _too_large(task: TaskPlan, agent: AgentPlan, model: ResolvedModel, workflow: Workflow) -> str | None:
    """Which limit a call of the task is above, in words."""
    settings = task.limits.settings.over(agent.limits.settings).over(workflow.limits.settings)
    texts: Sequence[Text | None] = [agent.instructions, task.prompt, *([task.rank.criteria] if task.rank else [])]
    tokens = math.ceil(sum(map(_characters, texts)) / _CHARACTERS_PER_TOKEN)
    for scope, limit in model.limits:
        need = limit.reserved(tokens, settings.max_tokens or 0)
        if need > limit.largest:
            whose = {"account": model.account, "model": model.name}.get(scope, scope.replace(":", " "))
            return (
                f"a call of {agent.name} needs at least {need:,.0f} {limit.unit.replace('_', ' ')}, and {whose} allows "
                f"{limit.largest:,.0f} at once ({limit.name}): lower max_tokens, shorten its prompt, or take a model "
                "that allows more"
            )
    return None


def _characters(text: Text | None) -> int:
    """Characters that are there whatever is filled in; none of a text with conditions and loops is certain."""
    if text is None:
        return 0
    written = text if isinstance(text, str) else text.text
    return 0 if "{%" in written else len(_HOLE.sub("", written))

"""From a checked workflow to a graph: every task's work, its dependencies, and its items as they become known."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import CallFailed, ErrorInfo
from ..flow.graph import Collection, Node
from ..mesh.contest import Matches
from ..mesh.run import Run
from ..mesh.work import Job, Work
from ..outcome import Address
from ..references import TemplateProblem
from .expand import Element, Expansion, key_of_elements
from .plan import Source, TaskPlan, Workflow
from .tasks import TaskState
from .views import Item, Scoped, SoFarView, TasksView
from .works import Works

__all__ = ["Build"]


class Build:
    """One workflow in one run. `tasks` has the state of each task by name."""

    def __init__(self, run: Run, workflow: Workflow) -> None:
        self.run = run
        self.workflow = workflow
        self.tasks: dict[str, TaskState] = {}
        self._works = Works(run, workflow, self.scope)

    def build(self) -> None:
        """Put the whole workflow into the graph; collections go on growing while the run runs."""
        plans = [plan for plan in self.workflow.tasks.values() if not plan.is_fallback]
        self.tasks.update((plan.name, TaskState(self.run, plan)) for plan in plans)
        for plan in plans:
            if plan.is_collection:
                self._when_ended(plan.before, functools.partial(self._expand, plan))
            elif plan.kind == "rank":
                self._start_contest(plan)
            else:
                self.tasks[plan.name].set_node(self._add(plan, Address(plan.name), Scoped()))

    def scope(self, item: Scoped | None = None) -> dict[str, Any]:
        """What the texts and expressions of an item see; without one, what those of the workflow's outputs do."""
        chain = item.chain if item is not None else {}
        scope = {
            "inputs": self.workflow.inputs, "tasks": TasksView(self.tasks, chain), "so_far": SoFarView(self.tasks),
        }  # fmt: skip
        if item is not None:
            scope |= {name: value.value if isinstance(value, Item) else value for name, value in item.names.items()}
        return scope

    # --- collections

    def _when_ended(self, tasks: Sequence[str], begin: Callable[[], None]) -> None:
        """Call `begin` when all of these tasks have ended; at once if there is none."""
        pending = len(tasks)
        if not pending:
            begin()

        def count_off() -> None:
            nonlocal pending
            pending -= 1
            if not pending:
                begin()

        for name in tasks:
            self.tasks[name].when_ended(count_off)

    def _expand(self, plan: TaskPlan) -> None:
        """Let the items of a collection come. What it cannot be made from becomes one item that says so."""
        state = self.tasks[plan.name]
        blocked = next((one for name in plan.before if not (one := self.tasks[name]).has_value), None)
        try:
            if blocked is not None:
                assert blocked.node is not None
                node = self._add(plan, Address(plan.name), Scoped(), needs=[blocked.node], collection=state.collection)
                state.add(Item(node, (), {}))
                state.close()
                return
            samples = None if plan.samples is None else _count(plan.samples.evaluate(self.scope()))
            expansion = Expansion(
                plan.sources, self.tasks, scope=self.scope, close=state.close, waits_for_values=plan.key is not None,
                make=lambda elements: self._make(plan, elements, samples),
            )  # fmt: skip
            expansion.start() if plan.sources else self._make_samples(plan, samples or 0)
        except TemplateProblem as problem:
            node = self._add_broken(plan, Address(plan.name), ErrorInfo("bad_request", str(problem)))
            state.add(Item(node, (), {}))
            state.close()

    def _make_samples(self, plan: TaskPlan, samples: int) -> None:
        """Items that only have a number: the sample is the key."""
        state = self.tasks[plan.name]
        for sample in range(samples):
            item = Scoped(position=(sample,), names={"sample": sample})
            node = self._add(plan, Address(plan.name, str(sample)), item, collection=state.collection)
            state.add(Item(node, item.position, item.names))
        state.close()

    def _make(self, plan: TaskPlan, elements: tuple[Element, ...], samples: int | None) -> None:
        """The items of one combination of elements: one, or one per sample."""
        state = self.tasks[plan.name]
        item = _scoped(plan, elements)
        error = next((element.error for element in elements if element.error is not None), None)
        needs = [need for element in elements for need in element.needs]
        try:
            computed = None
            if plan.key is not None and error is None and all(need.state == "done" for need in needs):
                computed = plan.key.evaluate(self.scope(item))
        except TemplateProblem as problem:
            error = ErrorInfo("bad_request", f"key: {problem}")
        key = state.keys.unique(key_of_elements(elements, computed))
        for sample in [None] if samples is None else range(samples):
            one = item if sample is None else item.with_sample(sample)
            address = Address(plan.name, key or None, sample)
            if error is not None:
                node = self._add_broken(plan, address, error)
            else:
                node = self._add(plan, address, one, needs=needs, collection=state.collection)
            state.add(Item(node, one.position, one.names, one.chain))

    # --- nodes

    def _add(
        self, plan: TaskPlan, address: Address, item: Scoped, *, needs: Sequence[Node] = (),
        collection: Collection | None = None, work: Work | None = None,
    ) -> Node:  # fmt: skip
        """One task of the graph, waiting for all that its plan waits for."""
        needs, requires = list(needs), []
        for name in (*plan.waits, *plan.order):
            state = self.tasks[name]
            if state.collection is not None:
                requires.append((state.collection, plan.require))
            elif state.node is not None:
                needs.append(state.node)
        return self.run.add(
            work or self._works.of(plan, item), address=address, lane=self._works.lane(plan, item),
            priority=self._works.priority(plan), path=plan.path, needs=needs, requires=requires, collection=collection,
        )  # fmt: skip

    def _add_broken(self, plan: TaskPlan, address: Address, error: ErrorInfo) -> Node:
        """An item that cannot be made sense of fails as itself; the others go on."""

        async def fail(job: Job) -> Any:
            raise CallFailed(error)

        return self.run.add(Work(fail), address=address, path=plan.path, collection=self.tasks[plan.name].collection)

    # --- tournaments

    def _start_contest(self, plan: TaskPlan) -> None:
        """A tournament starts at once, and its entrants join as they appear."""
        assert plan.rank is not None
        state = self.tasks[plan.name]
        matches = state.matches = self._works.matches(plan, plan.rank)
        work = self._works.contest(plan, matches)
        state.set_node(self._add(plan, Address(plan.name), Scoped(), work=work))
        self._when_ended(plan.before, functools.partial(self._let_enter, plan.rank.entrants, matches))

    def _let_enter(self, source: Source, matches: Matches) -> None:
        if source.form == "items" and source.task is not None:
            self.tasks[source.task].each_end(functools.partial(_enter, matches), matches.complete)
            return

        def enter(elements: tuple[Element, ...]) -> None:
            if elements[0].error is None:
                matches.enter(elements[0].key, elements[0].value)

        Expansion(
            (source,), self.tasks, scope=self.scope, make=enter, close=matches.complete, waits_for_values=True
        ).start()  # fmt: skip


def _enter(matches: Matches, item: Item) -> None:
    if item.node.state == "done":
        matches.enter(item.node.address.tail or item.node.address.task, item.value)


def _scoped(plan: TaskPlan, elements: tuple[Element, ...]) -> Scoped:
    """What an item over these elements sees: the chain's names, its own, and `item`, the nearest."""
    names: dict[str, Any] = {}
    chain: dict[str, Item] = {}
    for element in elements:
        names |= element.names
        chain |= element.chain
    for source, element in zip(plan.sources, elements, strict=True):
        names[source.name] = element.item if element.item is not None else element.value
    position = tuple(number for element in elements for number in element.position)
    return Scoped(position=position, names=names, chain={name: chain[name] for name in chain if name in plan.chain})


def _count(value: Any) -> int:
    """A number of samples. Raises TemplateProblem for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TemplateProblem(f"samples must be a whole number from 0 on, not {value!r}")
    return value

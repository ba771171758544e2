"""From a checked workflow to a graph: every task's work, its dependencies, and its items as they become known."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..client.caller import Halted
from ..errors import CallFailed, ErrorInfo, UserError
from ..flow.graph import Collection, Node, Require
from ..keys import key_of
from ..mesh.contest import Matches
from ..mesh.run import Run
from ..mesh.work import Job, Work
from ..outcome import Address
from ..template import Expression, TemplateProblem
from .expand import Element, Expansion
from .lasting import lasting_tasks
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
        self._works = Works(run, workflow, scope=self.scope, wait_for=self._wait_for)
        self._so_far = SoFarView(self.tasks)

    def build(self) -> None:
        """Put the whole workflow into the graph; collections go on growing while the run runs."""
        plans = [plan for plan in self.workflow.tasks.values() if not plan.is_fallback]
        lasting = lasting_tasks(self.workflow)
        self.tasks.update((one.name, TaskState(self.run, one, lasting=one.name in lasting)) for one in plans)
        for plan in plans:
            if plan.is_collection:
                self._when_ended(plan.before, functools.partial(self._expand, plan))
            elif plan.rank is not None:
                self._start_contest(plan)
            else:
                work = self._works.of(plan, Scoped())
                self.tasks[plan.name].set_node(self._add(plan, Address(plan.name), work=work, lane=self._lane(plan)))
        for state in self.tasks.values():
            state.built()

    def scope(self, item: Scoped | None = None) -> dict[str, Any]:
        """What the texts and expressions of an item see; without one, what those of the workflow's outputs do."""
        tasks = TasksView(self.tasks, item.chain if item is not None else {})
        scope = {"inputs": self.workflow.inputs, "tasks": tasks, "so_far": self._so_far}
        return scope if item is None else scope | item.values()

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
        """Let the items of a collection come. Where it cannot be said what they are, one item says why."""
        state = self.tasks[plan.name]
        if self._too_little(plan, plan.before) is not None:
            needs, requires = self._dependencies(plan, plan.before)
            node = self.run.add(
                self._works.of(plan, Scoped()), address=Address(plan.name), path=plan.path, needs=needs,
                requires=requires, collection=state.collection,
            )  # fmt: skip
            state.add(node, Scoped())
            state.close()
            return
        try:
            if not plan.sources:
                self._make_samples(plan)
                return
            expansion = Expansion(
                plan.sources, self.tasks, scope=self.scope, close=state.close, waits_for_values=_reads_elements(plan),
                make=lambda elements: self._make(plan, elements),
            )  # fmt: skip
            expansion.start()
        except TemplateProblem as problem:
            self._add_broken(plan, Address(plan.name), error=_bad(problem))
            state.close()

    def _make_samples(self, plan: TaskPlan) -> None:
        """Items that only have a number: the sample is the key. Raises TemplateProblem."""
        for sample in self._samples(plan, None):
            item = Scoped(position=(sample,), names={"sample": sample})
            self._add_item(plan, Address(plan.name, str(sample)), item=item)
        self.tasks[plan.name].close()

    def _make(self, plan: TaskPlan, elements: tuple[Element, ...]) -> None:
        """The items of one combination of elements: one, or one per sample."""
        item = _scoped(plan, plan.sources, elements=elements)
        error = next((element.error for element in elements if element.error is not None), None)
        key = "+".join(element.key for element in elements)
        samples: Sequence[int | None] = [None]
        there = error is None and (not _reads_elements(plan) or all(element.there for element in elements))
        if there and plan.key is not None:
            key, error = self._key(plan, item, otherwise=key)
        if there and plan.samples is not None:
            try:
                samples = self._samples(plan, item)
            except TemplateProblem as problem:
                error = _bad(problem)
        key = self.tasks[plan.name].keys.unique(key)
        needs = [need for element in elements for need in element.needs]
        for sample in samples:
            one = item if sample is None else item.with_sample(sample)
            address = Address(plan.name, key or None, sample)
            if error is not None:
                self._add_broken(plan, address, error=error, item=one)
            else:
                self._add_item(plan, address, item=one, needs=needs)

    def _key(self, plan: TaskPlan, item: Scoped, *, otherwise: str) -> tuple[str, ErrorInfo | None]:
        """The key that the plan's expression gives; the elements' own where it gives none."""
        assert plan.key is not None
        try:
            value = plan.key.evaluate(self.scope(item))
            return (otherwise if value is None or value == "" else key_of(value)), None
        except TemplateProblem as problem:
            return otherwise, ErrorInfo("bad_request", f"key: {problem}")
        except TypeError as error:
            return otherwise, ErrorInfo("bad_request", f"key: {error}")

    def _samples(self, plan: TaskPlan, item: Scoped | None) -> Sequence[int]:
        """The numbers of an element's samples. Raises TemplateProblem for what is no number of them."""
        value = plan.samples.evaluate(self.scope(item)) if plan.samples is not None else None
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise TemplateProblem(f"samples must be a whole number from 0 on, not {value!r}")
        return range(value)

    # --- nodes

    def _add_item(self, plan: TaskPlan, address: Address, *, item: Scoped, needs: Sequence[Node] = ()) -> None:
        state = self.tasks[plan.name]
        node = self._add(
            plan, address, work=self._works.of(plan, item), lane=self._lane(plan, item), needs=needs,
            collection=state.collection,
        )  # fmt: skip
        state.add(node, item)

    def _add(
        self, plan: TaskPlan, address: Address, *, work: Work, lane: str = "", needs: Sequence[Node] = (),
        collection: Collection | None = None, also: Sequence[str] = (),
    ) -> Node:  # fmt: skip
        """One task of the graph, waiting for all that its plan waits for, and for the tasks in `also`."""
        singles, requires = self._dependencies(plan, (*plan.waits, *plan.order, *also))
        return self.run.add(
            work, address=address, lane=lane, priority=self._works.priority(plan), path=plan.path,
            needs=[*needs, *singles], requires=requires, collection=collection,
        )  # fmt: skip

    def _add_broken(self, plan: TaskPlan, address: Address, *, error: ErrorInfo, item: Scoped | None = None) -> None:
        """An item that cannot be made sense of fails as itself; the others go on."""
        state = self.tasks[plan.name]
        node = self.run.add(_failing(error), address=address, path=plan.path, collection=state.collection)
        state.add(node, item or Scoped())

    def _lane(self, plan: TaskPlan, item: Scoped | None = None) -> str:
        return self._works.lane(plan, item or Scoped())

    # --- dependencies

    def _dependencies(
        self, plan: TaskPlan, names: Sequence[str]
    ) -> tuple[list[Node], list[tuple[Collection, Require]]]:
        """What an item of a plan needs of these tasks: their nodes, and how much of their collections."""
        states = [self.tasks[name] for name in names]
        nodes = [state.node for state in states if state.node is not None]
        return nodes, [(state.collection, plan.require) for state in states if state.collection is not None]

    def _too_little(self, plan: TaskPlan, names: Sequence[str]) -> str | None:
        """The first of these tasks, all of which have ended, that does not have what a plan needs of it."""
        for name in names:
            found = self.tasks[name].collection
            enough = found is None or plan.require.met(found.succeeded, len(found.members))
            if not (enough and self.tasks[name].has_value):
                return name
        return None

    async def _wait_for(self, plan: TaskPlan) -> None:
        """Wait for what a fallback reads. Raises CallFailed if that does not succeed, Halted if the run stops."""
        names = (*plan.waits, *plan.order)
        for name in names:
            if not await self.tasks[name].wait_ended():
                raise Halted
        if (missing := self._too_little(plan, names)) is not None:
            raise CallFailed(ErrorInfo("dependency", f"{plan.name} needs {missing}, which did not succeed"))

    # --- tournaments

    def _start_contest(self, plan: TaskPlan) -> None:
        """A tournament starts at once, and its entrants join as they appear."""
        assert plan.rank is not None
        state, source = self.tasks[plan.name], plan.rank.entrants
        try:
            matches = state.matches = self._works.matches(plan, plan.rank)
        except UserError as problem:
            state.set_node(self._add(plan, Address(plan.name), work=_failing(_bad(problem))))
            return
        entrants = None if source.task is None else self.tasks[source.task]
        work = self._works.contest(plan, matches, joins=lambda: entrants is None or entrants.recalled)
        state.set_node(self._add(plan, Address(plan.name), work=work, also=plan.before))
        self._when_ended(plan.before, functools.partial(self._let_enter, plan, source, matches=matches))

    def _let_enter(self, plan: TaskPlan, source: Source, *, matches: Matches) -> None:
        if self._too_little(plan, plan.before) is not None:
            return
        expansion = Expansion(
            (source,), self.tasks, scope=self.scope, close=matches.complete, waits_for_values=True,
            make=lambda elements: self._enter(plan, elements, source=source),
        )  # fmt: skip
        try:
            expansion.start()
        except TemplateProblem as problem:
            matches.give_up(_bad(problem))

    def _enter(self, plan: TaskPlan, elements: tuple[Element, ...], *, source: Source) -> None:
        """Let one element join, if there is something to judge."""
        state, (element,) = self.tasks[plan.name], elements
        assert state.matches is not None
        assert plan.rank is not None
        if not element.there:
            return
        item = _scoped(plan, (source,), elements=elements)
        key, error = element.key, element.error
        if plan.key is not None and error is None:
            key, error = self._key(plan, item, otherwise=key)
        key = state.keys.unique(key)
        if error is not None:
            state.matches.refuse(key, error)
            return
        state.entrants[key] = item
        value = element.item.value if element.item is not None else element.value
        state.matches.enter(key, value, show=functools.partial(self._works.shown, plan.rank, item))


def _scoped(plan: TaskPlan, sources: Sequence[Source], *, elements: tuple[Element, ...]) -> Scoped:
    """What an item over these elements sees: the chain's names, its own, and `item`, the nearest."""
    names: dict[str, Any] = {}
    chain: dict[str, Item] = {}
    for element in elements:
        names |= element.names
        chain |= element.chain
    for source, element in zip(sources, elements, strict=True):
        names[source.name] = element.shown
    position = tuple(number for element in elements for number in element.position)
    return Scoped(position=position, names=names, chain={name: chain[name] for name in chain if name in plan.chain})


def _failing(error: ErrorInfo) -> Work:
    """The work of what cannot be done."""

    async def fail(job: Job) -> Any:
        raise CallFailed(error)

    return Work(fail)


def _bad(problem: UserError) -> ErrorInfo:
    return ErrorInfo("bad_request", str(problem))


def _reads_elements(plan: TaskPlan) -> bool:
    """Whether elements must have ended before it can be said which items there are over them."""
    if plan.key is not None:
        return True
    samples = plan.samples.data if plan.samples is not None else None
    if not isinstance(samples, Expression):
        return False
    return any(
        ref.root in plan.names or (ref.root == "tasks" and ref.path and ref.path[0] in plan.chain)
        for ref in samples.names()
    )

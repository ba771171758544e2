"""Which tasks of a workflow may be read when their items, and all that stands over these, have ended.

What no such reader can reach is let go item by item, so that a run of many long answers does not need their size in
memory.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..references import Reference
from ..template import Expression
from .plan import Value, Workflow

__all__ = ["lasting_tasks"]


def lasting_tasks(workflow: Workflow) -> frozenset[str]:
    """The tasks that an output names, or another task as a whole, or whose items may be taken up late.

    Taken up late are the chains of what waits for something before it has items, of products, and of tournaments,
    whose rows keep the chain of their entrants. All others are read by the items over theirs alone.
    """
    lasting: set[str] = set()
    for output in workflow.outputs.values():
        lasting.update(ref.path[0] for ref in _references(output.value) if ref.root == "tasks" and ref.path)
    for plan in workflow.tasks.values():
        lasting.update((*plan.before, *plan.waits, *plan.so_far))
        if plan.before or len(plan.sources) > 1:
            lasting.update(plan.chain)
        if plan.rank is not None and (entrants := plan.rank.entrants.task) is not None:
            lasting.update((entrants, *workflow.tasks[entrants].chain))
    return frozenset(lasting)


def _references(value: Value) -> Iterator[Reference]:
    if isinstance(value.data, Expression):
        yield from value.data.names()
    elif isinstance(value.data, dict):
        for inner in value.data.values():
            yield from _references(inner)

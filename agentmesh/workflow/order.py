"""The order of tasks: cycles in what they need, an order without them, and how far each is from the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

__all__ = ["dependency_order", "find_cycles", "remaining_paths"]


def find_cycles(needs: Mapping[str, Iterable[str]]) -> Iterator[tuple[str, ...]]:
    """Cycles in a graph of names, each as (a, b, a): one for every edge that leads back in a depth-first search."""
    state: dict[str, int] = {}
    for start in needs:
        if start in state:
            continue
        way, stack = [start], [iter(needs[start])]
        state[start] = 1
        while stack:
            name = next(stack[-1], None)
            if name is None:
                state[way.pop()] = 2
                stack.pop()
            elif name in needs and name not in state:
                state[name] = 1
                way.append(name)
                stack.append(iter(needs[name]))
            elif state.get(name) == 1:
                yield (*way[way.index(name) :], name)


def dependency_order(needs: Mapping[str, Iterable[str]]) -> list[str]:
    """The names, each after those it needs, otherwise as given. What is in a cycle comes in some order."""
    done: dict[str, None] = {}
    begun: set[str] = set()
    for start in needs:
        stack = [start]
        while stack:
            name = stack[-1]
            missing = (
                [] if name in begun else [n for n in needs[name] if n in needs and n not in done and n not in begun]
            )
            begun.add(name)
            if missing:
                stack += reversed(missing)
            else:
                done.setdefault(stack.pop())
    return list(done)


def remaining_paths(order: Iterable[str], needs: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """For each name, how many there are on the longest way from it to one that nothing needs, itself included."""
    paths: dict[str, int] = {}
    for name in reversed(list(order)):
        paths.setdefault(name, 1)
        for needed in needs[name]:
            paths[needed] = max(paths.get(needed, 1), paths[name] + 1)
    return paths

"""Tasks as a tree: each below the last of those that it waits for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["tree"]

_DEEPEST = 8  # steps to the right that a line may begin at; deeper ones stand below each other


def tree(needs: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    """The names in the order of a tree, each with what stands before it in its line.

    `needs` says of each name, in order, which ones it waits for. Of several it stands below the last in that order;
    what waits for itself in a circle, as tasks that share names may seem to, begins at the left.
    """
    places = {name: place for place, name in enumerate(needs)}
    parents: dict[str, str] = {}
    for name, needed in needs.items():
        known = [other for other in needed if other in places and other != name]
        if known:
            parents[name] = max(known, key=lambda other: places[other])
    _break_circles(parents)
    children: dict[str, list[str]] = {name: [] for name in needs}
    for name, parent in parents.items():
        children[parent].append(name)
    rows: list[tuple[str, str]] = []
    waiting = [(name, 0) for name in reversed(list(needs)) if name not in parents]
    while waiting:
        name, depth = waiting.pop()
        rows.append((name, "  " * (min(depth, _DEEPEST) - 1) + "└ " if depth else ""))
        waiting += [(child, depth + 1) for child in reversed(children[name])]
    return rows


def _break_circles(parents: dict[str, str]) -> None:
    rooted: set[str] = set()
    for name in list(parents):
        above: dict[str, None] = {}
        at = name
        while at in parents and at not in rooted:
            above[at] = None
            at = parents[at]
            if at in above:
                del parents[at]
        rooted.update(above)

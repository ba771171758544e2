"""Tasks as a tree."""

from __future__ import annotations

from agentmesh.app.lookback.tree import tree


def test_each_stands_below_the_last_of_those_that_it_waits_for() -> None:
    needs = {"draft": [], "review": ["draft"], "contest": ["draft", "review"], "notes": ["draft"], "other": ["gone"]}
    assert tree(needs) == [("draft", ""), ("review", "└ "), ("contest", "  └ "), ("notes", "└ "), ("other", "")]


def test_circles_and_endless_chains_show_every_name_once() -> None:
    circle = {"a": ["c"], "b": ["a", "b"], "c": ["b"], "d": ["c"]}
    assert sorted(name for name, _ in tree(circle)) == ["a", "b", "c", "d"]
    chain = {f"t{n}": [f"t{n - 1}"] for n in range(5000)}
    rows = tree(chain)
    assert [name for name, _ in rows] == list(chain)
    assert max(len(branch) for _, branch in rows) == 16

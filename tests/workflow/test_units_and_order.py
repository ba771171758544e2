"""Units, and the order of tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.workflow.order import dependency_order, find_cycles, remaining_paths
from agentmesh.workflow.units import parse_duration, parse_share, parse_size


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_duration, "60s", 60.0), (parse_duration, "5m", 300.0), (parse_duration, "2h", 7200.0),
        (parse_duration, "1.5s", 1.5), (parse_duration, "250 ms", 0.25), (parse_duration, "1d", 86400.0),
        (parse_share, "10%", 0.1), (parse_share, "0%", 0.0), (parse_share, "100%", 1.0),
        (parse_size, "4kB", 4000), (parse_size, "2MB", 2_000_000), (parse_size, "7B", 7),
    ],
)  # fmt: skip
def test_units(parse: Callable[[Any], float], text: str, value: float) -> None:
    assert parse(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("parse", "value", "message"),
    [
        (parse_duration, 60, "60 has no unit: write 60s, 5m or 2h"),
        (parse_duration, "60", "must be written as 60s, 5m or 2h, not '60'"),
        (parse_duration, "60x", "must be written as"),
        (parse_duration, "-5s", "must be written as"),
        (parse_duration, "0s", "must be longer than nothing"),
        (parse_duration, True, "must be written as"),
        (parse_duration, [], "must be written as"),
        (parse_share, 0.5, "0.5 has no unit: write 95%"),
        (parse_share, "101%", "must be at most 100%"),
        (parse_size, "4kb", "must be written as 4kB, 2MB"),
    ],
)
def test_what_has_no_unit(parse: Callable[[Any], float], value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        parse(value)


@pytest.mark.parametrize(
    ("needs", "cycles"),
    [
        ({"a": ["b"], "b": []}, []),
        ({"a": ["a"]}, [("a", "a")]),
        ({"a": ["b"], "b": ["c"], "c": ["a"]}, [("a", "b", "c", "a")]),
        ({"a": ["b", "c"], "b": ["a"], "c": ["a"]}, [("a", "b", "a"), ("a", "c", "a")]),
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, [("b", "c", "b")]),
        ({"a": ["x"]}, []),
    ],
)
def test_cycles(needs: dict[str, list[str]], cycles: list[tuple[str, ...]]) -> None:
    assert list(find_cycles(needs)) == cycles


@st.composite
def acyclic(draw: st.DrawFn) -> dict[str, list[str]]:
    names = [f"t{number}" for number in range(draw(st.integers(1, 12)))]
    ranks = draw(st.permutations(names))
    needs = {n: draw(st.lists(st.sampled_from(ranks[: i + 1]), max_size=4)) for i, n in enumerate(ranks)}
    return {n: [m for m in needs[n] if m != n] for n in draw(st.permutations(names))}


@given(acyclic())
def test_each_comes_after_what_it_needs_and_paths_grow_upstream(needs: dict[str, list[str]]) -> None:
    order = dependency_order(needs)
    assert sorted(order) == sorted(needs)
    assert not list(find_cycles(needs))
    paths = remaining_paths(order, needs)
    for name, needed in needs.items():
        for other in needed:
            assert order.index(other) < order.index(name)
            assert paths[other] > paths[name]
    assert min(paths.values()) == 1


def test_long_chains_do_not_exhaust_the_stack() -> None:
    needs = {f"t{n}": [f"t{n + 1}"] for n in range(20_000)} | {"t20000": []}
    assert dependency_order(needs)[0] == "t20000"
    assert not list(find_cycles(needs))
    assert remaining_paths(dependency_order(needs), needs)["t20000"] == 20_001

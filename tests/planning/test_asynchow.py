"""Loading the data set, its gold, and finding an item by its question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from asynchow_samples import BREAD, KITE, TEA, columns, write_pickle
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.errors import UserError
from agentmesh.science.planning.asynchow import Item, find_items, load_items, longest_path, wrong_gold
from agentmesh.science.planning.durations import Interval
from agentmesh.science.planning.prompts import planner_messages, question


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    return load_items(write_pickle(tmp_path / "async_benchmark.pkl"))


def test_an_item_has_what_the_file_says(items: list[Item]) -> None:
    tea, kite, _ = items
    assert (tea.id, tea.title, tea.goal) == ("async-0", TEA.title, "Serve Tea on the Balcony")
    assert tea.steps == tuple(step for step, _ in TEA.steps)
    assert tea.durations == ("6 min", "90 seconds", "4 minutes", "15 min")
    assert tea.edges == ((1, 2), (2, 3))
    assert tea.ve_count == 4 + 2 + 6
    assert tea.gold == tea.text_gold == Interval(900, 900)
    assert kite.edges == ((1, 4), (2, 4), (3, 4))  # stored as a set


def test_gold_is_an_interval_where_months_are(items: list[Item]) -> None:
    assert items[1].text_gold == Interval(*KITE.gold)


def test_items_whose_stored_gold_does_not_follow_from_the_texts(items: list[Item]) -> None:
    assert wrong_gold(items) == [items[2]]
    assert items[2].gold == Interval(*BREAD.gold)
    assert items[2].text_gold == Interval(86_400 + 25_200, 86_400 + 25_200)


def test_a_folder_gives_its_files_in_a_fixed_order(tmp_path: Path) -> None:
    for name in ("para", "async"):
        write_pickle(tmp_path / f"{name}_benchmark.pkl")
    assert [item.id for item in load_items(tmp_path)] == [f"{k}-{n}" for k in ("async", "para") for n in range(3)]


def test_a_folder_without_the_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has none of async_benchmark\.pkl"):
        load_items(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"titles": None}, "titles: "),
        ({"titles": ["a"]}, "different lengths"),
        ({"steps": [["a"], [1], ["b"]]}, r"steps\.1\.0"),
        ({"task_time": [["soon", 1]] * 3}, r"task_time\.0\.0"),
        ({"time_dic": [{}] * 3}, "item 0: has 4 steps, but durations for none"),
        ({"time_dic": [dict.fromkeys("1234", "a while")] * 3}, "item 0: no length of time in 'a while'"),
        ({"step_deps": [[("1", "9")]] * 3}, "item 0: orders steps that it does not have: 9"),
        ({"step_deps": [[("1", "2"), ("2", "1")]] * 3}, "item 0: the order is a circle: "),
    ],
)
def test_a_file_that_does_not_fit_together(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = write_pickle(tmp_path / "x.pkl", columns() | change)
    with pytest.raises(UserError, match=message) as caught:
        load_items(file)
    assert str(caught.value).startswith(str(file))


def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not the AsyncHow data set"):
        load_items(write_pickle(tmp_path / "x.pkl", [1, 2]))


def test_each_end_of_the_longest_path_is_longest_by_itself() -> None:
    wide, late = Interval(1, 100), Interval(50, 50)
    assert longest_path([wide, late], []) == Interval(50, 100)
    assert longest_path([wide, late], [(1, 2)]) == Interval(51, 150)
    assert longest_path([], []) == Interval(0, 0)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=7), st.data())
def test_the_longest_path_is_the_longest_of_all_chains(lengths: list[int], data: st.DataObject) -> None:
    n = len(lengths)
    pairs = [(a, b) for a in range(1, n + 1) for b in range(a + 1, n + 1)]
    edges = data.draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []

    def longest_from(step: int) -> int:
        return lengths[step - 1] + max((longest_from(b) for a, b in edges if a == step), default=0)

    expected = max(longest_from(step) for step in range(1, n + 1))
    assert longest_path([Interval(x, x) for x in lengths], edges) == Interval(expected, expected)


def test_questions_find_their_items(items: list[Item]) -> None:
    asked = [question(item) for item in items]
    assert find_items([*asked, "What is the time?", ""], items) == [*items, None, None]


def test_equal_steps_are_told_apart_by_the_goal(tmp_path: Path, items: Sequence[Item]) -> None:
    content = columns([TEA, TEA])
    content["titles"][1] = "How to Serve Tea in the Garden"
    twins = load_items(write_pickle(tmp_path / "twins.pkl", content))
    assert find_items([question(twin) for twin in twins], twins) == twins
    assert find_items([question(items[0])], [twins[0], twins[0]]) == [None]


def test_the_prompt_says_everything_that_is_needed(items: list[Item]) -> None:
    system, user = planner_messages(items[1])
    assert (system.role, user.role) == ("system", "user")
    assert "Step 3. Wait for wind. (1 month)" in user.text
    assert "Step 1 comes before step 4." in user.text
    for name in ('"actions"', '"dependencies"', '"final_answer_seconds"'):
        assert name in user.text


def test_the_prompt_joins_the_followers_of_a_step(tmp_path: Path) -> None:
    content = columns([TEA])
    content["step_deps"] = [[("1", "3"), ("1", "2")]]
    (item,) = load_items(write_pickle(tmp_path / "x.pkl", content))
    assert "Step 1 comes before steps 2 and 3." in question(item)
    content["step_deps"] = [[]]
    (item,) = load_items(write_pickle(tmp_path / "x.pkl", content))
    assert "No step has to wait" in question(item)

"""Keys: the same element gives the same key, safe in any shell, and equals are told apart."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.keys import Keys, encode_key, key_of
from agentmesh.outcome import Address


@dataclass
class Row:
    id: Any
    text: str = ""


@pytest.mark.parametrize(
    ("element", "key"),
    [
        ("h17", "h17"), ("E. coli", "E.%20coli"), ("ä/b", "%C3%A4%2Fb"), ("a~2", "a%7E2"), (17, "17"), (-1.5, "-1.5"),
        (True, "true"), (False, "false"), ("x" * 40, "x" * 40), ({"id": "h17", "text": "..."}, "h17"),
        ({"id": 3}, "3"), (Row("h17"), "h17"), (Row(4), "4"),
    ],
)  # fmt: skip
def test_what_can_stand_for_itself(element: Any, key: str) -> None:
    assert key_of(element) == key


@pytest.mark.parametrize(
    "element", ["", "x" * 41, "two\nlines", None, [1, 2], {"a": 1}, {"id": ""}, {"id": [1]}, Row(None), Row({"a": 1})]
)
def test_what_cannot_is_known_by_its_hash(element: Any) -> None:
    assert re.fullmatch(r"[0-9a-f]{8}", key_of(element))
    assert key_of(element) == key_of(element)


def test_the_hash_is_of_what_is_in_it_not_of_its_order() -> None:
    assert key_of({"a": 1, "b": [2]}) == key_of({"b": [2], "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 2})


@given(st.text())
def test_encoded_keys_are_safe_and_differ_as_their_texts_do(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._%-]+", encode_key(text))
    assert encode_key(text + "/") != encode_key(text)


def test_half_a_surrogate_pair_is_a_key_too() -> None:
    assert encode_key("\ud83d") == "%ED%A0%BD"


@given(st.lists(st.sampled_from(["a", "b", "a~2", "a~3", "a~2~2", "b~2"]), max_size=30))
def test_no_two_are_the_same_even_where_keys_have_numbers_already(wanted: list[str]) -> None:
    keys = Keys()
    given_out = [keys.unique(key) for key in wanted]
    assert len(set(given_out)) == len(given_out)
    assert all(out == key or out.startswith(f"{key}~") for out, key in zip(given_out, wanted, strict=True))
    for number, (out, key) in enumerate(zip(given_out, wanted, strict=True)):
        assert (out == key) == (key not in given_out[:number])


def test_equals_get_numbers_in_their_order() -> None:
    keys = Keys()
    assert [keys.unique(key) for key in ["a", "b", "a", "a", "b"]] == ["a", "b", "a~2", "a~3", "b~2"]


@pytest.mark.parametrize(
    ("address", "text", "tail"),
    [
        (Address("report"), "report", None),
        (Address("review", "h17"), "review/h17", "h17"),
        (Address("review", "h17", 2), "review/h17/2", "h17/2"),
        (Address("grade", "h17/2"), "grade/h17/2", "h17/2"),
    ],
)
def test_addresses(address: Address, text: str, tail: str | None) -> None:
    assert (str(address), address.tail) == (text, tail)

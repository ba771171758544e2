"""What a pickle may hold, and what it may not make us do."""

from __future__ import annotations

import collections
import datetime
import os
import pickle
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.errors import UserError
from agentmesh.science.planning.pickles import read_pickle


class Touch:
    """Makes a naive unpickler create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.makedirs, (str(self.path),))


@pytest.mark.parametrize("protocol", [4, 5])
def test_plain_data_and_timedeltas(tmp_path: Path, protocol: int) -> None:
    content = {"a": [1, (2, "x")], "b": {("1", "2")}, "t": [datetime.timedelta(days=1, microseconds=3)]}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    assert read_pickle(tmp_path / "x.pkl") == content


def test_code_is_never_run(tmp_path: Path) -> None:
    file, target = tmp_path / "x.pkl", tmp_path / "made"
    file.write_bytes(pickle.dumps(Touch(target)))
    with pytest.raises(UserError, match=r"x\.pkl: asks for os\.makedirs"):
        read_pickle(file)
    assert not target.exists()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (datetime.datetime(2020, 1, 1), "datetime.datetime"),
        (collections.OrderedDict(a=1), "collections.OrderedDict"),
        (datetime.timedelta.total_seconds, "builtins.getattr"),
        (print, "builtins.print"),
    ],
)
def test_any_other_global_is_named_with_the_file(tmp_path: Path, value: object, name: str) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(value, protocol=4))
    with pytest.raises(UserError) as caught:
        read_pickle(tmp_path / "x.pkl")
    assert str(tmp_path / "x.pkl") in str(caught.value)
    assert name in str(caught.value)


def test_a_dotted_name_does_not_reach_through_the_allowed_class(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04\x8c\x08datetime\x8c\x13timedelta.__class__\x93.")
    with pytest.raises(UserError, match=r"timedelta\.__class__"):
        read_pickle(tmp_path / "x.pkl")


def test_a_part_of_a_pickle(tmp_path: Path) -> None:
    body = pickle.dumps({"titles": ["a" * 50], "t": datetime.timedelta(1)}, protocol=4)
    for end in range(len(body)):
        (tmp_path / "x.pkl").write_bytes(body[:end])
        with pytest.raises(UserError, match=r"x\.pkl"):
            read_pickle(tmp_path / "x.pkl")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_pickle(tmp_path / "none.pkl")


@given(st.binary(max_size=60))
def test_any_bytes_give_data_or_a_user_error(tmp_path_factory: pytest.TempPathFactory, body: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.pkl"
    file.write_bytes(body)
    with suppress(UserError):
        read_pickle(file)

"""What a lane knows survives its process: values, clocks that jump, and files that others write too."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.limits import memory as module
from agentmesh.limits.aimd import InFlightState, InFlightWindow, RateState, RateWindow
from agentmesh.limits.estimate import EstimateState, TokenEstimate
from agentmesh.limits.memory import (
    NO_FILE,
    LaneMemory,
    LimitMemory,
    ModelMemory,
    dump_memory,
    lane_file,
    limits_digest,
    load_memory,
    parse_memory,
    recall_freeze,
    recall_uses,
    remember_uses,
    save_memory,
)
from agentmesh.limits.meter import Meter, meter
from agentmesh.rates import Limit

WALL = 1_935_000_000.0
MINUTE = Limit("requests", 600, shape="sliding")
BUCKET = Limit("tokens", 60_000)
DAY = Limit("requests", 1000, 86400.0, shape="sliding")
MODEL = ModelMemory(
    at=WALL, digest=limits_digest([MINUTE, DAY]), estimate=EstimateState(3.7, {"": 210.0, "critic": 90.5}, 440.0, 31),
    in_flight=InFlightState(60.0, 64.0), rate=RateState(9.5, 9.0, 10.25), frozen_until=WALL + 30,
)  # fmt: skip


def known(limit: Limit, uses: Any = (), *, at: float = WALL, told: float | None = None) -> LimitMemory:
    figure = None if told is None else replace(limit, limit=told)
    return LimitMemory(at, limits_digest([limit]), tuple(uses), figure)


FULL = (
    LaneMemory()
    .with_limit("acme", MINUTE, known=known(MINUTE, [(WALL - 5, 12.0)], told=300))
    .with_model("large", MODEL)
)


def restored(limit: Limit, one: LimitMemory, now: float, wall: float) -> Meter:
    fresh = meter(limit, now)
    for at, amount in recall_uses(limit, one, now=now, wall=wall):
        fresh.take(amount, at)
    return fresh


# --- how limits stood


@pytest.mark.parametrize("limit", [MINUTE, BUCKET, DAY, Limit("requests", 100, 3600.0, shape="fixed")])
def test_a_new_process_finds_the_level_that_the_old_one_would_have(limit: Limit) -> None:
    old = meter(limit, 7000.0)
    for number in range(90):
        old.take(limit.limit / 200, 7000.0 + number * limit.window / 200)
    now = 7000.0 + 0.45 * limit.window
    uses = remember_uses(old.uses(now), window=limit.window, now=now, wall=WALL)
    assert len(uses) <= 33
    one = LimitMemory(WALL, limits_digest([limit]), uses)
    for later in (0.0, 0.1, 0.3, 0.6, 0.8, 1.1):  # in windows
        after = later * limit.window
        new = restored(limit, one, 20.0 + after, WALL + after)  # its monotonic clock began with the machine
        level = old.level(now + after) if later else old.level(now)
        assert new.level(20.0 + after) <= level + 1e-6
        assert new.level(20.0 + after) >= level - limit.limit / 30


def test_a_debt_is_remembered_and_paid_back() -> None:
    old = meter(BUCKET, 0.0)
    old.take(30_000, 0.0)
    one = known(BUCKET, remember_uses(old.uses(1.0), window=60.0, now=1.0, wall=WALL))
    assert restored(BUCKET, one, 50.0, WALL).level(50.0) == pytest.approx(-19_000)
    assert restored(BUCKET, one, 50.0, WALL + 19).level(50.0) == pytest.approx(0, abs=1e-6)


def test_nothing_used_is_nothing_to_keep() -> None:
    for limit in (MINUTE, BUCKET, DAY, Limit("in_flight", 5), Limit("requests", 5, shape="fixed")):
        assert meter(limit, 0.0).uses(0.0) == []


def test_slots_end_with_their_process() -> None:
    slots = meter(Limit("in_flight", 5), 0.0)
    slots.take(3, 0.0)
    assert slots.uses(1.0) == []


@pytest.mark.parametrize("back", [3600.0, 40 * 86400.0])
def test_a_clock_that_was_put_back_lets_no_flood_through_and_stalls_nobody_longer_than_a_window(back: float) -> None:
    one = known(MINUTE, [(WALL - 50, 300.0), (WALL - 5, 300.0)])
    now_wall = WALL - back
    assert restored(MINUTE, one, 20.0, now_wall).level(20.0) == 0
    assert restored(MINUTE, one, 20.0, now_wall).level(80.0) == 600
    bucket = restored(BUCKET, known(BUCKET, [(WALL, 10_000.0)]), 20.0, now_wall)
    assert bucket.level(20.0) == 0
    assert bucket.level(30.0) == 10_000


@pytest.mark.parametrize("limit", [MINUTE, BUCKET, DAY])
def test_a_laptop_that_slept_finds_everything_free(limit: Limit) -> None:
    one = known(limit, [(WALL - 1, limit.limit)])
    assert restored(limit, one, 20.0, WALL + limit.window).level(20.0) == limit.capacity


@given(
    st.lists(st.tuples(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12)), max_size=20),
    st.sampled_from([MINUTE, BUCKET, DAY]), st.floats(0, 2e9),
)  # fmt: skip
def test_absurd_uses_stall_nobody_longer_than_a_window(
    uses: list[tuple[float, float]], limit: Limit, wall: float
) -> None:  # fmt: skip
    one = restored(limit, known(limit, uses), 20.0, wall)
    assert one.level(20.0) <= limit.capacity
    assert one.level(20.0 + limit.window) == pytest.approx(limit.capacity)


@pytest.mark.parametrize(("wall", "left"), [(WALL, 30.0), (WALL + 20, 10.0), (WALL + 99, 0.0), (WALL - 7200, 30.0)])
def test_a_freeze_lasts_until_its_instant_and_not_longer_than_it_was_meant_to(wall: float, left: float) -> None:
    assert recall_freeze(MODEL, wall=wall) == left
    assert recall_freeze(replace(MODEL, frozen_until=None), wall=wall) == 0
    assert recall_freeze(replace(MODEL, frozen_until=WALL - 1), wall=wall) == 0


# --- what is known, and of what


def test_a_limit_that_was_changed_is_forgotten_and_others_are_not() -> None:
    memory = FULL.with_limit("acme", DAY, known=known(DAY, [(WALL, 5.0)]))
    assert memory.limit("acme", MINUTE) == known(MINUTE, [(WALL - 5, 12.0)], told=300)
    assert memory.limit("acme", replace(MINUTE, limit=500)) is None
    assert memory.limit("acme", replace(MINUTE, burst=30)) is None
    assert memory.limit("pool large", MINUTE) is None
    assert memory.limit("acme", DAY) is not None


def test_windows_are_of_the_limits_they_were_learned_under_and_estimates_are_not() -> None:
    assert FULL.model("large", [DAY, MINUTE]) == MODEL
    other = FULL.model("large", [MINUTE])
    assert other == ModelMemory(WALL, MODEL.digest, estimate=MODEL.estimate)
    assert FULL.model("small", [MINUTE]) is None


def test_learners_go_on_where_they_were() -> None:
    found = parse_memory(dump_memory(FULL)).models["large"]
    assert found.estimate is not None
    assert found.in_flight is not None
    assert found.rate is not None
    estimate = TokenEstimate.restore(found.estimate)
    assert estimate.input(370) == 100
    assert estimate.output("critic", None) == 90.5
    assert estimate.output("another", None) == 210
    assert estimate.state() == MODEL.estimate
    assert InFlightWindow.restore(found.in_flight).limit == 60
    assert 9 < RateWindow.restore(found.rate).rate < 10.25


def test_of_each_limit_and_model_the_newest_counts() -> None:
    old = LaneMemory().with_limit("acme", MINUTE, known=known(MINUTE, [(WALL - 90, 5.0)], at=WALL - 80, told=250))
    old = old.with_limit("acme", DAY, known=known(DAY, [(WALL - 90, 7.0)], at=WALL - 80)).with_model("large", MODEL)
    new = LaneMemory().with_limit("acme", MINUTE, known=known(MINUTE, [(WALL - 1, 9.0)]))
    new = new.with_model("large", ModelMemory(WALL + 5, MODEL.digest, rate=RateState(3.0)))
    expected = known(MINUTE, [(WALL - 1, 9.0)], told=250)  # the newer process has seen no header
    for merged in (new.merged(old, wall=WALL + 5), old.merged(new, wall=WALL + 5)):
        assert merged.limit("acme", MINUTE) == expected
        assert merged.limit("acme", DAY) == known(DAY, [(WALL - 90, 7.0)], at=WALL - 80)
        assert merged.models["large"] == replace(MODEL, at=WALL + 5, rate=RateState(3.0))


def test_what_was_written_in_the_future_does_not_win_for_ever() -> None:
    glitch = LaneMemory().with_limit("acme", MINUTE, known=known(MINUTE, [(WALL + 9e8, 600.0)], at=WALL + 9e8))
    merged = FULL.merged(glitch, wall=WALL)
    assert merged.limit("acme", MINUTE) == FULL.limit("acme", MINUTE)


def test_other_limits_take_nothing_from_what_was_told_of_these() -> None:
    changed = replace(MINUTE, limit=900)
    old = LaneMemory().with_limit("acme", MINUTE, known=known(MINUTE, told=250, at=WALL - 60))
    merged = LaneMemory().with_limit("acme", changed, known=known(changed)).merged(old, wall=WALL)
    found = merged.limit("acme", changed)
    assert found is not None
    assert found.told is None


def test_limits_that_no_file_has_are_found_by_their_scope() -> None:
    hour = Limit("tokens", 9000, 3600.0)
    memory = FULL.with_limit("large", hour, known=LimitMemory(WALL, NO_FILE, (), hour))
    assert memory.told("large") == [(hour, memory.limits["large/tokens_per_hour"])]
    assert memory.told("acme") == memory.told("larg") == []  # a file has the account's
    assert memory.limit("large", hour) is None  # a file that has it now says something new


def test_after_a_month_everything_is_forgotten() -> None:
    assert LaneMemory().merged(FULL, wall=WALL + 29 * 86400) == FULL
    assert LaneMemory().merged(FULL, wall=WALL + 31 * 86400) == LaneMemory()
    assert LaneMemory().merged(FULL, wall=WALL - 31 * 86400) == LaneMemory()


# --- texts


def test_a_text_is_read_back_as_it_was() -> None:
    assert parse_memory(dump_memory(FULL)) == FULL
    assert parse_memory(dump_memory(LaneMemory())) == LaneMemory()
    assert json.loads(dump_memory(FULL))["format"] == 1


def test_kinds_do_not_pile_up() -> None:
    outputs = {f"agent{number}": 1.0 for number in range(900)}
    estimate = EstimateState(4.0, outputs, 0.0, 900)
    text = dump_memory(LaneMemory().with_model("large", replace(MODEL, estimate=estimate)))
    kept = parse_memory(text).models["large"].estimate
    assert kept is not None
    assert list(kept.outputs) == [f"agent{number}" for number in range(700, 900)]


def broken(path: str, value: Any) -> str:
    """The text of FULL with another value at this place."""
    found = json.loads(dump_memory(FULL))
    *parents, last = path.split("|")
    inner = found
    for name in parents:
        inner = inner[name]
    inner[last] = value
    return json.dumps(found)


GARBAGE = [
    "", "{}", "[]", "null", "hello", '{"format": 1', '{"format": "1"}', '{"format": true}', '{"format": 0.5}',
    '{"format": 1, "limits": []}', '{"format": 1, "models": {"m": 7}}', "\x00\xff", "[" * 100_000, "9" * 5000,
    '{"format": 1, "limits": {"a/b": {"at": NaN, "digest": "x"}}}',
    '{"format": 1, "limits": {"a/b": {"at": 1e999, "digest": "x"}}}',
    broken("limits|acme/requests_per_minute|uses", [[1.0]]), broken("limits|acme/requests_per_minute|at", None),
    broken("limits|acme/requests_per_minute|told", "many"), broken("models|large|in_flight|limit", 0.5),
    broken("limits|acme/requests_per_minute|told|limit", -3),
    broken("limits|acme/requests_per_minute|told|unit", "calls"), broken("limits|acme/requests_per_minute|told", 300),
    broken("models|large|rate|rate", -1),
    broken("models|large|rate|upper", 1), broken("models|large|estimate|ratio", 0),
    broken("models|large|estimate|outputs", {"critic": -5}),
]  # fmt: skip


@pytest.mark.parametrize("text", GARBAGE)
def test_garbage_is_no_memory(text: str) -> None:
    with pytest.raises(ValueError):
        parse_memory(text)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_memory_or_a_value_error(data: bytes) -> None:
    try:
        assert parse_memory(data) == LaneMemory()
    except ValueError:
        pass


# --- files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return lane_file("https://api.acme.example/v1", "acme#team", environ={"XDG_CACHE_HOME": str(tmp_path / "cache")})


def test_a_file_lies_in_the_users_cache_folder_and_its_name_tells_nothing(tmp_path: Path) -> None:
    url = "https://key-in-the-address.example/v1"
    at = lane_file(url, "acme", environ={"XDG_CACHE_HOME": "/var/cache/me", "HOME": "/home/me"})
    assert at.parent == Path("/var/cache/me/agentmesh/lanes")
    assert at.suffix == ".json"
    assert "acme" not in at.name
    assert "key" not in at.name
    home = lane_file(url, "acme", environ={"XDG_CACHE_HOME": "not/absolute", "HOME": "/home/me"})
    assert home.parent == Path("/home/me/.cache/agentmesh/lanes")
    assert home.name == at.name
    assert lane_file(url, "acme#other", environ={}).name != at.name


def test_what_is_saved_is_loaded(path: Path) -> None:
    assert load_memory(path) == (LaneMemory(), None)
    assert save_memory(path, FULL, wall=WALL) is None
    assert load_memory(path) == (FULL, None)
    more = LaneMemory().with_limit("pool large", DAY, known=known(DAY))
    assert save_memory(path, more, wall=WALL) is None
    assert load_memory(path)[0].limits.keys() == {"acme/requests_per_minute", "pool large/requests_per_day"}
    assert sorted(one.name for one in path.parent.iterdir()) == sorted([path.name, path.with_suffix(".lock").name])


def test_nobody_else_may_read_it(path: Path) -> None:
    umask = os.umask(0)
    try:
        save_memory(path, FULL, wall=WALL)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.with_suffix(".lock").stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("text", GARBAGE)
def test_a_broken_file_is_told_once_and_replaced(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)
    found, notice = load_memory(path)
    assert found == LaneMemory()
    assert notice is not None
    assert str(path) in notice
    assert "is not used" in notice
    assert len(notice) < 400
    assert save_memory(path, FULL, wall=WALL) is None
    assert load_memory(path) == (FULL, None)


def test_a_file_of_a_later_version_is_told_and_left_alone(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text('{"format": 2, "everything": "is different"}')
    found, notice = load_memory(path)
    assert found == LaneMemory()
    assert notice == f"{path} is not used: its format is 2, and this version of agentmesh reads 1"
    assert save_memory(path, FULL, wall=WALL) is None
    assert path.read_text() == '{"format": 2, "everything": "is different"}'


def test_a_huge_file_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGEST", 100)
    save_memory(path, FULL, wall=WALL)
    assert load_memory(path)[1] is not None


def test_where_nothing_can_be_written_it_is_said_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    path = tmp_path / "cache" / "agentmesh" / "lanes" / "0.json"
    notice = save_memory(path, FULL, wall=WALL)
    assert notice is not None
    assert notice.startswith("what was learned of an account's limits cannot be kept: ")
    found, notice = load_memory(path)
    assert found == LaneMemory()
    assert notice is not None
    assert "cannot be read" in notice


def test_a_read_only_folder_is_said_and_no_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user; who runs the tests as root may write anywhere."""
    save_memory(path, FULL, wall=WALL)
    path.parent.chmod(0o500)
    if os.geteuid() == 0:
        monkeypatch.setattr(os, "open", refuse)
    try:
        notice = save_memory(path, LaneMemory(), wall=WALL)
    finally:
        path.parent.chmod(0o700)
    assert notice is not None
    assert "cannot be kept" in notice
    assert load_memory(path) == (FULL, None)


def refuse(path: Any, *_: Any) -> int:
    raise PermissionError(13, "Permission denied", str(path))


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_memory(path, FULL, wall=WALL)

    def no_space(*_: Any) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", no_space)
        notice = save_memory(path, LaneMemory(), wall=WALL)
    assert notice is not None
    assert "No space left" in notice
    assert load_memory(path) == (FULL, None)
    assert len(list(path.parent.iterdir())) == 2


def test_a_process_that_was_stopped_while_it_wrote_holds_nobody_up_for_long(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "_LOCK_S", 0.05)
    path.parent.mkdir(parents=True)
    with path.with_suffix(".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert save_memory(path, FULL, wall=WALL) is None
    assert load_memory(path) == (FULL, None)


WRITER = """
import sys
from pathlib import Path
from agentmesh.limits.memory import LaneMemory, LimitMemory, limits_digest, load_memory, save_memory
from agentmesh.rates import Limit
name, path = sys.argv[1], Path(sys.argv[2])
for number in range(60):
    limit = Limit("requests", number + 1)
    one = LimitMemory(1000.0 + number, limits_digest([limit]))
    memory = LaneMemory().with_limit(f"{name}{number}", limit, known=one).with_limit("both", limit, known=one)
    assert save_memory(path, memory, wall=1000.0 + number) is None
    found, notice = load_memory(path)
    assert notice is None and f"{name}{number}/requests_per_minute" in found.limits, (notice, found)
"""


def test_two_processes_that_write_at_once_lose_nothing(path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, name, str(path)], stderr=subprocess.PIPE) for name in ("a", "b")
    ]
    errors = [process.communicate(timeout=60)[1].decode() for process in processes]
    assert errors == ["", ""]
    found, notice = load_memory(path)
    assert notice is None
    scopes = {name.partition("/")[0] for name in found.limits}
    assert scopes == {"both"} | {f"{name}{number}" for name in "ab" for number in range(60)}
    assert found.limits["both/requests_per_minute"].at == 1059.0

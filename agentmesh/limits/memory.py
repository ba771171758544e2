"""What a lane knows, kept between processes: one small file for each account in the user's cache folder.

A provider remembers what a process that has ended used, and so must the next one. A file holds how each limit stood
and what was learned of each model; times in it are wall times, since monotonic clocks end with their machine's run. A
limit that has been changed in the provider file is not what was learned about, and is forgotten. Nothing in a file can
do more than a full window of use would: what lies in the future, or is absurd, is cut.

Making and reading these values is pure. `load_memory` and `save_memory` block: they belong in a thread. Neither ever
fails a run: what goes wrong comes back as a text for the user.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ..rates import Limit
from .aimd import InFlightState, RateState
from .estimate import EstimateState

__all__ = [
    "NO_FILE", "LaneMemory", "LimitMemory", "ModelMemory", "dump_memory", "lane_file", "limits_digest", "load_memory",
    "parse_memory", "recall_freeze", "recall_uses", "remember_uses", "save_memory",
]  # fmt: skip

NO_FILE = ""
"""In the place of a digest: the limit is in no provider file, headers alone told of it."""

_FORMAT = 1
_KEEP_S = 30 * 86400.0  # what is older than a month describes another account
_CELLS = 32  # a window's uses are kept as so many: they come back a thirty-second of the window late at most
_KINDS = 200  # kinds of call by model; their names are those of agents
_LARGEST = 1_000_000  # bytes of a file that is read at all: one of ours has a few thousand
_LOCK_S, _LOCK_STEP_S = 1.0, 0.01  # to wait for another process that writes, which takes milliseconds


@dataclass(frozen=True, slots=True)
class LimitMemory:
    """How a limit stood at wall time `at`: what was used, as (wall time, units), and still counted.

    `digest` is of the limit as the provider file has it, `NO_FILE` where it has none; `told` is the limit as headers
    told it instead.
    """

    at: float
    digest: str
    uses: tuple[tuple[float, float], ...] = ()
    told: Limit | None = None


@dataclass(frozen=True, slots=True)
class ModelMemory:
    """What was learned of a model by wall time `at`. `digest` is of all limits that its calls touch.

    Estimates of tokens hold whatever the limits are; the windows do not.
    """

    at: float
    digest: str
    estimate: EstimateState | None = None
    in_flight: InFlightState | None = None
    rate: RateState | None = None
    frozen_until: float | None = None


@dataclass(frozen=True, slots=True)
class LaneMemory:
    """What is known of an account: limits by (scope, name), written `SCOPE/NAME`, and models by name."""

    limits: Mapping[str, LimitMemory] = field(default_factory=dict)
    models: Mapping[str, ModelMemory] = field(default_factory=dict)

    def limit(self, scope: str, limit: Limit) -> LimitMemory | None:
        """What is known of a limit, if it is the same limit still."""
        found = self.limits.get(_name(scope, limit))
        return found if found is not None and found.digest == limits_digest([limit]) else None

    def told(self, scope: str) -> list[tuple[Limit, LimitMemory]]:
        """The limits of a scope that no file has, as headers told them."""
        found = [(name, one.told, one) for name, one in self.limits.items() if one.told and one.digest == NO_FILE]
        return [(limit, one) for name, limit, one in found if name == _name(scope, limit)]

    def model(self, name: str, limits: Iterable[Limit]) -> ModelMemory | None:
        """What is known of a model; what was learned under other limits than these is left out."""
        found = self.models.get(name)
        if found is None or found.digest == limits_digest(limits):
            return found
        return replace(found, in_flight=None, rate=None, frozen_until=None)

    def with_limit(self, scope: str, limit: Limit, *, known: LimitMemory) -> LaneMemory:
        """The same with this limit."""
        return replace(self, limits={**self.limits, _name(scope, limit): known})

    def with_model(self, name: str, known: ModelMemory) -> LaneMemory:
        """The same with this model."""
        return replace(self, models={**self.models, name: known})

    def merged(self, other: LaneMemory, *, wall: float) -> LaneMemory:
        """Both: of each limit and model what was written last, by wall time, and this one's where that is the same.

        What the newer one does not know, it takes from the older. What is a month away from now is dropped.
        """
        limits, models = dict(other.limits), dict(other.models)
        for name, limit in self.limits.items():
            limits[name] = _newer_limit(limit, limits.get(name), wall=wall)
        for name, model in self.models.items():
            models[name] = _newer_model(model, models.get(name), wall=wall)
        return LaneMemory(
            {name: one for name, one in limits.items() if abs(wall - one.at) < _KEEP_S},
            {name: one for name, one in models.items() if abs(wall - one.at) < _KEEP_S},
        )


def _name(scope: str, limit: Limit) -> str:
    return f"{scope}/{limit.name}"


def _newer_limit(mine: LimitMemory, theirs: LimitMemory | None, *, wall: float) -> LimitMemory:
    if theirs is None:
        return mine
    new, old = (mine, theirs) if mine.at >= min(theirs.at, wall) else (theirs, mine)
    return replace(new, told=old.told) if new.told is None and new.digest == old.digest else new


def _newer_model(mine: ModelMemory, theirs: ModelMemory | None, *, wall: float) -> ModelMemory:
    if theirs is None:
        return mine
    new, old = (mine, theirs) if mine.at >= min(theirs.at, wall) else (theirs, mine)
    new = replace(new, estimate=new.estimate or old.estimate)
    if new.digest != old.digest:
        return new
    return replace(
        new, in_flight=new.in_flight or old.in_flight, rate=new.rate or old.rate,
        frozen_until=max((until for until in (new.frozen_until, old.frozen_until) if until is not None), default=None),
    )  # fmt: skip


def limits_digest(limits: Iterable[Limit]) -> str:
    """A short text that is another one when any of these limits is; their order does not matter."""
    texts = sorted(json.dumps(asdict(limit), sort_keys=True) for limit in limits)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def remember_uses(
    uses: Sequence[tuple[float, float]], *, window: float, now: float, wall: float
) -> tuple[tuple[float, float], ...]:  # fmt: skip
    """A meter's uses, whose times are monotonic like `now`, in wall time; of many close together one is made."""
    kept: list[tuple[float, float]] = []
    cell = window / _CELLS
    began = -math.inf
    for at, amount in uses:
        if at - began < cell:
            kept[-1] = (wall - (now - at), kept[-1][1] + amount)  # at the time of the newest, never sooner
        else:
            began = at
            kept.append((wall - (now - at), amount))
    return tuple(kept)


def recall_uses(limit: Limit, known: LimitMemory, *, now: float, wall: float) -> list[tuple[float, float]]:
    """What a new meter of this limit shall take, as (monotonic time, units), oldest first.

    What is said to lie in the future counts as now, and altogether no more than a window allows: a clock that was put
    back delays calls, by a window at most, and lets no flood through.
    """
    left = limit.limit
    found = []
    for at, amount in sorted(known.uses, reverse=True):
        age, amount = max(0.0, wall - at), min(amount, left)
        if amount > 0 and age < limit.window:
            found.append((now - age, amount))
            left -= amount
    return found[::-1]


def recall_freeze(known: ModelMemory, *, wall: float) -> float:
    """Seconds for which a model stays frozen: no longer than was left when this was written, whatever clocks say."""
    if known.frozen_until is None:
        return 0.0
    return max(0.0, min(known.frozen_until - wall, known.frozen_until - known.at))


# --- texts


def dump_memory(memory: LaneMemory) -> str:
    """The text of a file."""
    return json.dumps({"format": _FORMAT, **asdict(_bounded(memory))}, allow_nan=False, separators=(",", ":"))


def _bounded(memory: LaneMemory) -> LaneMemory:
    models = {}
    for name, model in memory.models.items():
        if model.estimate is not None and len(model.estimate.outputs) > _KINDS:
            outputs = dict(list(model.estimate.outputs.items())[-_KINDS:])
            model = replace(model, estimate=replace(model.estimate, outputs=outputs))
        models[name] = model
    return replace(memory, models=models)


class _NewerFormat(ValueError):
    """What a later version of this program has written."""


def parse_memory(text: str | bytes) -> LaneMemory:
    """The memory in a file's text. Raises ValueError for anything else, of whatever kind."""
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite, parse_int=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict) or not isinstance(form := value.get("format"), float):
        raise ValueError("it is no memory of a lane")
    if form != _FORMAT:
        kind = _NewerFormat if form > _FORMAT else ValueError
        raise kind(f"its format is {form:g}, and this version of agentmesh reads {_FORMAT}")
    try:
        return _reader().validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None


@lru_cache(maxsize=1)
def _reader() -> TypeAdapter[LaneMemory]:
    return TypeAdapter(LaneMemory)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is no number")
    return number


# --- files


def lane_file(base_url: str, account: str, *, environ: Mapping[str, str]) -> Path:
    """Where an account's memory is kept. Its name is a hash: an address may hold what is nobody's business.

    Below `XDG_CACHE_HOME` where that is an absolute path, else below `~/.cache`.
    """
    cache = environ.get("XDG_CACHE_HOME", "")
    folder = Path(cache) if cache.startswith("/") else Path(environ.get("HOME") or os.path.expanduser("~")) / ".cache"
    name = hashlib.sha256(f"{base_url}\n{account}".encode()).hexdigest()[:32]
    return folder / "agentmesh" / "lanes" / f"{name}.json"


def load_memory(path: Path) -> tuple[LaneMemory, str | None]:
    """What is kept there, and what a user should know: None, or why it cannot be used."""
    try:
        text = _read(path)
    except FileNotFoundError:
        return LaneMemory(), None
    except OSError as error:
        return LaneMemory(), f"what is known of an account's limits cannot be read: {error}"
    try:
        return parse_memory(text), None
    except ValueError as error:
        return LaneMemory(), f"{path} is not used: {error}"


def save_memory(path: Path, memory: LaneMemory, *, wall: float) -> str | None:
    """Merge this into what is kept there. Returns None, or what a user should know.

    The file is replaced as a whole; other processes that write it meanwhile are waited for. A file that a later
    version has written stays as it is.
    """
    try:
        path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with _locked(path):
            try:
                kept = parse_memory(_read(path))
            except _NewerFormat:
                return None
            except (FileNotFoundError, ValueError):
                kept = LaneMemory()
            _write(path, dump_memory(memory.merged(kept, wall=wall)))
    except OSError as error:
        return f"what was learned of an account's limits cannot be kept: {error}"
    return None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LARGEST)  # what is cut off is no JSON, and so no memory


def _write(path: Path, text: str) -> None:
    """Beside the file, and then in its place: nobody ever reads a half."""
    beside = path.with_name(f".{path.stem}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time. One that was stopped while it wrote is not waited for: then its merge may be lost."""
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        for _ in range(round(_LOCK_S / _LOCK_STEP_S)):
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(_LOCK_STEP_S)
        yield
    finally:
        os.close(descriptor)  # and with it the lock

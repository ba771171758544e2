"""How a simulated server behaves: its models, their limits, how fast and how well they answer, how often they fail."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from ..catalog.spec import Failure, ProviderSpec, Simulate, limit_records
from ..rates import Limit
from .beside import Change, Neighbour

__all__ = ["STALL_S", "Behaviour", "Fate", "Served", "ServedModel", "mixed_failures", "served_by"]

STALL_S = 600.0
"""How long a stalled connection stays open if nothing else is said: longer than any client should wait, in seconds."""

_LENGTHS = (0.6, 1.4)  # lengths of plain texts lie evenly between these multiples of their mean


@dataclass(frozen=True, slots=True)
class Fate:
    """What is in store for one admitted request: its failure, if any, and how many times the mean it takes."""

    failure: Failure | None = None
    slowness: float = 1.0


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a model answers.

    The first token comes after `first_token_s` seconds, each one after `per_token_s`; both are multiplied by a factor
    drawn evenly from 1 - `jitter` to 1 + `jitter`. `output_tokens` is the mean length of a reply in plain text.
    `skill` is the slope by which the model's verdicts follow the strength of what it compares (0: not at all),
    `order_bias` how much it favours what stands first, in logits. `failures` gives the share of admitted requests that
    meet each kind of failure; one that stalls is cut off after `stall_s` seconds.
    """

    first_token_s: float = 0.0
    per_token_s: float = 0.0
    jitter: float = 0.0
    output_tokens: float = 120.0
    skill: float = 1.0
    order_bias: float = 0.0
    failures: Mapping[Failure, float] = field(default_factory=dict)
    stall_s: float = STALL_S

    def fate(self, rng: random.Random) -> Fate:
        """What is in store for the next request."""
        failure = self.failure(rng)
        return Fate(failure, 1.0 + self.jitter * (2.0 * rng.random() - 1.0) if self.jitter else 1.0)

    def seconds(self, output_tokens: int, slowness: float) -> tuple[float, float]:
        """Seconds until the first token, and from there to the last one."""
        return self.first_token_s * slowness, self.per_token_s * slowness * output_tokens

    def length(self, rng: random.Random) -> int:
        """Tokens of the next reply in plain text."""
        return max(1, round(self.output_tokens * rng.uniform(*_LENGTHS)))

    def failure(self, rng: random.Random) -> Failure | None:
        """What goes wrong with the next request, if anything."""
        drawn = rng.random() if self.failures else 1.0
        for kind, share in self.failures.items():
            drawn -= share
            if drawn < 0.0:
                return kind
        return None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model of a simulated server, with the limits that are its own and the pool it shares."""

    name: str
    behaviour: Behaviour = Behaviour()
    limits: tuple[Limit, ...] = ()
    pool: str | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """A whole simulated server. A model called `*` stands for every name that is not listed.

    Everything that is drawn (replies, planted strengths, latency, failures, the neighbour) comes from `seed`.
    `changes` and `neighbour` concern the limits of the whole server. `tells_limits`: replies have the dialect's headers
    on limits; `tells_wait`: a refusal says after what time to come again.
    """

    models: Mapping[str, ServedModel]
    limits: tuple[Limit, ...] = ()
    pools: Mapping[str, tuple[Limit, ...]] = field(default_factory=dict)
    title: str = "simulated"
    seed: int = 0
    changes: tuple[Change, ...] = ()
    neighbour: Neighbour | None = None
    tells_limits: bool = True
    tells_wait: bool = True

    def model(self, name: str) -> ServedModel | None:
        """The model of this name, None where the server has none."""
        return self.models.get(name) or self.models.get("*")

    def changed(
        self,
        *,
        latency_s: tuple[float, float] | None = None,
        failures: Mapping[Failure, float] | None = None,
        limits: tuple[Limit, ...] = (),
    ) -> Served:
        """The same server with other behaviour of all its models, and with these limits of the whole server.

        `latency_s`: a reply begins after a time drawn evenly between these two, and is then there at once.
        """
        said: dict[str, object] = {}
        if latency_s is not None:
            low, high = latency_s
            middle = (low + high) / 2.0
            said = {"first_token_s": middle, "per_token_s": 0.0, "jitter": (high - middle) / middle if middle else 0.0}
        if failures is not None:
            said["failures"] = failures
        models = {
            name: replace(model, behaviour=replace(model.behaviour, **said))  # type: ignore[arg-type]  # its own fields
            for name, model in self.models.items()
        }
        names = {limit.name for limit in limits}
        kept = tuple(limit for limit in self.limits if limit.name not in names)
        return replace(self, models=models, limits=kept + limits)


def mixed_failures(share: float) -> Mapping[Failure, float]:
    """Failures of this share in all: server errors, overload and dropped connections in equal parts."""
    kinds: tuple[Failure, ...] = ("500", "503", "drop")
    return MappingProxyType({kind: share / len(kinds) for kind in kinds})


def served_by(spec: ProviderSpec, *, seed: int = 0) -> Served:
    """The server that a provider file describes. Without a `simulate:` block it behaves as that block's defaults say.

    `seed` is added to the file's own, so that a run of another seed draws everything anew.
    """
    simulate = spec.simulate or Simulate()
    models = {
        name: ServedModel(
            name, _behaviour((model.simulate or Simulate()).over(simulate)), limit_records(model.limits), model.pool
        )
        for name, model in spec.models.items()
    }
    return Served(
        models=models or {"*": ServedModel("*", _behaviour(simulate))},
        limits=limit_records(spec.limits),
        pools={name: limit_records(limits) for name, limits in spec.pools.items()},
        title=spec.title or spec.provider,
        seed=simulate.seed + seed,
    )


def _behaviour(simulate: Simulate) -> Behaviour:
    return Behaviour(
        first_token_s=simulate.latency.first_token,
        per_token_s=simulate.latency.per_token,
        jitter=simulate.latency.jitter,
        output_tokens=simulate.length,
        skill=simulate.skill,
        order_bias=simulate.order_bias,
        failures=MappingProxyType({kind: share for kind, share in simulate.failures.items() if share > 0.0}),
        stall_s=simulate.stall,
    )

"""`python -m tests.durability --seeds 500`: runs that are killed again and again, held against the server's own log."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from proof_trial import Plan, Trial, baseline_of, carry_out

_WAYS = {"kill": ("kill",), "orderly": ("term", "int"), "mixed": ("kill", "kill", "term", "int")}


def _plan(seed: int, calls: int) -> Plan:
    """Mostly kills; each fifth seed is ended in order, each fifth by all ways and with a budget that runs out."""
    way = {3: "orderly", 4: "mixed"}.get(seed % 5, "kill")
    return Plan(seed, calls, _WAYS[way], usd_share=0.4 if way == "mixed" else 3.0)


def _one(plan: Plan, folder: Path) -> Trial | AssertionError:
    place = folder / str(plan.seed)
    place.mkdir()
    try:
        return carry_out(plan, place)
    except AssertionError as error:
        return error


def _told(plan: Plan, error: AssertionError) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"seed {plan.seed}: FAILED: {where.name}: {str(error) or where.line}"


def main() -> int:
    """Trials for each seed; exit code 1 if anything did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.durability", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="how many trials (default 5)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--calls", type=int, default=2000, help="calls of each run, about (default 2000)")
    parser.add_argument("--jobs", type=int, default=1, help="trials at a time (default 1)")
    given = parser.parse_args()
    folder, began = Path(tempfile.mkdtemp(prefix="durability-")), time.monotonic()
    baseline_of(given.calls)
    sums: Counter[str] = Counter()
    with ThreadPoolExecutor(given.jobs) as pool:
        plans = [_plan(seed, given.calls) for seed in range(given.first, given.first + given.seeds)]
        for plan, trial in zip(plans, pool.map(lambda plan: _one(plan, folder), plans), strict=True):
            print(trial if isinstance(trial, Trial) else _told(plan, trial), flush=True)
            sums["failed"] += not isinstance(trial, Trial)
            if isinstance(trial, Trial):
                sums["ends"] += len(trial.ended) - 1
                sums.update({name: trial.figures[name] for name in ("paid", "answers", "duplicates", "uncertain")})
    told = ", ".join(f"{sums[name]:,} {name}" for name in ("ends", "paid", "answers", "duplicates", "uncertain"))
    print(f"{given.seeds} trials, {sums['failed']} failed; {told}; {time.monotonic() - began:.0f} s; {folder}")
    return 1 if sums["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())

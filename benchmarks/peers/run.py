"""Compares agentmesh with what users would otherwise choose: the same calls, the same strict server, one after another.

See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from measuring import measure
from peers import PEERS
from table import document, markdown

from agentmesh.app.perf.throughput_scenarios import SCENARIOS

_SCENARIOS = ("requests", "tokens")
_SECONDS, _QUICK_SECONDS = 50.0, 8.0


def main() -> None:
    """Measure, print, write."""
    options = _parser().parse_args()
    seconds = options.seconds or (_QUICK_SECONDS if options.quick else _SECONDS)
    results = []
    for scenario in options.scenario or _SCENARIOS:
        for name in options.only or PEERS:
            print(f"{scenario}: {name}", file=sys.stderr, flush=True)
            results.append(measure(PEERS[name], SCENARIOS[scenario], seconds=seconds, seed=0))
    quick = seconds < _SECONDS
    text = markdown(results, quick=quick)
    print(text, end="")
    for result in results:
        for failure in result.row.scores[0].failures[:1] if result.row else ():
            print(f"{result.scenario.name}: {result.peer.name}: {failure}", file=sys.stderr)
    if options.output:
        as_json = json.dumps(document(results, quick=quick), indent=2, ensure_ascii=False) + "\n"
        options.output.write_text(as_json if options.output.suffix == ".json" else text, encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--only", action="append", choices=list(PEERS), metavar="NAME", help=f"one of {', '.join(PEERS)}; repeatable"
    )
    parser.add_argument(
        "--scenario", action="append", choices=_SCENARIOS, metavar="NAME", help="requests or tokens; default both"
    )
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK_SECONDS:g} s instead of {_SECONDS:g} s each")
    parser.add_argument("--seconds", type=float, metavar="S", help="another length of each scenario")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write the table too; all figures, if FILE ends in .json"
    )
    return parser


if __name__ == "__main__":
    main()

"""The results as Markdown that is also easy on the eye in a terminal."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from measuring import Result

__all__ = ["document", "markdown"]

_HEADS = ("client", "makespan ÷ bound", "refused / calls", "answered", "largest late", "CPU per call", "peak memory")


def document(results: Sequence[Result], *, quick: bool) -> dict[str, object]:
    """Everything, in plain data."""
    return {
        "format": 1, "benchmark": "peers", "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(), "machine": _machine(), "quick": quick,
        "results": [result.as_json() for result in results],
    }  # fmt: skip


def markdown(results: Sequence[Result], *, quick: bool) -> str:
    """What was measured, a table for each scenario, and how the clients were set."""
    loads = [result.load for result in results]
    parts = [
        "# The same calls against the same limits, through different clients",
        f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC on {_machine()}, Python {platform.python_version()}; load "
        f"average before each client {min(loads):.1f} to {max(loads):.1f}. One run each; server and client are a "
        f"process each, over loopback. CPU per call grows with what else the machine does."
        + (" Quick: too short to compare." if quick else ""),
    ]
    for name in dict.fromkeys(result.scenario.name for result in results):
        of = [result for result in results if result.scenario.name == name]
        scenario = of[0].scenario
        calls = next((result.row.scores[0].calls for result in of if result.row), None)
        counted = "" if calls is None else f", {calls} calls"
        parts.append(f"### {scenario.about[:1].upper()}{scenario.about[1:]} ({of[0].seconds:g} s{counted})")
        parts.append(_table([_HEADS, *(_cells(result) for result in of)]))
    parts.append("\n".join(_settings(results)))
    return "\n\n".join(parts) + "\n"


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return ", ".join(filter(None, (f"{platform.system()} {platform.machine()}", model, f"{os.cpu_count()} cores")))


def _cells(result: Result) -> tuple[str, ...]:
    nothing = ("–",) * (len(_HEADS) - 2)
    if result.row is None:
        return (result.peer.title, (result.error or "").replace("|", "/"), *nothing)
    one = result.row.scores[0]
    assert one.cpu is not None
    assert one.peak is not None
    return (
        result.peer.title,
        f"cut at {one.makespan:.0f} s" if result.cut else f"{result.row.ratio:.3f}",
        f"{one.refused} / {one.calls}",
        "all" if one.answered == one.calls else str(one.answered),
        f"{one.late:.1f} s",
        f"{1000 * one.cpu:.1f} ms",
        f"{one.peak / 1e6:.0f} MB",
    )


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ("-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:]))
    lines = []
    for row in (rows[0], rule, *rows[1:]):
        first, *rest = (
            cell.ljust(width) if not n else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("| " + " | ".join((first, *rest)) + " |")
    return "\n".join(lines)


def _settings(results: Sequence[Result]) -> list[str]:
    versions = {
        result.peer.name: ", ".join(f"{name} {number}" for name, number in result.versions.items())
        for result in results
        if result.versions
    }
    return [
        f"- **{peer.title}** ({versions.get(peer.name, 'no version')}): {peer.settings}."
        for peer in dict.fromkeys(result.peer for result in results)
    ]

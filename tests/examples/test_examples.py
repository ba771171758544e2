"""Every example runs as it stands, with no key, in a folder of its own: on the virtual clock, one as users do it."""

from __future__ import annotations

import asyncio
import re
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agentmesh.simulate.virtual import VirtualLoop

EXAMPLES = Path(__file__).parents[2] / "examples"
ALL = sorted(path.name for path in EXAMPLES.glob("*.py"))

PRINTED = {
    "one_call.py": [r"\A\(A simulated reply of small\.\)", r"\(A simulated reply of small\.\)\n[^\n]*\Z"],
    "many_calls.py": [
        r"^sleep \(A simulated reply", r"^speech ", r"^5 of 8 answered within a budget of 5 calls$",
        r"^budget: the budget of 5 calls has 0 left",
    ],
    "growing_graph.py": [
        r"^1\. \d+ \(\d+ to \d+, \d+ matches\) \w+$", r"^4\. ", r"^words of review: \d{3}$", r"^first draft: \w+",
    ],
    "tools.py": [
        r"^papers \(2 calls\)", r'^search_papers answered: \[\{"title":"Persister cells","year":2004\}',
        r"^roll_dice answered: scientist rolled \d+$", r"^advice \(3 calls\)",
        r"^of a type: Paper\(title='.+', year=\d+\)$", r"a function: \[Paper\(title='Persister",
    ],
    "structured_output.py": [r"^(accept|revise|reject) \d", r"^City\(name='.+', inhabitants=\d+\)$"],
    "failures.py": [
        r"^double/1 done 2$", r"^double/two skipped dependency: parse/two was failed$",
        r"^1 of the tasks of run \w+ failed: parse/two: tool: ValueError: invalid literal", r"^total: 4$",
        r"^\(A simulated reply of small\.\)$", r"^fragile/\w+~2 failed: server: ", r"^  its story: .* then failed$",
        r"^partial \['parse/four done', 'parse/five skipped', 'fragile/\w+~2 failed'\]$",
    ],
    "workflow.py": [r"^done \d+ calls \$0\.0\d+$", r"^  draft: 4 done, 0 failed$", r"^1\. \d+ \w+", r"^3\. "],
    "own_provider.py": [r"^1 lab/tutor (stop|length) 0\.\d+ s$", r"^12 lab/tutor ", r"^lab .*in_flight: 4"],
}  # fmt: skip


def test_no_example_is_forgotten() -> None:
    assert sorted(PRINTED) == ALL


@pytest.mark.parametrize("name", ALL)
def test_an_example_prints_what_it_is_about(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended: list[float] = []

    class Loop(VirtualLoop):
        def close(self) -> None:
            ended.append(self.time())
            super().close()

    monkeypatch.setattr(asyncio.events, "new_event_loop", Loop)
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    printed = capsys.readouterr()
    for pattern in PRINTED[name]:
        assert re.search(pattern, printed.out.rstrip("\n"), re.MULTILINE), pattern
    assert printed.err == ""
    assert 0.1 < sum(ended) < 6.0, "seconds that it takes with a real clock, but for computing"


def test_an_example_leaves_nothing_behind_but_its_journal(tmp_path: Path) -> None:
    began = time.monotonic()
    command = [sys.executable, "-W", "error", str(EXAMPLES / "growing_graph.py")]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.search(PRINTED["growing_graph.py"][0], ended.stdout, re.MULTILINE)
    assert [path.name for path in tmp_path.iterdir()] == [".agentmesh"]
    assert len(list(tmp_path.glob(".agentmesh/runs/*.db"))) == 1
    assert time.monotonic() - began < 30.0

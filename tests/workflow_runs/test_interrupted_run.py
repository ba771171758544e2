"""Ctrl-C and SIGTERM in real processes: what was received is kept, and the exit code says what happened."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROVIDER = """\
provider: slow
dialect: openai-chat
base_url: inprocess://slow
models:
  quick: {simulate: {latency: {first_token: 0.01, per_token: 0, jitter: 0}}}
  second: {simulate: {latency: {first_token: 1.2, per_token: 0, jitter: 0}}}
  hour: {simulate: {latency: {first_token: 3600, per_token: 0, jitter: 0}}}
"""
WORKFLOW = """\
agentmesh: 1
inputs: {models: {type: [text]}}
agents: {one: {}}
tasks:
  ask: {for_each: {model: inputs.models}, agent: one, model: "{{ model }}", prompt: x}
  after: {for_each: tasks.ask, if: model != "slow/quick", agent: one, model: slow/hour, prompt: "{{ item }}"}
outputs: {ask: tasks.ask}
"""


@pytest.mark.parametrize(
    ("slowest", "signals", "code", "states"),
    [
        ("second", [signal.SIGINT], 130, {"done": 2, "cancelled": 0}),
        ("hour", [signal.SIGINT, signal.SIGINT], 130, {"done": 1, "cancelled": 1}),
        ("second", [signal.SIGTERM], 143, {"done": 2, "cancelled": 0}),
    ],
    ids=["once", "twice", "terminated"],
)
def test_a_run_that_is_interrupted(
    slowest: str, signals: list[signal.Signals], code: int, states: dict[str, int]
) -> None:
    Path("slow.yaml").write_text(PROVIDER)
    Path("w.yaml").write_text(WORKFLOW)
    models = json.dumps(["slow/quick", f"slow/{slowest}"])
    command = [sys.executable, "-m", "agentmesh", "run", "w.yaml", "--input", f"models={models}", "-o", "out.json"]
    command += ["--provider-file", "slow.yaml", "--display", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        seen = []
        for line in process.stderr:  # the first answer has come, and the other call is in flight
            seen.append(json.loads(line))
            kinds = [event["kind"] for event in seen]
            if kinds.count("CallIntent") == 2 and "TaskEnded" in kinds:
                break
        for number in signals:
            process.send_signal(number)
            for line in process.stderr:
                seen.append(json.loads(line))
                if seen[-1]["kind"] in ("Notice", "RunEnded"):
                    break
        out, rest = process.communicate(timeout=30)
    assert process.returncode == code
    written = json.loads(Path("out.json").read_text())
    assert written["status"] == "cancelled"
    assert {state: written["tasks"]["ask"][state] for state in states} == states
    assert json.loads(out) == written["outputs"]
    assert len(written["outputs"]["ask"]) == states["done"]
    assert written["unfinished"] == 1, "what would have come after it"
    assert all(json.loads(line)["format"] == 1 for line in rest.splitlines())
    assert any("interrupted: nothing new starts" in event.get("text", "") for event in seen)
    assert written["failures"] == []

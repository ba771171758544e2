"""Workflows whose run did not get to its end: the same command goes on, and asks nothing twice."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

import agentmesh as am
from agentmesh.app.cli import main
from agentmesh.events import CallIntent
from agentmesh.journal import RunFile, RunSummary, find_run, list_runs
from agentmesh.simulate.virtual import VirtualLoop

WORKFLOW = """
agentmesh: 1
name: chain
inputs:
  words: {type: rows, default: [{w: alpha}, {w: beta}, {w: gamma}, {w: delta}]}
agents:
  writer: {model: sim/small, instructions: You write.}
  critic: {model: sim/small, instructions: You review.}
tasks:
  draft: {for_each: inputs.words, key: item.w, agent: writer, prompt: "Write of {{ item.w }}"}
  length: {for_each: tasks.draft, python: "count:length", with: {text: item}}
  review: {for_each: tasks.draft, agent: critic, prompt: "Review: {{ item }}"}
  summary: {agent: writer, prompt: "Sum up: {{ tasks.review | join(' ') }} {{ tasks.length | join(', ') }}"}
outputs: {summary: tasks.summary, lengths: tasks.length}
"""
COUNT = """
import os, signal

def length(text: str) -> int:
    if os.path.exists("deadly"):
        os.kill(os.getpid(), signal.SIGKILL)
    if os.path.exists("broken") and len(text) % 2:
        raise ValueError("odd")
    with open("counted.txt", "a") as file:
        file.write("x")
    return len(text)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the workflow; commands in this process go on a virtual clock."""
    virtual = partial(anyio.run, backend="asyncio", backend_options={"loop_factory": VirtualLoop})
    monkeypatch.setattr(anyio, "run", virtual)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "count", raising=False)
    Path("chain.yaml").write_text(WORKFLOW)
    Path("count.py").write_text(COUNT)
    return tmp_path


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any], str]:
    code = main(list(arguments))
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


def killed(*arguments: str) -> None:
    """Run a command in a process of its own, which is killed when the first draft is there and others are in flight."""
    Path("deadly").touch()
    command = [sys.executable, "-m", "agentmesh", *arguments, "--display", "none"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    Path("deadly").unlink()


def test_the_same_command_goes_on_after_a_kill_and_gives_what_an_undisturbed_run_gives(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed("run", "chain.yaml")
    (before,) = list_runs(Path(".agentmesh"))
    assert before.status == "interrupted"
    code, outputs, err = run("run", "chain.yaml", "--display", "plain", "-o", "out.json", capsys=capsys)
    assert code == 0
    assert f"going on with run {before.id[-4:]}: " in err
    (after,) = list_runs(Path(".agentmesh"))
    assert (after.id, after.status, after.done, after.resumes) == (before.id, "done", 13, 1)
    assert after.calls == 9 + after.uncertain
    written = json.loads(Path("out.json").read_text())
    assert written["run"] == after.id
    assert written["usage"]["calls"] == after.calls
    code, undisturbed, _ = run("run", "chain.yaml", "--fresh", "--display", "none", capsys=capsys)
    assert outputs == undisturbed
    assert len(list_runs(Path(".agentmesh"))) == 2


def test_who_begins_with_other_inputs_hears_of_the_run_that_is_unfinished(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def begin(model: str, *more: str) -> str:
        return run("run", "chain.yaml", "--model", model, "--display", "plain", *more, capsys=capsys)[2]

    killed("run", "chain.yaml")
    (before,) = list_runs(Path(".agentmesh"))
    said = f"with other inputs or models, is unfinished: `agentmesh resume {before.id[-4:]}` goes on with it"
    assert said in begin("sim/large", "--budget", "calls=1")
    assert "is unfinished: " not in begin("sim/small", "--fresh")
    # The newest is finished now.
    assert "is unfinished: " not in begin("sim/large", "--input", 'words=[{"w": "x"}]')


def test_a_damaged_run_of_other_inputs_is_in_nobodys_way(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    killed("run", "chain.yaml")
    (before,) = list_runs(Path(".agentmesh"))
    with closing(sqlite3.connect(before.path)) as connection:
        connection.execute("UPDATE event SET body = x'00' WHERE id = 1")  # how it began
        connection.commit()
    code, _, err = run("run", "chain.yaml", "--model", "sim/large", "--display", "plain", capsys=capsys)
    assert (code, "is unfinished: " in err) == (0, False)


def test_what_was_in_the_place_of_its_result_when_a_run_began_is_replaced_by_the_same_command_again(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path("out.json")
    out.write_text('{"run": "earlier"}')
    killed("run", "chain.yaml", "-o", "out.json")
    written = out.stat().st_mtime
    os.utime(out, (written, written + 3600))  # as if another run had ended meanwhile
    code, _, err = run("run", "chain.yaml", "-o", "out.json", capsys=capsys)
    assert (code, json.loads(out.read_text())) == (2, {"run": "earlier"})
    assert "out.json: it has the result of run lier, and run" in err
    os.utime(out, (written, written))
    assert run("run", "chain.yaml", "-o", "out.json", capsys=capsys)[0] == 0
    assert json.loads(out.read_text())["run"] == list_runs(Path(".agentmesh"))[0].id


def test_what_failed_is_tried_again_only_where_one_says_so(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken").touch()
    code, outputs, _ = run("run", "chain.yaml", "--display", "none", capsys=capsys)
    failed = 4 - len(outputs["lengths"])
    assert (code, failed > 0) == (1, True)
    counted = len(Path("counted.txt").read_text())
    code, _, err = run("resume", "last", capsys=capsys)
    assert code == 2
    assert "--failed" in err
    Path("broken").unlink()
    code, outputs, _ = run("resume", "last", "--failed", "--display", "none", capsys=capsys)
    assert (code, len(outputs["lengths"])) == (0, 4)
    assert len(Path("counted.txt").read_text()) == counted + failed
    (after,) = list_runs(Path(".agentmesh"))
    assert (after.status, after.done, after.failed) == ("done", 13, 0)
    assert after.calls == 10  # the summary reads all lengths, and was asked once more
    code, _, err = run("resume", after.id, "--failed", capsys=capsys)
    assert code == 2
    assert "finished" in err


def test_a_budget_in_the_file_is_to_be_raised_before_what_failed_for_it_is_tried_again(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bounded = WORKFLOW.replace("You review.}", "You review., budget: {calls: 3}}")
    Path("chain.yaml").write_text(bounded)
    code, _, err = run("run", "chain.yaml", capsys=capsys)
    assert (code, "raise agents.critic.budget in chain.yaml, else it fails alike; then\n" in err) == (1, True)
    code, _, err = run("resume", "last", "--failed", capsys=capsys)
    assert (code, "raise agents.critic.budget in chain.yaml" in err) == (1, True)
    Path("chain.yaml").write_text(bounded.replace("calls: 3", "calls: 30"))
    before = list_runs(Path(".agentmesh"))[0].calls
    code, _, err = run("resume", "last", "--failed", capsys=capsys)
    assert (code, "raise" in err) == (0, False)
    assert list_runs(Path(".agentmesh"))[0].calls == before + 2  # one review and the summary


def test_beginning_anew_after_failures_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken").touch()
    assert run("run", "chain.yaml", "--display", "none", capsys=capsys)[0] == 1
    (before,) = list_runs(Path(".agentmesh"))
    Path("broken").unlink()
    code, _, err = run("run", "chain.yaml", "--display", "plain", capsys=capsys)
    assert (code, len(list_runs(Path(".agentmesh")))) == (0, 2)
    (told,) = [line for line in err.splitlines() if "asked the same" in line]
    assert f"run {before.id[-4:]} asked the same and is finished, with {before.failed} failure" in told
    assert f"`agentmesh resume {before.id[-4:]} --failed` goes on with that one" in told
    code, _, err = run("run", "chain.yaml", "--display", "plain", capsys=capsys)  # after one that is done
    assert (code, "asked the same" in err) == (0, False)


def test_a_run_that_was_stopped_while_it_tried_again_what_had_failed_goes_on_with_that(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed("run", "chain.yaml")
    assert run("run", "chain.yaml", "--on-uncertain", "fail", capsys=capsys)[0] == 1  # what was in flight has failed
    (before,) = list_runs(Path(".agentmesh"))
    assert before.failed
    bound = f"calls={before.calls + 1}"
    assert run("resume", "last", "--failed", "--budget", bound, capsys=capsys)[0] == 3
    code, _, err = run("resume", "last", "--budget", "calls=100", capsys=capsys)
    assert code == 0
    assert "what has failed is tried again, as this run was last told by --failed" in err
    (after,) = list_runs(Path(".agentmesh"))
    assert (after.status, after.done, after.failed, after.skipped) == ("done", 13, 0, 0)


def test_a_changed_workflow_asks_again_only_what_is_asked_otherwise(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("run", "chain.yaml", "--budget", "calls=8", capsys=capsys)[0] == 3  # all but the summary
    (before,) = list_runs(Path(".agentmesh"))
    Path("chain.yaml").write_text(WORKFLOW.replace("You review.", "You review with care."))
    code, _, err = run("run", "chain.yaml", "--budget", "calls=50", "--display", "plain", capsys=capsys)
    assert code == 0
    assert "the workflow has changed since: agents.critic" in err
    with RunFile.open(find_run(Path(".agentmesh"), "last")) as file:
        after = RunSummary.of(file)
    again = after.calls - before.calls - (after.uncertain - before.uncertain)
    assert (after.id, again) == (before.id, 5)  # the reviews and the summary


def test_mistakes_are_told_and_change_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("resume", "nothing", capsys=capsys)[0] == 2
    killed("run", "chain.yaml")
    Path("out.json").write_text('{"run": "another"}')
    code, _, err = run("run", "chain.yaml", "-o", "out.json", capsys=capsys)
    assert code == 2
    assert "result of run" in err
    Path("chain.yaml").rename("gone.yaml")
    code, _, err = run("resume", "last", capsys=capsys)
    assert code == 2
    assert "there is no such workflow" in err
    (still,) = list_runs(Path(".agentmesh"))
    assert (still.status, still.resumes) == ("interrupted", 0)


ASKING = """
agentmesh: 1
name: asking
on_uncertain: ask
agents: {one: {}}
tasks:
  ask: {for_each: {model: inputs.models}, agent: one, model: "{{ model }}", prompt: x}
inputs: {models: {type: [text], default: [slow/quick, slow/hour]}}
outputs: {ask: tasks.ask}
"""
SLOW = """
provider: slow
dialect: openai-chat
base_url: inprocess://slow
models:
  quick: {simulate: {latency: {first_token: 0.01, per_token: 0, jitter: 0}}}
  hour: {simulate: {latency: {first_token: 3600, per_token: 0, jitter: 0}}}
"""


@pytest.mark.anyio
@pytest.mark.virtual_time
async def test_in_python_who_would_be_asked_of_calls_in_flight_is_named_instead(place: Path) -> None:
    Path("asking.yaml").write_text(ASKING)
    Path("slow.yaml").write_text(SLOW)
    command = [sys.executable, "-m", "agentmesh", "run", "asking.yaml", "--provider-file", "slow.yaml"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not any(one.done for one in list_runs(Path(".agentmesh"))) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    asked: list[str] = []

    def choose(calls: Sequence[CallIntent]) -> Literal["fail"]:
        asked.extend(call.address for call in calls)
        return "fail"

    async with am.open_mesh(provider_files=["slow.yaml"], remembers=False) as mesh:
        for wrong, words in (
            (True, r"1 call was in flight .*asking.yaml says `on_uncertain: ask`, and nobody .*resume=am\.Resume\("),
            (am.Resume(on_uncertain=lambda _: "ask"), "on_uncertain is resend, fail, or a function .*, not 'ask'"),  # type: ignore[arg-type,return-value]
        ):
            with pytest.raises(am.UserError, match=words):
                await mesh.workflow("asking.yaml", resume=wrong)
            (still,) = list_runs(Path(".agentmesh"))
            assert (still.status, still.resumes, still.calls) == ("interrupted", 0, 1)
        result = await mesh.workflow("asking.yaml", resume=am.Resume(on_uncertain=choose))
        assert (result["run"], result["status"], result["usage"]["uncertain"]) == (still.id, "partial", 1)
        assert asked == [f"ask/{result['failures'][0]['key']}"]
        again = await mesh.workflow("asking.yaml", resume=True)
        assert again["run"] != still.id, "nothing was unfinished, so nobody need be asked"

"""`--budget` of run, batch and resume: over the workflow's own; what is said at its end; what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest
from batch_provider import Command

from agentmesh.app.budgets import budget_option, budget_words, newest_bounds, read_bounds, read_budget
from agentmesh.app.cli import main
from agentmesh.client.budget import Budget
from agentmesh.errors import UserError
from agentmesh.journal import list_runs

WORKFLOW = """\
agentmesh: 1
name: words
budget: {usd: 1, time: 1h}
agents:
  writer: {model: acme/fast}
  thrifty: {model: acme/fast, budget: {calls: 4}}
  priceless: {model: acme/late}
tasks:
  draft: {samples: 12, agent: writer, prompt: "Draft {{ sample }}"}
  few: {samples: 6, agent: thrifty, prompt: "Few {{ sample }}"}
  last: {agent: writer, prompt: "{{ tasks.draft }}"}
outputs: {last: tasks.last}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    Path("words.yaml").write_text(WORKFLOW)
    return Command(tmp_path)


def go(place: Command, *arguments: str) -> int:
    return main([*arguments, "--display", "plain"])


def test_a_run_that_a_budget_stops_says_what_is_left_and_goes_on_with_more(
    place: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ("--provider-file", str(place.providers))
    assert go(place, "run", "words.yaml", *files, "--budget", "calls=10") == 3
    told = capsys.readouterr().err
    (run,) = list_runs(Path(".agentmesh"))
    assert (run.status, run.calls) == ("stopped", 10)
    assert "budget of the workflow: 8 of 10 calls are used (80 %)" in told
    assert " of $1.00" in told, "the units that the option leaves out are the workflow's own"
    assert "10 of 10 calls, 00:00 of 1:00:00" in told
    assert "left       draft" in told
    assert "an estimate by what such items have cost: finishing takes about $0.00" in told
    assert f"agentmesh resume {run.id[-4:]} --budget calls=" in told
    assert go(place, "resume", "last") == 3, "the budget that it was begun with holds"
    assert "has 0 left" in capsys.readouterr().err
    assert go(place, "resume", "last", "--budget", "calls=100") == 1
    (run,) = list_runs(Path(".agentmesh"))
    told = capsys.readouterr().err
    assert (run.status, run.calls, run.failed) == ("partial", 17, 2), "4 calls of the agent's budget, in both together"
    assert "budget: the budget of agent thrifty of 4 calls has 0 left" in told


def test_prices_are_asked_for_before_the_first_call(place: Command, capsys: pytest.CaptureFixture[str]) -> None:
    text = WORKFLOW.replace("writer: {model: acme/fast}", "writer: {model: acme/late}")
    Path("words.yaml").write_text(text)
    for command in ("check", "run"):
        assert main([command, "words.yaml", "--provider-file", str(place.providers)]) == 2
        told = capsys.readouterr().err
        assert "words.yaml:9:3: tasks.draft: the price of acme/late is unknown" in told
        assert "give the model `prices: {input: 1.25, output: 10}`" in told
        assert "acme.yaml" in told
        assert "Traceback" not in told
    assert not Path(".agentmesh").exists()
    Path("words.yaml").write_text(text.replace("usd: 1, ", ""))
    assert main(["check", "words.yaml", "--provider-file", str(place.providers)]) == 0
    assert go(place, "run", "words.yaml", "--provider-file", str(place.providers), "--budget", "usd=1") == 2
    place.ask({"prompt": "A"})
    assert place("--budget", "usd=1", model="acme/late") == 2
    assert "the price of acme/late is unknown" in capsys.readouterr().err


def test_a_batch_says_what_is_left_too(place: Command, capsys: pytest.CaptureFixture[str]) -> None:
    place.ask(*({"id": str(number), "prompt": "A"} for number in range(300)))
    providers = ["--provider-file", str(place.providers)]
    command = ["batch", str(place.lines), "-o", str(place.out), *providers, "--model", "acme/fast"]
    assert main([*command, "--budget", "tokens=5000", "--max-tokens", "30"]) == 3
    told = capsys.readouterr().err
    (run,) = list_runs(Path(".agentmesh"))
    assert f"left       line {300 - run.done};" in " ".join(told.replace("line  ", "line ").split("\n"))
    assert "of 5,000 tokens" in told
    assert "(simulated)" in told.split("\n used ")[1].splitlines()[0]
    assert "--budget tokens=" in told
    option = told.split("--budget ")[1].split()[0]
    assert main(["resume", "last", "--budget", option]) == 0, "what it suggests is enough"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("usd", "write usd=N"), ("dollars=2", "usd=N"), ("usd=0", "must be a number above 0"),
        ("calls=2.5", "must be a whole number above 0"), ("time=5", "time "), ("usd=nan", "must be a number above 0"),
    ],
)  # fmt: skip
def test_texts_that_are_no_budget(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_bounds([text])


def test_the_newest_bounds_hold_unit_by_unit() -> None:
    texts, told = newest_bounds(["usd=$2", "calls=5"], ["usd=3", "time=15m"])
    assert read_bounds(texts) == {"usd": 3, "calls": 5, "time": 900}
    assert told == ["the budget that this run was last given holds (calls=5); --budget gives it another"]
    assert newest_bounds(["usd=2"], ["usd=3"]) == (["usd=3"], [])
    assert newest_bounds(None, None) == ([], [])
    assert read_budget([]) is None


def test_the_budget_that_a_run_was_last_given_holds_until_another_is_said(
    place: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """By whichever command it goes on, and not the one with which it began."""
    command = ("run", "words.yaml", "--provider-file", str(place.providers))
    assert go(place, *command, "--budget", "calls=5") == 3
    assert go(place, "resume", "last", "--budget", "calls=8") == 3
    capsys.readouterr()
    for again in (("resume", "last"), command):
        assert go(place, *again) == 3
        told = capsys.readouterr().err
        assert "the budget that this run was last given holds (calls=8); --budget gives it another" in told
        assert "8 of 8 calls" in told
    assert go(place, *command, "--budget", "calls=11") == 3
    assert "was last given" not in capsys.readouterr().err
    assert go(place, "resume", "last") == 3
    assert "(calls=11)" in capsys.readouterr().err
    (run,) = list_runs(Path(".agentmesh"))
    assert (run.calls, run.resumes) == (11, 5)
    assert go(place, *command, "--fresh", "--budget", "calls=2") == 3
    assert "was last given" not in capsys.readouterr().err


def test_a_batch_keeps_the_budget_that_it_was_last_given(place: Command, capsys: pytest.CaptureFixture[str]) -> None:
    place.ask(*({"id": str(number), "prompt": "A"} for number in range(20)))
    providers = ["--provider-file", str(place.providers)]
    command = ["batch", str(place.lines), "-o", str(place.out), *providers, "--model", "acme/fast"]
    assert go(place, *command, "--budget", "calls=4") == 3
    assert go(place, "resume", "last", "--budget", "calls=7") == 3
    capsys.readouterr()
    for again in (["resume", "last"], [*command, "--overwrite"]):
        assert go(place, *again) == 3
        told = capsys.readouterr().err
        assert "the budget that this run was last given holds (calls=7)" in told
        assert "7 of 7 calls" in told


def test_bounds_in_words() -> None:
    async def words() -> str:
        budget = Budget(usd=1, calls=500, tokens=1e6, time=900)
        budget.carry((0.5, 1234, 250), seconds=65)
        return budget_words(budget)

    assert anyio.run(words) == "250 of 500 calls, 1,234 of 1,000,000 tokens, 01:05 of 15:00"
    assert budget_words(None) == ""
    options = [("usd", 5.0), ("usd", 0.014), ("calls", 7.0), ("time", 1200.0), ("time", 45.0), ("tokens", 1e6)]
    assert [budget_option(*one).split("=")[1] for one in options] == ["5", "0.014", "7", "20m", "45s", "1000000"]
    assert json.dumps(read_bounds([budget_option("tokens", 1e6).split()[1]])) == '{"tokens": 1000000.0}'

"""What `agentmesh runs` and `agentmesh show` print."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
import typer
from typer.testing import CliRunner

from agentmesh.app.lookback.runs import runs_command
from agentmesh.app.lookback.show import show_command
from agentmesh.app.lookback.tables import explain_damage
from agentmesh.clock import in_thread
from agentmesh.errors import ErrorInfo, UserError
from agentmesh.events import (
    CallEnded,
    CallIntent,
    Event,
    MatchEnded,
    Notice,
    RunEnded,
    RunResumed,
    RunStarted,
    TaskAdded,
    TaskEnded,
    TaskStarted,
    ToolEnded,
)
from agentmesh.journal import Journal, RunFile
from agentmesh.messages import Message, Reply, Request, ToolCall
from agentmesh.outcome import Outcome, Usage

RUN = "01kabcdefghjkmnpqrstvwa3f9"
WORDY = "a claim about persister cells, " * 12
BAD = ErrorInfo("invalid_output", "score: 11 is over 10, after 2 repairs")

app = typer.Typer()
app.command("runs")(runs_command)
app.command("show")(show_command)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("AGENTMESH_JOURNAL", raising=False)


def write_run(run_id: str, events: list[Event], *, folder: str = ".agentmesh", content: bool = True) -> None:
    async def write() -> None:
        journal = await in_thread(lambda: Journal.create(Path(folder), run_id, content=content))
        for event in events:
            journal.append(event)
        await journal.aclose()

    anyio.run(write)


def call(number: int, address: str, messages: tuple[Message, ...], reply: Reply | None, **end: Any) -> list[Event]:
    who: dict[str, Any] = {
        "call": number, "attempt": 1, "address": address, "agent": "critic", "account": "sim", "model": "small",
    }  # fmt: skip
    outcome: dict[str, Any] = {"result": "ok", "reply": reply, "usage": Usage(1, input_tokens=7, output_tokens=3)}
    outcome |= {"usd": 0.25} | end
    return [
        CallIntent(at=10.0 + number, **who, request=Request("small", messages), waited=0.5),
        CallEnded(at=12.0 + number, **who, seconds=2.0, **outcome),
    ]


def hypotheses() -> list[Event]:
    question = (Message("system", "You look for flaws."), Message("user", WORDY))
    asks = Reply("", "tool", (ToolCall("c1", "search", '{"q": "toxin"}'),))
    found = (*question, asks.as_message(), Message("tool", "nothing \x1b[31mfound", tool_call_id="c1"))
    down = ErrorInfo("server", "502 from sim", status=502)
    skipped = Outcome("review", "17", state="skipped", error=BAD, seconds=9.0, usd=0.5)
    behind = Outcome("report", state="skipped", error=ErrorInfo("dependency", "review/17 was skipped"))
    return [
        RunStarted(at=10.0, run=RUN, name="hypotheses", tasks=("draft", "review", "report")),
        *(TaskAdded(at=10.0, task=task, key="17") for task in ("draft", "review")),
        TaskAdded(at=10.0, task="report"),
        *call(1, "draft/17", question, Reply("[bold]a draft[/bold]", "stop")),
        TaskEnded(at=13.0, outcome=Outcome("draft", "17", value="a draft", seconds=2.0, usd=0.25)),
        *call(2, "review/17", question, asks),
        *call(3, "review/17", found, None, result="failed", error=down, uncertain=True),
        TaskEnded(at=16.0, outcome=skipped),
        TaskEnded(at=16.0, outcome=behind),
        MatchEnded(at=17.0, address="contest/a+b/1", first="a", second="b", score=0.5, judge="judge"),
        Notice(at=17.0, level="warning", text="sim answered late"),
        RunEnded(at=31.0, status="partial", seconds=21.0, usage=Usage(3), usd=0.75),
    ]  # fmt: skip


def run(*arguments: str, columns: int | None = None, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": str(columns)} if columns else {})
    if isinstance(result.exception, UserError):  # the root of the command line prints it
        assert code == 2, result.exception
        return f"{result.exception}\n"
    assert result.exit_code == code, result.output
    return result.stdout


def test_runs_lists_all_and_reads_well_at_60_columns() -> None:
    write_run(RUN, hypotheses())
    write_run("01kabcdefghjkmnpqrstvwb7k2", [RunStarted(at=20.0, run="x", name="a_very_long_name_of_a_workflow")])
    Path(".agentmesh/runs/01kabcdefghjkmnpqrstvwzzzz.db").write_bytes(b"nothing" * 2000)
    lines = run("runs", columns=60).splitlines()
    assert all(len(line.rstrip()) <= 60 for line in lines[:4])
    assert lines[0].split() == ["when", "id", "workflow", "status", "tasks", "calls", "cost", "time"]
    assert [line.split()[1] if line.startswith("1970") else "zzzz" for line in lines[1:4]] == ["zzzz", "b7k2", "a3f9"]
    assert "interrupted" in lines[2]
    assert "…" in lines[2]
    assert lines[3].split()[2:] == ["hypotheses", "partial", "1", "3", "$0.75", "21s"]
    assert "vwzzzz.db cannot be read as a run: file is not a database" in lines[4]
    assert "a_very_long_name_of_a_workflow" in run("runs")
    assert len(run("runs", "--first", "1").splitlines()) == 3


def test_runs_as_json() -> None:
    write_run(RUN, hypotheses())
    listed = json.loads(run("runs", "--json"))
    assert listed["format"] == 1
    (row,) = listed["runs"]
    assert (row["id"], row["short"], row["status"], row["done"], row["skipped"]) == (RUN, "a3f9", "partial", 1, 2)


def test_no_runs_is_no_error() -> None:
    assert run("runs") == "There are no runs in .agentmesh yet.\n"
    assert json.loads(run("runs", "--json", "--journal", "elsewhere")) == {"format": 1, "runs": []}


def test_show_tells_tasks_causes_and_what_to_type() -> None:
    write_run(RUN, hypotheses())
    text = run("show", "a3f9")
    assert text.startswith("hypotheses  a3f9  partial\n")
    assert "3 calls, $0.75, 21s" in text
    rows = [line.split() for line in text.splitlines() if line.startswith(("draft", "review", "contest"))]
    assert rows[0] == ["draft", "1", "done", "1", "0.5s", "2.0s", "$0.25"]
    assert rows[1][:3] == ["review", "1", "skipped"]
    assert rows[2] == ["contest", "1", "match"]
    assert f"skipped review/17: {BAD}\n    agentmesh show a3f9 review/17\n" in text
    assert "skipped behind them: 1" in text
    assert "warning: sim answered late" in text
    assert run("show") == text
    narrow = run("show", "last", columns=60)
    assert "    agentmesh show a3f9 review/17\n" in narrow
    assert [line for line in narrow.splitlines() if len(line.rstrip()) > 60 and ".db" not in line] == []


def test_show_names_the_journal_where_it_is_not_the_usual_one() -> None:
    write_run(RUN, hypotheses(), folder="mine")
    assert "    agentmesh show a3f9 review/17 --journal mine\n" in run("show", "--journal", "mine")


def test_show_at_an_address_has_prompts_replies_attempts_and_errors() -> None:
    write_run(RUN, hypotheses())
    text = run("show", "a3f9", "review/17")
    assert [line for line in text.splitlines() if line != line.rstrip()] == []
    assert text.startswith(
        f"review/17  skipped  9.0s  $0.50\n  {BAD}\n  waited 1.0s in the lane, 4.0s for answers\n  call 2  critic"
    )
    assert "waited 0.5s" in text
    assert text.count(WORDY.strip()) == 1
    assert 'search({"q": "toxin"})' in text
    assert "nothing [31mfound" in text
    assert "\x1b" not in text
    assert "attempt 1: ok  2.0s  7 in, 3 out  $0.25  finish tool" in text
    assert "attempt 1: failed  2.0s" in text
    assert "server: 502 from sim  it may have been paid" in text
    assert "draft/17" not in text
    narrow = run("show", "a3f9", "review/17", columns=60)
    prompt = [line for line in narrow.splitlines() if "persister" in line]
    assert len(prompt) > 3
    assert max(map(len, prompt)) <= 60
    assert "[bold]a draft[/bold]" in run("show", "a3f9", "draft")
    assert "match of a and b: score 0.5 for the first, by judge" in run("show", "a3f9", "contest")


def test_show_as_json() -> None:
    write_run(RUN, hypotheses())
    whole = json.loads(run("show", "--json"))
    assert (whole["format"], whole["run"]["status"], whole["run"]["path"]) == (
        1,
        "partial",
        f".agentmesh/runs/{RUN}.db",
    )
    assert [task["task"] for task in whole["tasks"]] == ["draft", "review", "report", "contest"]
    assert whole["failures"][0]["error"]["message"] == BAD.message
    part = json.loads(run("show", "last", "review/17", "--json"))
    (item,) = part["items"]
    assert [call["ends"][0]["result"] for call in item["calls"]] == ["ok", "failed"]
    assert item["calls"][0]["intents"][0]["request"]["messages"][1]["text"] == WORDY


def test_show_of_a_large_task_says_how_to_see_the_rest() -> None:
    ends: list[Event] = [TaskEnded(at=1.0, outcome=Outcome("ask", str(n), value={"n": n})) for n in range(30)]
    write_run(RUN, ends)
    assert "and 10 more items (--first 30)" in run("show", "last", "ask")
    assert '"n": 29' in run("show", "last", "ask", "--first", "30")


def test_many_failures_are_cut_and_say_so() -> None:
    ends: list[Event] = [
        TaskEnded(at=1.0, outcome=Outcome("ask", str(n), state="failed", error=BAD)) for n in range(25)
    ]
    write_run(RUN, ends)
    text = run("show")
    assert text.count("failed ask/") == 20
    assert "and 5 more (--first 25)" in text


def test_a_run_without_content_shows_figures() -> None:
    write_run(RUN, hypotheses(), content=False)
    text = run("show", "last", "review/17")
    assert "persister" not in text
    assert "attempt 1: ok  2.0s  7 in, 3 out  $0.25" in text


def test_what_is_not_there_has_one_clear_message_and_exit_code_2() -> None:
    assert run("show", "a3f9", code=2) == "there are no runs in .agentmesh\n"
    write_run(RUN, hypotheses())
    assert (
        run("show", "zzzz", code=2) == "there is no run 'zzzz' in .agentmesh; `agentmesh runs` lists those there are\n"
    )
    assert run("show", "last", "reviw/17", code=2) == f"run {RUN[-4:]} has no task 'reviw'; did you mean 'review'?\n"
    assert "nothing happened at 'review/99'" in run("show", "last", "review/99", code=2)
    Path(f".agentmesh/runs/{RUN}.db").write_bytes(b"nothing" * 2000)
    assert "cannot be read as a run: file is not a database" in run("show", "last", code=2)


def test_simulated_dollars_are_marked() -> None:
    question, reply = (Message("user", "?"),), Reply("a draft", "stop")
    start, *_ = hypotheses()
    outcome = Outcome("draft", "17", value="a draft", seconds=2.0, usd=0.25)
    sim = [*call(1, "draft/17", question, reply, simulated=True), TaskEnded(at=13.0, outcome=outcome)]
    lost = call(2, "draft/18", question, None, result="failed", usage=Usage(1, uncertain=1), usd=0.0, uncertain=True)
    write_run(RUN, [start, *sim, *lost])
    write_run("01kabcdefghjkmnpqrstvwb7k2", [start, *sim, *call(2, "draft/18", question, reply)])
    other, mixed, *_, last = run("runs").splitlines()[1:]
    assert ("$0.50" in other, "$0.25*" in mixed, last) == (True, True, "* simulated")
    assert [one["simulated"] for one in json.loads(run("runs", "--json"))["runs"]] == [False, True]
    text = run("show", "a3f9")
    assert "$0.25 (simulated)" in text
    assert "$0.25*" in text
    assert "simulated" not in run("show", "b7k2")
    assert run("show", "a3f9", "draft/17").count("$0.25 (simulated)") == 2


def test_one_is_not_several(capsys: pytest.CaptureFixture[str]) -> None:
    reply = Reply("a draft", "stop")
    one = call(1, "draft/17", (Message("user", "?"),), reply, usage=Usage(1, input_tokens=1, output_tokens=1))
    write_run(RUN, [hypotheses()[0], *one])
    assert "1 call, 1 token in, 1 token out" in run("show")
    with RunFile.open(Path(f".agentmesh/runs/{RUN}.db")) as file:
        file.unreadable[3] = "broken"
        explain_damage(file)
        assert capsys.readouterr().err == "1 damaged record was left out; record 3: broken\n"
        file.unreadable[4] = "broken"
        explain_damage(file)
        assert capsys.readouterr().err == "2 damaged records were left out; record 3: broken\n"


def test_a_resumed_run_says_how_many_processes_it_had_and_what_they_left() -> None:
    events = hypotheses()
    resumed = RunResumed(at=40.0, run=RUN, process="2", seconds=21.0, uncertain=2)
    ended = RunEnded(at=50.0, status="done", seconds=31.0, usage=Usage(4, uncertain=2), usd=1.0)
    write_run(RUN, [*events, resumed, ended])
    text = run("show")
    assert text.startswith("hypotheses  a3f9  done\n")
    assert "\nresumed: 2 processes; in flight when one of them ended: 2\n" in text
    assert "\n2 calls may have been paid without an answer\n" in text
    whole = json.loads(run("show", "--json"))
    assert (whole["processes"], whole["run"]["resumes"], whole["run"]["uncertain"]) == (2, 1, 2)


def test_an_item_says_why_it_took_so_long() -> None:
    question = (Message("user", "How long?"),)
    down = ErrorInfo("server", "502 from sim", status=502)
    asks = Reply("", "tool", (ToolCall("c1", "search", "{}"),))
    first = call(1, "ask", question, None, result="failed", error=down)
    second: list[Any] = call(1, "ask", question, asks)
    again = [replace(event, at=at, attempt=2) for event, at in zip(second, (20.0, 22.0), strict=True)]
    tool = ToolEnded(at=23.0, address="ask", call_id="c1", name="search", arguments="{}", result="x", seconds=1.0)
    added, started = TaskAdded(at=1.0, task="ask"), TaskStarted(at=5.0, address="ask")
    write_run(RUN, [added, started, *first, *again, tool])
    text = run("show", "last", "ask")
    assert "waited 4.0s for its inputs and its turn, 1.0s in the lane, 4.0s for answers, 6.5s between attempts" in text
    assert ", 1.0s in tools\n" in text
    assert "    6.5s until it was tried again, then 0.5s in the lane\n" in text
    assert "    tool search: ok  1.0s\n" in text
    assert "ask  unfinished" in text
    times = json.loads(run("show", "last", "ask", "--json"))["items"][0]["times"]
    assert times == {"before": 4.0, "lane": 1.0, "answers": 4.0, "pauses": 6.5, "tools": 1.0}

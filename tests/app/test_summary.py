"""The lines that stay at the end of a run."""

from __future__ import annotations

import io

from inline_snapshot import snapshot
from rich.console import Console
from scripted_events import RUN, lanes, many_lanes

from agentmesh.app.summary import RunSummary, print_summary, summary_lines
from agentmesh.errors import ErrorInfo
from agentmesh.outcome import Outcome, Usage

ERROR = ErrorInfo("invalid_output", "score: 11 is over 10, after 2 repairs")
FAILURES = [Outcome("review", key=str(number), state="failed", error=ERROR) for number in range(8)]
FOLLOWED = Outcome("report", state="skipped", error=ErrorInfo("dependency", "review/0 failed"))


def partial() -> RunSummary:
    return RunSummary(
        run=RUN, workflow="hypotheses", status="partial", seconds=21.3, forecast=19.0,
        tasks={"draft": {"done": 24}, "review": {"done": 16, "failed": 8}, "report": {"skipped": 1}},
        failures=[*FAILURES, FOLLOWED], usage=Usage(262, 3, 1, 182_000, None, 34_000), usd=1.31, budget=2.0,
        lanes=lanes(), outputs={"report": "report.md"}, simulated=True,
    )  # fmt: skip


def test_everything_a_person_asks_at_the_end() -> None:
    assert "\n" + "\n".join(summary_lines(partial())) + "\n" == snapshot("""\

 partial    hypotheses a3f9 in 00:21 (half way it looked like 00:19)
 tasks      draft 24 done; review 16 done, 8 failed; report 1 skipped
 wrote      report.md  (report)
 used       262 calls, 182,000 tokens in, 34,000 tokens out, $1.31 of $2.00 (simulated)
            3 pushed back, 1 may have been paid without an answer
 limits     sim/large: bounded by requests per minute (600), used to 97 %
 failed     review/0: invalid_output: score: 11 is over 10, after 2 repairs   agentmesh show a3f9 review/0
 failed     review/1: invalid_output: score: 11 is over 10, after 2 repairs   agentmesh show a3f9 review/1
 failed     review/2: invalid_output: score: 11 is over 10, after 2 repairs   agentmesh show a3f9 review/2
 failed     review/3: invalid_output: score: 11 is over 10, after 2 repairs   agentmesh show a3f9 review/3
 failed     review/4: invalid_output: score: 11 is over 10, after 2 repairs   agentmesh show a3f9 review/4
            + 3 more
 next       agentmesh show a3f9
""")


def test_a_quiet_end() -> None:
    summary = RunSummary(run=RUN, workflow="w", status="done", seconds=3, usage=Usage(1), usd=None, journal=False)
    assert summary_lines(summary) == [
        " done       w a3f9 in 00:03",
        " used       1 call, unknown tokens in, unknown tokens out, dollars unknown (not every price is known)",
    ]


def test_a_stop_says_why_and_what_is_left() -> None:
    reason = "the budget of $2.00 is spent"
    summary = RunSummary(run=RUN, workflow="w", status="stopped", seconds=3, reason=reason, unfinished=12)
    assert summary_lines(summary)[0] == " stopped    w a3f9 in 00:03, 12 tasks unfinished: the budget of $2.00 is spent"


def test_lanes_that_nothing_bounded_and_those_without_a_call() -> None:
    lines = summary_lines(RunSummary(run=RUN, workflow="w", status="done", seconds=3, lanes=many_lanes(1)))
    assert " limits     acme: no limit held a call back; at most 2 in flight" in lines
    assert "            provider0: no limit held a call back; at most 0 in flight, 3 pushed back" in lines


def test_on_a_narrow_terminal_commands_stay_whole() -> None:
    console = Console(file=io.StringIO(), width=70, force_terminal=True, color_system=None, highlight=False)
    print_summary(partial(), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert text.count("agentmesh show a3f9 review/") == 5
    assert max(map(len, text.splitlines())) <= 70
    assert "bounded by requests per minute (600), used to\n            97 %" in text

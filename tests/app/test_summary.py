"""The lines that stay at the end of a run."""

from __future__ import annotations

import io
from dataclasses import replace

from inline_snapshot import snapshot
from rich.console import Console
from scripted_events import RUN, lanes, many_lanes, unwritten_lanes

from agentmesh.app.summary import Summary, print_summary, summary_lines
from agentmesh.errors import ErrorInfo
from agentmesh.limits.statistics import LaneStatistics, SmallerMaxTokens
from agentmesh.mesh.left import Left
from agentmesh.mesh.record import Cost
from agentmesh.outcome import Outcome, Usage

ERROR = ErrorInfo("invalid_output", "score: 11 is over 10, after 2 repairs")
FAILURES = [Outcome("review", key=str(number), state="failed", error=ERROR) for number in range(8)]
FOLLOWED = Outcome("report", state="skipped", error=ErrorInfo("dependency", "review/0 failed"))


def partial() -> Summary:
    return Summary(
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
 limits     sim/large: requests per minute (600) held calls back 90 % of the time, used to 97 %
 failed     review/0: invalid_output: score: 11 is over 10, after 2 repairs   agentmesh show a3f9 review/0
 failed     review/1: invalid_output: score: 11 is over 10, after 2 repairs   agentmesh show a3f9 review/1
 failed     review/2: invalid_output: score: 11 is over 10, after 2 repairs   agentmesh show a3f9 review/2
 failed     review/3: invalid_output: score: 11 is over 10, after 2 repairs   agentmesh show a3f9 review/3
 failed     review/4: invalid_output: score: 11 is over 10, after 2 repairs   agentmesh show a3f9 review/4
            + 3 more
 next       agentmesh show a3f9
            agentmesh resume a3f9 --failed
""")


def test_a_quiet_end() -> None:
    summary = Summary(run=RUN, workflow="w", status="done", seconds=3, usage=Usage(1), usd=None, journal=False)
    assert summary_lines(summary) == [
        " done       w a3f9 in 00:03",
        " used       1 call, unknown tokens in, unknown tokens out, dollars unknown (not every price is known)",
    ]


def test_a_budget_of_the_file_is_to_be_raised_before_what_failed_is_tried_again() -> None:
    error = ErrorInfo("budget", "the budget of agent w of 2 calls has 0 left, and the next call could need 1")
    failures = [Outcome("a", "2", state="failed", error=error)]
    raised = ["agents.w.budget in f.yaml"]
    summary = Summary(run=RUN, workflow="w", status="partial", seconds=3, failures=failures, raise_first=raised)
    assert [line.strip() for line in summary_lines(summary)[-3:]] == [
        "next       agentmesh show a3f9",
        "raise agents.w.budget in f.yaml, else it fails alike; then",
        "agentmesh resume a3f9 --failed",
    ]


def test_commands_name_the_journals_that_an_option_named() -> None:
    *_, failed, more, show, again = summary_lines(replace(partial(), place=" --journal elsewhere"))
    assert failed.endswith("agentmesh show a3f9 review/4 --journal elsewhere")
    assert (show, again) == (
        " next       agentmesh show a3f9 --journal elsewhere",
        "            agentmesh resume a3f9 --journal elsewhere --failed",
    ), more


def test_a_stop_says_why_and_what_is_left() -> None:
    reason = "the budget of $2.00 is spent"
    summary = Summary(run=RUN, workflow="w", status="stopped", seconds=3, reason=reason, unfinished=12)
    assert summary_lines(summary)[0] == " stopped    w a3f9 in 00:03, 12 tasks unfinished: the budget of $2.00 is spent"


def test_what_a_tournament_may_still_cost_is_an_upper_bound() -> None:
    left = Left({"contest": 1, "report": 1}, False, Cost(328, 0.1, 100.0, 328), ("report",), {"contest": 328})
    summary = Summary(run=RUN, workflow="w", status="stopped", seconds=3, left=left)
    assert summary_lines(summary)[1] == (
        " left       contest 1 (at most 328 matches more), report 1; an estimate by what such items have cost: "
        "finishing takes at most about $0.10 and 328 calls, without report, of which none has ended"
    )


def test_lanes_that_nothing_bounded_and_those_without_a_call() -> None:
    lines = summary_lines(Summary(run=RUN, workflow="w", status="done", seconds=3, lanes=many_lanes(1)))
    took = "no limit held calls back, only the time its answers took; at most"
    assert f" limits     acme: {took} 2 calls in flight" in lines
    assert f"            provider0: {took} 0 calls in flight, 3 pushed back" in lines


def limits_of(*found: LaneStatistics) -> str:
    summary = Summary(run=RUN, workflow="w", status="done", seconds=3, lanes=found, journal=False)
    lines = summary_lines(summary, width=100)
    return "\n" + "\n".join(lines[2:]) + "\n"


def test_limits_that_no_file_has_are_said_to_be_told_or_learned() -> None:
    assert limits_of(*unwritten_lanes()) == snapshot("""\

 limits     told/m: output tokens per minute (20,000, as its answers say) held calls back 70 % of
            the time, used to 90 %; requests per minute (300, as its answers say) 25 %
            silent/m: calls in flight (12, learned) held calls back 80 % of the time; waiting after
            push-backs (2 s frozen) 15 %, 4 pushed back
""")


def test_push_backs_and_our_own_bound_are_named_too() -> None:
    (learned,) = unwritten_lanes()[1:]
    frozen = replace(learned.bounds[1], share=0.6)
    own = replace(learned.bounds[0], scope="silent", source="own", share=0.3)
    assert limits_of(replace(learned, bounds=(frozen, own))) == snapshot("""\

 limits     silent: waiting after push-backs (2 s frozen) held calls back 60 % of the time; calls in
            flight (500, our own limit) 30 %, 4 pushed back
""")


def test_a_smaller_max_tokens_is_suggested_where_it_would_have_gained_time() -> None:
    (lane,) = lanes()
    gain = SmallerMaxTokens(
        name="tokens_per_minute", scope="large", kind="", calls=161, max_tokens=800, longest=212, enough=256,
        times_as_fast=2.62,
    )  # fmt: skip
    small, large = lane.endpoints
    models = (small, replace(large, smaller_max_tokens=gain))
    bound = replace(lane, endpoints=models, bounded_by="large tokens_per_minute")
    assert limits_of(bound) == snapshot("""\

 limits     sim/large: requests per minute (600) held calls back 90 % of the time, used to 97 %
            sim/large counts all of max_tokens: each call reserved 800 tokens of output, and the
            longest reply had 212; with max_tokens 256 this run could have gone up to 2.6 times as
            fast
""")
    assert "max_tokens" not in limits_of(replace(lane, endpoints=models)), "another limit bounded the run"


def test_on_a_narrow_terminal_commands_stay_whole() -> None:
    console = Console(file=io.StringIO(), width=70, force_terminal=True, color_system=None, highlight=False)
    print_summary(partial(), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert text.count("agentmesh show a3f9 review/") == 5
    assert max(map(len, text.splitlines())) <= 70
    assert "(600) held calls back 90 %\n            of the time, used to 97 %" in text

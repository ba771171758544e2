"""The picture as people see it, at several widths."""

from __future__ import annotations

from dataclasses import replace

import pytest
from inline_snapshot import snapshot
from rich.cells import cell_len
from scripted_events import BEGAN, began, ended, half_way, lanes, many_lanes, unwritten_lanes

from agentmesh.app.screen.picture import Picture
from agentmesh.app.screen.ruler import bar, cut, joined, pad
from agentmesh.app.screen.view import render
from agentmesh.errors import ErrorInfo
from agentmesh.events import Event, StandingsChanged, TaskAdded, TaskEnded, TaskStarted
from agentmesh.limits.statistics import LaneStatistics
from agentmesh.outcome import Outcome


def drawn(
    events: list[Event], statistics: list[LaneStatistics], *, width: int, height: int = 40, blocks: bool = True
) -> str:
    picture = Picture(budget_usd=2.0)
    for event in events:
        picture.event(event)
    lines = render(picture.snapshot(BEGAN + 12, statistics), width=width, height=height, blocks=blocks)
    return "\n" + "\n".join(line.plain for line in lines) + "\n"


def test_a_hundred_columns() -> None:
    assert drawn(list(half_way()), lanes(), width=100) == snapshot("""\

 hypotheses  a3f9         00:12 of about 00:21         251 of about 450 calls         $1.25 of $2.00

 draft     ████████████████████████  24/24
 review    ███████████████           14/24   1 skipped
 contest   match 212 of at most 400   regret 0.09   1. Persister toxins  2. Biofilm memory
 report    waits for contest, review

 lane             requests/min        tokens/min          in flight  waiting  next  pushed back
 sim (simulated)
   small          ████          34 %  ███████▎      61 %          9        0   now            0
   large          ███████████▌  96 %  ████▍         37 %         12       38  0.4s            0

 agents     scientist 0   critic 9   judge 11
 skipped    review/17: invalid_output: score: 11 is over 10, after…    agentmesh show a3f9 review/17
""")


def test_sixty_columns() -> None:
    assert drawn(list(half_way()), lanes(), width=60) == snapshot("""\

 hypotheses  a3f9  00:12/00:21  251/450 calls  $1.25/$2.00

 draft     ██████████  24/24
 review    ██████▎     14/24   1 skipped
 contest   match 212 of 400   regret 0.09   1. Persister to…
 report    waits for contest, review

 lane             requests  tokens  in flight  waiting  next
 sim (simulated)
   small              34 %    61 %          9        0   now
   large              96 %    37 %         12       38  0.4s

 agents     scientist 0   critic 9   judge 11
 skipped    review/17: invalid_output: score: 11 is over 10…
""")


def test_the_beginning() -> None:
    assert drawn(list(began()), [], width=100) == snapshot("""\

 hypotheses  a3f9            00:12            0 of about 26 calls            $0.00 of $2.00

 draft                               0/24
 review    waits for draft
 contest   waits for draft
 report    waits for contest, review
""")


def test_the_end() -> None:
    assert drawn([*half_way(), *ended()], [], width=100) == snapshot("""\

 hypotheses  a3f9            00:21            261 calls            $1.31 of $2.00

 draft     ████████████████████████  24/24
 review    ████████████████████████  23/24   1 skipped
 contest   212 matches   regret 0.09   1. Persister toxins  2. Biofilm memory  3. Ribosome hibernat…
 report    ████████████████████████  1/1

 agents     scientist 0   critic 9   judge 11   writer 0
 notice     prices of sim were looked up 400 days ago
 skipped    review/17: invalid_output: score: 11 is over 10, after…    agentmesh show a3f9 review/17
""")


def test_many_lanes_are_cut_to_those_with_most_to_tell() -> None:
    assert drawn(list(began()), many_lanes(15), width=100, height=20) == snapshot("""\

 hypotheses  a3f9            00:12            0 of about 26 calls            $0.00 of $2.00

 draft                               0/24
 review    waits for draft
 contest   waits for draft
 report    waits for contest, review

 lane                     requests          tokens       in flight  waiting        next  pushed back
 provider1/org/model-7b           1 % /day                       1        2         30s            3
 provider2/org/model-7b           2 % /day                       2        4         30s            3
 provider3/org/model-7b   ▏       3 % /day                       3        6         30s            3
 provider4/org/model-7b   ▏       4 % /day                       4        8         30s            3
 provider5/org/model-7b   ▎       5 % /day                       5       10         30s            3
 provider6/org/model-7b   ▎       6 % /day                       6       12         30s            3
 provider7/org/model-7b   ▎       7 % /day                       7       14         30s            3
 provider8/org/model-7b   ▍       8 % /day                       8       16         30s            3
 provider14/org/model-7b  ▋      14 % /day                      14       28  frozen 12s            3
 + 10 more
""")


def test_limits_that_no_file_has_are_named_as_what_they_are() -> None:
    """Of several limits of a kind the one that holds calls back is shown, and its name."""
    assert drawn([], unwritten_lanes(), width=110) == snapshot("""\

 run              00:00            0 calls            $0.00 of $2.00


 lane      requests                 tokens/min              in flight  waiting       next  pushed back
 told/m    ██████▌       55 % /min  ███████████▉  99 % out          9       40       1.2s            0
 silent/m  ███████████▋  97 % /s                             12 of 12       30  when free            4

 told       told/m 20,000 output tokens/min, 300 requests/min, 10,000 requests/day, 90,000 input tokens/min
 learned    silent/m 12 in flight, 3.4 requests/s
""")
    assert drawn([], unwritten_lanes(), width=60) == snapshot("""\

 run           00:00         0 calls         $0.00 of $2.00


 lane      requests  tokens  in flight  waiting  pushed back
 told/m        55 %    99 %          9       40            0
 silent/m      97 %           12 of 12       30            4

 told       told/m 20,000 output tokens/min, + 3 more
 learned    silent/m 12 in flight, 3.4 requests/s
""")


@pytest.mark.parametrize("width", [20, 40, 59, 60, 61, 79, 80, 99, 100, 119, 120, 200])
@pytest.mark.parametrize("height", [5, 24, 60])
def test_no_line_is_ever_wider_than_the_terminal(width: int, height: int) -> None:
    for statistics in (lanes(), many_lanes(15), unwritten_lanes(), []):
        text = drawn([*half_way(), *ended()], statistics, width=width, height=height)
        assert max(cell_len(line) for line in text.splitlines()) <= width


def test_a_picture_of_two_hundred_tasks_fits_the_terminal() -> None:
    events: list[Event] = [TaskAdded(at=BEGAN, task=f"task{number}", key="k") for number in range(200)]
    lines = drawn(events, many_lanes(40), width=80, height=30).strip("\n").splitlines()
    assert len(lines) <= 30
    assert any(line.startswith(" + ") and line.endswith(" more") for line in lines)


def test_wide_characters_are_measured_in_cells() -> None:
    events = list(half_way())
    last = next(event for event in reversed(events) if isinstance(event, StandingsChanged))
    wide = replace(last, top=tuple(replace(one, item={"title": "細菌の持続性" * 9}) for one in last.top))
    text = drawn([*events, wide], lanes(), width=80)
    assert max(cell_len(line) for line in text.splitlines()) <= 80


def test_markup_in_foreign_text_stays_text() -> None:
    outcome = Outcome("a", state="failed", error=ErrorInfo("server", "[red]not[/red] markup"))
    assert "[red]not[/red] markup" in drawn([TaskEnded(at=BEGAN, outcome=outcome)], [], width=100)


def test_without_block_characters_bars_are_plain() -> None:
    text = drawn(list(half_way()), lanes(), width=100, blocks=False)
    assert "####" in text
    assert "█" not in text


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "    "), (0.5, "██  "), (0.53125, "██▏ "), (0.99, "███▉"), (1.0, "████"), (7.0, "████")]
)
def test_bars_fill_in_eighths(share: float, text: str) -> None:
    assert bar(share, 4) == text


def test_ruler() -> None:
    assert cut("abcdef", 4) == "abc…"
    assert cut("abcd", 4) == "abcd"
    assert cut("abc", 0) == ""
    assert pad("細菌", 6) == "細菌  "
    assert joined("> ", ["one", "two", "three"], width=40) == "> one   two   three"
    assert joined("> ", ["one", "two", "three"], width=17) == "> one   + 2 more"


def test_calls_that_wait_for_the_budget_are_shown() -> None:
    picture = Picture(budget_usd=2.0, waiting_for_budget=lambda: 38)
    for event in half_way():
        picture.event(event)
    lines = [line.plain for line in render(picture.snapshot(BEGAN + 12, lanes()), width=60)]
    assert " budget     38 calls wait for what others have reserved" in lines


def test_a_tournament_without_a_pair_waits_for_entrants() -> None:
    picture = Picture()
    for event in began():
        picture.event(event)
    picture.event(
        StandingsChanged(at=BEGAN, task="contest", entrants=1, matches=0, failed=0, limit=400, regret=None, top=())
    )
    picture.event(TaskStarted(at=BEGAN, address="contest"))
    lines = [line.plain for line in render(picture.snapshot(BEGAN + 12, []), width=60)]
    assert " contest   waits for entrants" in lines

"""The AsyncHow benchmark of a planner: which cases there are, and what the answers to them are worth.

It does not matter here how answers were got: recorded before, or asked of a model now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ...errors import ErrorInfo, UserError
from ...messages import Finish, Message, digest
from ...outcome import Usage
from .asynchow import Item, wrong_gold
from .durations import Interval
from .prompts import planner_messages
from .recordings import Recorded, join_items
from .scoring import Accuracy, Reason, accuracy, score_equal, score_interval

__all__ = [
    "METHOD",
    "Answer",
    "Case",
    "Report",
    "Row",
    "Score",
    "plan_asynchow",
    "recorded_answers",
    "report",
    "score_answer",
]

METHOD = "planner"


@dataclass(frozen=True, slots=True)
class Case:
    """One question to be asked of models.

    `gold_seconds` is what a value must equal, `gold` the interval of the data set where it is known; `item` is known
    when the data was given. `published` has the verdict of a recording by model.
    """

    id: str
    messages: tuple[Message, ...]
    gold_seconds: float
    gold: Interval | None = None
    item: Item | None = None
    published: Mapping[str, bool] = field(default_factory=dict)

    def published_correct(self, model: str) -> bool | None:
        """The published verdict on a model, named as in the recording or as `provider/name`."""
        return self.published.get(model, self.published.get(model.partition("/")[2]))


@dataclass(frozen=True, slots=True)
class Answer:
    """What one model answered to one case: its text, or why there is none; and what asking took, if it was asked now.

    `seconds` are those of the task, waiting for its turn included.
    """

    case: Case
    model: str
    reply: str | None
    error: ErrorInfo | None = None
    finish: Finish | None = None
    attempts: int | None = None
    seconds: float | None = None
    usage: Usage | None = None
    usd: float | None = None


def plan_asynchow(
    *, items: Sequence[Item] = (), prompts: Sequence[Recorded] = (), first: int | None = None
) -> list[Case]:
    """The cases to ask: those of recorded prompts if there are any, else of the items in our own wording.

    Recorded prompts are sent exactly as they are; rows with equal messages are one case. A case's id is that of its
    item, or of the hash of its question when the data is not given; other messages for the same id get `~2`, `~3`.
    Raises UserError for a row whose gold is neither recorded nor in the data.
    """
    if not prompts:
        cases = [Case(item.id, planner_messages(item), item.gold.low, item.gold, item) for item in items]
    else:
        merged: dict[tuple[Message, ...], Case] = {}
        seen: dict[str, int] = {}
        for case, _ in _recorded_cases(prompts, items):
            if known := merged.get(case.messages):
                merged[case.messages] = replace(known, published={**known.published, **case.published})
                continue
            count = seen[case.id] = seen.get(case.id, 0) + 1
            merged[case.messages] = case if count == 1 else replace(case, id=f"{case.id}~{count}")
        cases = list(merged.values())
    return cases[:first]


def recorded_answers(rows: Sequence[Recorded], *, items: Sequence[Item] = (), first: int | None = None) -> list[Answer]:
    """Recorded replies as answers, in their order; `first` takes the first cases, each with all its models."""
    pairs = _recorded_cases(rows, items)
    kept = set(list(dict.fromkeys(case.id for case, _ in pairs))[:first])
    return [Answer(case, row.model, row.reply) for case, row in pairs if case.id in kept]


def _recorded_cases(rows: Sequence[Recorded], items: Sequence[Item]) -> list[tuple[Case, Recorded]]:
    cases = []
    for row, item in zip(rows, join_items(rows, items), strict=True):
        gold = row.gold_seconds if row.gold_seconds is not None else item.gold.low if item else None
        if gold is None:
            raise UserError(f"{row.place}: has no gold_seconds, and its question is not in the data that was given")
        name = item.id if item else digest(row.question)
        published = {} if row.published_correct is None else {row.model: row.published_correct}
        cases.append((Case(name, row.messages, gold, item.gold if item else None, item, published), row))
    return cases


@dataclass(frozen=True, slots=True)
class Row:
    """One scored answer, as a line of the output file.

    `correct` is by equality with `gold_seconds`, `correct_interval` by the data set's interval (None: not known);
    `agrees` says whether `correct` is the published verdict (None: none was published). What follows is None for a
    recorded reply, and `usd` where the price is unknown.
    """

    id: str
    model: str
    method: str
    reply: str | None
    value: float | None
    correct: bool
    correct_interval: bool | None
    gold_seconds: float
    reason: Reason
    finish: Finish | None
    error: ErrorInfo | None
    published_correct: bool | None
    agrees: bool | None
    ve_count: int | None
    attempts: int | None
    seconds: float | None
    usage: Usage | None
    usd: float | None

    def as_json(self) -> dict[str, Any]:
        """Plain data, with the number of the format."""
        return {"format": 1, **asdict(self)}


def score_answer(answer: Answer) -> Row:
    """Judge one answer by both rules. An answer that has an error and no text counts as `no reply`."""
    case = answer.case
    verdict = score_equal(answer.reply, case.gold_seconds)
    published = case.published_correct(answer.model)
    return Row(
        id=case.id,
        model=answer.model,
        method=METHOD,
        reply=answer.reply,
        value=verdict.value,
        correct=verdict.correct,
        correct_interval=score_interval(answer.reply, case.gold).correct if case.gold else None,
        gold_seconds=case.gold_seconds,
        reason=verdict.reason,
        finish=answer.finish,
        error=answer.error,
        published_correct=published,
        agrees=None if published is None else published == verdict.correct,
        ve_count=case.item.ve_count if case.item else None,
        attempts=answer.attempts,
        seconds=answer.seconds,
        usage=answer.usage,
        usd=answer.usd,
    )


@dataclass(frozen=True, slots=True)
class Score:
    """What one model's answers are worth.

    `equal` and `interval` are by the two rules (`interval` only over answers whose gold interval is known); `reasons`
    counts all answers; `errors` those that are no reply because a call failed. Of `published` verdicts `agrees` are
    ours too. `by_complexity` has the bins of `ve_count`, by equality.
    """

    model: str
    equal: Accuracy
    interval: Accuracy
    reasons: Mapping[Reason, int]
    errors: int
    published: int
    agrees: int
    by_complexity: Mapping[str, Accuracy]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Report:
    """All rows in their order, a score for each model, and what a reader of the scores should know."""

    rows: tuple[Row, ...]
    scores: tuple[Score, ...]
    notes: tuple[str, ...]


def report(answers: Iterable[Answer]) -> Report:
    """Judge answers, got in whatever way, and sum them up by model in the order in which models first appear."""
    answers = list(answers)
    rows = [score_answer(answer) for answer in answers]
    by_model: dict[str, list[Row]] = {}
    for row in rows:
        by_model.setdefault(row.model, []).append(row)
    scores = tuple(_score(model, mine) for model, mine in by_model.items())
    return Report(tuple(rows), scores, tuple(_notes(rows, {a.case.id: a.case for a in answers}.values())))


def _score(model: str, rows: Sequence[Row]) -> Score:
    reasons: dict[Reason, int] = dict.fromkeys(("right", "wrong", "no reply", "unreadable"), 0)
    bins: dict[int, list[bool]] = {}
    for row in rows:
        reasons[row.reason] += 1
        if row.ve_count is not None:
            bins.setdefault(min(row.ve_count // _BIN * _BIN, _LAST_BIN), []).append(row.correct)
    return Score(
        model=model,
        equal=accuracy(row.correct for row in rows),
        interval=accuracy(row.correct_interval for row in rows if row.correct_interval is not None),
        reasons=reasons,
        errors=sum(row.error is not None for row in rows),
        published=sum(row.agrees is not None for row in rows),
        agrees=sum(row.agrees is True for row in rows),
        by_complexity={_bin_name(start): accuracy(bins[start]) for start in sorted(bins)},
    )


_BIN, _LAST_BIN = 5, 35  # beyond 35 there are only a handful of items


def _bin_name(start: int) -> str:
    return f"{start} and more" if start == _LAST_BIN else f"{start} to {start + _BIN - 1}"


def _notes(rows: Sequence[Row], cases: Iterable[Case]) -> list[str]:
    notes = []
    items = [case.item for case in cases if case.item]
    if wrong := wrong_gold(items):
        named = ", ".join(item.id for item in wrong)
        notes.append(f"stored gold that does not follow from the texts: {named} ({len(wrong)} of {len(items)} items)")
    if other := [f"{row.id} of {row.model}" for row in rows if row.agrees is False]:
        named = ", ".join(other[:10]) + (", ..." if len(other) > 10 else "")
        notes.append(f"another verdict than the published one: {named} ({len(other)} of {len(rows)} rows)")
    return notes

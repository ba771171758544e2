"""The planner's prompt for AsyncHow: the question in words, and the form that the answer must have."""

from __future__ import annotations

from ...messages import Message
from .asynchow import Item

__all__ = ["planner_messages", "question"]

_SYSTEM = "You plan how a set of dependent steps is finished as early as possible."

_ANSWER = """\
Reply with one JSON object, without any text or code fence around it, in this form:
{"actions": [{"id": "step1", "duration": 90}, {"id": "step2", "duration": 3600}],
 "dependencies": [{"before": "step1", "after": "step2"}],
 "final_answer_seconds": 3690}
- actions: every step once, as "step" and its number; its duration in seconds.
- dependencies: one entry for each pair in which one step has to wait for another, as the order above has it.
- final_answer_seconds: your answer, as a number of seconds."""


def planner_messages(item: Item) -> tuple[Message, ...]:
    """What the planner is sent: one call, no solved example, the answer as JSON."""
    return (Message("system", _SYSTEM), Message("user", f"{question(item)}\n\n{_ANSWER}"))


def question(item: Item) -> str:
    """The task in words: goal, steps with durations, order (one line per step that others wait for), what is asked."""
    lines = [f"The goal is to {item.goal}. These are the steps, each with the time it takes:"]
    lines += [f"Step {k}. {step} ({item.durations[k - 1]})" for k, step in enumerate(item.steps, 1)]
    lines += ["", *_order(item), ""]
    lines.append(
        "There is as much help as anyone could want, so any steps that do not wait for each other can go on side by "
        "side. Every step has to be done. How soon can all of it be finished?"
    )
    return "\n".join(lines)


def _order(item: Item) -> list[str]:
    if not item.edges:
        return ["No step has to wait for another one."]
    followers: dict[int, list[str]] = {}
    for before, after in item.edges:
        followers.setdefault(before, []).append(str(after))
    return ["A step can start only when all steps before it are finished:"] + [
        f"Step {before} comes before {'steps' if len(after) > 1 else 'step'} {' and '.join(after)}."
        for before, after in followers.items()
    ]

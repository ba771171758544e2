"""A call that no limit of its models can ever admit is told before the first one is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentmesh.catalog import Catalog, override_rate
from agentmesh.errors import InputProblems
from agentmesh.workflow.fits import check_sizes
from agentmesh.workflow.load import load_workflow
from agentmesh.workflow.plan import Workflow

LONG = "Say in a few words what a limit is for, and to whom it matters. " * 3  # 48 tokens


def workflow(tmp_path: Path, *, model: str = "sim/small", prompt: str = LONG, more: str = "") -> Workflow:
    path = tmp_path / "w.yaml"
    path.write_text(
        "agentmesh: 1\nmodels: {both: {of: [sim/small, sim/large]}}\n"
        f"agents:\n  a: {{model: {model}, instructions: Be short.{more}}}\n"
        f"tasks:\n  first: {{value: 5}}\n  say: {{agent: a, prompt: '{prompt}'}}\n"
    )
    return load_workflow(path)


def catalog(tmp_path: Path, *rates: str) -> Catalog:
    return Catalog.load(project=tmp_path, user_dir=tmp_path, environ={}).with_rates([override_rate(r) for r in rates])


@pytest.mark.parametrize(
    ("rate", "more", "message"),
    [
        ("sim/small.tokens_per_minute=10", "", "51 tokens, and sim/small allows 10 at once (tokens_per_minute)"),
        ("sim.input_tokens_per_day=50", "", "51 input tokens, and sim allows 50 at once (input_tokens_per_day)"),
        ("sim.tokens_per_hour=500", ", settings: {max_tokens: 450}", "501 tokens, and sim allows 500"),
    ],
)  # fmt: skip
def test_what_can_never_fit_is_told_with_its_place(tmp_path: Path, rate: str, more: str, message: str) -> None:
    with pytest.raises(InputProblems) as caught:
        check_sizes(workflow(tmp_path, more=more), catalog(tmp_path, rate))
    assert f"w.yaml:7:3: tasks.say: a call of a needs at least {message}" in str(caught.value)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("model", "prompt", "rates"),
    [
        ("sim/small", LONG, ["sim.tokens_per_minute=51"]),
        ("sim/small", LONG, ["sim/large.tokens_per_minute=10"]),
        ("both", LONG, ["sim/large.tokens_per_minute=10"]),  # the other one can
        ("sim/small", "{{ " + "tasks.first + " * 20 + "1 }}", ["sim.tokens_per_minute=10"]),  # who knows how long
        ("sim/small", "{% if tasks.first %}" + LONG + "{% endif %}", ["sim.tokens_per_minute=10"]),
        ("sim/small", LONG, ["sim.requests_per_second=0.5", "sim.in_flight=1", "sim.output_tokens_per_minute=10"]),
    ],
)  # fmt: skip
def test_what_may_fit_is_sound(tmp_path: Path, model: str, prompt: str, rates: list[str]) -> None:
    check_sizes(workflow(tmp_path, model=model, prompt=prompt), catalog(tmp_path, *rates))


def test_of_several_models_all_must_be_too_small(tmp_path: Path) -> None:
    with pytest.raises(InputProblems, match="sim allows 10 at once"):
        check_sizes(workflow(tmp_path, model="both"), catalog(tmp_path, "sim.tokens_per_minute=10"))

"""Global options: flag over environment over project file, and mistakes told by their place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentmesh.app.settings import Options
from agentmesh.errors import InputProblems

PLIAN = "display: must be full, plain, json or none, not 'plian' (did you mean 'plain'?)"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AGENTMESH_")]:
        monkeypatch.delenv(name)


def test_defaults(tmp_path: Path) -> None:
    options = Options.load(folder=tmp_path)
    assert (options.provider_file, options.display, options.seed) == ((), None, None)
    assert options.journal_folder == Path(".agentmesh")


def test_flag_over_variable_over_project_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "agentmesh.toml").write_text('display = "none"\nseed = 1\njournal = "kept"\n')
    monkeypatch.setenv("AGENTMESH_DISPLAY", "plain")
    monkeypatch.setenv("AGENTMESH_SEED", "2")
    options = Options.load(folder=tmp_path, display=None, seed=3, no_journal=False, provider_file=None)
    assert (options.display, options.seed, options.journal) == ("plain", 3, tmp_path / "kept")


def test_the_nearest_project_file_counts_and_its_paths_are_its_own(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[tool.agentmesh]\nprovider-file = ["x.yaml", "/abs/y.yaml"]\n')
    (tmp_path / "a" / "pyproject.toml").write_text('[project]\nname = "no word of us"\n')
    assert Options.load(folder=inner).provider_file == (tmp_path / "x.yaml", Path("/abs/y.yaml"))


def test_a_variable_names_several_files_as_path_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTMESH_PROVIDER_FILE", os.pathsep.join(["a.yaml", "b.yaml"]))
    assert Options.load(folder=tmp_path).provider_file == (Path("a.yaml"), Path("b.yaml"))


def test_the_nearer_word_on_journals_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "agentmesh.toml").write_text("no_journal = true\n")
    assert Options.load(folder=tmp_path).journal_folder is None
    assert Options.load(folder=tmp_path, journal=Path("here")).journal_folder == Path("here")
    monkeypatch.setenv("AGENTMESH_JOURNAL", "there")
    assert Options.load(folder=tmp_path).journal_folder == Path("there")
    assert Options.load(folder=tmp_path, no_journal=True).journal_folder is None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("agentmesh.toml", 'display = "plian"', PLIAN),
        ("agentmesh.toml", "sede = 3", "sede: unknown key (did you mean 'seed'?)"),
        ("pyproject.toml", '[tool.agentmesh]\nseed = "q"', "tool.agentmesh.seed: must be a whole number, not 'q'"),
        ("pyproject.toml", "[tool]\nagentmesh = 3", "tool.agentmesh: must be a table"),
        (
            "agentmesh.toml",
            'journal = "j"\nno_journal = true',
            "no_journal: journal and no_journal cannot both be meant",
        ),
    ],
)
def test_mistakes_in_a_project_file_name_the_file_and_the_key(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputProblems) as caught:
        Options.load(folder=tmp_path)
    assert str(caught.value) == f"{name}: {message}"


def test_a_file_that_is_not_toml(tmp_path: Path) -> None:
    (tmp_path / "agentmesh.toml").write_text("seed = \n")
    with pytest.raises(InputProblems, match=r"^agentmesh.toml: this is not TOML: .*line 1"):
        Options.load(folder=tmp_path)


def test_mistakes_in_variables_and_flags_name_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTMESH_SEED", "x")
    with pytest.raises(InputProblems, match=r"^AGENTMESH_SEED: must be a whole number, not 'x'$"):
        Options.load(folder=tmp_path)
    with pytest.raises(InputProblems, match=r"^--seed: must be a whole number, not 'y'$"):
        Options.load(folder=tmp_path, seed="y")


def test_rates_add_up_and_the_nearest_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "agentmesh.toml").write_text('rate = ["sim.in_flight=3", "sim/small.requests_per_minute=30"]\n')
    monkeypatch.setenv("AGENTMESH_RATE", "sim.in_flight=4 sim/large.in_flight=2")
    monkeypatch.chdir(tmp_path)
    options = Options.load(rate=["sim.in_flight=5"])
    assert options.rate[0] == "sim.in_flight=3"
    [small], [large] = (options.catalog().resolve(f"sim/{name}") for name in ("small", "large"))
    assert [limit.limit for limit in small.limits_of("account")] == [5]
    assert {limit.name: limit.limit for limit in small.limits_of("model")}["requests_per_minute"] == 30
    assert {limit.name: limit.limit for limit in large.limits_of("model")}["in_flight"] == 2


@pytest.mark.parametrize("text", ["sim.rpm=3", "sim.in_flight=lots", "sim"])
def test_a_bad_rate_is_told_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    with pytest.raises(InputProblems, match=r"^--rate: ('|the limit)"):
        Options.load(folder=tmp_path, rate=["sim.in_flight=1", text])
    monkeypatch.setenv("AGENTMESH_RATE", text)
    with pytest.raises(InputProblems, match=r"^AGENTMESH_RATE: ('|the limit)"):
        Options.load(folder=tmp_path)
    monkeypatch.delenv("AGENTMESH_RATE")
    (tmp_path / "agentmesh.toml").write_text(f'rate = "{text}"\n')
    with pytest.raises(InputProblems, match=r"^agentmesh\.toml: rate: ('|the limit)"):
        Options.load(folder=tmp_path)
    (tmp_path / "agentmesh.toml").write_text("rate = [300]\n")
    with pytest.raises(InputProblems, match=r"^agentmesh\.toml: rate: must be TARGET\.requests_per_minute=300"):
        Options.load(folder=tmp_path)

"""`python run.py --again RUN_ID`: the run of a record, from its own configuration."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL

from runner.commands.again import again
from runner.commands.run import run_config
from runner.config.compose import compose_config
from runner.engine.record import comparable
from runner.errors import ConfigError


def folders(path: Path) -> list[str]:
    return [f"env.results_dir={path / 'results'}", f"env.cache_dir={path / 'cache'}"]


def record(path: Path) -> dict[str, Any]:
    (found,) = (path / "results" / "runs").glob("*/result.json")
    return dict(json.loads(found.read_text()))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("first")
    words = ["method=snip", "density=0.3", "seed=4", "train.lr=0.05", *SMALL, *folders(path)]
    assert run_config(compose_config([*words, "env.threads=2"])) == 0
    return path


def test_a_run_is_repeated_from_its_record_to_the_bit(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = record(first)
    results = tmp_path / "results"
    packed = results / "runs"
    packed.mkdir(parents=True)
    # found beside other results, performed in folders that do not have it
    monkeypatch.setattr("runner.records.find.PUBLISHED", first / "results")
    assert again(["--again", wanted["run_id"], *folders(tmp_path)]) == 0
    found = record(tmp_path)
    assert comparable(found) == comparable(wanted)
    assert found["provenance"]["threads"] == wanted["provenance"]["threads"] == 2
    config = (results / "runs" / wanted["run_id"] / "config.yaml").read_text()
    assert str(tmp_path / "cache") in config and str(first) not in config


def test_a_plan_of_a_repetition_runs_nothing(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("runner.records.find.PUBLISHED", first / "results")
    name = record(first)["run_id"]
    assert again(["--again", name, "env.plan=true", *folders(tmp_path)]) == 0
    assert f"{name}: to do" in capsys.readouterr().out
    assert not list(tmp_path.glob("results/runs/*"))


def test_what_cannot_be_repeated_is_refused_with_the_reason(first: Path) -> None:
    name = record(first)["run_id"]
    path = first / "results" / "runs" / name / "config.yaml"
    for words, why in (
        (["--again"], "--again needs the id of a finished run"),
        (["--again", "env.threads=1"], "--again needs the id of a finished run"),
        (["--again", name, "seed=1"], "seed=1: --again repeats a run as it was"),
        (["--again", f"{name[:-1]}x", *folders(first)], f"did you mean '{name}'"),
    ):
        with pytest.raises(ConfigError, match=why):
            again(words)
    text = path.read_text()
    try:
        path.write_text(text.replace("lr: 0.05", "lr: 0.06"))
        with pytest.raises(ConfigError, match="another version of the code wrote its config"):
            again(["--again", name, *folders(first)])
    finally:
        path.write_text(text)

"""What is shipped is whole, was measured by committed code, and stands in the index once."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from table_support import record, write

from runner.commands.publish import publish
from runner.errors import ConfigError
from runner.spec.planned import PlannedRun
from runner.suites.expand import expand

# three runs; nobody publishes records of this scale
WORDS = ["imc_table14@digits", "train.scale=0.0123", "seeds=0"]
INDEX = (
    "# What stands here\ntables:\n  - imc_table01@digits # a demo\nfigures:\n  -"
    " imc_figure05@digits\n"
)


@pytest.fixture
def jobs() -> list[PlannedRun]:
    return expand(WORDS[0], {"seeds": ["0"]}, [WORDS[1]]).jobs


def measured(results: Path, jobs: list[PlannedRun], dirty: bool = False, **more: Any) -> None:
    """Records as runs leave them."""
    for i, job in enumerate(jobs):
        found = record(
            job,
            None,
            report={
                "lipschitz": 1.0 + i,
                "lipschitz_sd": 0.1,
                "box": 0.5,
                "artefact_lipschitz": 2.0,
            },
            **more,
        )
        write(results, {**found, "provenance": {**found["provenance"], "git_dirty": dirty}})
        folder = results / "runs" / job.run_id
        (folder / "config.yaml").write_text(f"seed: {job.run.seed}\n")
        rows = [
            {"stage": stage, "epoch": epoch, "train_loss": 1.0, "accuracy": 90.0}
            for stage, epoch in (("wstar", 1), ("train", 1), ("train", 2))
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def ship(tmp_path: Path, words: list[str] = WORDS) -> Path:
    published = tmp_path / "published"
    published.mkdir(exist_ok=True)
    if not (published / "index.yaml").exists():
        (published / "index.yaml").write_text(INDEX)
    assert (
        publish([*words, f"env.results_dir={tmp_path / 'results'}"], Console(quiet=True), published)
        == 0
    )
    return published


def test_records_pages_and_index_are_shipped_once(tmp_path: Path, jobs: list[PlannedRun]) -> None:
    measured(tmp_path / "results", jobs)
    published = ship(tmp_path)
    ship(tmp_path)  # again: nothing comes twice
    for job in jobs:
        folder = published / "runs" / job.run_id
        assert (
            folder.joinpath("result.json").read_text()
            == (tmp_path / "results" / "runs" / job.run_id / "result.json").read_text()
        )
        assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "result.json"]
    assert (published / "index.yaml").read_text() == INDEX.replace(
        "# a demo\n", "# a demo\n  - imc_table14@digits train.scale=0.0123 seeds=0\n"
    )
    page = (published / "tables" / "imc_table14@digits.txt").read_text()
    assert "not done" not in page and sorted(
        path.suffix for path in (published / "tables").iterdir()
    ) == [".csv", ".html", ".md", ".tex", ".txt"]


def test_a_second_setting_of_a_table_has_pages_of_its_own(
    tmp_path: Path, jobs: list[PlannedRun]
) -> None:
    measured(tmp_path / "results", jobs)
    more = [WORDS[0], "train.scale=0.0124", WORDS[2]]
    measured(tmp_path / "results", expand(WORDS[0], {"seeds": ["0"]}, [more[1]]).jobs)
    published = ship(tmp_path)
    first = (published / "tables" / "imc_table14@digits.txt").read_text()
    ship(tmp_path, more)
    assert (published / "tables" / "imc_table14@digits.txt").read_text() == first
    assert (
        published / "tables" / "imc_table14@digits+train.scale=0.0124+seeds=0.txt"
    ).read_text() != first


def test_a_table_that_is_not_whole_ships_nothing(tmp_path: Path, jobs: list[PlannedRun]) -> None:
    measured(tmp_path / "results", jobs[:-1])
    with pytest.raises(
        ConfigError, match="imc_table14@digits: 1 of 3 runs are not done; make reproduce"
    ):
        ship(tmp_path)
    assert [path.name for path in (tmp_path / "published").rglob("*")] == ["index.yaml"]


def test_records_of_uncommitted_code_are_refused(tmp_path: Path, jobs: list[PlannedRun]) -> None:
    measured(tmp_path / "results", jobs, dirty=True)
    with pytest.raises(ConfigError, match="3 runs were measured by uncommitted code"):
        ship(tmp_path)


def test_a_figure_of_epochs_ships_the_last_training_alone(tmp_path: Path) -> None:
    words = ["imc_figure05@digits", "train.scale=0.0123", "seeds=0"]
    jobs = expand(words[0], {"seeds": ["0"]}, [words[1]]).jobs
    measured(tmp_path / "results", jobs)
    published = ship(tmp_path, words)
    rows = [
        json.loads(row)
        for row in (published / "runs" / jobs[0].run_id / "metrics.jsonl").read_text().splitlines()
    ]
    assert [(row["stage"], row["epoch"]) for row in rows] == [("train", 1), ("train", 2)]
    assert (
        "  - imc_figure05@digits train.scale=0.0123 seeds=0\n"
        in (published / "index.yaml").read_text()
    )

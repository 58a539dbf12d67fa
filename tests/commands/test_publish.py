"""Published records are complete, come from committed code, and are packed for each line of the
index."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from rich.console import Console
from support import COMPOSER
from table_support import record, write

from runner.commands.publish import _lines as lines_of
from runner.commands.publish import publish
from runner.commands.published import page_name, published_line, read_index
from runner.config.compose import compose_config
from runner.errors import ConfigError
from runner.records.folders import record_path
from runner.records.packed import as_line, read_lines, write_lines
from runner.records.stored import StoredRun
from runner.spec.planned import PlannedRun
from runner.suites.expand import expand
from runner.suites.file_names import LONGEST

# three runs; nobody publishes records of this scale
WORDS = ["imc_table14@digits", "train.scale=0.0123", "seeds=0"]
INDEX = (
    "# What stands here\ntables:\n  - imc_table01@digits # a demo\nfigures:\n  -"
    " imc_figure05@digits\n"
)


@pytest.fixture
def jobs() -> list[PlannedRun]:
    return expand(WORDS[0], {"seeds": ["0"]}, [WORDS[1]], COMPOSER).jobs


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
        OmegaConf.save(compose_config(list(job.overrides)), folder / "config.yaml", resolve=True)
        rows = [
            {"stage": stage, "epoch": epoch, "train_loss": 1.0, "accuracy": 90.0}
            for stage, epoch in (("wstar", 1), ("train", 1), ("train", 2))
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "series.json").write_text('{"drawn_by_no_figure": [1]}')


def packed(published: Path, name: str) -> dict[str, dict[str, Any]]:
    return read_lines(published / "records" / f"{name}.jsonl")


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


def test_records_pages_and_index_are_published_once(tmp_path: Path, jobs: list[PlannedRun]) -> None:
    measured(tmp_path / "results", jobs)
    published = ship(tmp_path)
    (file,) = (published / "records").iterdir()
    first = file.read_bytes()
    ship(tmp_path)  # again: nothing is added
    assert file.name == "imc_table14@digits.jsonl" and file.read_bytes() == first
    runs = packed(published, "imc_table14@digits")
    assert list(runs) == sorted(job.run_id for job in jobs)
    for job in jobs:
        folder, run = tmp_path / "results" / "runs" / job.run_id, runs[job.run_id]
        assert run["record"] == json.loads((folder / "result.json").read_text())
        config = OmegaConf.load(folder / "config.yaml")
        assert run["config"] == OmegaConf.to_container(config)
        assert set(run) == {"run_id", "config", "record", "checksum"}
    assert (published / "index.yaml").read_text() == INDEX.replace(
        "# a demo\n", "# a demo\n  - imc_table14@digits train.scale=0.0123 seeds=0\n"
    )
    page = (published / "tables" / "imc_table14@digits.md").read_text()
    assert "not done" not in page
    assert sorted(path.suffix for path in (published / "tables").iterdir()) == [".csv", ".md"]


def test_a_published_run_is_neither_replaced_nor_dropped(
    tmp_path: Path, jobs: list[PlannedRun]
) -> None:
    measured(tmp_path / "results", jobs, accuracy_top5=99.5)
    published = ship(tmp_path)
    before = packed(published, "imc_table14@digits")
    shutil.rmtree(tmp_path / "results")
    measured(tmp_path / "results", jobs, accuracy_top5=99.6)  # measured again
    ship(tmp_path)
    assert packed(published, "imc_table14@digits") == before
    assert {run["record"]["accuracy_top5"] for run in before.values()} == {99.5}
    shutil.rmtree(tmp_path / "results")
    ship(tmp_path)  # the published records suffice
    assert packed(published, "imc_table14@digits") == before


def test_a_run_of_two_lines_is_in_the_files_of_both(tmp_path: Path, jobs: list[PlannedRun]) -> None:
    measured(tmp_path / "results", jobs)
    ship(tmp_path)
    shutil.rmtree(tmp_path / "results")
    published = ship(tmp_path, [WORDS[0], WORDS[2], WORDS[1]])
    name = "imc_table14@digits+seeds=0+train.scale=0.0123"
    assert packed(published, name) == packed(published, "imc_table14@digits")


def test_a_run_whose_configuration_gives_another_id_is_refused(
    tmp_path: Path, jobs: list[PlannedRun]
) -> None:
    measured(tmp_path / "results", jobs)
    path = tmp_path / "results" / "runs" / jobs[1].run_id / "config.yaml"
    text = path.read_text()
    assert "batch_size: 100" in text
    for other in (text.replace("batch_size: 100", "batch_size: 50"), ""):
        path.write_text(other)
        with pytest.raises(ConfigError, match=f"{jobs[1].run_id}: its stored configuration"):
            ship(tmp_path)


def test_a_sweep_is_published_without_pages(tmp_path: Path) -> None:
    words = ["method=random,snip", "density=0.5", "model=mlp", "train.scale=0.0123"]
    with pytest.raises(ConfigError, match="2 of 2 runs are not done; python run.py -m"):
        ship(tmp_path, words)
    line = " ".join(words)
    measured(tmp_path / "results", list(published_line(line, [line], COMPOSER).jobs))
    published = ship(tmp_path, words)
    name = "method=random,snip+density=0.5+model=mlp+train.scale=0.0123"
    runs = packed(published, name).values()
    assert [run["record"]["method"] for run in runs] == ["random", "snip"]
    assert read_index(published)["runs"] == (line,)
    assert sorted(path.name for path in published.iterdir()) == ["index.yaml", "records"]


def test_commas_inside_a_list_are_no_choices() -> None:
    # the runs are those of `python run.py -m`, which reads [25,100] as one value
    line = "method=wstar model=mlp portrait=ritz portrait.steps=[25,100] seed=0,1"
    jobs = published_line(line, [line], COMPOSER).jobs
    assert [job.overrides[-1] for job in jobs] == ["seed=0", "seed=1"]
    assert all("portrait.steps=[25,100]" in job.overrides for job in jobs)


def test_all_pages_are_written_again(tmp_path: Path, jobs: list[PlannedRun]) -> None:
    measured(tmp_path / "results", jobs)
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "index.yaml").write_text("tables:\nfigures:\n")
    published = ship(tmp_path)
    page = published / "tables" / "imc_table14@digits.md"
    text, index = page.read_text(), (published / "index.yaml").read_text()
    page.write_text("old")
    ship(tmp_path, ["all"])
    assert page.read_text() == text and (published / "index.yaml").read_text() == index


def test_names_of_files_are_short_and_different() -> None:
    lines = [f"method=snip density={','.join(f'0.{i}' for i in range(n))}" for n in (2, 40, 41)]
    names = [page_name(line, lines) for line in lines]
    assert names[0] == "method=snip+density=0.0,0.1"
    assert len(set(names)) == 3 and max(map(len, names)) == LONGEST
    tables = ["imc_table01@digits seeds=0", "imc_table01@digits seeds=1", "imc_table01"]
    assert [page_name(line, tables) for line in tables] == [
        "imc_table01@digits",
        "imc_table01@digits+seeds=1",
        "imc_table01",
    ]


def test_a_second_setting_of_a_table_has_pages_of_its_own(
    tmp_path: Path, jobs: list[PlannedRun]
) -> None:
    measured(tmp_path / "results", jobs)
    more = [WORDS[0], "train.scale=0.0124", WORDS[2]]
    measured(tmp_path / "results", expand(WORDS[0], {"seeds": ["0"]}, [more[1]], COMPOSER).jobs)
    published = ship(tmp_path)
    first = (published / "tables" / "imc_table14@digits.md").read_text()
    ship(tmp_path, more)
    assert (published / "tables" / "imc_table14@digits.md").read_text() == first
    assert (
        published / "tables" / "imc_table14@digits+train.scale=0.0124+seeds=0.md"
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


def test_a_figure_of_epochs_publishes_the_history_of_the_last_training_alone(
    tmp_path: Path,
) -> None:
    words = ["imc_figure05@digits", "train.scale=0.0123", "seeds=0"]
    jobs = expand(words[0], {"seeds": ["0"]}, [words[1]], COMPOSER).jobs
    measured(tmp_path / "results", jobs)
    published = ship(tmp_path, words)
    line = " ".join(words)
    run = packed(published, line.replace(" ", "+"))[jobs[0].run_id]
    assert [(row["stage"], row["epoch"]) for row in run["history"]] == [("train", 1), ("train", 2)]
    assert f"  - {line}\n" in (published / "index.yaml").read_text()
    assert {path.suffix for path in (published / "figures").iterdir()} == {".csv", ".md"}


def test_a_picture_that_was_published_is_drawn_again(tmp_path: Path) -> None:
    words = ["imc_figure05@digits", "train.scale=0.0123", "seeds=0"]
    measured(tmp_path / "results", expand(words[0], {"seeds": ["0"]}, [words[1]], COMPOSER).jobs)
    picture = tmp_path / "published" / "figures" / f"{'+'.join(words)}.png"
    picture.parent.mkdir(parents=True)
    picture.touch()
    ship(tmp_path, words)
    assert picture.stat().st_size > 5000


def test_a_history_that_was_not_published_is_refused_unless_it_is_of_the_same_measurement(
    tmp_path: Path,
) -> None:
    words = ["imc_figure05@digits", "train.scale=0.0123", "seeds=0"]
    jobs = expand(words[0], {"seeds": ["0"]}, [words[1]], COMPOSER).jobs
    measured(tmp_path / "results", jobs)
    published = ship(tmp_path, words)
    (file,) = (published / "records").iterdir()
    lines = {
        name: as_line(StoredRun(run["record"]), run["config"])
        for name, run in read_lines(file).items()
    }
    write_lines(file, lines)  # as a table has published them
    results = tmp_path / "results" / "runs" / jobs[0].run_id
    saved = (results / "metrics.jsonl").read_text()
    (results / "metrics.jsonl").unlink()
    with pytest.raises(ConfigError, match="1 runs have no history by epoch"):
        ship(tmp_path, words)
    (results / "metrics.jsonl").write_text(saved)
    ship(tmp_path, words)
    assert all("history" in run for run in read_lines(file).values())


def test_a_requested_measurement_is_added_to_a_published_run_of_the_same_result(
    tmp_path: Path,
) -> None:
    words = ["method=snip", "density=0.5", "model=mlp", "train.scale=0.0123"]
    results, file = tmp_path / "results", "+".join(words)
    jobs = published_line(" ".join(words), [" ".join(words)], COMPOSER).jobs
    measured(results, list(jobs))
    published = ship(tmp_path, words)
    (name,) = packed(published, file)
    more = published_line(" ".join([*words, "method.overlap=8"]), [], COMPOSER).jobs[0]
    (key,) = more.required
    path = record_path(results, name)
    plain = json.loads(path.read_text())
    stages = [
        {**stage, "key": key} if stage["name"] == "mask_overlap" else stage
        for stage in plain["stages"]
    ]
    for loss in (0.6, 0.5):
        write(results, {**plain, "stages": stages, "test_loss": loss})
        file_of_both = published / "records" / f"{file}.jsonl"
        shutil.copy(file_of_both, published / "records" / f"{file}+method.overlap=8.jsonl")
        if loss != plain["test_loss"]:
            with pytest.raises(ConfigError, match=f"{name}: .* lacks a measurement .* another"):
                ship(tmp_path, [*words, "method.overlap=8"])
        else:
            ship(tmp_path, [*words, "method.overlap=8"])
    (run,) = packed(published, f"{file}+method.overlap=8").values()
    assert key in {stage["key"] for stage in run["record"]["stages"]}


def test_words_of_the_machine_are_not_published(tmp_path: Path) -> None:
    machine = ["hydra.searchpath=[file:///here]", "env.results_dir=/here", "logger=tensorboard"]
    for words, line in (
        (["imc_table14@digits", "seeds=0"], "imc_table14@digits seeds=0"),
        (["method=snip", "seed=0,1"], "method=snip seed=0,1"),
    ):
        assert lines_of([*words, *machine], tmp_path) == [line]

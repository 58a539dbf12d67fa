"""Tables that choose among candidates (imc_table02) agree with choices worked by hand."""

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import COMPOSER
from table_support import printed, record, write

from runner.errors import ConfigError
from runner.spec.planned import PlannedRun
from runner.suites.expand import Suite, expand, expand_all, expand_spec
from runner.suites.schema_tables import NetworksTable
from runner.suites.spec import read_spec
from runner.tables.captions import caption
from runner.tables.marks import Marks

SCALE = "train.scale=0.0123"  # no published records have this scale
NAME = "imc_table02@digits"
GRID = [0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5]


def expand_choice(*overrides: str, seeds: tuple[str, ...] = ("0", "1"), **options: str) -> Suite:
    return expand(
        NAME,
        {
            "models": ["resnet20"],
            "seeds": list(seeds),
            **{f"table.{key}": [value] for key, value in options.items()},
        },
        [SCALE, *overrides],
        COMPOSER,
    )


@pytest.fixture(scope="module")
def table() -> Suite:
    return expand_choice()


def jobs_of(table: Suite, row: str, density: float) -> list[PlannedRun]:
    """The runs of one candidate, one per seed."""
    (jobs,) = [
        jobs for jobs in table.cells[row, "ResNet-20"].candidates if jobs[0].run.density == density
    ]
    return list(jobs)


def records_of(
    table: Suite, row: str, results: Mapping[float, tuple[tuple[float, float], ...]], **more: Any
) -> list[dict[str, Any]]:
    """Records of a row; `results` maps a density to (validation, test) accuracies by seed."""
    return [
        record(job, test, val_accuracy=validation, **more)
        for density, pairs in results.items()
        for job, (validation, test) in zip(jobs_of(table, row, density), pairs, strict=False)
    ]


def csv_lines(results: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((results / "tables" / f"{NAME}.csv").read_text())))


# --- the choice


def test_the_candidate_with_the_highest_mean_validation_accuracy_is_printed(
    table: Suite, tmp_path: Path
) -> None:
    # Validation means: 80, (79 + 83) / 2 = 81, (84 + 76) / 2 = 80. The best single seed, at 0.7,
    # and the best test accuracy, at 0.9, have no effect.
    results = {
        0.9: ((80.0, 99.0), (80.0, 99.0)),
        0.8: ((79.0, 70.0), (83.0, 74.0)),
        0.7: ((84.0, 60.0), (76.0, 60.0)),
    }
    write(tmp_path, *records_of(table, "SNIP", results))
    rows, text = printed(table, tmp_path)
    ours = [cell.partition(" [")[0] for cell in rows["SNIP"]]
    assert ours == ["0.20", "72.00 ± 2.83", "2", "100"]  # test accuracies 70 and 74: sqrt(8)
    assert (
        "SNIP, ResNet-20: 0.20 chosen of 0.05: –, 0.10: 80.00, 0.15: –, 0.20: 81.00, 0.25: –, 0.30:"
        " 80.00, 0.35: –" in text
    )
    assert (
        "Sparsities chosen by mean accuracy on a tenth of the training images, which these runs"
        " hold out (table.select_on=validation)" in text
    )


@pytest.mark.parametrize("densities", [(0.9, 0.8, 0.6), (0.6, 0.8, 0.9)], ids=str)
def test_of_equal_candidates_the_sparsest_is_printed(
    densities: tuple[float, ...], table: Suite, tmp_path: Path
) -> None:
    validations = ((70.0, 90.0), (80.0, 80.0), (60.0, 100.0))  # means of 80
    results = {
        density: tuple((v, 100 * density) for v in pair)
        for density, pair in zip(densities, validations, strict=True)
    }
    write(tmp_path, *records_of(table, "SNIP", results))
    rows, _ = printed(table, tmp_path)
    assert rows["SNIP"][0].startswith("0.40") and rows["SNIP"][1].startswith("60.00 ± 0.00")


def test_a_candidate_without_all_seeds_or_validation_accuracies_is_not_chosen(
    table: Suite, tmp_path: Path
) -> None:
    write(
        tmp_path,
        *records_of(table, "SNIP", {0.9: ((99.0, 50.0),), 0.8: ((40.0, 41.0), (40.0, 43.0))}),
    )
    for job in jobs_of(table, "SNIP", 0.7):  # records without validation accuracy
        write(tmp_path, record(job, 99.0))
    rows, text = printed(table, tmp_path)
    assert rows["SNIP"][0].startswith("0.20") and rows["SNIP"][1].startswith("42.00 ± 1.41")
    assert (
        "SNIP, ResNet-20: 0.20 chosen of 0.05: –, 0.10: –, 0.15: –, 0.20: 40.00, 0.25: –, 0.30: –"
        in text
    )


def test_an_accuracy_of_zero_counts(table: Suite, tmp_path: Path) -> None:
    write(tmp_path, *records_of(table, "SNIP", {0.5: ((0.0, 0.0), (0.0, 0.0))}))
    rows, _ = printed(table, tmp_path)
    assert rows["SNIP"][0].startswith("0.50") and rows["SNIP"][1].startswith("0.00 ± 0.00")


def test_without_a_complete_candidate_dashes_and_missing_runs_are_printed(
    table: Suite, tmp_path: Path
) -> None:
    write(tmp_path, *records_of(table, "SNIP", {0.9: ((99.0, 50.0),)}))
    rows, text = printed(table, tmp_path)
    assert [cell.partition(" ")[0] for cell in rows["SNIP"]] == ["–"] * 4
    assert "SNIP, ResNet-20: none chosen, no sparsity is done with all seeds of 0.05: –" in text
    assert f"{len(table.jobs) - 1} runs are not done: make reproduce TABLE={NAME}" in text


def test_rows_without_candidates_print_the_finished_seeds(table: Suite, tmp_path: Path) -> None:
    first, _ = table.cells["Baseline", "ResNet-20"].jobs
    write(tmp_path, record(first, 90.0))
    rows, text = printed(table, tmp_path)
    assert rows["Baseline"][1].startswith("90.00 (n=1 of 2)") and "Baseline, ResNet-20:" not in text


# --- CSV


def test_the_csv_contains_all_candidates_and_marks_the_printed_one(
    table: Suite, tmp_path: Path
) -> None:
    write(
        tmp_path,
        *records_of(
            table, "SNIP", {0.9: ((80.0, 61.0), (80.0, 62.0)), 0.8: ((81.0, 63.0), (81.0, 64.0))}
        ),
    )
    printed(table, tmp_path)
    lines = [line for line in csv_lines(tmp_path) if line["row"] == "SNIP"]
    assert [(float(line["density_asked"]), line["seed"]) for line in lines] == [
        (density, seed) for density in GRID for seed in ("0", "1")
    ]
    done = [
        (line["density_asked"], line["printed"], line["accuracy"], line["val_accuracy"])
        for line in lines
        if not line["missing"]
    ]
    assert done == [
        ("0.9", "False", "61.0", "80.0"),
        ("0.9", "False", "62.0", "80.0"),
        ("0.8", "True", "63.0", "81.0"),
        ("0.8", "True", "64.0", "81.0"),
    ]
    assert {line["printed"] for line in lines if line["missing"] == "not run"} == {"False"}
    assert [line["printed"] for line in csv_lines(tmp_path) if line["row"] == "Baseline"] == [
        "True",
        "True",
    ]


# --- runs and captions


def test_candidates_are_ten_sparsities_and_for_lth_rows_the_levels() -> None:
    table = expand("imc_table02", {"models": ["resnet20"]}, [], COMPOSER)
    # the rows are those of Table 1
    assert len(table.rows) == 14
    assert table.spec.title == "Sparsity with highest accuracy on CIFAR-10"
    for row in ("SNIP", "Flow&Prune", "Continuous Sparsification"):
        assert [jobs[0].run.density for jobs in table.cells[row, "ResNet-20"].candidates] == GRID
    for row in ("LTH+Reinitialization", "LTH+Rewinding", "LTH+FineTuning"):
        candidates = table.cells[row, "ResNet-20"].candidates
        for level, jobs in enumerate(candidates, start=1):
            assert [job.run.seed for job in jobs] == [0, 1, 2]
            pruned = [stage.density for stage in jobs[0].run.stages if stage.kind == "prune"]
            assert pruned == pytest.approx([0.9**j for j in range(1, level + 1)], rel=1e-11)
            assert sum(
                stage.recipe.trained_epochs for stage in jobs[0].run.stages if stage.recipe
            ) == 160 * (level + 1)
        assert len(candidates) == 7
        keys = [list(jobs[0].keys.values()) for jobs in candidates]
        assert all(key == keys[-1][: len(key)] for key in keys)  # one chain
    for row in ("Baseline", "IMC-Rewinding"):
        assert len(table.cells[row, "ResNet-20"].candidates) == 1
    search = {
        jobs[0].keys["search"]
        for jobs in table.cells["Continuous Sparsification", "ResNet-20"].candidates
    }
    assert len(search) == 1


def test_only_a_choice_on_validation_holds_out_a_tenth_of_the_images(
    table: Suite,
) -> None:
    on_test = expand_choice(select_on="test")
    assert {job.run.dataset.validation for job in table.jobs} == {0.1}
    assert {job.run.dataset.validation for job in on_test.jobs} == {0.0}
    assert not {job.run_id for job in table.jobs} & {job.run_id for job in on_test.jobs}
    first = expand(
        "imc_table01@digits", {"models": ["resnet20"], "seeds": ["0", "1"]}, [SCALE], COMPOSER
    )
    shared = {job.run_id for job in first.jobs} & {job.run_id for job in on_test.jobs}
    # runs with the same settings are shared
    assert {job.run_id for job in first.cells["Baseline", "ResNet-20"].jobs} <= shared
    assert not {job.run_id for job in first.jobs} & {job.run_id for job in table.jobs}


def test_a_choice_on_test_uses_the_test_accuracy_and_the_caption_contains_this(
    tmp_path: Path,
) -> None:
    table = expand_choice(select_on="test")
    write(
        tmp_path,
        *records_of(
            table, "SNIP", {0.9: ((80.0, 60.0), (80.0, 64.0)), 0.8: ((10.0, 70.0), (10.0, 74.0))}
        ),
    )
    rows, text = printed(table, tmp_path)
    assert rows["SNIP"][0].startswith("0.20") and rows["SNIP"][1].startswith("72.00")
    assert (
        "Sparsities chosen by mean accuracy on the test images themselves (table.select_on=test)"
        in text
    )


def test_the_best_epoch_is_printed_on_request_with_the_same_choice(
    table: Suite, tmp_path: Path
) -> None:
    best = expand_choice(metric="accuracy_best")
    assert {job.run_id for job in best.jobs} == {job.run_id for job in table.jobs}
    results = {0.9: ((80.0, 60.0), (80.0, 64.0)), 0.8: ((81.0, 50.0), (81.0, 54.0))}
    write(tmp_path, *records_of(table, "SNIP", results, accuracy_best=97.5))
    for which, printed_mean, epoch in (
        (table, "52.00 ± 2.83", "last"),
        (best, "97.50 ± 0.00", "best"),
    ):
        rows, text = printed(which, tmp_path)
        assert rows["SNIP"][0].startswith("0.20") and rows["SNIP"][1].startswith(printed_mean)
        assert f"test accuracy at the {epoch} epoch" in text


def test_the_metric_option_works_without_candidates(tmp_path: Path) -> None:
    table = expand(
        "imc_table01@digits",
        {"models": ["resnet20"], "seeds": ["0"], "table.metric": ["accuracy_best"]},
        [SCALE],
        COMPOSER,
    )
    # record() sets accuracy_best to one point more
    write(tmp_path, *(record(job, 90.0) for job in table.cells["SNIP", "ResNet-20"].jobs))
    rows, _ = printed(table, tmp_path)
    assert rows["SNIP"][1] == "91.00 [92.4]"


@pytest.mark.parametrize(
    ("metric", "overrides", "stated"),
    [
        ("accuracy_best", ["train.test_every=10"], True),
        ("accuracy_best", [], False),
        ("accuracy", ["train.test_every=10"], False),
    ],
)  # the last epoch is always tested
def test_the_caption_mentions_a_best_epoch_among_a_few_tested_ones(
    metric: str, overrides: list[str], stated: bool
) -> None:
    table = expand(
        "imc_table01@digits",
        {"models": ["resnet20"], "seeds": ["0"], "table.metric": [metric]},
        overrides,
        COMPOSER,
    )
    assert (
        any(
            "the best of those that were tested (train.test_every=10)" in line
            for line in caption(table, {}, Marks())
        )
        == stated
    )


def test_a_requested_density_is_the_only_candidate() -> None:
    spec = read_spec("imc_table02")
    assert isinstance(spec, NetworksTable)
    rows = tuple(row for row in spec.rows if row.label == "SNIP")  # the baseline takes no density
    table = expand_spec(
        replace(spec, rows=rows),
        NAME,
        {"models": ["resnet20"], "seeds": ["0"]},
        ["density=0.5"],
        COMPOSER,
    )
    (jobs,) = table.cells["SNIP", "ResNet-20"].candidates
    assert [job.run.density for job in jobs] == [0.5]


def test_a_table_inherits_missing_keys_from_another_table() -> None:
    first, second = read_spec("imc_table01"), read_spec("imc_table02")
    assert isinstance(first, NetworksTable) and isinstance(second, NetworksTable)
    assert replace(second, number=1, title=first.title, best_of={}) == first
    assert second.number == 2 and first.number == 1 and not first.best_of
    assert set(second.best_of) <= {row.label for row in first.rows}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "imc_table02",
            {"table.select": ["test"]},
            "table.select is not an option of this table: table.select_on, table.metric",
        ),
        (
            "imc_table01",
            {"table.select_on": ["test"]},
            "table.select_on is not an option of this table: table.metric, table.ours$",
        ),
        (
            "imc_table02",
            {"table.select_on": ["training"]},
            "table.select_on=training is not a choice: validation, test",
        ),
        (
            "imc_table02",
            {"table.metric": ["best"]},
            "table.metric=best is not a choice: accuracy, accuracy_best",
        ),
    ],
)
def test_an_unknown_table_option_gives_an_error(
    name: str, options: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        expand(name, options, [], COMPOSER)


def test_an_option_for_several_tables_applies_to_those_that_have_it() -> None:
    names = ["imc_table01@digits", "imc_table02@digits"]
    choice = {"models": ["resnet20"], "seeds": ["0"]}
    first, second = expand_all(names, {**choice, "table.select_on": ["test"]}, [])
    assert (
        first.jobs == expand(names[0], choice, [], COMPOSER).jobs
        and second.options["select_on"] == "test"
    )
    with pytest.raises(ConfigError, match="table.select is not an option"):
        expand_all(names, {**choice, "table.select": ["test"]}, [])
    with pytest.raises(ConfigError, match="TABLE=imc_table99 is not a choice"):
        expand_all(["imc_table01", "imc_table99"], choice, [])


def test_a_candidate_with_a_diverged_run_is_not_chosen_and_stated(
    table: Suite, tmp_path: Path
) -> None:
    results = dict.fromkeys(GRID[2:], ((80.0, 70.0), (80.0, 70.0)))
    results[0.9] = ((99.0, 99.0),)
    write(tmp_path, *records_of(table, "SNIP", results))
    lost = jobs_of(table, "SNIP", 0.9)[1]
    write(tmp_path, record(lost, None, status="diverged", test_loss=None))
    write(tmp_path, *records_of(table, "SNIP", {0.95: ((70.0, 60.0), (70.0, 60.0))}))
    rows, text = printed(table, tmp_path)
    assert rows["SNIP"][1].startswith("70.00")
    assert "0.50 chosen of 0.05: 70.00, 0.10: diverged (1 of 2), 0.15: 80.00" in text

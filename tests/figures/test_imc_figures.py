"""The IMC paper's figures and sweep: hand-counted runs and epochs, runs shared with its tables."""

import json
from pathlib import Path
from typing import Any

import pytest
from support import COMPOSER
from table_support import record

from runner.figures.write import write_figure
from runner.spec.run import Run, trains
from runner.suites.expand import Suite, expand
from runner.suites.layouts import series_key
from runner.tables.render import write_table

METHODS = ("IMC-Reinitialization", "IMC-Rewinding", "IMC-FineTuning")
# figure -> its point that is an entry of Table 1
FIGURES = {
    1: "points from the paper's=0",
    2: "epochs of W*=10",
    3: "share=1",
    4: "method.hessian.n_samples=128",
    5: "",
    6: "train.lr=0.1",
}


def figure(name: str, *overrides: str) -> Suite:
    return expand(name, {"seeds": ["0"]}, list(overrides), COMPOSER)


@pytest.fixture(scope="module")
def whole() -> dict[int, Suite]:
    """The figures with the settings of the paper."""
    return {n: figure(f"imc_figure{n:02d}") for n in FIGURES}


def epochs(table: Suite) -> tuple[int, int]:
    """Sum of the epochs of all runs, and the epochs needed if stages are shared."""
    runs = [(job, stage) for job in table.jobs for stage in job.run.stages]
    return sum(trains(stage) for _, stage in runs), sum(
        {job.keys[stage.name]: trains(stage) for job, stage in runs}.values()
    )


def run_at(table: Suite, panel: str, series: str, point: str) -> Run:
    (network,) = table.networks
    return table.cells[series_key(panel, series, network), point].jobs[0].run


# W* takes 10 epochs, retraining 160, and fine-tuning the rest after W*. In Figures 2 and 5, W*
# takes e epochs and the three retrainings 2 * 160 + (160 - e).
@pytest.mark.parametrize(
    ("number", "runs", "needed"),
    [
        # a sparsity of -0.02 on CIFAR-100 does not exist
        (1, 3 * (9 + 9 + 8), (9 + 9 + 8) * (160 + 160 + 150) + 3 * 10),
        (2, 3 * 15, 3 * sum(2 * 160 + (160 - e) + e for e in (5, 10, 20, 25, 30))),
        (3, 3 * 6, 3 * (6 * 160 + 10)),
        (4, 3 * 18, 3 * (6 * 470 + 10)),
        (5, 3 * 15, 3 * 5 * 480),
        (6, 3 * 15, 3 * 5 * (470 + 10)),
    ],
)
def test_runs_and_epochs_of_the_paper_agree_with_hand_counts(
    whole: dict[int, Suite], number: int, runs: int, needed: int
) -> None:
    assert (len(whole[number].jobs), epochs(whole[number])[1]) == (runs, needed)


def test_figure_5_shares_all_runs_with_figure_2(
    whole: dict[int, Suite],
) -> None:
    assert {job.run_id for job in whole[5].jobs} == {job.run_id for job in whole[2].jobs}


@pytest.mark.parametrize("form", ["", "@digits", "@fashion_mnist"])
@pytest.mark.parametrize("number", [n for n in FIGURES if n != 5])
def test_figures_share_the_runs_of_table_1(form: str, number: int) -> None:
    table, drawn = figure(f"imc_table01{form}"), figure(f"imc_figure{number:02d}{form}")
    first = next(iter(drawn.cells))[0].rsplit(" IMC-")[0]
    (network,) = drawn.networks
    for method in METHODS if number != 3 else METHODS[1:2]:
        ours = drawn.cells[f"{first} {method} {network}", FIGURES[number]].jobs[0]
        (theirs,) = table.cells[method, "ResNet-20"].jobs
        assert ours.run_id == theirs.run_id and ours.keys == theirs.keys


def test_the_sparsities_of_figure_1_are_relative_to_the_found_ones(whole: dict[int, Suite]) -> None:
    for panel, found in (
        ("(a) CIFAR-10", 0.47),
        ("(b) ImageNet, here Tiny-ImageNet", 0.33),
        ("(c) CIFAR-100", 0.18),
    ):
        for points in range(-15, 25, 5):
            run = run_at(whole[1], panel, "IMC-FineTuning", f"points from the paper's={points}")
            assert run.density == pytest.approx(1 - found - points / 100, abs=1e-12)
    assert (
        run_at(
            whole[1], "(b) ImageNet, here Tiny-ImageNet", METHODS[0], "points from the paper's=0"
        ).dataset.name
        == "tiny_imagenet"
    )


def test_figure_2_rewinds_to_the_tenth_or_last_epoch(whole: dict[int, Suite]) -> None:
    found = {}
    for e in (5, 10, 20, 25, 30):
        run = run_at(whole[2], "(a) CIFAR-10", "IMC-Rewinding", f"epochs of W*={e}")
        recipe, start = run.stage("wstar").recipe, run.stage("train").start
        assert recipe is not None and recipe.epochs == e and start.stage == "wstar"
        found[e] = e if start.epoch is None else start.epoch  # None is the end of the stage
    assert found == {5: 5, 10: 10, 20: 10, 25: 10, 30: 10}


def test_figure_3_rewinds_to_fractions_of_ten_epochs(whole: dict[int, Suite]) -> None:
    starts = {
        s: run_at(whole[3], "(a) CIFAR-10", "IMC-Rewinding", f"share={s}")
        .stage("train")
        .start.epoch
        for s in ("0.01", "0.05", "0.1", "0.2", "0.5", "1")
    }
    assert starts == {"0.01": 0.1, "0.05": 0.5, "0.1": 1, "0.2": 2, "0.5": 5, "1": None}
    small = figure("imc_figure03@digits")
    points = [
        small.cells[row, point].jobs[0].run.stage("train").start.epoch for row, point in small.cells
    ]
    # On digits, ten epochs are scaled to two. Three points are an iteration (1 / 500 epoch) before
    # 1, 2 and 5 epochs, times 30 / 160.
    assert points == pytest.approx(
        [0.1 * 0.1875, 0.5 * 0.1875, 0.998 * 0.1875, 1.998 * 0.1875, 4.998 * 0.1875, None], abs=1e-6
    )


def test_figures_4_and_6_set_the_images_of_the_hessian_and_the_learning_rate(
    whole: dict[int, Suite],
) -> None:
    run = run_at(whole[4], "(c) CIFAR-100", "IMC-Reinitialization", "method.hessian.n_samples=48")
    assert {run.stage(name).component.hessian.n_samples for name in ("lipschitz", "spectrum")} == {
        48
    }
    run = run_at(whole[6], "(c) CIFAR-100", "IMC-FineTuning", "train.lr=0.005")
    assert {stage.recipe.lr for stage in run.stages if stage.recipe} == {0.005}


def test_figure_5_draws_the_losses_of_all_epochs(tmp_path: Path) -> None:
    drawn = figure("imc_figure05@digits", "train.scale=0.0123")
    for job in drawn.jobs:
        folder = tmp_path / "runs" / job.run_id
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(record(job, 50.0)))
        epochs_of = (("wstar", 1, 7.0), ("train", 1, 2.0), ("train", 2, 1.0))
        rows = [
            {"stage": stage, "epoch": e, "train_loss": loss, "accuracy": 50.0}
            for stage, e, loss in epochs_of
        ]
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text = write_figure(drawn, tmp_path)
    assert text.count("2 points, 2 at 1 to 1 at 2") == 3 * 5
    assert text.count("2 points, 50 at 1 to 50 at 2") == 3 * 5


def test_the_spectrum_adds_one_measurement_to_the_runs_of_table_1() -> None:
    table, drawn = figure("imc_table01@digits"), figure("imc_spectrum@digits")
    (job,), (reference,) = drawn.jobs, table.cells["IMC-Rewinding", "ResNet-20"].jobs
    assert set(job.keys.values()) - set(reference.keys.values()) == {job.keys["portrait"]}


def test_the_reading_has_one_run_for_each_net_count_of_classes_and_wstar() -> None:
    # digits at 128 and 512 images; four counts of classes after 1, 2 and 6 epochs; 400 steps with
    # 10 and 100 classes; two other nets with 10 and 100 classes. Series of one run share it.
    small = figure("imc_reading@digit_pairs")
    assert len(small.jobs) == 2 + 4 * 3 + 2 + 2 * 2
    classes = {job.run.dataset.info().classes for job in small.jobs}
    assert classes == {10, 20, 50, 100}
    # three data sets, by steps and after 1, 2, 6 and 10 epochs
    assert len(figure("imc_reading").jobs) == 3 + 3 * 4


# --- the sweep

# number of values in appendix A.5, and how many of them are in Table 16
SWEPT = {
    "p": (5, 1),
    "∆": (4, 1),
    "original": (5, 1),
    "rewinding": (5, 0),
    "Hessian": (5, 1),
    "batch": (6, 1),
    "learning": (7, 1),
}


@pytest.fixture(scope="module")
def sweep() -> Suite:
    return expand("imc_sweep", {"seeds": ["0"], "models": ["resnet20"]}, [], COMPOSER)


def test_the_sweep_has_one_row_per_value(sweep: Suite) -> None:
    rows = [row for row, _ in sweep.cells]
    for prefix, (values, _) in SWEPT.items():
        assert len([row for row in rows if row.startswith(prefix)]) == values
    assert len(rows) == 1 + sum(values for values, _ in SWEPT.values())
    runs = 1 + sum(values - shared for values, shared in SWEPT.values())
    assert (len(sweep.jobs), runs) == (32, 32)
    requested = 50 * runs + 10 * (runs - 4) + 5 + 20 + 25 + 30
    # W* is trained for each of its epochs, batch sizes and rates
    needed = 50 * runs + 10 + 5 + 20 + 25 + 30 + 5 * 10 + 6 * 10
    assert epochs(sweep) == (requested, needed) == (1960, 1800)


def changed(run: Run, other: Run) -> set[str]:
    """Names of the stages that differ."""
    return {a.name for a, b in zip(run.stages, other.stages, strict=True) if a != b}


def test_a_row_of_the_sweep_changes_the_option_of_its_label(sweep: Suite) -> None:
    runs: dict[str, Any] = {row: cell.jobs[0].run for (row, _), cell in sweep.cells.items()}
    default = runs["as in Table 16"]
    own = {
        "p = ∞": {"lipschitz"},
        "∆ = 0.0001": {"lipschitz"},
        "original network: 20 epochs": {"wstar", "train"},  # the tenth epoch is not the end of W*
        "original network: 5 epochs": {"wstar"},
        "rewinding to 0.05 of ten epochs": {"train"},
        "Hessian of 16 images": {"lipschitz", "spectrum"},
        "batch size 20": {"wstar", "train"},
        "learning rate 0.0001": {"wstar", "train"},
    }
    for row, stages in own.items():
        assert changed(runs[row], default) == stages, row
    assert all(
        run.dataset.validation == 0.1
        and run.stage("train").recipe.epochs == 50
        and run.density == 0.53
        for run in runs.values()
    )
    assert (
        runs["p = ∞"].stage("lipschitz").component.norm,
        runs["p = 1"].stage("lipschitz").component.p,
    ) == ("max", 1)


@pytest.mark.parametrize(
    ("data", "density", "model"),
    [
        ("cifar100", 0.82, "resnet20_w32"),
        ("tiny_imagenet", 0.67, "resnet20_w32"),
        ("digits", 0.53, "resnet20"),
    ],
)
def test_the_sweep_on_other_data_uses_the_sparsity_found_there(
    data: str, density: float, model: str
) -> None:
    table = expand(f"imc_sweep@{data}", {"seeds": ["0"], "models": [model]}, [], COMPOSER)
    assert {(job.run.density, job.run.dataset.name) for job in table.jobs} == {(density, data)}


def test_the_sweep_prints_validation_accuracies_and_findings(tmp_path: Path) -> None:
    table = expand(
        "imc_sweep@digits",
        {"seeds": ["0"], "models": ["resnet20"]},
        ["train.scale=0.0123"],
        COMPOSER,
    )
    for job in table.jobs:
        folder = tmp_path / "runs" / job.run_id
        folder.mkdir(parents=True)
        rate = job.run.stage("train").recipe.lr
        made = record(
            job, 11.0, val_accuracy=60.0 + rate, report={"lipschitz": 3.0, "literal_k": None}
        )
        (folder / "result.json").write_text(json.dumps(made))
    text = write_table(table, tmp_path)
    assert text.startswith("Hyperparameter sweep of IMC-Rewinding on CIFAR-10")
    assert "accuracy on held-out training images at the last epoch" in text
    (line,) = (line for line in text.splitlines() if line.startswith("learning rate 0.05"))
    assert "60.05" in line and "11.0" not in line
    assert "k of the paper's scan, p = 5, ResNet-20: none" in text
    assert "K, ∆ = 0.1, ResNet-20: 3" in text

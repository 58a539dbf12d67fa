"""The jackpots paper's figures: hand-counted runs, shared stages, and claims for given records."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from support import COMPOSER
from table_support import record

from runner.errors import ConfigError
from runner.figures.write import write_figure
from runner.spec.lr_schedule import Cosine, Step
from runner.spec.planned import PlannedRun
from runner.spec.run import Run, Stage, trains
from runner.suites.expand import Suite, expand
from runner.suites.layouts import series_key

NUMBERS = range(1, 10)
DENSE = 30  # 160 epochs on digits
# epochs of a search -> epochs on digits, times 30 / 160
SEARCHES = {5: 1, 10: 2, 30: 6, 60: 11, 100: 19, 160: 30, 300: 56}


def figure(name: str, *overrides: str, **chosen: list[str]) -> Suite:
    return expand(name, {"seeds": ["0"], **chosen}, list(overrides), COMPOSER)


SEEDS = ["0", "1", "2"]  # for claims


@pytest.fixture(scope="module")
def small() -> dict[int, Suite]:
    return {n: figure(f"jackpots_figure{n:02d}@digits") for n in NUMBERS}


@pytest.fixture(scope="module")
def whole() -> dict[int, Suite]:
    """The figures with the settings of the paper."""
    return {n: figure(f"jackpots_figure{n:02d}") for n in NUMBERS}


def needed(table: Suite) -> int:
    """Needed epochs if stages are shared."""
    return sum(
        {
            job.keys[stage.name]: trains(stage) for job in table.jobs for stage in job.run.stages
        }.values()
    )


def job(table: Suite, panel: str, series: str, network: str, point: str = "=") -> PlannedRun:
    return table.cells[series_key(panel, series, network), point].jobs[0]


def trained(run: Run) -> list[Stage]:
    return [stage for stage in run.stages if stage.recipe]


# On digits, searches of 5, 10, 30, 60 and 100 epochs have 39 epochs per net in sum, and those of
# 10 to 160 have 68.
@pytest.mark.parametrize(
    ("number", "runs", "epochs"),
    [
        (1, 4 * 5, DENSE + 4 * 39),
        (2, 2 * 2 * 6, 2 * (DENSE + 2 * 6 * 19)),
        # six epochs for criteria with statistics taken anew, none with those of the dense net
        (3, 6 + 2 * 4 * 6, DENSE + 6 * 6 + 4 * 6 * 6),
        (4, 2 * 6, DENSE + 6 * 19 + 6 * 6),
        (5, 2 * 7, 2 * (DENSE + 6 * 6 + 56)),
        (6, 1, DENSE + 1),
        (7, 2 * 4 * 5, 2 * (DENSE + 4 * 68)),
        (8, 2 * 6, DENSE + 6 * (6 + 28)),
        (9, 2 * 5, 2 * (DENSE + 5 * 6)),
    ],
)
def test_runs_and_epochs_on_digits_agree_with_hand_counts(
    small: dict[int, Suite], number: int, runs: int, epochs: int
) -> None:
    assert sum(SEARCHES[e] for e in (5, 10, 30, 60, 100)) == 39
    assert sum(SEARCHES[e] for e in (10, 30, 60, 100, 160)) == 68
    assert (len(small[number].jobs), needed(small[number])) == (runs, epochs)


def test_runs_and_epochs_of_the_paper_agree_with_hand_counts(whole: dict[int, Suite]) -> None:
    found = {n: (len(table.jobs), needed(table)) for n, table in whole.items()}
    assert found == {
        1: (20, 4 * 205),  # the weights of ResNet-50 are loaded
        2: (3 * 22, 2 * 160 + 3 * 22 * 100),
        3: (10 + 80, 10 * 30 + 40),
        4: (20, 10 * 100 + 10 * 30),
        5: (4 * 7, 4 * (160 + 6 * 30 + 300)),
        6: (1, 161),
        7: (4 * 20, 4 * (160 + 4 * 360)),
        8: (12, 160 + 6 * 180),
        9: (10, 2 * (160 + 5 * 30)),
    }


def test_all_figures_share_the_trained_nets(small: dict[int, Suite]) -> None:
    keys = {
        (job.run.model.name, job.keys["dense"])
        for table in small.values()
        for job in table.jobs
        if "dense" in job.keys
    }
    assert len(keys) == 2 and {net for net, _ in keys} == {"resnet32_w32a", "vgg11_small"}
    recipes = {
        job.run.stage("dense").recipe
        for table in small.values()
        for job in table.jobs
        if "dense" in job.keys
    }
    (recipe,) = recipes
    assert recipe is not None
    assert (
        recipe.epochs,
        recipe.lr_schedule,
        recipe.batch_size,
        recipe.weight_decay,
    ) == (30, Step(), 128, 5e-4)


def test_every_search_on_resnet50_loads_its_weights(whole: dict[int, Suite]) -> None:
    runs = [
        planned.run
        for table in whole.values()
        for planned in table.jobs
        if planned.run.model.name == "resnet50" and planned.run.stages[-1].start.stage != "init"
    ]
    loaded = [run for run in runs if any(stage.name == "search" for stage in run.stages)]
    assert len(loaded) == 5 + 11 + 90 + 20
    assert all(run.stage("dense").kind == "load" for run in loaded)


def test_the_weight_decay_is_smaller_on_imagenet(whole: dict[int, Suite]) -> None:
    decays = {
        (job.run.dataset.name, stage.recipe.weight_decay)
        for t in whole.values()
        for job in t.jobs
        for stage in trained(job.run)
        if stage.recipe
    }
    assert decays == {("imagenet", 1e-4), ("cifar10", 5e-4), ("cifar100", 5e-4)}


@pytest.mark.parametrize("number", [1, 7])
def test_every_point_has_a_training_with_its_epochs_and_a_cosine_schedule(
    whole: dict[int, Suite], number: int
) -> None:
    for (row, point), cell in whole[number].cells.items():
        run = cell.jobs[0].run
        *before, last = trained(run)
        assert last.recipe is not None
        assert point == f"epochs={last.recipe.epochs}"
        assert last.recipe.lr_schedule == Cosine()
        # the dense net of Figure 1, ResNet-50, is loaded
        assert [stage.name for stage in before] == (
            [] if number == 1 or run.method == "snip" else ["dense"]
        ), row
        assert all(
            stage.recipe and (stage.recipe.epochs, stage.recipe.lr_schedule) == (160, Step())
            for stage in before
        )
        assert last.kind == ("search" if run.method == "sr_popup" else "train")
        assert run.density == {1: 0.1, 7: 0.05}[number]


def test_lt_has_one_level_and_rewinds_to_the_initial_weights(whole: dict[int, Suite]) -> None:
    run = job(whole[7], "(a) VGG-19, CIFAR-10", "LT, one shot", "VGG-19", "epochs=60").run
    assert [(stage.name, stage.kind) for stage in run.stages] == [
        ("dense", "train"),
        ("prune1", "prune"),
        ("train1", "train"),
    ]
    start = run.stage("train1").start
    assert (start.stage, start.epoch, run.stage("prune1").density) == ("dense", 0, 0.05)


@pytest.mark.parametrize(
    ("number", "series"),
    [(1, ["SET", "SNIP", "RigL", "Jackpot"]), (7, ["SNIP", "OBD", "LT, one shot", "Jackpot"])],
)
def test_every_method_leaves_the_classifier_dense(
    small: dict[int, Suite], number: int, series: list[str]
) -> None:
    found = {
        name
        for (row, _), cell in small[number].cells.items()
        for name in series
        if name in row and _dense_classifier(cell.jobs[0].run)
    }
    assert found == set(series)


def _dense_classifier(run: Run) -> bool:
    chooses = next(stage.component for stage in run.stages if stage.kind in ("prune", "search"))
    return bool(chooses.classifier == "dense")


def test_the_two_kinds_of_subnets_differ_only_in_their_weights(small: dict[int, Suite]) -> None:
    one, other = (
        job(small[2], "ResNet-32", label, "ResNet-32", "density=0.1").run
        for label in ("trained weights (jackpots)", "random weights")
    )
    assert one.stage("search").component == other.stage("search").component
    assert one.stage("search").recipe == other.stage("search").recipe
    assert (one.stage("search").start.stage, other.stage("search").start.stage) == ("dense", "init")


def test_masks_of_criteria_are_searches_without_epochs_or_without_swaps(
    small: dict[int, Suite],
) -> None:
    for label, criterion in (
        ("Magnitude", "magnitude"),
        ("SNIP", "snip"),
        ("GraSP", "grasp"),
        ("Random", "random"),
    ):
        bare, again = (
            job(small[3], panel, label, "ResNet-32", "density=0.1").run
            for panel in ("(a) statistics of the dense net", "(b) statistics taken anew")
        )
        assert (trains(bare.stage("search")), trains(again.stage("search"))) == (0, 6)
        assert bare.stage("search").component.init == again.stage("search").component.init
        assert bare.stage("search").component.init.criterion == criterion
        assert again.stage("search").component.quota == "none"
        assert bare.stage("search").component.init.budgets == "criterion"
    jackpots = {
        job(small[3], panel, "Jackpot", "ResNet-32", "density=0.1").run_id
        for panel in ("(a) statistics of the dense net", "(b) statistics taken anew")
    }
    assert len(jackpots) == 1
    assert jackpots == {
        job(
            small[8], "weights as they were, and fine-tuned", "Jackpot", "ResNet-32", "density=0.1"
        ).run_id
    }


def test_overlaps_are_measured_on_the_searches_of_other_figures(small: dict[int, Suite]) -> None:
    def search(number: int, panel: str, series: str, density: float) -> str:
        return job(small[number], panel, series, "ResNet-32", f"density={density}").keys["search"]

    free, _, circular = dict.fromkeys(
        row.rpartition(" Magnitude")[0] for row, _ in small[4].cells if " Magnitude " in row
    )
    assert search(4, free, "SNIP", 0.1) == search(2, "ResNet-32", "trained weights (jackpots)", 0.1)
    assert search(4, circular, "SNIP", 0.05) == search(
        3, "(a) statistics of the dense net", "Jackpot", 0.05
    )


def test_fine_tuning_takes_150_epochs_from_the_end_of_the_search(whole: dict[int, Suite]) -> None:
    panel = "weights as they were, and fine-tuned"
    plain, tuned = (
        job(whole[8], panel, label, "ResNet-32", "density=0.1")
        for label in ("Jackpot", "the same mask fine-tuned")
    )
    assert plain.keys["search"] == tuned.keys["search"] and "train" not in plain.keys
    stage = tuned.run.stage("train")
    assert stage.recipe is not None
    assert (
        stage.recipe.epochs,
        stage.recipe.lr,
        stage.recipe.lr_schedule,
        stage.recipe.batch_size,
    ) == (150, 0.1, Cosine(), 256)
    assert (stage.start.stage, stage.masks) == ("search", "search")


def test_the_label_of_a_series_agrees_with_its_run(small: dict[int, Suite]) -> None:
    etas = {
        label: job(small[9], "ResNet-32", f"η = {label}", "ResNet-32")
        .run.stage("search")
        .component.init.eta
        for label in ("0", "0.5", "0.9", "0.95", "0.99")
    }
    assert etas == {label: float(label) for label in etas}
    named = {
        "Magnitude": "magnitude",
        "SNIP": "snip",
        "GraSP": "grasp",
        "Random mask": "random",
        "Random scores": "uniform",
        "Random scores, 300 epochs": "uniform",
    }
    runs = {label: job(small[5], "ResNet-32: loss", label, "ResNet-32").run for label in named}
    assert {
        label: run.stage("search").component.init.criterion for label, run in runs.items()
    } == named
    assert {label for label, run in runs.items() if trains(run.stage("search")) == 56} == {
        "Random scores, 300 epochs"
    }
    assert {run.method for run in runs.values()} == {"edge_popup"}


def test_searches_on_digits_use_batches_of_64_and_vgg_uses_larger_images(
    small: dict[int, Suite],
) -> None:
    for table in small.values():
        for planned in table.jobs:
            assert {
                stage.recipe.batch_size
                for stage in trained(planned.run)
                if stage.kind == "search" and stage.recipe
            } <= {64}
            assert planned.run.dataset.info().size == (
                32 if planned.run.model.name == "vgg11_small" else 8
            )


# --- pictures and claims for given records


def write_run(
    results: Path,
    planned: PlannedRun,
    series: dict[str, list[float]] | None = None,
    losses: list[float] | None = None,
    **more: Any,
) -> None:
    folder = results / "runs" / planned.run_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(record(planned, **{"accuracy": 80.0, **more})))
    (folder / "series.json").write_text(json.dumps(series or {}))
    rows = [
        {"stage": "search", "epoch": i, "train_loss": loss, "accuracy": 90 - loss}
        for i, loss in enumerate(losses or [], start=1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def claims(results: Path, table: Suite) -> list[dict[str, str]]:
    with (results / "figures" / f"{table.name}.claims.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("power", "proportional"), [(1.0, "holds"), (1.5, "does not hold")])
def test_the_claim_of_a_variance_proportional_to_q_fails_for_faster_growth(
    power: float, proportional: str, tmp_path: Path
) -> None:
    table = figure("jackpots_figure06@digits", seeds=SEEDS)
    counts = [1.0, 10.0, 100.0, 1_000.0, 10_000.0]
    wobble = (1.05, 0.98, 1.0, 1.03, 0.97)
    for planned in table.jobs:
        shifted = [w ** (1 + planned.run.seed) for w in wobble]
        variances = [1e-9 * w * q**power for q, w in zip(counts, shifted, strict=True)]
        lists = {
            "distortion_q": counts,
            "distortion_variance": variances,
            "distortion_std": [v**0.5 for v in variances],
            "distortion_promise_std": [1.0] * 5,
        }
        lists |= {
            f"distortion_q{share}": [int(share) * v for v in variances]
            for share in ("05", "25", "50", "75", "95")
        }
        write_run(tmp_path, planned, lists)
    write_figure(table, tmp_path)
    found = claims(tmp_path, table)
    assert [line["holds"] for line in found] == [proportional, "holds"]
    assert float(found[0]["what was measured"].split()[1].rstrip(",")) == pytest.approx(
        power, abs=0.02
    )


def test_claims_at_equal_cost_compare_the_accuracies(tmp_path: Path) -> None:
    table = figure("jackpots_figure07@digits", models=["resnet32_w32a"], seeds=SEEDS)
    for (row, point), cell in table.cells.items():
        epochs = float(point.partition("=")[2])
        for planned in cell.jobs:
            write_run(
                tmp_path,
                planned,
                accuracy=90.0 + planned.run.seed / 5
                if "Jackpot" in row
                else 85 + epochs / 40
                if "SNIP" in row
                else 97.0 - 5 * planned.run.seed,
            )
    text = write_figure(table, tmp_path)
    found = claims(tmp_path, table)
    # the other net is not selected
    assert all("ResNet-32" in line["claim"] for line in found) and "Small VGG-11" not in text
    # 90.2 -+ 0.2 against 86.8, and against 92 -+ 5
    assert [line["holds"] for line in found] == ["holds", "open", "open"]
    # the x value of a point is what ran: 10 and 160 epochs x 0.1875
    assert "5 points, 85.25 at 2 to 89 at 30" in text
    assert "x is what ran: 2, 6, 11, 19, 30 for 10, 30, 60, 100, 160." in text


def test_claims_compare_the_losses_of_searches_epoch_by_epoch(
    tmp_path: Path,
) -> None:
    table = figure("jackpots_figure09@digits", seeds=SEEDS)
    for planned in table.jobs:
        eta = planned.run.stage("search").component.init.eta
        # larger eta, smaller loss
        losses = [2.0 - eta * (1 + planned.run.seed / 50) - 0.1 * i for i in range(6)]
        write_run(tmp_path, planned, losses=losses)
    write_figure(table, tmp_path)
    found = claims(tmp_path, table)
    assert len(found) == 6
    assert all(
        line["holds"] == "holds" and line["what was measured"].startswith("6 of 6 points")
        for line in found
    )


def test_a_model_that_is_not_in_the_figure_gives_an_error() -> None:
    with pytest.raises(ConfigError, match="models=resnet50"):
        figure("jackpots_figure07", models=["resnet50"])

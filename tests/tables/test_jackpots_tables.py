"""The jackpots paper's tables: its numbers, the runs of their labels, and pages worked by hand."""

import csv
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from support import COMPOSER
from table_support import record, unmarked, write

from pruners.search.popup import SrPopup
from runner.suites.cells import Cell
from runner.suites.expand import Suite, expand
from runner.suites.metrics import ACCURACY
from runner.tables.entries import entries
from runner.tables.render import write_table
from runner.tables.text import papers

NUMBERS = range(1, 10)
DENSE = {"VGGNet-19", "ResNet-32", "ResNet-50", "MobileNet-V1", "EfficientNet-B4"}
DATA = {"CIFAR-10": "cifar10", "CIFAR-100": "cifar100", "ImageNet": "imagenet"}
METHODS = {
    "SET": "set",
    "Deep-R": "deep_r",
    "Dynamic Sparse": "dsr",
    "SNIP": "snip",
    "GraSP": "grasp",
    "LT": "imp",
    "OBD": "obd",
    "RigL": "rigl",
    "Zhou et al.": "zhou",
    "Edge-popup": "edge_popup",
    "SR-popup (Ours)": "sr_popup",
    "Jackpot (Ours)": "sr_popup",
    "lottery jackpot": "sr_popup",
}


def expand_one_seed(name: str, *overrides: str, **chosen: list[str]) -> Suite:
    """Expand a table, by default with one seed, since seeds change no entry."""
    return expand(
        name,
        {"seeds": ["0"], **{key.replace("__", "."): value for key, value in chosen.items()}},
        list(overrides),
        COMPOSER,
    )


@pytest.fixture(scope="module")
def tables() -> dict[int, Suite]:
    return {n: expand_one_seed(f"jackpots_table{n:02d}") for n in NUMBERS}


def paper(number: int) -> list[dict[str, str]]:
    with (ROOT / "results" / "paper" / f"jackpots_table{number:02d}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def cells_of(table: Suite, line: dict[str, str]) -> list[Cell]:
    """The cells beside which a line of the paper's CSV is printed."""
    name = tuple(line[column] for column in table.page.paper)
    return [cell for cell in table.cells.values() if cell.paper == name]


@pytest.mark.parametrize("number", NUMBERS)
def test_every_number_of_the_paper_is_beside_exactly_the_entries_of_its_line(
    number: int, tables: dict[int, Suite], tmp_path: Path
) -> None:
    table, lines = tables[number], paper(number)
    # Table 9 has two rates, and its row Constant two readings
    twice = {1: 1, 9: 2}.get(number, 1)
    for line in lines:
        repeats = (
            2
            if line.get("setting") == "Constant"
            else 2
            if number in (3, 5) and line["method"] in DENSE
            else 1
        )
        assert len(cells_of(table, line)) == twice * repeats, line
    found = entries(table, tmp_path)
    with_numbers = [
        (cell, entry) for key, entry in found.items() for cell in [table.cells[key]] if entry.paper
    ]
    for cell, entry in with_numbers:
        spread = entry.paper["accuracy_std"]
        mark = "†" if cell.quoted else ""
        assert papers(entry, ACCURACY) == entry.paper["accuracy_mean"] + (
            f" ± {spread}" if spread else mark
        )
    without = {cell.network for key, cell in table.cells.items() if not found[key].paper}
    # in these tables, the paper does not name the net
    assert without == ({"VGGNet-19"} if number in (7, 8, 9) else set())


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_an_entry_runs_method_rate_net_and_epochs_of_its_line(
    number: int, tables: dict[int, Suite]
) -> None:
    for line in paper(number):
        for cell in cells_of(tables[number], line):
            ((job,),) = cell.candidates
            run = job.run
            assert run.dataset.name == DATA[line["dataset"]]
            assert cell.network == line["architecture"]
            if line["method"] in DENSE:
                assert run.method in ("dense", "sr_popup") and run.density in (None, 1.0)
                continue
            assert run.method == METHODS[line["method"]]
            assert run.density == pytest.approx(1 - float(line["sparsity"]), abs=1e-12)
            epochs = sum(
                run.stage(name).recipe.epochs for name in run.epoch_column if run.stage(name).recipe
            )
            # the paper does not count the levels of LT
            assert epochs == int(line["epochs"]) or line["method"] == "LT"
            assert {run.stage(name).kind for name in run.epoch_column} == {line["epoch_kind"]}


@pytest.mark.parametrize("number", NUMBERS)
def test_no_method_prunes_the_classifier(number: int, tables: dict[int, Suite]) -> None:
    pruned = [
        stage
        for job in tables[number].jobs
        for stage in job.run.stages
        if stage.kind in ("prune", "search")
    ]
    assert pruned and {stage.component.classifier for stage in pruned} == {"dense"}


def test_all_searches_of_a_net_and_seed_start_from_one_pretrained_net() -> None:
    found = [
        expand_one_seed(f"jackpots_table{n:02d}@digits", models=["resnet32_w32a"])
        for n in (1, 6, 7, 8, 9)
    ]
    searches = [
        job
        for table in found
        for job in table.jobs
        if any(stage.kind == "search" for stage in job.run.stages)
    ]
    assert len(searches) > 15 and len({job.keys["dense"] for job in searches}) == 1
    dense = found[0].cells["ResNet-32, ResNet-32", "dense"].jobs
    assert dense[0].keys["dense"] == searches[0].keys["dense"]  # the dense row is the same net


def test_columns_of_the_ablations_set_the_options_of_their_labels(tables: dict[int, Suite]) -> None:
    def search_of(number: int, column: str) -> Any:
        (cell,) = (
            cell
            for (row, at), cell in tables[number].cells.items()
            if at == column and cell.network == "ResNet-32" and "95%" not in row
        )
        return cell.jobs[0].run.stage("search").component

    ours = search_of(7, "SR")
    assert isinstance(ours, SrPopup) and ours == search_of(8, "Ours") == search_of(9, "Ours")
    assert (ours.init.criterion, ours.quota, ours.pairs) == ("magnitude", "falling", "largest")
    assert (search_of(7, "w/o M").init.criterion, search_of(7, "w/o M").quota) == (
        "uniform",
        "falling",
    )
    assert search_of(7, "w/o S") == search_of(9, "Constant (all)")
    assert search_of(7, "w/o S").quota == "all"
    assert (search_of(8, "Inverse").pairs, search_of(8, "Random").pairs) == ("smallest", "random")
    assert (search_of(9, "Constant (one)").quota, search_of(9, "Inverse").quota) == (
        "one",
        "rising",
    )


def test_searches_take_the_epochs_of_their_labels(tables: dict[int, Suite]) -> None:
    rows = {
        row.rpartition(", ")[2]: cell.jobs[0].run.stage("search").recipe
        for (row, _), cell in tables[6].cells.items()
    }
    assert {label: recipe.epochs for label, recipe in rows.items() if recipe} == {
        n: int(n) for n in ("0", "10", "30", "60", "100", "300", "1000")
    }


def test_a_page_agrees_with_one_worked_by_hand(tmp_path: Path) -> None:
    table = expand_one_seed(
        "jackpots_table01@digits", "train.scale=0.0821", models=["resnet32_w32a"], seeds=["0", "1"]
    )
    jackpots = table.cells["ResNet-32, Jackpot (Ours), 10", "0.1"].jobs
    rival = table.cells["ResNet-32, SET", "0.1"].jobs
    counted = {"epochs": 10, "epochs_total": 170, "epoch_kind": "search"}
    # mean 94.5, deviation 1 / sqrt(2)
    write(tmp_path, record(jackpots[0], 94.0, **counted), record(jackpots[1], 95.0, **counted))
    write(tmp_path, *(record(job, 90.0, epochs=160, epochs_total=160) for job in rival))
    text = unmarked(write_table(table, tmp_path))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "Pruning Rate 90% 95% Epoch Pre-training" in lines
    assert (
        "Jackpot (Ours) 94.50 ± 0.71 [94.03 ± 0.12] – [92.54 ± 0.11] 10 (S) [10 (S)] 160" in lines
    )
    assert "SET 90.00 ± 0.00 [92.30†] – [90.76†] 160 (T) [160 (T)] 0" in lines
    assert "ResNet-32 – [94.62] – – [–] –" in lines  # only below the first rate, as in the paper
    assert any(line.startswith("†: quoted by the paper from") for line in lines)
    assert "92.30$\\dagger$" in (tmp_path / "tables" / "jackpots_table01@digits.tex").read_text()
    cells = list(csv.DictReader((tmp_path / "tables" / "jackpots_table01@digits.csv").open()))
    assert {
        c["epochs_before"] for c in cells if c["run_id"] in {job.run_id for job in jackpots}
    } == {"160"}


def test_top_5_accuracy_and_overlap_are_printed_beside_those_of_the_paper(tmp_path: Path) -> None:
    third = expand_one_seed("jackpots_table03@digits", "train.scale=0.0821")
    sixth = expand_one_seed("jackpots_table06@digits", "train.scale=0.0821")
    (thirty,) = third.cells["90%, Jackpot (Ours), 30", "0.1"].jobs
    (ten,) = sixth.cells["ResNet-32, 10", "0.1"].jobs
    write(
        tmp_path,
        record(thirty, 70.0, accuracy_top5=90.59, epochs=30, epochs_total=190, epoch_kind="search"),
    )
    write(tmp_path, record(ten, 94.03, report={"overlap_magnitude": 0.96789}))
    assert "Jackpot (Ours) 70.00 [72.61] 90.59 [91.09] 30 (S) [30 (S)] 160" in " ".join(
        unmarked(write_table(third, tmp_path)).split()
    )
    # 10 epochs x 0.0821
    assert "1 [10] 94.03 [94.03 ± 0.01] 96.8% [96.8%]" in " ".join(
        unmarked(write_table(sixth, tmp_path)).split()
    )


def test_numbers_of_the_ablations_are_beside_the_net_that_they_fit(tmp_path: Path) -> None:
    lines = [
        " ".join(line.split())
        for line in unmarked(
            write_table(expand_one_seed("jackpots_table07@digits", "train.scale=0.0821"), tmp_path)
        ).splitlines()
    ]
    assert "Top-1 acc., ResNet-32 – [94.01 ± 0.11] – [93.69 ± 0.07] – [94.30 ± 0.07]" in lines
    assert "Top-1 acc., Small VGG-11 – [–] – [–] – [–]" in lines
    assert lines[0].startswith("Table 7: Ablation study")
    assert "Small VGG-11 (vgg11_small) in place of VGGNet-19" in lines[0]
    assert "padded to 32x32 for Small VGG-11" in lines[0]

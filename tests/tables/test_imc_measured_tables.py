"""Tables 5, 14, 15 and 16 of the IMC paper: their runs, and their output for given records."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL
from rich.console import Console
from support import COMPOSER, compose_run, machine, perform_run
from table_support import expanded, paper, plan_of, record, unmarked, write

from runner.commands.plan import show_plan
from runner.commands.reproduce import reproduce
from runner.errors import ConfigError
from runner.spec.lr_schedule import Constant
from runner.suites.expand import Suite, expand, expand_spec
from runner.suites.numbers import power, shown
from runner.suites.read_setting import read_settings
from runner.suites.schema_tables import SettingRow, SettingsTable
from runner.suites.spec import read_spec
from runner.tables.render import write_table

SCALE = "train.scale=0.0123"  # no published records have this scale
EPOCHS = (5, 10, 20, 25, 30)


def small(name: str, *overrides: str, seeds: tuple[str, ...] = ("0", "1")) -> Suite:
    return expand(f"{name}@digits", {"seeds": list(seeds)}, [SCALE, *overrides], COMPOSER)


def cells_of(table: Suite, results: Path) -> dict[str, list[str]]:
    """The entries of each row of the Markdown form."""
    write_table(table, results)
    lines = unmarked((results / "tables" / f"{table.name}.md").read_text()).splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in lines
        if line.startswith("|")
    ]
    return {row[0]: row[1:] for row in rows}


def file(table: Suite, results: Path, ending: str) -> str:
    return unmarked((results / "tables" / f"{table.name}.{ending}").read_text())


# --- Table 5


def test_table_5_trains_w_star_for_its_epochs_and_rewinds_to_the_tenth_or_last() -> None:
    table = expanded(5, seeds=["0"])
    # densities of the IMC rows of ResNet-20 in Tables 1, 3 and 6
    densities = {"cifar10": 0.53, "tiny_imagenet": 0.67, "cifar100": 0.82}
    for (row, column), cell in table.cells.items():
        (job,) = cell.jobs
        wstar, retraining = job.run.stage("wstar"), job.run.stage("train")
        assert wstar.recipe and retraining.recipe
        assert (wstar.recipe.epochs, wstar.recipe.lr_schedule) == (int(column), Constant())
        assert job.run.density == densities[job.run.dataset.name]
        assert job.run.model.name == "resnet20_w32"
        if row.startswith("IMC-Rewinding"):
            # None is the end of the stage
            assert retraining.start.stage == "wstar"
            assert retraining.start.epoch == (None if int(column) <= 10 else 10)
        if row.startswith("IMC-FineTuning"):
            assert retraining.start.resume and retraining.recipe.trained_epochs == 160 - int(column)
    assert [row for row, _ in table.cells][::5] == [
        f"{m} on {d}" for d in ("CIFAR-10", "Tiny-ImageNet", "CIFAR-100") for m in IMC
    ]


IMC = ("IMC-Reinitialization", "IMC-Rewinding", "IMC-FineTuning")


def test_planned_epochs_of_table_5_agree_with_a_hand_count(tmp_path: Path) -> None:
    wstar = sum(EPOCHS)  # 90, which the three rows of a data set share
    needed = 3 * (wstar + 5 * 160 + 5 * 160 + (5 * 160 - wstar))
    requested = 3 * (3 * wstar + 5 * 160 + 5 * 160 + (5 * 160 - wstar))
    text = plan_of(expanded(5, seeds=["0"]), tmp_path)
    assert (requested, needed) == (7740, 7200)
    assert "runs: 45;" in text and f"epochs: asked {requested}, needed {needed}\n" in text
    # each data set has a third of the epochs
    assert f"images: {needed // 3 * (50_000 + 100_000 + 50_000):,} to train on" in text


def test_table_5_prints_two_decimals_in_the_cells_of_the_paper(tmp_path: Path) -> None:
    table = small("imc_table05", "train.scale=0.19")  # a scale at which the five columns differ
    first, second = table.cells["IMC-Rewinding on digits", "25"].jobs
    write(tmp_path, record(first, 94.0), record(second, 95.0))
    (single,) = table.cells["IMC-FineTuning on digits", "5"].jobs[:1]
    write(tmp_path, record(single, 90.25))
    text = write_table(table, tmp_path).splitlines()
    assert (
        text[0]
        == "Table 5: Accuracy with varying training epochs (here on digits; width-16 nets; every"
        " duration x 0.19)"
    )
    assert text[2].split() == ["Neural", "Network", "Accuracy"]
    assert text[3].split() == [
        "Training",
        "epochs",
        *[
            "1",
            "[5]",
            "2",
            "[10]",
            "4",
            "[20]",
            "5",
            "[25]",
            "6",
            "[30]",
        ],  # what ran, and the paper's
    ]
    rows = cells_of(table, tmp_path)
    # sqrt(2 x 0.5^2); the paper's column 4 is 94.69
    assert rows["IMC-Rewinding on digits"][3] == "94.50 ± 0.71 [94.69]"
    assert rows["IMC-FineTuning on digits"] == [
        "90.25 (n=1 of 2) [94.52]",
        "– [94.56]",
        "– [94.54]",
        "– [94.96]",
        "– [94.51]",
    ]
    assert "The paper's numbers are those for CIFAR-10." in file(table, tmp_path, "txt")


def test_every_number_of_table_5_is_beside_the_corresponding_entry(tmp_path: Path) -> None:
    rows = cells_of(expanded(5, seeds=["0"]), tmp_path)
    for line in paper(5):
        dataset = {"ImageNet": "Tiny-ImageNet"}.get(line["dataset"], line["dataset"])
        column = EPOCHS.index(int(line["original_epochs"]))
        assert column == int(line["column"]) - 1
        assert rows[f"{line['method']} on {dataset}"][column] == f"– [{line['accuracy_mean']}]"


# --- Tables 14 and 15


def test_table_14_shares_w_star_and_its_constant_with_table_1() -> None:
    # the constant with as many images and directions as the portrait takes
    same = ["method.hessian.n_samples=512", "method.lipschitz.directions=8"]
    lipschitz = expanded(14, seeds=["0"])
    first = expand("imc_table01", {"models": ["resnet20"], "seeds": ["0"]}, same, COMPOSER)
    (job,) = lipschitz.cells["CIFAR-10", "2"].jobs
    (imc,) = first.cells["IMC-Rewinding", "ResNet-20"].jobs
    assert list(job.keys) == ["wstar", "lipschitz", "artefact"]
    # both tables share these stages
    assert (job.keys["wstar"], job.keys["lipschitz"]) == (imc.keys["wstar"], imc.keys["lipschitz"])
    other = lipschitz.cells["CIFAR-10", "5"].jobs[0]
    assert other.keys["wstar"] == job.keys["wstar"]
    assert other.keys["lipschitz"] != job.keys["lipschitz"]


@pytest.mark.parametrize(
    ("number", "option", "values"),
    [(14, "p", (2, 5, 10)), (15, "delta", (0.01, 0.05, 0.1, 0.5, 1))],
)
def test_tables_14_and_15_use_p_and_delta_of_the_paper_and_train_w_star_once(
    number: int, option: str, values: tuple[float, ...], tmp_path: Path
) -> None:
    table = expanded(number, seeds=["0"])
    assert list(table.cells) == [
        (row, f"{value:g}")
        for row in ("CIFAR-10", "Tiny-ImageNet", "CIFAR-100")
        for value in values
    ]
    for (_, column), cell in table.cells.items():
        estimate, artefact = (
            cell.jobs[0].run.stage(name).component for name in ("lipschitz", "artefact")
        )
        expected = {"p": 2.0, "delta": 0.01, option: float(column)}
        assert (estimate.p, estimate.delta, estimate.estimator, estimate.dtype) == (
            expected["p"],
            expected["delta"],
            "eq23",
            "float64",
        )
        same = artefact.measure
        assert (same.p, same.delta, same.estimator, same.dtype) == (
            expected["p"],
            expected["delta"],
            "eq23_no_root",
            "float32",
        )
    text = plan_of(table, tmp_path)
    # ten epochs per data set
    assert f"runs: {3 * len(values)};" in text
    assert f"epochs: asked {30 * len(values)}, needed 30\n" in text
    # two measurements with two gradients per direction (eight) and one at the centre, on 512 images
    gradients = 3 * len(values) * 2 * (2 * 8 + 1) * 512
    assert f"images: {10 * 200_000:,} to train on, {gradients:,} to measure on" in text
    assert "not counted: evaluation\n" in text


def report_with(k: float | None, spread: float | None, artefact: float | None) -> dict[str, Any]:
    """A report whose spread is 2 x box x lipschitz_sd."""
    return {
        "lipschitz": k,
        "box": 0.25,
        "lipschitz_sd": None if spread is None else 2 * spread,
        "artefact_lipschitz": artefact,
    }


def test_an_entry_of_table_14_has_estimate_spread_artefact_and_number_of_the_paper(
    tmp_path: Path,
) -> None:
    table = small("imc_table14")
    first, second = table.cells["digits", "2"].jobs
    write(
        tmp_path,
        record(first, 50.0, report=report_with(592.0, 31.0, 7e5)),
        record(second, 50.0, report=report_with(694.0, 33.0, 9e5)),
    )
    text = unmarked(write_table(table, tmp_path))
    # means: (592 + 694) / 2, (31 + 33) / 2, (7 + 9) / 2
    assert "643 ± 32.0 | 8.00 × 10^5 [6.17 × 10^-12]" in text
    assert "– [< 1 × 10^-38]" in text
    assert (
        "± standard deviation over them | the same without the p-th root, in float32 [the paper's],"
        " means over n=2 seeds." in text
    )
    assert text.splitlines()[0].startswith(
        "Table 14: Estimated Lipschitz constant of F(U) with PyHessian (∆ = 0.01) (here on digits"
    )
    assert text.splitlines()[2].split() == ["p", "2", "5", "10"]
    lines = [
        line
        for line in csv.DictReader(io.StringIO(file(table, tmp_path, "csv")))
        if line["column"] == "2"
    ]
    assert [(line["lipschitz"], line["lipschitz_spread"], line["artefact"]) for line in lines] == [
        ("592.0", "31.0", "700000.0"),
        ("694.0", "33.0", "900000.0"),
    ]
    assert {(line["paper_relation"], line["paper_lipschitz_constant"]) for line in lines} == {
        ("=", "6.17e-12")
    }


@pytest.mark.parametrize(
    ("report", "printed"),
    [
        (report_with(0.0, 0.0, 0.0), "0 ± 0 | 0 [< 1 × 10^-38]"),  # zero, where float32 underflows
        # records contain null for infinity and NaN
        (
            report_with(1.5e-12, 2e-14, None),
            "1.50 × 10^-12 ± 2.00 × 10^-14 | not finite [< 1 × 10^-38]",
        ),
        (report_with(None, None, None), "not finite ± none | not finite [< 1 × 10^-38]"),
        # a single direction has no spread
        (report_with(12.0, None, 1e38), "12.0 ± none | 1.00 × 10^38 [< 1 × 10^-38]"),
        ({}, "not finite ± none | not finite [< 1 × 10^-38]"),
    ],
)
def test_zero_and_non_finite_numbers_have_texts_of_their_own(
    report: dict[str, Any], printed: str, tmp_path: Path
) -> None:
    table = small("imc_table14", seeds=("0",))
    (job,) = table.cells["digits", "10"].jobs
    write(tmp_path, record(job, 50.0, report=report))
    assert printed in unmarked(write_table(table, tmp_path))


def test_an_entry_whose_constant_has_not_converged_is_marked(tmp_path: Path) -> None:
    table = small("imc_table15")
    one, other = table.cells["digits", "1"].jobs
    checked = report_with(2.0, 0.5, 1.0)
    write(
        tmp_path,
        record(one, 50.0, report={**checked, "lipschitz_converged": 0}),
        record(other, 50.0, report={**checked, "lipschitz_converged": 1}),
    )
    assert "2.00‡ ± 0.500 | 1.00 [5.93 × 10^-24]" in unmarked(write_table(table, tmp_path))
    tex = file(table, tmp_path, "tex")
    assert "2.00$\\ddagger$ $\\pm$ 0.500" in tex and "not converged in at least one run" in tex
    converged = {**checked, "lipschitz_converged": 1}
    write(tmp_path, record(one, 50.0, report=converged))
    assert "‡" not in write_table(table, tmp_path)


def test_missing_seeds_are_marked_and_missing_entries_are_dashes(tmp_path: Path) -> None:
    table = small("imc_table15")
    write(
        tmp_path,
        record(table.cells["digits", "1"].jobs[1], 50.0, report=report_with(2.0, 0.5, 0.001)),
    )
    text = unmarked(write_table(table, tmp_path))
    assert "2.00 ± 0.500 | 1.00 × 10^-3 (n=1 of 2) [5.93 × 10^-24]" in text
    assert "– [1.39 × 10^-22]" in text
    assert "9 runs are not done: make reproduce TABLE=imc_table15@digits" in text


def test_powers_of_ten_are_formatted_for_latex_and_html(tmp_path: Path) -> None:
    table = small("imc_table15", seeds=("0",))
    write(
        tmp_path,
        record(table.cells["digits", "0.01"].jobs[0], 50.0, report=report_with(1.5e-12, 2.0, 3e8)),
    )
    write_table(table, tmp_path)
    tex, page = file(table, tmp_path, "tex"), file(table, tmp_path, "html")
    assert (
        "1.50 $\\times$ 10$^{-12}$ $\\pm$ 2.00 $|$ 3.00 $\\times$ 10$^{8}$ [6.17 $\\times$"
        " 10$^{-12}$]" in tex
    )
    assert "$\\Delta$ & 0.01 & 0.05" in tex
    assert tex.isascii()
    inside = tex[tex.index("\\toprule") :]
    assert not set("^<|>") & set(re.sub(r"\$[^$]*\$", "", inside))
    text = re.sub("<[^>]*>", "", page)
    assert "1.50 × 10^-12 ± 2.00 | 3.00 × 10^8 [6.17 × 10^-12" in text
    write_table(expanded(14, seeds=["0"]), tmp_path)
    assert "[$<$ 1 $\\times$ 10$^{-38}$]" in (tmp_path / "tables" / "imc_table14.tex").read_text()
    assert "[&lt; 1 × 10^-38]" in (tmp_path / "tables" / "imc_table14.html").read_text()


@pytest.mark.parametrize("number", [14, 15])
def test_the_numbers_of_the_paper_are_in_their_rows_and_its_wrong_label_is_corrected(
    number: int, tmp_path: Path
) -> None:
    table = expanded(number, seeds=["0"])
    text = write_table(table, tmp_path)
    rows = cells_of(table, tmp_path)
    assert [row for row in rows if row[0] in "CT"] == ["CIFAR-10", "Tiny-ImageNet", "CIFAR-100"]
    for line in paper(number):
        row = ("CIFAR-10", "Tiny-ImageNet", "CIFAR-100")[int(line["row"]) - 1]
        column = [column for name, column in table.cells if name == row].index(
            line["p" if number == 14 else "delta"]
        )
        digits, _, exponent = line["lipschitz_constant"].partition("e-")
        number_printed = f"{digits} × 10^-{int(exponent)}"
        assert (
            rows[row][column]
            == ("– [< " if line["relation"] == "<" else "– [") + number_printed + "]"
        )
    assert ("labelled CIFAR-100, as is the third" in text) == (number == 15)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (6.17e-12, "6.17 × 10^-12"),
        (1, "1.00"),
        (0.0123, "0.0123"),
        (0.00999, "9.99 × 10^-3"),
        (999.0, "999"),
        (999.6, "1.00 × 10^3"),
        (0, "0"),
        (-85.1, "-85.1"),
    ],
)
def test_numbers_are_printed_with_three_digits(value: float, text: str) -> None:
    assert shown(value) == text


def test_the_digits_of_the_paper_are_unchanged() -> None:
    assert [power(text) for text in ("6.17e-12", "1e-38", "1.50e-1", "2e0", "0e-5")] == [
        "6.17 × 10^-12",
        "1 × 10^-38",
        "1.50 × 10^-1",
        "2",
        "0",
    ]


def test_a_real_run_has_all_findings_that_the_tables_print(tmp_path: Path) -> None:
    overrides = [
        "method=wstar",
        "portrait=lipschitz",
        "portrait.directions=2",
        "portrait.hessian.n_samples=64",
    ]
    finished, artefacts = perform_run(compose_run(*overrides, *SMALL), machine(tmp_path))
    report = finished["report"]
    move = max(
        float((artefacts["wstar"].weights[name] - start).abs().max())
        for name, start in initial_weights(artefacts, tmp_path).items()
    )
    assert report["box"] == pytest.approx(move, rel=1e-6)
    assert report["lipschitz"] == pytest.approx(2 * move * report["lipschitz_n"], rel=1e-6)
    assert report["artefact_lipschitz"] > 0
    assert report["lipschitz_sd"] >= 0
    assert finished["epochs_total"] == 1
    assert finished["kept"] == finished["prunable"] and finished["accuracy"] is not None


def initial_weights(artefacts: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The initial weights of the parameters that have masks."""
    from runner.display.progress import Watcher, display
    from runner.engine.context import RunContext
    from runner.engine.store import Store

    run, where = compose_run("method=wstar", *SMALL), machine(folder)
    context = RunContext(
        run, where, Store(where.cache_dir), Watcher(folder / "run", display("none", Console()), {})
    )
    model = context.fresh_model()
    return {
        name: model.get_parameter(name).detach()
        for name in artefacts["wstar"].masks or dict(model.named_parameters())
        if name.endswith("weight")
    }


# --- Table 16


def test_table_16_prints_the_values_of_the_configuration_and_of_the_paper(tmp_path: Path) -> None:
    table = expanded(16)
    rows, lines = cells_of(table, tmp_path), paper(16)
    assert not table.jobs
    names = [row for row, _ in table.cells]
    images = "Images for the approximate Hessian Matrix (not stated)"
    assert names == [
        *(line["parameter"] for line in lines[:7]),
        images,
        *(line["parameter"] for line in lines[7:]),
    ]
    assert rows[images] == ["128 [–]"]  # the paper has no value that ours could differ from
    for line in lines:  # values that agree with the paper have no mark
        assert rows[line["parameter"]] == [f"{line['value']} [{line['value']}]"]
    text = write_table(table, tmp_path).splitlines()
    assert text[0] == "Table 16: Hyperparameter Settings"
    assert text[2].split() == [
        "Parameter",
        "Value",
    ]
    starts = [i for i, line in enumerate(text) if line.startswith("---")]
    # between rules: three groups of two, and one of two with ours
    assert [b - a for a, b in zip(starts, starts[1:], strict=False)] == [3, 3, 3, 4]
    assert file(table, tmp_path, "tex").count("\\midrule") == 5
    assert "$\\Delta$" in file(table, tmp_path, "tex")
    report_with = {
        line["row"]: (line["value"], line["paper_value"])
        for line in csv.DictReader(io.StringIO(file(table, tmp_path, "csv")))
    }
    assert report_with == {images: ("128", "")} | {
        line["parameter"]: (line["value"], line["value"]) for line in lines
    }


def test_values_that_differ_from_the_paper_are_marked(tmp_path: Path) -> None:
    overrides = [
        "method.lipschitz.p=5",
        "train.epochs=30",
        "train_fraction=0.5",
        "retrain.rewind=5ep",
        "train.lr=0.05",
    ]
    table = expand("imc_table16", {}, overrides, COMPOSER)
    rows = cells_of(table, tmp_path)
    marked = {row: cells[0] for row, cells in rows.items() if cells and cells[0].endswith("≠")}
    assert list(marked.values()) == [
        "5 [2] ≠",
        "25K/10K [50K/10K] ≠",
        "50K/10K [100K/10K] ≠",
        "5 [10] ≠",
        "0.05 [0.1] ≠",
        "30 [160] ≠",
    ]
    with pytest.raises(
        ConfigError, match=r"method.snip=1: no method of imc_table16 has this option"
    ):
        expand("imc_table16", {}, ["method.snip=1"], COMPOSER)


def test_used_images_are_counted_and_different_values_are_all_printed() -> None:
    overrides = ["method=dense", "dataset=digits"]
    assert read_settings(["images"], overrides, COMPOSER) == {"images": "1,437/360"}
    # 1,437 - round(143.7)
    held_out = [*overrides, "dataset.validation=0.1"]
    assert read_settings(["images"], held_out, COMPOSER) == {"images": "1,293/360"}
    with pytest.raises(ConfigError, match="train.epoch, which the table prints, is not a key"):
        read_settings(["train.epoch"], overrides, COMPOSER)
    row = SettingRow(
        label="images",
        reads="images",
        under=(("dataset=cifar10",), ("dataset=fashion_mnist",), ("dataset=cifar100",)),
    )
    spec = read_spec("imc_table16")
    assert isinstance(spec, SettingsTable)
    table = expand_spec(replace(spec, groups=((row,),)), "imc_table16", {}, [], COMPOSER)
    # equal values are printed once
    assert table.cells["images", "Value"].value == "50K/10K, 60K/10K"


def test_plan_and_reproduce_report_that_table_16_requires_no_runs(
    dirs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in (show_plan, reproduce):
        out = io.StringIO()
        assert verb(["imc_table16", *dirs], Console(file=out, width=300)) == 0
        assert (
            "imc_table16 needs no runs: its entries are read from the configuration (make tables"
            " TABLE=imc_table16)\n" in out.getvalue()
        )
    # reproduce prints the table
    assert "Batch size for training the neural networks" in capsys.readouterr().out
    assert (tmp_path / "results" / "tables" / "imc_table16.md").is_file()
    out = io.StringIO()
    show_plan(["imc_table14@digits", *dirs], Console(file=out, width=300))
    assert "needs no runs" not in out.getvalue()


@pytest.mark.parametrize("number", [5, 14, 15, 16])
def test_the_tables_have_two_readings_of_imagenet(number: int) -> None:
    with pytest.raises(
        ConfigError, match="table.imagenet=full is not a choice: tiny_imagenet, imagenet_subset"
    ):
        expanded(number, table__imagenet=["full"])


def test_small_variants_have_one_data_set(tmp_path: Path) -> None:
    for number, rows in ((5, 3), (14, 1), (15, 1)):
        for variant, name in (("digits", "digits"), ("fashion_mnist", "Fashion-MNIST")):
            table = expanded(number, f"@{variant}", seeds=["0"])
            assert {job.run.dataset.name for job in table.jobs} == {variant}
            assert {job.run.model.name for job in table.jobs} == {"resnet20"}
            assert {job.run.train_fraction for job in table.jobs} == {
                1.0 if variant == "digits" else 0.1
            }
            assert len(table.rows) == rows and all(row.endswith(name) for row in table.rows)
    wstar = [job.run.stage("wstar").recipe for job in expanded(5, "@digits", seeds=["0"]).jobs]
    # 5, 10, 20, 25 and 30 epochs of 160, scaled to 30
    assert {recipe.epochs for recipe in wstar if recipe} == {1, 2, 4, 5, 6}

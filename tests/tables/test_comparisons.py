"""Comparative claims of tables agree with pairs, intervals and verdicts worked by hand."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import ttest_ind
from support import COMPOSER
from table_support import record, write

from runner.errors import ConfigError
from runner.paths import CONF
from runner.suites.expand import Suite, expand
from runner.suites.layouts import lay_out
from runner.suites.merge import on_variant
from runner.suites.options import choose_options
from runner.suites.rules import applies
from runner.suites.schema import TableSpec
from runner.suites.spec import merged, parse, read_spec, table_names
from runner.suites.verdicts import footer
from runner.tables.claims import compared
from runner.tables.entries import entries
from runner.tables.render import write_table

SMALL = ["train.scale=0.0125"]


def table(name: str, *models: str) -> Suite:
    return expand(
        name,
        {"seeds": ["0", "1", "2"]} | ({"models": list(models)} if models else {}),
        SMALL,
        COMPOSER,
    )


def verdict_rows(
    suite: Suite, results: Path, accuracies: dict[tuple[str, str], list[float]]
) -> list[tuple[str, ...]]:
    """Write records of the given entries, one per seed, and return the verdicts of the table."""
    for key, values in accuracies.items():
        write(
            results,
            *(
                record(job, value)
                for job, value in zip(suite.cells[key].jobs, values, strict=False)
            ),
        )
    return [verdict.row for verdict in compared(suite, entries(suite, results))]


@pytest.mark.parametrize(
    ("snip", "text", "interval", "p", "verdict"),
    [
        # differences 1, 2, 1: 4/3 -+ 4.303 sqrt(1/3) / sqrt(3); of two-sided p 0.057
        ([91.0, 92.0, 93.0], "+1.33 points, 3 seeds", "[-0.10, +2.77]", "0.06", "open"),
        # 1, 1.1, 0.9: less than the spread of rounding, 1 -+ 4.303 (100 / 360) sqrt(1/6) / sqrt(3)
        ([91.0, 91.1, 92.9], "+1.00 points, 3 seeds", "[+0.72, +1.28]", "0.0043", "holds"),
        ([89.0, 88.9, 91.1], "-1.00 points, 3 seeds", "[-1.28, -0.72]", "0.0043", "does not hold"),
        # 1, 2: 1.5 -+ 12.706 x sqrt(1/2) / sqrt(2)
        ([91.0, 92.0], "+1.50 points, 2 seeds", "[-4.85, +7.85]", "0.20", "open"),
        # equal differences have the spread of rounding, too
        ([91.1, 91.1, 93.1], "+1.10 points, 3 seeds", "[+0.82, +1.38]", "0.0035", "holds"),
        # a mean of -0.0003 is printed without a minus sign
        ([90.1, 89.9, 91.999], "+0.00 points, 3 seeds", "[-0.28, +0.28]", "1.00", "open"),
        ([91.0], "+1.00 points, 1 seed", "–", "–", "open"),  # a single seed has no interval
        ([], "–", "–", "–", "not run"),
    ],
)
def test_two_rows_are_compared_in_pairs_of_seeds(
    snip: list[float], text: str, interval: str, p: str, verdict: str, tmp_path: Path
) -> None:
    accuracies = {("SNIP", "ResNet-20"): snip, ("sanity-check", "ResNet-20"): [90.0, 90.0, 92.0]}
    rows = verdict_rows(table("imc_table01@digits", "resnet20"), tmp_path, accuracies)
    assert (*rows[-1][:4], rows[-1][-1]) == (
        "random places in each layer lose to scores: SNIP - sanity-check",
        text,
        interval,
        p,
        verdict,
    )
    assert {row[-1] for row in rows[:-1]} == {"not run"}


def test_nets_have_separate_verdicts_and_densities_a_common_one(tmp_path: Path) -> None:
    rows = verdict_rows(
        table("imc_table01@digits"),
        tmp_path / "nets",
        {
            (row, f"ResNet-{depth}"): values
            for row, values in (("SNIP", [91.0, 92.0]), ("sanity-check", [90.0, 90.0]))
            for depth in (20, 32)
        },
    )
    assert [row[0] for row in rows[-2:]] == [
        f"random places in each layer lose to scores: ResNet-{depth}, SNIP - sanity-check"
        for depth in (20, 32)
    ]
    assert {row[1] for row in rows[-2:]} == {"+1.50 points, 2 seeds"}
    sketching = table("sketching_table04@digits", "resnet20")
    ours, theirs = "digits SNIP + sparse data + rand. mask", "digits SNIP (supervised)"
    (row,) = verdict_rows(
        sketching,
        tmp_path / "densities",
        {
            (name, f"ResNet-20 {density} %"): [accuracy]
            for density, pair in ((10, (92.0, 91.0)), (2, (90.0, 88.0)))
            for name, accuracy in zip((ours, theirs), pair, strict=True)
        },
    )
    # the densities of a seed are no sample
    text = "+1.50 points, 1 seed (1 of 3 densities left out, no pair)"
    assert (row[1], row[2], row[-1]) == (text, "–", "open")


def test_one_seed_with_saved_predictions_has_an_interval_over_test_images(tmp_path: Path) -> None:
    suite = table("imc_table01@digits", "resnet20")
    accuracies = {("SNIP", "ResNet-20"): [95.0], ("sanity-check", "ResNet-20"): [92.5]}
    assert verdict_rows(suite, tmp_path, accuracies)[-1][2] == "–"
    # of 360 images, 18 and 27 are wrong; 12 and 21 of them with one network alone
    wrong = {"SNIP": range(18), "sanity-check": range(12, 39)}
    for row, hard in wrong.items():
        folder = tmp_path / "runs" / suite.cells[row, "ResNet-20"].jobs[0].run_id
        guesses = [1 if image in hard else 0 for image in range(360)]
        series = {"test_labels": [0] * 360, "test_predictions": guesses}
        (folder / "series.json").write_text(json.dumps(series))
    found = compared(suite, entries(suite, tmp_path))
    # 22 and 13 of 362 with one image added for each side: 9/362 -+ 1.96 sqrt(35 - 81/362) / 362,
    # to one image
    low, high = (float(text) for text in found[-1].row[2].split(" over")[0][1:-1].split(","))
    assert (low, high) == pytest.approx((100 * -2.562 / 362, 100 * 20.56 / 362), abs=100 / 362)
    assert found[-1].row[2].endswith("] over test images")
    assert (found[-1].row[1], found[-1].row[-1]) == ("+2.50 points, 1 seed", "open")
    assert "An interval over test images is that of one seed" in footer(found)
    best = replace(suite, options={**suite.options, "metric": "accuracy_best"})
    assert compared(best, entries(best, tmp_path))[-1].row[2] == "–"  # of the last epoch only


def test_columns_are_compared_and_the_page_contains_the_verdicts(tmp_path: Path) -> None:
    suite = table("jackpots_table07@digits", "resnet32_w32a")
    rows = verdict_rows(
        suite,
        tmp_path,
        {("Top-1 acc.", "SR"): [95.0, 95.0, 95.0], ("Top-1 acc.", "w/o S"): [94.0, 93.9, 94.1]},
    )
    # the paper's 94.30 ± 0.07 against 94.01 ± 0.11 and 93.69 ± 0.07
    assert rows == [
        ("both parts help: SR - w/o M", "–", "–", "–", "–", "+0.29: 4", "not run"),
        (
            "both parts help: SR - w/o S",
            "+1.00 points, 3 seeds",
            "[+0.72, +1.28]",
            "0.0043",
            "0.37 points",
            "+0.61: 3",
            "holds",
        ),
    ]
    output = write_table(suite, tmp_path)
    assert "+1.00 points, 3" in output and "not that of the test images" in output
    assert {path.name for path in (tmp_path / "tables").glob("*.claims.*")} == {
        f"{suite.name}.claims.{ending}" for ending in ("txt", "md", "tex", "csv")
    }
    # this table has no claims
    assert "claims" not in write_table(table("imc_table05@digits", "resnet20"), tmp_path)


def test_a_claim_about_a_missing_entry_gives_an_error() -> None:
    plain = merged(CONF, "jackpots_table07") | {
        "claims": [{"claim": "both parts help", "entry": "SR", "above": "w/o T"}]
    }
    with pytest.raises(
        ConfigError,
        match=(
            "claims.0.above=w/o T is not a choice: Top-1 acc., w/o M, w/o S, SR; did you mean"
            " 'w/o M'"
        ),
    ):
        parse(plain, "jackpots_table07.yaml")


@pytest.mark.parametrize("name", table_names())
def test_every_claim_refers_to_entries_of_its_table(name: str) -> None:
    spec = read_spec(name)
    for variant in (None, *spec.variants):
        own, options = on_variant(spec, variant), choose_options(spec, variant, {})
        cells, _ = lay_out(own, options, own.networks)
        ids = {ref for cell in cells for ref in cell.ids.values()}
        assert isinstance(own, TableSpec)
        for claim in (claim for claim in own.claims if applies(claim.when, options)):
            assert {claim.entry, *claim.above.ids} <= ids


def test_pairs_with_a_diverged_run_are_left_out_and_counted(tmp_path: Path) -> None:
    suite = table("imc_table01@digits", "resnet20")
    lost = {"status": "diverged", "test_loss": None}
    for row, seed in (("SNIP", 2), ("sanity-check", 1)):
        write(tmp_path, record(suite.cells[row, "ResNet-20"].jobs[seed], None, **lost))
    other = suite.cells["sanity-check", "ResNet-20"].jobs[2]
    write(tmp_path, record(other, 92.0))
    accuracies = {("SNIP", "ResNet-20"): [91.0, 92.0], ("sanity-check", "ResNet-20"): [90.0]}
    rows = verdict_rows(suite, tmp_path, accuracies)
    # only seed 0 has two finite runs
    assert rows[-1][1:3] == ("+1.00 points, 1 seed (2 left out, diverged)", "–")
    for seed in range(3):
        write(tmp_path, record(suite.cells["SNIP", "ResNet-20"].jobs[seed], None, **lost))
    row = verdict_rows(suite, tmp_path, {})[-1]
    assert (row[1], row[-1]) == ("no pair, 3 left out, diverged", "open")


def test_a_seed_that_lacks_a_density_is_left_out(tmp_path: Path) -> None:
    suite = table("sketching_table04@digits", "resnet20")
    ours, theirs = "digits SNIP + sparse data + rand. mask", "digits SNIP (supervised)"
    (row,) = verdict_rows(
        suite,
        tmp_path,
        {
            (name, f"ResNet-20 {density} %"): accuracies
            for density, (one, two) in {
                10: ([92.0, 93.0, 94.0], [91.0, 91.0, 91.0]),
                2: ([90.0, 90.0], [88.0, 88.0]),
            }.items()
            for name, accuracies in ((ours, one), (theirs, two))
        },
    )
    # seeds 0 and 1: (1 + 2) / 2 and (2 + 2) / 2
    assert row[1] == (
        "+1.75 points, 2 seeds (1 left out, incomplete; 1 of 3 densities left out, no pair)"
    )


def test_runs_of_other_kinds_are_no_pairs_and_the_page_says_so(tmp_path: Path) -> None:
    suite = table("imc_table01@digits", "resnet20")
    ours, theirs = [91.0, 92.0, 93.0], [90.0, 90.0, 92.0]
    for job, accuracy in zip(suite.cells["sanity-check", "ResNet-20"].jobs, theirs, strict=True):
        made = record(job, accuracy)
        made["provenance"]["versions"] = {"torch": "2.15.0"}
        write(tmp_path, made)
    row = verdict_rows(suite, tmp_path, {("SNIP", "ResNet-20"): ours})[-1]
    expected = ttest_ind(ours, theirs, equal_var=False)
    low, high = expected.confidence_interval()
    assert row[1:4] == (
        "+1.33 points, 3 seeds, not paired",
        f"[{low:+.2f}, {high:+.2f}]",
        f"{expected.pvalue:.2f}",
    )
    page = write_table(suite, tmp_path)
    assert page.count("No pairs: in 3 of 3 cases") == 2  # of the best entry, and of the verdicts
    assert "of different kinds (PyTorch 2.15.0 | PyTorch not stated)" in page
    assert "Mixes PyTorch versions: 2.15.0; not stated." in page


def test_densities_that_one_entry_lacks_are_counted(tmp_path: Path) -> None:
    suite = table("sketching_table04@digits", "resnet20")
    ours, theirs = "digits SNIP + sparse data + rand. mask", "digits SNIP (supervised)"
    accuracies = {
        (ours, "ResNet-20 10 %"): [92.0, 93.0],
        (theirs, "ResNet-20 10 %"): [91.0, 91.0],
        (ours, "ResNet-20 2 %"): [90.0, 90.0],
    }
    (row,) = verdict_rows(suite, tmp_path, accuracies)
    assert row[1] == "+1.50 points, 2 seeds (2 of 3 densities left out, no pair)"

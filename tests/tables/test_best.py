"""The best of the entries side by side is marked, with those that are not told from it."""

from pathlib import Path

import numpy as np
import pytest
from support import COMPOSER
from table_support import printed, record, write

from runner.stats.seeds import Measured, Sample
from runner.suites.expand import Suite, expand
from runner.tables.best import BEST, TIED, best_and_tied
from runner.tables.entries import is_chance

IMAGE = 100 / 360  # points of one test image of digits


def by_seed(*numbers: float) -> Sample:
    return {seed: Measured(number) for seed, number in enumerate(numbers)}


def test_a_constant_gap_of_four_images_is_told_and_a_varying_one_is_not() -> None:
    # Gaps of `worse` are 1.1, 1.1, 1.1: the rounding of two accuracies has the variance 2 image^2 /
    # 12 = 0.0129 and the standard error 0.0655, t = 16.8 at 2 degrees of freedom, p = 0.0018 below
    # 0.05 / 2. Gaps of `unclear` are 2, 0, 0.1: mean 0.7, deviation 1.127, t = 1.08, p = 0.2.
    values = {
        "best": by_seed(97.0, 97.0, 97.1),
        "worse": by_seed(95.9, 95.9, 96.0),
        "unclear": by_seed(95.0, 97.0, 97.0),
    }
    assert best_and_tied(values, IMAGE**2 / 12) == {"best": BEST, "unclear": TIED}


def test_one_seed_tells_nothing_and_an_entry_alone_is_no_best() -> None:
    assert best_and_tied({"a": by_seed(90.0), "b": by_seed(80.0)}, 0.0) == {"a": BEST}
    assert best_and_tied({"a": by_seed(90.0, 91.0)}, 0.0) == {}
    # nothing is known about an entry without a common pair of seeds
    assert best_and_tied({"a": by_seed(90.0, 91.0), "b": {1: Measured(50.0)}}, 0.0)["b"] == TIED


@pytest.mark.parametrize(("correlation", "seeds"), [(0.0, 3), (0.75, 3), (0.5, 10)])
def test_the_best_entry_is_marked_in_95_percent_of_simulations(
    correlation: float, seeds: int
) -> None:
    """Among 7 entries; entry 0 is the best by 0, 0.5 or 2 deviations."""
    trials, entries = 1500, 7
    for lead in (0.0, 0.5, 2.0):
        rng = np.random.default_rng([seeds, int(10 * lead)])
        shared = rng.normal(size=(trials, seeds, 1)) * correlation**0.5
        own = rng.normal(size=(trials, seeds, entries)) * (1 - correlation) ** 0.5
        numbers = shared + own
        numbers[:, :, 0] += lead
        marked = sum(
            0 in best_and_tied({i: by_seed(*trial[:, i]) for i in range(entries)}, 0.0)
            for trial in numbers
        )
        # three standard errors of the simulation
        assert marked / trials > 0.95 - 3 * (0.95 * 0.05 / trials) ** 0.5


# --- on pages


@pytest.fixture(scope="module")
def table() -> Suite:
    """IMC Table 1 on digits with three seeds."""
    return expand("imc_table01@digits", {"models": ["resnet20"]}, ["train.scale=0.0125"], COMPOSER)


def measured(table: Suite, row: str, *numbers: float | None) -> list[dict[str, object]]:
    jobs = table.cells[row, "ResNet-20"].jobs
    return [record(job, number) for job, number in zip(jobs, numbers, strict=True)]


def test_a_page_marks_the_best_pruned_entry_in_bold_and_by_a_sign(
    table: Suite, tmp_path: Path
) -> None:
    write(
        tmp_path,
        *measured(table, "Baseline", 99.0, 99.0, 99.0),  # nothing is pruned
        *measured(table, "SNIP", 97.0, 97.0, 97.1),
        *measured(table, "GraSP", 95.0, 97.0, 97.0),
        *measured(table, "SynFlow", 90.0, 90.0, 90.1),
    )
    rows, text = printed(table, tmp_path, marks=True)
    assert rows["Baseline"][1] == "99.00 ± 0.00 [94.6]"
    assert rows["SNIP"][1] == f"**97.03 ± 0.06 {BEST}** [92.4]"
    assert rows["GraSP"][1] == f"**96.33 ± 1.15 {TIED}** [91.1]"
    assert rows["SynFlow"][1] == "90.03 ± 0.06 [92.5]"
    assert f"97.03 ± 0.06 {BEST} [92.4]" in text
    assert f"{BEST}: the best of the pruned entries side by side; {TIED}: not told" in text
    tex = (tmp_path / "tables" / f"{table.name}.tex").read_text()
    assert "\\textbf{97.03 $\\pm$ 0.06 $\\bullet$} [92.4]" in tex
    page = (tmp_path / "tables" / f"{table.name}.html").read_text()
    assert f'<strong>97.03 ± 0.06 {BEST}</strong> <span class="paper">[92.4]</span>' in page
    assert '>90.03 ± 0.06 <span class="paper">[92.5]</span>' in page


def test_collapsed_runs_are_marked_and_counted(table: Suite, tmp_path: Path) -> None:
    write(tmp_path, *measured(table, "SNIP", 97.0, 10.0, 97.0))
    rows, text = printed(table, tmp_path, marks=True)
    assert rows["SNIP"][1].startswith("68.00 ± 50.23 (1 collapsed)")
    assert "1 run collapsed: the test accuracy is that of chance" in text
    (job, *_) = table.cells["SNIP", "ResNet-20"].jobs
    o = job.outline
    assert (o.classes, o.test_images) == (10, 360)
    # chance 10 %, three standard errors sqrt(0.1 * 0.9 / 360) = 1.58 %: 14.74 %
    assert [is_chance(x, o.classes, o.test_images) for x in (14.7, 14.8, None)] == [
        True,
        False,
        False,
    ]


def test_a_number_that_some_records_lack_has_its_count(tmp_path: Path) -> None:
    table = expand("jackpots_table06@digits", {}, ["train.scale=0.0125"], COMPOSER)
    jobs = table.cells["ResNet-32, 300", "0.1"].jobs  # x 0.0125: 4 epochs
    write(
        tmp_path,
        record(jobs[0], 90.0, report={"overlap_magnitude": 1.0}),
        record(jobs[1], 91.0, report={"overlap_magnitude": 0.9}),
        record(jobs[2], None, test_loss=None),
    )
    rows, _ = printed(table, tmp_path, marks=True)
    assert rows["4 [300]"][0].startswith("90.50 ± 0.71 (n=2 of 3) [")
    write(tmp_path, record(jobs[2], 92.0, report={}))
    rows, _ = printed(table, tmp_path, marks=True)
    assert rows["4 [300]"][0].startswith("**91.00 ± 1.00 •** [") or rows["4 [300]"][0].startswith(
        "91.00 ± 1.00"
    )
    assert rows["4 [300]"][1].startswith("95.0% (n=2 of 3)")

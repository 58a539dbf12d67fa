"""No page shows one run under two labels without saying so, and labels state what ran."""

from pathlib import Path

import pytest
from support import COMPOSER
from table_support import printed, record, write

from runner.commands.published import read_index
from runner.figures.series import series_of
from runner.figures.write import notes
from runner.paths import PUBLISHED
from runner.suites.expand import Suite, expand, parse_arguments
from runner.suites.readings import label_as_ran
from runner.suites.shared import shared_runs
from runner.suites.spec import figure_names, table_names, variants_of
from runner.suites.verdicts import OPEN
from runner.tables.claims import compared
from runner.tables.entries import entries
from runner.tables.marks import marks_of

SHIPPED = [
    *(line for kind in ("tables", "figures") for line in read_index(PUBLISHED)[kind]),
    *(
        f"{name}{variant}"
        for name in table_names() + figure_names()
        for variant in ("", *(f"@{each}" for each in variants_of(name)))
    ),
]
QUICK = ["jackpots_table01@fashion_mnist", "jackpots_figure07@digits train.scale=0.0125"]


def suite_of(words: str) -> Suite:
    (name,), chosen, overrides = parse_arguments(words.split())
    return expand(name, chosen, overrides, COMPOSER)


def check(words: str) -> None:
    """Every pair of labels that share a run is in one note of the page.

    In a figure, a point that has the runs of an earlier one of its series is not drawn.
    """
    suite = suite_of(words)
    labels: dict[str, set[tuple[str, ...]]] = {}
    for key, cell in suite.cells.items():
        for job in cell.jobs:
            labels.setdefault(job.run_id, set()).add(tuple(cell.labels.values()) or key)
    shared = shared_runs(suite)
    if not suite.drawn:
        noted = {key for keys in shared.values() for key in keys}
        for run, names in labels.items():
            if len(names) > 1:
                at = {
                    key for key, cell in suite.cells.items() if run in {j.run_id for j in cell.jobs}
                }
                assert at <= noted, (words, names)
        assert set(marks_of(suite, entries(suite, Path("/nowhere"))).shared) == noted
        return
    for series in series_of(suite, Path("/nowhere")):
        cells = [
            tuple(job.run_id for job in cell.jobs)
            for (row, _), cell in suite.cells.items()
            if row.startswith(f"{series.key[0]} ") and series.key[1].partition(",")[0] in row
        ]
        assert series.requested <= sum(len(runs) for runs in set(cells))


@pytest.mark.parametrize("words", QUICK)
def test_no_two_labels_share_a_run_without_a_note(words: str) -> None:
    check(words)


@pytest.mark.slow
@pytest.mark.parametrize("words", SHIPPED)
def test_no_two_labels_of_any_shipped_page_share_a_run_without_a_note(words: str) -> None:
    check(words)


def test_labels_state_what_ran() -> None:
    (job,) = suite_of("jackpots_table06@digits seeds=0").cells["ResNet-32, 30", "0.1"].jobs
    assert job.run.stages[-1].recipe and job.run.stages[-1].recipe.epochs == 6  # 30 x 0.1875
    assert label_as_ran("30", "search/epochs", job.run) == "6 [30]"
    assert label_as_ran("Jackpot (Ours), 30", "last/epochs", job.run) == "Jackpot (Ours), 6 [30]"
    assert label_as_ran("6", "search/epochs", job.run) == "6"
    assert label_as_ran("30", "level/epochs", job.run) == "30"  # it has no such stage
    assert label_as_ran("after 30 epochs", "search/epochs", job.run) == "after 6 epochs [30]"
    (short,) = (
        suite_of("jackpots_table06@digits seeds=0 train.scale=0.04")
        .cells["ResNet-32, 30", "0.1"]
        .jobs
    )  # 30 x 0.04 = 1.2
    assert label_as_ran("after 30 epochs", "search/epochs", short.run) == "after 1 epoch [30]"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("jackpots_table06 seeds=0", ["0", "10", "30", "60", "100", "300", "1000"]),
        # x 0.1875, rounded
        (
            "jackpots_table06@digits seeds=0",
            ["0", "2 [10]", "6 [30]", "11 [60]", "19 [100]", "56 [300]", "188 [1000]"],
        ),
    ],
)
def test_the_rows_of_a_table_are_the_epochs_that_ran(words: str, shown: list[str]) -> None:
    assert [line.labels[0] for line in suite_of(words).page.lines] == shown


def test_the_columns_of_a_table_and_the_labels_of_claims_are_the_epochs_that_ran() -> None:
    page = suite_of("imc_table05@digits seeds=0").page
    # x 0.1875: 0.94, 1.9, 3.75, 4.7 and 5.6
    texts = ["1 [5]", "2 [10]", "4 [20]", "5 [25]", "6 [30]"]
    assert [text for text, _ in page.heads[-1]] == ["Training epochs", *texts]


def test_equal_runs_have_one_footnote_and_are_not_compared(tmp_path: Path) -> None:
    suite = suite_of("jackpots_table06@digits train.scale=0.02")
    # 10, 30 and 60 epochs x 0.02 are one each
    one, three = (suite.cells[f"ResNet-32, {n}", "0.1"].jobs for n in (10, 30))
    assert [job.run_id for job in one] == [job.run_id for job in three]
    write(tmp_path, *(record(job, 90.0 + i) for i, job in enumerate(one)))
    rows, text = printed(suite, tmp_path, marks=True)
    assert (
        rows["1 [10]"][0].startswith("91.00 ± 1.00ᵃ [") and "91.00 ± 1.00ᵃ [" in rows["1 [30]"][0]
    )
    assert "ᵃ One set of runs under several labels: 1 [10]; 1 [30]; 1 [60]." in text
    again = suite_of("jackpots_table01@digits models=resnet32_w32a train.scale=0.0125")
    note = "One set of runs under several labels: Jackpot (Ours), 1 [10]; Jackpot (Ours), 1 [30]."
    assert note in shared_runs(again)
    longer = suite_of("jackpots_table06@digits train.scale=0.003 seeds=0,1")
    verdicts = {line.claim: line for line in compared(longer, entries(longer, tmp_path))}
    (same,) = (line for claim, line in verdicts.items() if claim.startswith("longer searches"))
    assert (same.measured, same.holds) == ("one set of runs: nothing to compare", OPEN)


def test_the_axis_of_a_figure_is_what_ran_and_equal_points_are_one(tmp_path: Path) -> None:
    suite = suite_of("jackpots_figure07@digits models=resnet32_w32a train.scale=0.02")
    row = next(row for row, _ in suite.cells if "Jackpot" in row)
    for (name, _), cell in suite.cells.items():
        if name == row:
            write(tmp_path, *(record(job, 90.0) for job in cell.jobs))
    series = next(s for s in series_of(suite, tmp_path) if s.label == "Jackpot")
    # 10, 30, 60, 100 and 160 epochs x 0.02 are 1, 1, 1, 2 and 3
    assert [point.x for point in series.points] == [1, 2, 3]
    assert (series.done, series.requested) == (9, 9)
    text = " ".join(notes(suite, [series], tmp_path))
    assert "x is what ran: 1, 1, 1, 2, 3 for 10, 30, 60, 100, 160." in text
    assert "One set of runs under several labels: epochs=10; epochs=30; epochs=60." in text

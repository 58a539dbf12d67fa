"""`make plan` states what n seeds can tell and what the paper's own differences would need."""

from pathlib import Path

import pytest
from support import COMPOSER
from table_support import record, write

from runner.figures.claims import power
from runner.stats.evidence import LEVEL
from runner.stats.power import seeds_needed, smallest_difference
from runner.suites.expand import Suite, expand
from runner.tables.claims import compared, powers
from runner.tables.entries import entries


def sketching(*overrides: str) -> Suite:
    return expand("sketching_table04@digits", {"models": ["resnet20"]}, list(overrides), COMPOSER)


def test_the_plan_of_a_table_states_differences_told_and_seeds_needed(tmp_path: Path) -> None:
    suite = sketching()
    (first, second) = powers(suite, entries(suite, tmp_path))
    smallest = smallest_difference(3, LEVEL)
    assert smallest is not None
    told = f"3 seeds tell a difference of {smallest:.1f} standard deviations of a pair"
    assert first.startswith(f"power of {suite.name}: {told}")
    # the paper's numbers: results/paper/sketching_table04.csv, deviations as printed
    (line,) = compared(suite, entries(suite, tmp_path))
    seeds = line.papers.partition(": ")[2]
    assert second == f"  the paper's own differences need {seeds} seeds"


def test_the_table_states_the_same_as_the_plan_once_runs_are_measured(tmp_path: Path) -> None:
    suite = expand("imc_table08@digits", {"models": ["resnet20"]}, ["train.scale=0.0125"], COMPOSER)
    found = entries(suite, tmp_path)
    lines = list(powers(suite, found))
    assert "not known" in lines[-1] and len(lines) == 2  # the paper prints no deviations
    for key, values in (("IMC-Rewinding", (91.0, 92.0, 94.0)), ("SNIP", (90.0, 90.5, 93.0))):
        write(
            tmp_path,
            *(
                record(job, value)
                for job, value in zip(suite.cells[key, "ResNet-20"].jobs, values, strict=True)
            ),
        )
    found = entries(suite, tmp_path)
    (measured,) = [line for line in compared(suite, found) if line.told != "–"]
    # one verdict on the page; differences 1, 1.5, 1 have the deviation 0.288675
    smallest = smallest_difference(3, LEVEL)
    assert smallest is not None
    assert measured.told == f"{smallest * 0.288675:.3g} points"
    assert measured.papers == f"+8.30: {seeds_needed(8.3 / 0.288675, LEVEL)}"  # 81.2 - 72.9
    level = LEVEL / 10  # the plan does not know how many of ten verdicts will be measured
    planned = list(powers(suite, found))
    assert f": {(smallest_difference(3, level) or 0) * 0.288675:.2g} points" in planned[0]
    assert planned[1] == f"  the paper's own differences need {seeds_needed(28.75, level)} seeds"


@pytest.mark.parametrize(
    ("name", "trials", "seeds"),
    [
        ("imc_figure02@digits", False, True),
        ("samples_figure05@coarse", True, False),
        ("samples_figure04@coarse", True, False),
        ("sketching_lemma42", True, False),
    ],
)
def test_the_plan_of_a_figure_says_whether_seeds_or_trials_decide(
    name: str, trials: bool, seeds: bool
) -> None:
    text = "\n".join(power(expand(name, {}, [], COMPOSER)))
    assert ("come from the trials of a run" in text) is trials
    assert ("3 seeds tell a difference of" in text) is seeds

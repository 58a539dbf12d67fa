"""Pages whose runs have other data than the paper's say so, and subtract no numbers."""

from pathlib import Path

import pytest
from support import COMPOSER

from runner.suites.expand import expand, parse_arguments
from runner.suites.titles import other_data
from runner.tables.entries import entries
from runner.tables.render import as_markdown, sheet_of


@pytest.mark.parametrize(
    ("words", "noted"),
    [
        (["imc_table01@digits", "models=resnet20", "train=quick"], True),
        (["imc_table01", "dataset=digits", "models=resnet20", "train=quick"], True),
        (["imc_table01", "models=resnet20"], False),
        (["jackpots_table08@digits"], True),  # the paper's data set stands in a panel
        (["imc_table15@digits"], True),  # ... in the lines of the paper's numbers
        (["sketching_table01@digits", "models=resnet20"], True),  # ... in a column of the page
        (["benchmark_table"], False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_page_on_other_data_says_so_and_subtracts_nothing(
    words: list[str], noted: bool, tmp_path: Path
) -> None:
    (name,), chosen, overrides = parse_arguments(words)
    suite = expand(name, chosen, overrides, COMPOSER)
    page = as_markdown(sheet_of(suite, entries(suite, tmp_path)))
    assert ("here on digits" in page) == noted
    assert ("The paper's numbers are those for CIFAR-10" in page) == noted
    assert (other_data(suite) == ["digits"]) == noted

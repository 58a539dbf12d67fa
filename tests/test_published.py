"""Every record that we ship was measured by committed code and is found through its table, figure or command (results/published/index.yaml)."""

import itertools
import json
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from support import compose_run

from runner.commands.publish import page_name
from runner.figures.claims import judged
from runner.figures.draw import ENDINGS
from runner.figures.series import series_of
from runner.figures.write import as_csv
from runner.records.read import find_run
from runner.spec.identity import NUMERICS, run_id
from runner.spec.run import Run
from runner.suites.expand import Suite, expand, parse_arguments
from runner.suites.verdicts import write_claims
from runner.tables.claims import compared
from runner.tables.entries import entries
from runner.tables.render import FORMATS

PUBLISHED = ROOT / "results" / "published"
INDEX: dict[str, Any] = yaml.safe_load((PUBLISHED / "index.yaml").read_text())
RECORDS: dict[str, dict[str, Any]] = {path.parent.name: json.loads(path.read_text()) for path in PUBLISHED.glob("runs/*/result.json")}


pytestmark = pytest.mark.xdist_group("published")  # one worker expands each line of the index once, when a test asks for it


@cache
def expanded(words: str) -> Suite:
    """The table or figure of a line in the index."""
    (name,), chosen, overrides = parse_arguments(words.split())
    return expand(name, chosen, overrides)


def sweep(words: str) -> dict[str, Run]:
    """Run id -> run, of a line of `python run.py -m`: every combination of the values between commas."""
    choices = [[f"{key}={value}" for value in values.split(",")] for key, _, values in (word.partition("=") for word in words.split())]
    return {run_id(run): run for run in (compose_run(*combination) for combination in itertools.product(*choices))}


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    """Run id -> run, of everything in the index."""
    drawn_or_printed = {job.run_id: job.run for line in INDEX["tables"] + INDEX["figures"] for job in expanded(line).jobs}
    return drawn_or_printed | {identity: run for line in INDEX["runs"] for identity, run in sweep(line).items()}


def test_every_record_is_found_through_the_index_and_nothing_is_missing(runs: dict[str, Run]) -> None:
    assert set(runs) == set(RECORDS)


@pytest.mark.parametrize("identity", RECORDS)
def test_every_record_says_what_it_was_measured_with(identity: str, runs: dict[str, Run]) -> None:
    record = RECORDS[identity]
    assert (record["schema"], record["run_id"], record["status"]) == (1, identity, "done")
    assert record["provenance"]["git_dirty"] is False and len(record["provenance"]["git_sha"]) == 40
    assert record["provenance"]["numerics"] == {kind: NUMERICS[kind] for kind in record["provenance"]["numerics"]}
    pruned = record["kept"] is not None  # a theory experiment prunes no net
    assert record["density"] == (record["kept"] / record["prunable"] if pruned else None)
    densities = [stage.density for stage in runs[identity].stages if stage.density is not None]
    if densities:  # the last one is where iterative pruning has stopped: the level nearest to the density asked, or that density
        assert record["kept"] == round(densities[-1] * record["prunable"])
    assert (PUBLISHED / "runs" / identity / "config.yaml").is_file()


@pytest.mark.parametrize("words", INDEX["tables"])
def test_the_printed_tables_and_the_verdicts_on_claims_are_those_of_the_records(words: str, tmp_path: Path) -> None:
    page = page_name(words, INDEX["tables"])
    table = replace(expanded(words), name=page)
    found = entries(table, PUBLISHED)
    for ending, render in FORMATS.items():
        assert (PUBLISHED / "tables" / f"{page}.{ending}").read_text() == render(table, found)
    if lines := compared(table, found):
        write_claims(lines, tmp_path, page)
    printed = {path.name: path.read_text() for path in (PUBLISHED / "tables").glob(f"{page}.claims.*")}
    assert printed == {path.name: path.read_text() for path in tmp_path.iterdir()}


@pytest.mark.parametrize("words", INDEX["figures"])
def test_the_drawn_numbers_and_the_verdicts_on_claims_are_those_of_the_records(words: str, tmp_path: Path) -> None:
    page = page_name(words, INDEX["figures"])
    figure = replace(expanded(words), name=page)
    found = series_of(figure, PUBLISHED)
    assert all(series.done == series.asked for series in found)
    assert (PUBLISHED / "figures" / f"{page}.csv").read_text() == as_csv(figure, found)
    judged(figure, found, partial(find_run, results_dir=PUBLISHED), tmp_path)
    drawn = {path.name: path.read_text() for path in (PUBLISHED / "figures").glob(f"{page}.claims.*")}
    assert drawn == {path.name: path.read_text() for path in tmp_path.iterdir()}
    for ending in ENDINGS:  # their bytes are another version of matplotlib's own; tests/test_figures.py draws the same ones twice
        assert (PUBLISHED / "figures" / f"{page}.{ending}").stat().st_size > 5000

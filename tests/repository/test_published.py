"""Every record that we ship was measured by committed code and is found through its table, figure
or command (results/published/index.yaml)."""

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
from runner.config.build import load_run
from runner.figures.claims import judged
from runner.figures.draw import ENDINGS
from runner.figures.series import series_of
from runner.figures.write import as_csv
from runner.records.read import find_run
from runner.spec.identity import NUMERICS, Identity, identify
from runner.spec.planned import PlannedRun, plan_run
from runner.suites.expand import Suite, expand, parse_arguments
from runner.suites.verdicts import write_claims
from runner.tables.claims import compared
from runner.tables.entries import entries
from runner.tables.render import FORMATS

PUBLISHED = ROOT / "results" / "published"
INDEX: dict[str, Any] = yaml.safe_load((PUBLISHED / "index.yaml").read_text())
LINES: list[str] = [*INDEX["tables"], *INDEX["figures"], *INDEX["runs"]]


# one worker expands each line of the index once, when a test asks for it
pytestmark = pytest.mark.xdist_group("published")


@cache
def expanded(words: str) -> Suite:
    """The table or figure of a line in the index."""
    (name,), chosen, overrides = parse_arguments(words.split())
    return expand(name, chosen, overrides)


def sweep(words: str) -> list[PlannedRun]:
    """The runs of a line of `python run.py -m`: every combination of the values between commas."""
    choices = [
        [f"{key}={value}" for value in values.split(",")]
        for key, _, values in (word.partition("=") for word in words.split())
    ]
    return [
        plan_run(compose_run(*combination), combination)
        for combination in itertools.product(*choices)
    ]


@cache
def planned(line: str) -> list[PlannedRun]:
    """The runs of a line in the index."""
    return sweep(line) if line in INDEX["runs"] else expanded(line).jobs


def record(run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PUBLISHED / "runs" / run_id / "result.json").read_text())
    return found


def test_every_record_is_found_through_the_index_and_nothing_is_missing() -> None:
    assert {job.run_id for line in LINES for job in planned(line)} == {
        path.parent.name for path in PUBLISHED.glob("runs/*/result.json")
    }


@pytest.mark.parametrize("line", LINES)
def test_the_records_of_a_line_say_what_they_were_measured_with(line: str) -> None:
    for job in planned(line):
        found = record(job.run_id)
        assert (found["schema"], found["run_id"], found["status"]) == (1, job.run_id, "done")
        assert [(stage["name"], stage["key"]) for stage in found["stages"]] == list(
            job.keys.items()
        ), job.run_id
        assert (
            found["provenance"]["git_dirty"] is False and len(found["provenance"]["git_sha"]) == 40
        ), job.run_id
        assert found["provenance"]["numerics"] == {
            kind: NUMERICS[kind] for kind in found["provenance"]["numerics"]
        }, job.run_id
        pruned = found["kept"] is not None  # a theory experiment prunes no net
        assert found["density"] == (found["kept"] / found["prunable"] if pruned else None), (
            job.run_id
        )
        densities = [stage.density for stage in job.run.stages if stage.density is not None]
        # the last one is where iterative pruning has stopped: the level nearest to the density
        # asked, or that density
        if densities:
            assert found["kept"] == round(densities[-1] * found["prunable"]), job.run_id


@pytest.mark.parametrize("line", LINES)
def test_the_published_configuration_of_a_run_gives_that_run(line: str) -> None:
    job = planned(line)[-1]
    assert identify(load_run(PUBLISHED / "runs" / job.run_id / "config.yaml")) == Identity(
        job.run_id, job.keys
    )


@pytest.mark.parametrize("words", INDEX["tables"])
def test_the_printed_tables_and_the_verdicts_on_claims_are_those_of_the_records(
    words: str, tmp_path: Path
) -> None:
    page = page_name(words, INDEX["tables"])
    table = replace(expanded(words), name=page)
    found = entries(table, PUBLISHED)
    for ending, render in FORMATS.items():
        assert (PUBLISHED / "tables" / f"{page}.{ending}").read_text() == render(table, found)
    if lines := compared(table, found):
        write_claims(lines, tmp_path, page)
    printed = {
        path.name: path.read_text() for path in (PUBLISHED / "tables").glob(f"{page}.claims.*")
    }
    assert printed == {path.name: path.read_text() for path in tmp_path.iterdir()}


@pytest.mark.parametrize("words", INDEX["figures"])
def test_the_drawn_numbers_and_the_verdicts_on_claims_are_those_of_the_records(
    words: str, tmp_path: Path
) -> None:
    page = page_name(words, INDEX["figures"])
    figure = replace(expanded(words), name=page)
    found = series_of(figure, PUBLISHED)
    assert all(series.done == series.asked for series in found)
    assert (PUBLISHED / "figures" / f"{page}.csv").read_text() == as_csv(figure, found)
    judged(figure, found, partial(find_run, results_dir=PUBLISHED), tmp_path)
    drawn = {
        path.name: path.read_text() for path in (PUBLISHED / "figures").glob(f"{page}.claims.*")
    }
    assert drawn == {path.name: path.read_text() for path in tmp_path.iterdir()}
    # their bytes are another version of matplotlib's own; tests/figures/test_figures.py draws the
    # same ones twice
    for ending in ENDINGS:
        assert (PUBLISHED / "figures" / f"{page}.{ending}").stat().st_size > 5000

"""Phase diagrams, fitted lines and verdicts on claims agree with examples worked by hand."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from table_support import record

from runner.errors import ConfigError
from runner.figures.claims import verdicts
from runner.figures.fits import crossings, fitted, line_through
from runner.figures.points import Point, Series
from runner.figures.series import series_of
from runner.figures.write import write_figure
from runner.records.read import FinishedRun
from runner.suites.expand import Suite, expand
from runner.suites.schema_claims import FigureClaim, LowestClaim
from runner.suites.verdicts import FAILS, HOLDS, OPEN, UNKNOWN

PANEL = "(a) share of trials that converged (relative error < 1e-4)"


def cell(x: float, y: float, value: float) -> Point:
    return Point(f"{x} {y}", 1, x, y, value=value)


def curve(
    ys: list[float], label: str = "s", fit: str | None = None, xs: list[float] | None = None
) -> Series:
    points = tuple(
        Point(str(i), 1, x, y)
        for i, (x, y) in enumerate(zip(xs or [1.0, 2.0, 3.0, 4.0][: len(ys)], ys, strict=True))
    )
    return Series(
        "p", label, "curve", points, len(points), len(points), 0, "solid", fitted(points, fit)
    )


# --- lines


def test_a_fitted_line_agrees_with_one_worked_by_hand() -> None:
    # x 0 1 2 3, y 1 3 2 4: means 1.5 and 2.5, Sxx 5, Sxy 4, Syy 5: slope 0.8, intercept 1.3,
    # residual 5 - 3.2 = 1.8, R2 = 0.64, error sqrt(1.8 / 2 / 5).
    line = line_through([0, 1, 2, 3], [1, 3, 2, 4])
    assert line is not None
    assert (line.slope, line.intercept, line.r2) == (
        pytest.approx(0.8),
        pytest.approx(1.3),
        pytest.approx(0.64),
    )
    assert line.error == pytest.approx(math.sqrt(0.18)) and line.at(2) == pytest.approx(2.9)
    # 4.303 is the t quantile of two degrees of freedom
    assert line.interval == pytest.approx(
        (0.8 - 4.303 * math.sqrt(0.18), 0.8 + 4.303 * math.sqrt(0.18))
    )
    assert line.equation == "1.3 + 0.8 x, R² = 0.640"


def test_two_points_give_a_line_without_an_interval_and_one_gives_none() -> None:
    line = line_through([1, 2], [5, 3])
    assert line is not None
    assert (line.slope, line.r2, line.interval) == (-2, 1, None)
    assert line.equation == "7 - 2 x, R² = 1.000"
    assert line_through([1, 1], [5, 3]) is None


def test_a_power_is_fitted_as_a_line_of_logarithms() -> None:
    line = fitted([Point("", 1, x, 3 * x**1.5) for x in (1.0, 10.0, 100.0)], "power")
    assert line is not None
    assert line.slope == pytest.approx(1.5)
    assert line.at(4) == pytest.approx(24)
    assert line.equation == "3 x^1.5, R² = 1.000"


# --- boundaries


def test_a_boundary_is_interpolated_between_cells_around_one_half() -> None:
    # one half is a third of the way from 0.25 to 1
    rising = [cell(10, 100, 0.0), cell(10, 200, 0.25), cell(10, 300, 1.0)]
    # the order does not matter, and exactly one half counts once
    falling = [cell(20, 300, 0.1), cell(20, 100, 0.9), cell(20, 200, 0.5)]
    never = [cell(30, 100, 0.0), cell(30, 200, 0.4)]
    twice = [cell(40, 100, 0.0), cell(40, 200, 1.0), cell(40, 300, 0.0)]
    found = [(p.x, p.y) for p in crossings([*rising, *falling, *never, *twice])]
    assert found == [(10, pytest.approx(100 / 3 + 200)), (20, 200), (40, 200)]


# --- claims


def claim(series: Series, *others: Series, run: FinishedRun | None = None, **rule: Any) -> str:
    item = FigureClaim.from_plain(
        {"claim": "c", "panel": "p", "series": series.label, **rule}, "claims.0"
    )
    (line,) = verdicts([item], [series, *others], {("p", series.label): run} if run else {})
    return line.holds


def test_a_claim_about_a_slope_uses_the_whole_interval_and_r2() -> None:
    up, noisy = curve([1.0, 2.1, 2.9, 4.0], fit="linear"), curve([1.0, 3.0, 2.0, 1.5], fit="linear")
    assert claim(up, slope={"above": 0}, r2=0.9) == HOLDS and claim(up, slope={"below": 0}) == FAILS
    assert claim(up, slope={"between": [0.9, 1.1]}) == OPEN
    assert claim(up, slope={"between": [0.7, 1.3]}) == HOLDS
    assert claim(noisy, slope={"above": 0}) == OPEN
    assert claim(noisy, slope={"above": 0}, r2=0.9) == OPEN
    # the curve rises, but R2 is below the limit
    assert claim(curve([1.0, 2.1, 2.9, 4.0], fit="linear"), slope={"above": 0}, r2=0.9999) == FAILS
    # two points give no interval
    assert claim(curve([1.0, 2.0], fit="linear"), slope={"above": 0}) == UNKNOWN
    assert claim(curve([], fit="linear"), slope={"above": 0}) == UNKNOWN


def test_claims_about_orders_extrema_and_reports_have_verdicts() -> None:
    low, high = curve([1.0, 2.0, 3.0]), curve([2.0, 3.0, 2.5], "t")
    assert claim(low, high, below="t") == FAILS
    assert claim(curve([1.0, 2.0, 2.4]), high, below="t") == HOLDS
    assert claim(low, highest=[0.5, 1.5]) == FAILS
    assert claim(curve([3.0, 5.0, 2.0]), highest=[1.5, 2.5]) == HOLDS
    assert claim(low, lowest=[0.5, 1.5]) == HOLDS and claim(low, lowest=[2, 3]) == FAILS
    report = {"lemma_measured": 3.0, "lemma_low": 2.5, "lemma_high": 3.5}
    for holds, verdict in ((1, HOLDS), (0, FAILS)):
        run = FinishedRun({"run_id": "r", "report": {**report, "lemma_holds": holds}})
        assert claim(low, run=run, reads="lemma") == verdict
    assert claim(low, reads="lemma") == UNKNOWN


def test_a_claim_about_a_missing_series_or_finding_gives_an_error() -> None:
    with pytest.raises(ConfigError, match="claims.series"):
        verdicts(
            [LowestClaim(claim="c", panel="p", series="other", lowest=(0, 1))], [curve([1.0])], {}
        )
    with pytest.raises(ConfigError, match="has no"):
        claim(curve([1.0]), run=FinishedRun({"run_id": "r", "report": {}}), reads="lemma")


# --- a figure


@pytest.fixture(scope="module")
def figure() -> Suite:
    return expand("samples_figure04@coarse", {}, ["method.trials=3"])


def test_a_grid_has_one_run_per_cell_which_its_panels_share(figure: Suite) -> None:
    assert len(figure.jobs) == 5 * 9
    sizes = {(job.run.dataset.inputs, job.run.dataset.samples) for job in figure.jobs}
    assert len(sizes) == 45
    assert {s.component.trials for job in figure.jobs for s in job.run.stages} == {3}


def test_cells_boundary_and_verdict_agree_with_given_records(figure: Suite, tmp_path: Path) -> None:
    for job in figure.jobs:
        r, n = job.run.dataset.inputs, job.run.dataset.samples
        # one half at N = 6 r: 60, 180, 300, 420, 540
        share = min(1.0, max(0.0, 0.5 + (n - 6 * r) / 400))
        folder = tmp_path / "runs" / job.run_id
        folder.mkdir(parents=True)
        numbers = {
            "inputs": r,
            "samples": n,
            "trials": 3,
            "converged_share": share,
            "capped_share": 1 - share,
            "wrong_minimum_share": 0.0,
        }
        (folder / "result.json").write_text(json.dumps(record(job, accuracy=None, report=numbers)))
    text = write_figure(figure, tmp_path)
    boundary = next(s for s in series_of(figure, tmp_path) if s.kind == "boundary")
    assert [(p.x, p.y) for p in boundary.points] == [
        (r, pytest.approx(6 * r)) for r in (10, 30, 50, 70, 90)
    ]
    assert boundary.legend.endswith("+ 6 x, R² = 1.000") and "3 independent trials" in text
    with (tmp_path / "figures" / f"{figure.name}.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["series"] == "converged"]
    assert len(rows) == 45 and float(rows[0]["value"]) == pytest.approx(0.5 - 10 / 400)
    assert (tmp_path / "figures" / f"{figure.name}.png").stat().st_size > 5000
    (line,) = csv.DictReader((tmp_path / "figures" / f"{figure.name}.claims.csv").open(newline=""))
    assert line["holds"] == HOLDS and line["what was measured"] == "slope 6, R² = 1.000, 5 points"
    assert "the examples needed grow linearly with r" in text


def test_missing_cells_give_no_verdict(figure: Suite, tmp_path: Path) -> None:
    text = write_figure(figure, tmp_path)
    assert UNKNOWN in text and "45 runs are not done" in text


def test_the_deviation_of_a_run_and_the_root_of_its_inputs_are_drawn(tmp_path: Path) -> None:
    curves = expand("samples_figure03@coarse", {}, ["method.trials=3"])
    for job in curves.jobs:
        solver = next(stage.component.solver for stage in job.run.stages)
        rate = 0.9 + 0.005 * job.run.dataset.inputs**0.5 - 0.1 * solver.beta
        folder = tmp_path / "runs" / job.run_id
        folder.mkdir(parents=True)
        numbers = {"inputs": job.run.dataset.inputs, "rate": rate, "rate_std": 0.002, "trials": 3}
        (folder / "result.json").write_text(json.dumps(record(job, accuracy=None, report=numbers)))
        (folder / "series.json").write_text(
            json.dumps({"iterations": [0.0, 50.0], "error_trace": [0.2, 0.1]})
        )
    text = write_figure(curves, tmp_path)
    with (tmp_path / "figures" / f"{curves.name}.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["series"] == "GD (beta = 0)"]
    assert [(float(row["x"]), float(row["y"]), float(row["y_std"])) for row in rows] == [
        (x, pytest.approx(0.9 + 0.005 * x), 0.002) for x in (4, 6, 8, 10)
    ]
    assert "value" not in rows[0]  # only phase diagrams have this column
    drawn = {s.label: s for s in series_of(curves, tmp_path)}
    assert drawn["GD (beta = 0)"].legend == "GD (beta = 0): 0.9 + 0.005 x, R² = 1.000"
    with (tmp_path / "figures" / f"{curves.name}.claims.csv").open(newline="") as file:
        assert [row["holds"] for row in csv.DictReader(file)] == [HOLDS] * 3
    assert "4 of 4 points, mean gap 0.02" in text

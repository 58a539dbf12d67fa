"""Phase diagrams, fitted lines and verdicts on claims agree with examples worked by hand."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from record_support import valid_record
from support import COMPOSER
from table_support import record

from runner.errors import ConfigError
from runner.figures.claims import verdicts
from runner.figures.fits import boundary, cells_of, fitted, line_through
from runner.figures.points import Point, Series
from runner.figures.series import figure_spec, points, series_of
from runner.figures.write import write_figure
from runner.records.read import FinishedRun
from runner.stats.seeds import Measured
from runner.suites.expand import Suite, expand
from runner.suites.schema import Rivals
from runner.suites.schema_claims import FigureClaim, LowestClaim
from runner.suites.verdicts import FAILS, HOLDS, OPEN, UNKNOWN

PANEL = "(a) share of trials that converged (relative error < 1e-4)"


WOBBLE = (0.0, 0.01, -0.01)  # of three seeds


def cell(x: float, y: float, value: float) -> Point:
    return Point(f"{x} {y}", 1, x, y, value=value, trials=20)


def curve(ys: list[float], label: str = "s", fit: str | None = None, wobble: float = 1) -> Series:
    """A series with three seeds; the points of a seed differ by a little, each in its own way."""
    points = tuple(
        Point(
            str(i),
            3,
            float(i),
            y,
            by_seed=tuple(
                (j, Measured(y + wobble * w * (1 + (i**3 + ord(label[0])) % 5)))
                for j, w in enumerate(WOBBLE)
            ),
        )
        for i, y in enumerate(ys, start=1)
    )
    return Series(
        "p", label, "curve", points, len(points), len(points), 0, "solid", fitted(points, fit)
    )


# --- lines


def test_a_fitted_line_agrees_with_one_worked_by_hand() -> None:
    # x 0 1 2 3, y 1 3 2 4: means 1.5 and 2.5, Sxx 5, Sxy 4, Syy 5: slope 0.8, intercept 1.3,
    # residual 5 - 3.2 = 1.8, R2 = 0.64.
    line = line_through([0, 1, 2, 3], [1, 3, 2, 4])
    assert line is not None
    assert (line.slope, line.intercept, line.r2) == (
        pytest.approx(0.8),
        pytest.approx(1.3),
        pytest.approx(0.64),
    )
    assert line.at(2) == pytest.approx(2.9)
    assert line.equation == "1.3 + 0.8 x, R² = 0.640"


def test_two_points_give_a_line_and_one_gives_none() -> None:
    line = line_through([1, 2], [5, 3])
    assert line is not None
    assert (line.slope, line.r2) == (-2, 1)
    assert line.equation == "7 - 2 x, R² = 1.000"
    assert line_through([1, 1], [5, 3]) is None


def test_a_power_is_fitted_as_a_line_of_logarithms() -> None:
    line = fitted([Point("", 1, x, 3 * x**1.5) for x in (1.0, 10.0, 100.0)], "power")
    assert line is not None
    assert line.slope == pytest.approx(1.5)
    assert line.at(4) == pytest.approx(24)
    assert line.equation == "3 x^1.5, R² = 1.000"


# --- boundaries


def test_a_boundary_is_where_a_logistic_curve_passes_one_half() -> None:
    """Columns with shares that mirror each other around a y have their boundary there."""
    rising = [cell(10, 100, 0.0), cell(10, 200, 0.25), cell(10, 300, 0.75), cell(10, 400, 1.0)]
    later = [cell(20, 100, 0.0), cell(20, 200, 0.0), cell(20, 300, 0.5), cell(20, 400, 1.0)]
    never = [cell(30, y, 0.0) for y in (100, 200, 300, 400)]
    points = [*rising, *later, *never]
    found, text = boundary(points, cells_of(points))
    assert [(p.x, p.y) for p in found] == [
        (10, pytest.approx(250, abs=2)),
        (20, pytest.approx(300, abs=2)),
    ]
    assert all(p.spread and 5 < p.spread < 40 for p in found)
    assert text == "1 of 3 columns do not cross"
    # without any success or any failure there is no boundary
    assert cells_of(never) is None and boundary(never, None) == ([], "")


# --- claims


def claim(series: Series, *others: Series, run: FinishedRun | None = None, **rule: Any) -> str:
    item = FigureClaim.from_plain(
        {"claim": "c", "panel": "p", "series": series.label, **rule}, "claims.0"
    )
    runs = {("p", series.label): (run,)} if run else {}
    (line,) = verdicts([item], [series, *others], runs)
    return line.holds


def test_a_claim_about_a_slope_uses_the_whole_interval() -> None:
    up, noisy = curve([1.0, 2.1, 2.9, 4.0]), curve([1.0, 2.0, 3.0, 4.0], wobble=200)
    assert claim(up, slope={"above": 0}) == HOLDS and claim(up, slope={"below": 0}) == FAILS
    assert claim(up, slope={"between": [0.98, 1.5]}) == OPEN
    assert claim(up, slope={"between": [0.7, 1.3]}) == HOLDS
    assert claim(noisy, slope={"above": 0}) == OPEN
    # no points, or a single one
    assert claim(curve([1.0]), slope={"above": 0}) == UNKNOWN
    assert claim(curve([]), slope={"above": 0}) == UNKNOWN


def test_a_line_holds_only_if_it_fits_and_the_rival_powers_do_not() -> None:
    rule = {"slope": {"above": 0}, "powers": [0.5, 2]}
    xs = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert claim(curve([2 * x for x in xs]), **rule) == HOLDS
    assert claim(curve([x**2 for x in xs]), **rule) == FAILS
    # with a spread this large neither is rejected
    assert claim(curve([2 * x for x in xs], wobble=300), **rule) == OPEN
    # the direction is wrong
    assert claim(curve([-2 * x for x in xs]), **rule) == FAILS


def test_claims_about_orders_extrema_and_reports_have_verdicts() -> None:
    low, high = curve([1.0, 2.0, 3.0]), curve([2.0, 3.0, 2.5], "t")
    assert claim(low, high, below="t", everywhere=True) == FAILS
    assert claim(low, high, below="t") == HOLDS  # on average 0.5 lower
    assert claim(curve([1.0, 2.0, 2.4]), high, below="t", everywhere=True) == HOLDS
    assert claim(high, low, below="s", margin=1) == HOLDS
    assert claim(low, highest=[0.5, 1.5]) == FAILS
    assert claim(curve([3.0, 5.0, 2.0]), highest=[1.5, 2.5]) == HOLDS
    assert claim(low, lowest=[0.5, 1.5]) == HOLDS and claim(low, lowest=[2, 3]) == FAILS
    report = {"lemma_measured": 3.0, "lemma_low": 2.5, "lemma_high": 3.5}
    for factor, equal, verdict in (
        (1, False, FAILS),
        (0.2, False, HOLDS),
        (0.2, True, FAILS),
        (1 / 3, False, OPEN),
    ):
        numbers = {key: factor * value for key, value in report.items()}
        run = FinishedRun({"run_id": "r", "report": numbers})
        assert claim(low, run=run, reads="lemma", equal=equal) == verdict
    assert claim(low, reads="lemma") == UNKNOWN
    null = FinishedRun({"run_id": "r", "report": {**report, "lemma_high": None}})  # not finite
    assert claim(low, run=null, reads="lemma") == OPEN


def test_claims_about_stability_and_falls_have_verdicts() -> None:
    level, steep = curve([5.0, 5.2, 5.1]), curve([5.0, 5.2, 3.1])
    assert claim(level, within=1) == HOLDS and claim(steep, within=1) == FAILS
    assert claim(steep, within=1, range=[0, 2]) == HOLDS
    assert claim(steep, falls=[1, 3], by=1) == HOLDS and claim(steep, falls=[1, 3], by=2.5) == FAILS
    assert claim(level, falls=[1, 9]) == UNKNOWN
    # the last points: 5.1, 3.1
    assert claim(level, curve([9.0, 9.0, 3.1], "t"), beside=["t"], apart=1) == FAILS
    assert claim(level, curve([9.0, 9.0, 5.0], "t"), beside=["t"], apart=1) == HOLDS


def test_verdicts_of_a_page_share_their_5_percent() -> None:
    gap = curve([0.04, 0.04, 0.04], "t")
    one = {"claim": "c", "panel": "p", "series": "s", "below": "t"}
    claims = [FigureClaim.from_plain(one, "claims.0")] * 4
    series = [curve([0.0, 0.0, 0.0]), gap]
    alone, together = verdicts(claims[:1], series, {}), verdicts(claims, series, {})
    assert alone[0].holds == HOLDS and {line.holds for line in together} == {OPEN}
    assert alone[0].p and together[0].p == pytest.approx(4 * alone[0].p)


def test_a_claim_about_several_series_has_a_verdict_for_each() -> None:
    item = FigureClaim.from_plain(
        {"claim": "c", "series": ["s", "t"], "slope": {"above": 0}}, "claims.0"
    )
    found = verdicts([item], [curve([1.0, 2.0]), curve([2.0, 1.0], "t")], {})
    assert [(line.claim, line.holds) for line in found] == [
        ("c: s", HOLDS),
        ("c: t", FAILS),
    ]


def test_a_claim_about_a_missing_series_or_finding_gives_an_error() -> None:
    with pytest.raises(ConfigError, match="claims.series"):
        verdicts(
            [
                LowestClaim(
                    claim="c", panel=Rivals(("p",)), series=Rivals(("other",)), lowest=(0, 1)
                )
            ],
            [curve([1.0])],
            {},
        )
    with pytest.raises(ConfigError, match="has no"):
        claim(curve([1.0]), run=FinishedRun({"run_id": "r", "report": {}}), reads="lemma")


# --- a figure


@pytest.fixture(scope="module")
def figure() -> Suite:
    return expand("samples_figure04@coarse", {}, ["method.trials=3"], COMPOSER)


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
    drawn = next(s for s in series_of(figure, tmp_path) if s.kind == "boundary")
    # the logistic curve differs from the shares, which rise in a line
    assert [(p.x, p.y) for p in drawn.points] == [
        (r, pytest.approx(6 * r, abs=40)) for r in (10, 30, 50, 70, 90)
    ]
    assert drawn.fit and drawn.fit.slope == pytest.approx(6, abs=0.6)
    assert "R²" not in drawn.legend and "3 independent trials" in text
    with (tmp_path / "figures" / f"{figure.name}.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["series"] == "converged"]
    assert len(rows) == 45 and float(rows[0]["value"]) == pytest.approx(0.5 - 10 / 400)
    assert (tmp_path / "figures" / f"{figure.name}.png").stat().st_size > 5000
    (line,) = csv.DictReader((tmp_path / "figures" / f"{figure.name}.claims.csv").open(newline=""))
    # three trials a cell decide nothing
    assert line["holds"] == OPEN and line["what was measured"].startswith("slope 6.")
    assert "the examples needed grow linearly with r" in text


def test_a_run_without_one_of_its_three_numbers_is_in_no_cell(figure: Suite) -> None:
    panel = figure_spec(figure).panels[0]
    spec = panel.series[0]
    keys = [str(panel.x.key), str(panel.y.key), spec.value]
    whole = dict(zip(keys, (10.0, 60.0, 0.5), strict=True))
    reports = [whole, *({**whole, key: None} for key in keys)]
    runs = [FinishedRun({**valid_record(0), "report": report}) for report in reports]
    (cell,) = points(spec, "p", runs, panel, "accuracy")
    assert (cell.n, cell.value) == (1, 0.5)
    assert points(spec, "p", runs[1:], panel, "accuracy") == []


def test_missing_cells_give_no_verdict(figure: Suite, tmp_path: Path) -> None:
    text = write_figure(figure, tmp_path)
    assert UNKNOWN in text and "45 runs are not done" in text


def test_the_deviation_of_a_run_and_the_root_of_its_inputs_are_drawn(tmp_path: Path) -> None:
    curves = expand("samples_figure03@coarse", {}, ["method.trials=3"], COMPOSER)
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
        # three trials: no rival power is rejected; the gap is 12 standard errors
        assert [row["holds"] for row in csv.DictReader(file)] == [OPEN, OPEN, HOLDS]
    assert "4 of 4 points, gap" in text

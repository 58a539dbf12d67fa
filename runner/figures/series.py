"""Compute the points of each series of a figure from result.json and series.json.

Nothing is run here. runner/suites/schema_series.py defines what a series of each kind reads,
`points` turns it into points, and runner/figures/write.py writes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import singledispatch
from pathlib import Path

from runner.errors import ConfigError
from runner.figures.as_ran import at_what_ran, series_label
from runner.figures.fits import boundary, boundary_line, cells_of, fitted
from runner.figures.judges import lack_of_fit
from runner.figures.points import Point, Series
from runner.records.kinds import kind_of
from runner.records.read import HISTORY, FinishedRun, find_run
from runner.spec.findings import doubts, is_diverged, number
from runner.stats.seeds import Measured
from runner.suites.cells import Cell
from runner.suites.expand import Suite
from runner.suites.layouts import series_key
from runner.suites.metrics import accuracy_names
from runner.suites.numbers import mean_and_spread
from runner.suites.schema_figures import Axis, FigurePanel, FigureSpec
from runner.suites.schema_series import (
    BoundarySpec,
    CurveSpec,
    HeatSpec,
    HistogramSpec,
    MarkSpec,
    SeriesSpec,
    TraceSpec,
)
from runner.tables.entries import collapsed

Runs = Sequence[FinishedRun]  # of one point, one per seed; at least one
# Keys whose numbers are counts of test images.
ACCURACIES = frozenset({*accuracy_names(), "accuracy_top5", f"{HISTORY}accuracy"})


def figure_spec(suite: Suite) -> FigureSpec:
    """The spec of a figure.

    Raises:
        TypeError: the suite is a table.
    """
    if not isinstance(suite.spec, FigureSpec):
        raise TypeError(f"{suite.name} is no figure")
    return suite.spec


def series_of(suite: Suite, results_dir: Path) -> list[Series]:
    """Return every series of the figure with the existing numbers."""
    found = []
    for panel in figure_spec(suite).panels:
        shown = list(panel.networks_of(suite.networks))
        for spec, network, more in panel.names(suite.networks):
            cells = {
                point: suite.cells[series_key(panel.ref, spec.ref, network), point]
                for point in panel.points_of(spec)
            }
            number = panel.series.index(spec) if spec.colour is None else spec.colour
            colour = number + len(panel.series) * shown.index(network)
            metric = suite.options["metric"]
            found.append(_series(panel, spec, more, colour, _distinct(cells), metric, results_dir))
    return found


def _series(
    panel: FigurePanel,
    spec: SeriesSpec,
    more: str,
    colour: int,
    cells_by_point: dict[str, Cell],
    accuracy: str,
    results_dir: Path,
) -> Series:
    """Build a series on one network. `more`: the suffix of its label and id for that network."""
    finished = {
        point: [run for job in cell.jobs if (run := find_run(job.run_id, results_dir))]
        for point, cell in cells_by_point.items()
    }
    runs = {
        point: [run for run in there if not is_diverged(run.record) and run.tells(spec.reads)]
        for point, there in finished.items()
    }
    found = [
        at_what_ran(point, panel.x, cells_by_point[name])
        for name, there in runs.items()
        for point in (points(spec, name, there, panel, accuracy) if there else ())
    ]
    series = Series(
        panel.label,
        series_label(spec, cells_by_point) + more,
        spec.draw,
        tuple(found),
        requested=sum(len(cell.jobs) for cell in cells_by_point.values()),
        done=sum(map(len, runs.values())),
        colour=colour,
        line=spec.line,
        fit=None if isinstance(spec, BoundarySpec) else fitted(found, spec.fitted),
        ids=(panel.ref, spec.ref + more),
        diverged=sum(is_diverged(run.record) for there in finished.values() for run in there),
        collapsed=_collapsed(cells_by_point, runs),
        doubt=_doubt(spec, [run for there in runs.values() for run in there]),
        rounding=_rounding(spec, list(cells_by_point.values())),
    )
    return with_lack_of_fit(_bounded(series) if isinstance(spec, BoundarySpec) else series)


def _collapsed(cells: Mapping[str, Cell], runs: Mapping[str, Runs]) -> int:
    """Number of drawn runs whose accuracy is that of chance."""
    done = {run.record["run_id"]: run.record for there in runs.values() for run in there}
    return collapsed([job for cell in cells.values() for job in cell.jobs], done)


def with_lack_of_fit(series: Series) -> Series:
    """The series with the lack of fit of its line."""
    return replace(series, fit=replace(series.fit, p=lack_of_fit(series))) if series.fit else series


def _distinct(cells: dict[str, Cell]) -> dict[str, Cell]:
    """The points of a series without those that have the runs of an earlier one."""
    first: dict[tuple[str, ...], str] = {}
    for name, cell in cells.items():
        first.setdefault(tuple(job.run_id for job in cell.jobs), name)
    return {name: cells[name] for name in first.values()}


def _bounded(series: Series) -> Series:
    """The boundary of a phase diagram in place of its cells."""
    cells = cells_of(series.points)
    found, text = boundary(series.points, cells)
    return replace(series, points=tuple(found), fit=boundary_line(cells), doubt=text, cells=cells)


def _rounding(spec: SeriesSpec, cells: Sequence[Cell]) -> float:
    """The variance of rounding to one test image, in percent; 0 for what is no accuracy."""
    images = [job.outline.test_images for cell in cells for job in cell.jobs]
    if not images or not ACCURACIES.intersection(spec.reads[-1:]):
        return 0.0
    return float((100 / min(images)) ** 2 / 12)


def _doubt(spec: SeriesSpec, runs: Runs) -> str:
    """How many runs failed or lack the convergence check of the last key that the series reads."""
    if not spec.reads:
        return ""
    return doubts([run.record["report"] for run in runs], spec.reads[-1], spec.checked)


@singledispatch
def points(
    spec: SeriesSpec, name: str, runs: Runs, panel: FigurePanel, accuracy: str
) -> list[Point]:
    """Turn the runs of one point of a series into points; empty if no run has a number.

    Args:
        name: the name of the point.
        accuracy: the key for which `accuracy` stands.
    """
    raise TypeError(f"{type(spec).__name__} has no points")


@points.register(CurveSpec)
def _at(spec: CurveSpec, name: str, runs: Runs, panel: FigurePanel, accuracy: str) -> list[Point]:
    """Return the point of a curve or a bar."""
    key = accuracy if spec.y == "accuracy" else spec.y
    xs = [_literal(name) if panel.x.key is None else run.number(panel.x.key) for run in runs]
    ys = [run.number(key, spec.item) for run in runs]
    pairs = [(x, y) for x, y in zip(xs, ys, strict=True) if x is not None and y is not None]
    if not pairs:
        return []
    y, spread = mean_and_spread([y for _, y in pairs])
    trials = None
    if spec.spread and len(pairs) == 1:
        spread, trials = runs[0].number(spec.spread), _trials(runs[0])
    x = _along(panel.x, [x for x, _ in pairs])
    return [Point(name, len(pairs), x, y, spread, by_seed=by_seed(runs, ys), trials=trials)]


def by_seed(runs: Runs, ys: Sequence[float | None]) -> tuple[tuple[int, Measured], ...]:
    """Seeds and numbers of runs, where a run has one."""
    return tuple(
        (run.record["seed"], Measured(float(y), kind_of(run.record)))
        for run, y in zip(runs, ys, strict=True)
        if y is not None
    )


def _trials(run: FinishedRun) -> int | None:
    """The number of independent trials of a run; None if it has none."""
    trials = number(run.record["report"], "trials")
    return None if trials is None else int(trials)


def _along(axis: Axis, values: list[float]) -> float:
    """The mean coordinate of runs along an axis."""
    mean = mean_and_spread(values)[0]
    return float(mean if axis.power is None else mean**axis.power) * axis.times


def _literal(name: str) -> float:
    """The value in a point's name, for an axis without a key: 5 for `train.epochs=5`.

    The result is 0 for a word, whose coordinate is not used.
    """
    try:
        return float(name.partition("=")[2])
    except ValueError:
        return 0.0


@points.register(HeatSpec)
@points.register(BoundarySpec)
def _cell(
    spec: HeatSpec | BoundarySpec, name: str, runs: Runs, panel: FigurePanel, accuracy: str
) -> list[Point]:
    """Return the cell of a phase diagram."""
    keys = (panel.x.key or "", panel.y.key or "", spec.value)
    known = [(run, found) for run in runs if (found := _numbers(run, keys))]
    if not known:
        return []
    xs, ys, values = (list(each) for each in zip(*(found for _, found in known), strict=True))
    x, y, (value, _) = _along(panel.x, xs), _along(panel.y, ys), mean_and_spread(values)
    trials = sum(_trials(run) or 1 for run, _ in known)
    return [Point(name, len(known), x, y, value=value, trials=trials)]


def _numbers(run: FinishedRun, keys: Sequence[str]) -> list[float]:
    """The numbers of a run by several keys; none if one of them is null."""
    found = [number for key in keys if (number := run.number(key)) is not None]
    return found if len(found) == len(keys) else []


@points.register(TraceSpec)
def _trace(
    spec: TraceSpec, name: str, runs: Runs, panel: FigurePanel, accuracy: str
) -> list[Point]:
    """Return points where some seed has a number; none has one in an epoch without a test."""
    deviations: list[float] = []
    if spec.spread and len(runs) == 1 and spec.spread in runs[0].series:
        deviations = runs[0].whole_list(spec.spread)
    rows = zip(_alike(spec.x, runs), *(run.numbers(spec.y) for run in runs), strict=True)
    found = []
    for i, (x, *ys) in enumerate(rows):
        if x is None or not (numbers := by_seed(runs, ys)):
            continue
        y, spread = mean_and_spread([number.value for _, number in numbers])
        trials = None
        if deviations:
            spread, trials = deviations[i], _trials(runs[0])
        found.append(Point(name, len(numbers), x, y, spread, by_seed=numbers, trials=trials))
    return found


@points.register(HistogramSpec)
def _histogram(
    spec: HistogramSpec, name: str, runs: Runs, panel: FigurePanel, accuracy: str
) -> list[Point]:
    """Return a point for each bin, without the empty bins at both ends."""
    _alike(spec.x, runs)
    edges, heights = runs[0].whole_list(spec.x), [run.whole_list(spec.y) for run in runs]
    bins = zip(edges, edges[1:], zip(*heights, strict=True), strict=False)
    found = [
        Point(name, len(runs), low, *mean_and_spread(list(y)), x_end=high) for low, high, y in bins
    ]
    full = [i for i, point in enumerate(found) if point.y]
    return found[full[0] : full[-1] + 1] if full else found


@points.register(MarkSpec)
def _mark(spec: MarkSpec, name: str, runs: Runs, panel: FigurePanel, accuracy: str) -> list[Point]:
    """Return the mean position over the runs; empty if no run has one."""
    values = [x for run in runs if (x := run.number(spec.x, spec.item)) is not None]
    if not values:
        return []
    return [Point(name, len(values), mean_and_spread(values)[0] * spec.times + spec.plus)]


def _alike(key: str, runs: Runs) -> Sequence[float | None]:
    """Return a list that is equal for all seeds.

    Raises:
        ConfigError: the lists differ, so they have no mean.
    """
    first = runs[0].numbers(key)
    for run in runs[1:]:
        if run.numbers(key) != first:
            raise ConfigError(
                f"{key} of {run.record['run_id']} differs from that of {runs[0].record['run_id']}:"
                " seeds drawn together share their axis"
            )
    return first

"""Records to figures: the numbers of each series, from result.json and series.json alone; runner/figures/write.py writes them. Nothing is run here.

A figure's YAML has panels with axes and series, for all of the figure's networks or for those that the panel lists; a series has overrides, and says how its
numbers are drawn:

    draw: curve      (default) a point for each of its `points`, or of the panel's: y is a number of the record or of series.json, mean and deviation over seeds
          bars       the same side by side, named by the point
          trace      one run's arrays: x and y are both lists, of series.json or of the history
          histogram  x: edges (n + 1), y: heights (n), both of series.json
          mark       a vertical line at x, times `times` plus `plus`
          heat       cells of a phase diagram: a run's `value` (0 black, 1 white) at its x and y
          boundary   of the same cells: for each x, the y where `value` passes one half
    fit: linear | power   a least-squares line through the points, drawn and named with its R2 (power: of the logarithms); a boundary's is linear unless given
    spread: KEY  of one run, the deviation over its own trials
    axes: {key: KEY, power: P, times: F}   what stands along an axis: (KEY of the record)^P times F
    x, y: what is read: a field of the record, of its report, or a list of series.json, of which `item` takes one number; `history.KEY` is the list of KEY
          over the epochs of the run's last training (metrics.jsonl): epoch, lr, train_loss, test_loss, accuracy, val_accuracy
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.errors import ConfigError
from runner.figures.fits import crossings, fitted
from runner.figures.points import Point, Series
from runner.records.read import Found, find_run
from runner.suites.expand import Cell, Table
from runner.suites.layouts import networks_of, points_of, series_key
from runner.suites.numbers import mean_and_spread


def series_of(table: Table, results_dir: Path) -> list[Series]:
    """Every series of the figure with the numbers that are there."""
    setting = table.spec["elsewhere"][table.variant] if table.variant else table.spec
    found = []
    for panel in setting.get("panels", table.spec["panels"]):
        for number, spec in enumerate(panel["series"]):
            for place, network in enumerate(shown := networks_of(panel, table.networks)):
                label = spec["label"] + (f", {network}" if len(shown) > 1 else "")
                cells = {point: table.cells[series_key(panel["label"], spec["label"], network), point] for point in points_of(panel, spec)}
                colour = spec.get("colour", number) + len(panel["series"]) * place
                found.append(_series(table, panel, {**spec, "label": label, "colour": colour}, cells, results_dir))
    return found


def _series(table: Table, panel: dict[str, Any], spec: dict[str, Any], cells: dict[str, Cell], results_dir: Path) -> Series:
    keys = [spec[axis] for axis in ("x", "y") if axis in spec]
    runs = {point: [run for job in cell.jobs if (run := find_run(job.run_id, results_dir)) and run.tells(keys)] for point, cell in cells.items()}
    kind = spec.get("draw", "curve")
    points = [point for name, found in runs.items() if found for point in KINDS[kind](name, found, panel, spec, table.spec["metric"])]
    asked, done = sum(len(cell.jobs) for cell in cells.values()), sum(map(len, runs.values()))
    points = crossings(points) if kind == "boundary" else points
    line = fitted(points, spec.get("fit", "linear" if kind == "boundary" else None))
    return Series(panel["label"], spec["label"], kind, tuple(points), asked, done, spec["colour"], spec.get("line", "solid"), line)


def _at(name: str, runs: list[Found], panel: dict[str, Any], spec: dict[str, Any], metric: str) -> list[Point]:
    """A point of a curve or a bar; none where no seed has a number."""
    key = metric if spec["y"] == "accuracy" else spec["y"]
    pairs = [(run.number(panel["x"]["key"]) if "key" in panel["x"] else _literal(name), run.number(key, spec.get("item"))) for run in runs]
    pairs = [(x, y) for x, y in pairs if x is not None and y is not None]
    if not pairs:
        return []
    (y, spread), own = mean_and_spread([y for _, y in pairs]), spec.get("spread")
    spread = runs[0].number(own) if own and len(pairs) == 1 else spread
    return [Point(name, len(pairs), _along(panel["x"], [x for x, _ in pairs]), y, spread)]


def _along(axis: dict[str, Any], values: list[float]) -> float:
    """Where runs stand along an axis."""
    mean: float = mean_and_spread(values)[0]
    return float(mean ** axis["power"] if "power" in axis else mean) * axis.get("times", 1)


def _cell(name: str, runs: list[Found], panel: dict[str, Any], spec: dict[str, Any], metric: str) -> list[Point]:
    """A cell of a phase diagram."""
    x, y = (_along(panel[axis], [run.number(panel[axis]["key"]) for run in runs]) for axis in ("x", "y"))
    return [Point(name, len(runs), x, y, value=mean_and_spread([run.number(spec["value"]) for run in runs])[0])]


def _literal(name: str) -> float:
    """The value of a point that no field of the record stands for: of `train.epochs=5`, 5; of a word, its place does not matter."""
    try:
        return float(name.partition("=")[2])
    except ValueError:
        return 0.0


def _trace(name: str, runs: list[Found], panel: dict[str, Any], spec: dict[str, Any], metric: str) -> list[Point]:
    """Points where some seed has a number: a training that diverged has none from some epoch on."""
    xs, ys = _alike(spec["x"], runs), zip(*(run.numbers(spec["y"]) for run in runs), strict=True)
    return [Point(name, len(there), x, *mean_and_spread(there)) for x, y in zip(xs, ys, strict=True) if (there := [v for v in y if v is not None])]


def _histogram(name: str, runs: list[Found], panel: dict[str, Any], spec: dict[str, Any], metric: str) -> list[Point]:
    edges, heights = _alike(spec["x"], runs), [run.numbers(spec["y"]) for run in runs]
    bins = zip(edges, edges[1:], zip(*heights, strict=True), strict=False)
    points = [Point(name, len(runs), low, *mean_and_spread(list(y)), x_end=high) for low, high, y in bins]
    full = [i for i, point in enumerate(points) if point.y]  # empty ends are left out, so that the axis shows what is there
    return points[full[0] : full[-1] + 1] if full else points


def _mark(name: str, runs: list[Found], panel: dict[str, Any], spec: dict[str, Any], metric: str) -> list[Point]:
    """Where the runs have it, on average; nowhere if none has."""
    values = [x for run in runs if (x := run.number(spec["x"], spec.get("item"))) is not None]
    return [Point(name, len(values), mean_and_spread(values)[0] * spec.get("times", 1) + spec.get("plus", 0))] if values else []


KINDS: dict[str, Callable[..., list[Point]]] = {
    "curve": _at,
    "bars": _at,
    "trace": _trace,
    "histogram": _histogram,
    "mark": _mark,
    "heat": _cell,
    "boundary": _cell,
}


def _alike(key: str, runs: list[Found]) -> list[float]:
    """A list that all seeds have in common.

    Raises:
        ConfigError: they differ, so that there is no mean over them.
    """
    first: list[float] = runs[0].numbers(key)
    for run in runs[1:]:
        if run.numbers(key) != first:
            raise ConfigError(f"{key} of {run.record['run_id']} differs from that of {runs[0].record['run_id']}: seeds drawn together share their axis")
    return first

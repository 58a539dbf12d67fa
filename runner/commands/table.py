"""`winnow table 'results/*' --rows method --columns density --value accuracy`: any runs as a table.

Runs that agree in the row and the column are one entry: mean, standard deviation, number of runs.
No YAML describes the table.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from runner.errors import ConfigError, nearest
from runner.paths import user_path
from runner.records.flat import Cells, row_of, stored_runs
from runner.records.pivot import Pivot, in_order, pivot, shown

DENSITY, TARGET = "density", "density_target"  # reached and requested
# Columns in which equal runs differ: what was measured, and when.
MEASURED = ("run_id", "seed", "status", "label", "runtime_s", "wall_s", "schema")
SHOWN = 3  # keys and values in a note


def table(words: Sequence[str], console: Console) -> int:
    """Print a table of finished runs, and draw it with `--plot`.

    Raises:
        ConfigError: there are no runs, or they have no such column.
    """
    args = _parser().parse_args(words)
    runs = [row_of(run) for run in stored_runs(*args.places)]
    known = list(dict.fromkeys(key for run in runs for key in run))
    rows, columns, value = (column(name, known) for name in (args.rows, args.columns, args.value))
    for text in args.where:
        key, _, wanted = text.partition("=")
        key = column(key, known)
        found = [run for run in runs if shown(axis(run, key)) == wanted]
        if not found:
            values = ", ".join(shown(each) for each in in_order({axis(r, key) for r in runs}))
            raise ConfigError(f"--where {text}: no run has it; {key} is one of {values}")
        runs = found
    chosen = [{**run, DENSITY: axis(run, DENSITY)} for run in runs]
    result = pivot(chosen, rows, columns, value)
    console.print(str(result), soft_wrap=True)
    for note in mixed(runs, result):
        console.print(note, soft_wrap=True)
    if args.plot:
        draw(result, args.plot)
        console.print(f"drawn to {args.plot}", soft_wrap=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="winnow table", description=__doc__)
    parser.add_argument("places", nargs="*", default=["results"], metavar="PLACE")
    parser.add_argument("--rows", default="method", metavar="KEY")
    parser.add_argument("--columns", default=DENSITY, metavar="KEY")
    parser.add_argument("--value", default="accuracy", metavar="KEY")
    parser.add_argument("--where", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--plot", type=user_path, metavar="FILE")
    return parser


def column(name: str, known: Sequence[str]) -> str:
    """The column that a name means: `train` is `train.name`.

    Raises:
        ConfigError: no run has it.
    """
    found = next((each for each in (name, f"{name}.name") if each in known), None)
    if found is None:
        raise ConfigError(f"{name} is not a column of these runs{nearest(name, known)}")
    return found


def axis(run: Cells, key: str) -> Any:
    """The value of a run along an axis; of `density` the requested one, as far as there is one."""
    target = run.get(TARGET) if key == DENSITY else None
    return run.get(key) if target is None else target


def mixed(runs: Sequence[Cells], result: Pivot) -> list[str]:
    """A note if entries mix runs that differ in further settings, with the first of these."""
    groups: dict[tuple[Any, Any], list[Cells]] = {}
    for run in runs:
        groups.setdefault((axis(run, result.rows), axis(run, result.columns)), []).append(run)
    settings = ("dataset", "model", "method", "train_fraction")
    keys = {key for run in runs for key in run if "." in key or key in settings}
    keys -= {*MEASURED, result.rows, result.columns, result.value}
    keys = {key for key in keys if not key.endswith((".name", ".label"))}
    differing: dict[str, list[Any]] = {}
    for key in sorted(keys, key=lambda each: (each.count("."), each)):
        for group in groups.values():
            values = {run.get(key) for run in group}
            if len(values) > 1:
                differing[key] = in_order({*differing.get(key, ()), *values})
    if not differing:
        return []
    listed = [f"{key} ({_some(values)})" for key, values in differing.items()]
    return [f"note: entries mix runs that differ in {_some(listed)}; choose with --where KEY=VALUE"]


def _some(values: Sequence[Any]) -> str:
    """The first values as text, and the number of the others."""
    more = [f"{len(values) - SHOWN} more"] if len(values) > SHOWN else []
    return ", ".join([*map(shown, values[:SHOWN]), *more])


def draw(result: Pivot, path: Path) -> None:
    """Draw a line for each row, with the standard deviations as bars.

    Raises:
        ConfigError: matplotlib is missing, or does not know the ending of the file.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("--plot needs matplotlib: pip install -e '.[figures]'") from error
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    columns = result.column_values
    numeric = all(isinstance(each, (int, float)) for each in columns)
    places: Mapping[Any, Any] = {each: each if numeric else shown(each) for each in columns}
    for row in result.row_values:
        points = [
            (places[each], spread.mean, spread.deviation or 0.0)
            for each in columns
            if (spread := result.cells.get((row, each))) and spread.mean is not None
        ]
        if points:
            x, y, errors = zip(*points, strict=True)
            axes.errorbar(x, y, yerr=errors, marker="o", capsize=3, label=shown(row))
    if numeric and min(columns) > 0 and max(columns) > 10 * min(columns):
        axes.set_xscale("log")
    axes.set_xlabel(result.columns)
    axes.set_ylabel(result.value)
    axes.legend(title=result.rows)
    try:
        figure.savefig(path)
    except (ValueError, OSError) as error:
        raise ConfigError(f"--plot {path}: {error}") from error

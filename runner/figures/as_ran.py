"""Labels and coordinates of a figure by what ran, where that is not what its YAML asks for."""

from collections.abc import Mapping
from dataclasses import replace

from runner.figures.points import Point
from runner.suites.cells import Cell
from runner.suites.readings import as_ran, label_as_ran
from runner.suites.schema_figures import XAxis
from runner.suites.schema_series import SeriesSpec


def series_label(spec: SeriesSpec, cells: Mapping[str, Cell]) -> str:
    """The label of a series with what ran."""
    job = next((job for cell in cells.values() for job in cell.jobs), None)
    return label_as_ran(spec.label, spec.ran, job.run) if spec.ran and job else spec.label


def at_what_ran(point: Point, axis: XAxis, cell: Cell) -> Point:
    """The point at its coordinate along an axis of what ran."""
    return replace(point, x=x_as_ran(axis, cell, point.x)) if axis.ran else point


def x_as_ran(axis: XAxis, cell: Cell, asked: float) -> float:
    """The coordinate of a point along an axis of what ran; `asked` if its run has no such value."""
    value = as_ran(axis.ran, cell.jobs[0].run) if cell.jobs else None
    return asked if value is None else float(value)

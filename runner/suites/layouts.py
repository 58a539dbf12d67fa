"""Layouts of tables: the cell specs and the lines of the printed page.

Nothing is composed or run here. Every layout takes the merged spec (runner/suites/spec.py), the
values of the table's options, and the chosen networks. Layouts whose YAML names the lines of the
paper's CSV are in layouts_blocks.py.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from runner.suites.layouts_blocks import blocks, matrix
from runner.suites.metrics import ACCURACY, find_metric
from runner.suites.page import CellSpec, Key, Line, Page, Setting
from runner.suites.rules import applies, rule_overrides
from runner.suites.schema import SuiteSpec
from runner.suites.schema_blocks import BlocksTable, MatrixTable
from runner.suites.schema_figures import FigureSpec
from runner.suites.schema_tables import (
    AxisName,
    GridMethod,
    GridPanel,
    GridTable,
    NetworksTable,
    Row,
    SettingsTable,
)

# Heads of the columns that hold labels.
STUBS: Mapping[AxisName, str] = {"network": "Model", "density": "Density", "method": "Model"}


def lay_out(
    spec: SuiteSpec, options: Mapping[str, str], networks: Mapping[str, str]
) -> tuple[list[CellSpec], Page]:
    """Return the cell specs of a table or figure and its page.

    Args:
        spec: the spec, merged with the requested variant.
        options: the value of each option of the table.
        networks: printed name -> model of the chosen networks.
    """
    match spec:
        case NetworksTable():
            return _by_network(spec, options, networks)
        case GridTable():
            return _grid(spec, options, networks)
        case MatrixTable():
            return matrix(spec, options, networks)
        case BlocksTable():
            return blocks(spec, options, networks)
        case SettingsTable():
            return _settings(spec, options)
        case FigureSpec():
            return _figure(spec, options, networks)
    raise TypeError(f"{type(spec).__name__} has no layout")


# --- networks


def _by_network(
    spec: NetworksTable, options: Mapping[str, str], networks: Mapping[str, str]
) -> tuple[list[CellSpec], Page]:
    """Lay out one row per method, with the metrics of each network side by side."""
    metrics = [find_metric(name) for name in spec.metrics]
    rows = [row for row in spec.rows if applies(row.when, options)]
    cells = [
        _network_cell(row, network, model, spec, options)
        for row, (network, model) in product(rows, networks.items())
    ]
    heads = (
        (("Neural Network", 1), *((name, len(metrics)) for name in networks)),
        (("Metric", 1), *((metric.heading, 1) for _ in networks for metric in metrics)),
    )
    lines = tuple(
        Line((r.label,), tuple(((r.label, n), m) for n in networks for m in metrics)) for r in rows
    )
    return cells, Page(heads, lines, spec.paper_columns)


def _network_cell(
    row: Row, network: str, model: str, spec: NetworksTable, options: Mapping[str, str]
) -> CellSpec:
    chooses = spec.best_of and options["select_on"] == "validation"
    overrides = (
        *spec.overrides,
        *rule_overrides(spec, options, None, network, row.ref),
        *(["dataset.validation=0.1"] if chooses else []),
        f"model={model}",
        *row.overrides,
    )
    position = list(spec.networks).index(network)
    return CellSpec(
        key=(row.label, network),
        network=network,
        overrides=overrides,
        densities=spec.best_of.get(row.ref) or row.density[position : position + 1],
        paper=(row.label, spec.of_paper(network)),
        labels={"network": network, "method": row.label},
        ids={"network": network, "method": row.ref},
        ran={"method": row.ran} if row.ran else {},
    )


# --- grid


@dataclass(frozen=True)
class _At:
    """A value along an axis of a grid.

    Args:
        value: the printed name of a network, a density or a method.
    """

    label: str
    value: Any


def _axis(
    spec: GridTable, name: AxisName, options: Mapping[str, str], networks: Mapping[str, str]
) -> list[_At]:
    """The values along an axis."""
    if name == "network":
        return [_At(network, network) for network in networks]
    if name == "density":
        return [_At(f"{100 * density:g} %", density) for density in spec.densities]
    return [_At(method.label, method) for method in spec.methods if applies(method.when, options)]


def _grid(
    spec: GridTable, options: Mapping[str, str], networks: Mapping[str, str]
) -> tuple[list[CellSpec], Page]:
    rows = list(product(*(_axis(spec, name, options, networks) for name in spec.rows)))
    columns = list(product(*(_axis(spec, name, options, networks) for name in spec.columns)))
    cells, lines = [], list[Line]()
    for panel in spec.panels:
        lines += [Line((panel.label,))] if len(spec.panels) > 1 else []
        for above, row in zip([None, *rows], rows, strict=False):
            row_key = " ".join((panel.label, *(at.label for at in row)))
            keys = [(row_key, " ".join(at.label for at in column)) for column in columns]
            for key, column in zip(keys, columns, strict=True):
                at = dict(zip((*spec.rows, *spec.columns), (*row, *column), strict=True))
                cells.append(_grid_cell(key, at, panel, spec, options, networks))
            # The name of a network is printed once for all its lines.
            same = above is not None and len(row) > 1 and above[0].label == row[0].label
            labels = ("" if same else row[0].label, *(at.label for at in row[1:]))
            lines.append(Line(labels, tuple((key, ACCURACY) for key in keys)))
    return cells, Page(tuple(_grid_heads(spec, columns)), tuple(lines), spec.paper_columns)


def _grid_heads(
    spec: GridTable, columns: list[tuple[_At, ...]]
) -> Iterator[tuple[tuple[str, int], ...]]:
    """Yield a header line for each axis of the columns; a label that spans columns appears once."""
    stubs = tuple((STUBS[axis], 1) for axis in spec.rows)
    for depth, axis in enumerate(spec.columns):
        labels = [column[depth].label for column in columns]
        if depth + 1 < len(spec.columns):
            width = len(columns) // len(dict.fromkeys(labels))
            yield (*stubs, *((label, width) for label in dict.fromkeys(labels)))
        else:
            yield (
                *(stubs if len(spec.columns) == 1 else [(STUBS[axis], 1)] * len(stubs)),
                *((label, 1) for label in labels),
            )


def _grid_cell(
    key: Key,
    at: Mapping[AxisName, _At],
    panel: GridPanel,
    spec: GridTable,
    options: Mapping[str, str],
    networks: Mapping[str, str],
) -> CellSpec:
    method: GridMethod = at["method"].value
    network, density = at["network"].label, at["density"]
    overrides = (
        *(*spec.overrides, *panel.overrides, f"model={networks[network]}", *method.overrides),
        *rule_overrides(spec, options, panel.ref, network, method.ref),
    )
    names = method.paper or (method.label, "")
    paper = (panel.paper, spec.of_paper(network), *names, f"{density.value:g}")
    labels = {
        "panel": panel.label,
        "network": network,
        "method": method.label,
        "density": density.label,
    }
    return CellSpec(
        key,
        network,
        overrides,
        (density.value,),
        paper,
        labels=labels,
        ids=labels | {"panel": panel.ref, "method": method.ref},
    )


# --- settings


def _settings(spec: SettingsTable, options: Mapping[str, str]) -> tuple[list[CellSpec], Page]:
    """Lay out one line per hyper-parameter; nothing is run."""
    cells, lines = [], list[Line]()
    for group in spec.groups:
        for i, row in enumerate(row for row in group if applies(row.when, options)):
            key = row.label, "Value"
            reads = tuple((row.reads, overrides) for overrides in row.under)
            cells.append(CellSpec(key, "", spec.overrides, paper=(row.label,), reads=reads))
            lines.append(Line((row.label,), ((key, Setting()),), begins=i == 0))
    return cells, Page(((("Parameter", 1), ("Value", 1)),), tuple(lines), spec.paper_columns)


# --- figures


def _figure(
    spec: FigureSpec, options: Mapping[str, str], networks: Mapping[str, str]
) -> tuple[list[CellSpec], Page]:
    """Lay out the series of the panels as rows and their points as columns; the page is empty."""
    cells = []
    for panel in spec.panels:
        for series, network, _ in panel.names(networks):
            row = series_key(panel.ref, series.ref, network)
            rules = rule_overrides(spec, options, panel.ref, network, series.ref)
            for point, own in panel.points_of(series).items():
                overrides = (*panel.overrides, *series.overrides, *rules, *own)
                shared = (*spec.overrides, f"model={networks[network]}")
                ids = {"panel": panel.ref, "network": network, "method": series.ref}
                key, own_seeds = (row, point), panel.seeds
                cells.append(
                    CellSpec(key, network, (*shared, *overrides), ids=ids, seeds=own_seeds)
                )
    return cells, Page((), (), ())


def series_key(panel: str, series: str, network: str) -> str:
    """The row key of a series in a figure's cells, from the ids of panel and series."""
    return f"{panel} {series} {network}"

"""The matrix and blocks layouts, whose YAML names each entry's line of the paper's CSV."""

from collections.abc import Mapping
from itertools import product

from runner.suites.metrics import ACCURACY, find_metric
from runner.suites.page import CellSpec, Key, Line, Page, Parts, Shown
from runner.suites.rules import applies, rule_overrides
from runner.suites.schema_blocks import (
    Block,
    BlockColumn,
    BlockRow,
    BlocksTable,
    MatrixColumn,
    MatrixMethod,
    MatrixPanel,
    MatrixTable,
)

DENSE = "dense"  # the column of an entry without a density

# --- matrix


def matrix(
    spec: MatrixTable, options: Mapping[str, str], networks: Mapping[str, str]
) -> tuple[list[CellSpec], Page]:
    """Lay out methods on data sets (`panels`) and networks as rows.

    The data set, method and column of an entry together name its line in the paper's CSV.
    """
    shown: Shown = Parts(spec.parts, spec.paper_number) if spec.parts else ACCURACY
    cells, lines = list[CellSpec](), list[Line]()
    panels = [panel for panel in spec.panels if applies(panel.when, options)]
    for panel, method, network in product(panels, spec.methods, networks):
        row = spec.row.format(method=method.label, dataset=panel.label)
        row += f", {network}" if len(networks) > 1 else ""
        model = networks[network]
        cells += [
            _matrix_cell((row, column.label), panel, method, column, network, model, spec, options)
            for column in spec.columns
        ]
        lines.append(Line((row,), tuple(((row, column.label), shown) for column in spec.columns)))
    over = [((spec.over[0], 1), (spec.over[1], len(spec.columns)))] if spec.over else []
    heads = (*over, ((spec.stub, 1), *((column.label, 1) for column in spec.columns)))
    return cells, Page(heads, tuple(lines), spec.paper_line)


def _matrix_cell(
    key: Key,
    panel: MatrixPanel,
    method: MatrixMethod,
    column: MatrixColumn,
    network: str,
    model: str,
    spec: MatrixTable,
    options: Mapping[str, str],
) -> CellSpec:
    overrides = (
        *(*spec.overrides, *panel.overrides, f"model={model}", *method.overrides),
        *column.overrides,
        *rule_overrides(spec, options, panel.ref, network, method.ref),
    )
    line = matrix_line(spec, panel, method, column, network)
    labels = {
        "panel": panel.label,
        "network": network,
        "method": method.label,
        "column": column.label,
    }
    return CellSpec(
        key=key,
        network=network,
        overrides=overrides,
        densities=() if panel.density is None else (panel.density,),
        paper=tuple(line[name] for name in spec.paper_line),
        labels=labels,
        ids=labels | {"panel": panel.ref, "method": method.ref, "column": column.ref},
        ran={"column": column.ran} if column.ran else {},
    )


def matrix_line(
    spec: MatrixTable, panel: MatrixPanel, method: MatrixMethod, column: MatrixColumn, network: str
) -> dict[str, str]:
    """The line of an entry in the paper's CSV: column -> text."""
    standing = spec.of_paper(network)
    return (
        {"architecture": spec.paper_networks.get(standing, standing)}
        | panel.paper
        | method.paper
        | column.paper
    )


# --- blocks


def blocks(
    spec: BlocksTable, options: Mapping[str, str], networks: Mapping[str, str]
) -> tuple[list[CellSpec], Page]:
    """Lay out the rows once per block; each block has its own network or density."""
    cells, lines = list[CellSpec](), list[Line]()
    for block in spec.blocks:
        if block.network not in (None, *networks):
            continue
        lines += [Line((block.label,))] if block.label else []
        for i, row in enumerate(rows_of(block, spec, options)):
            of_row = _block_row(row, block, spec, options, networks)
            label = row.label.format(network=of_row[0].network)
            begins = i == 0 and bool(lines) and not block.label
            lines.append(Line((label,), _block_entries(of_row, spec.columns), begins))
            cells += of_row
    heads = (((spec.stub, 1), *((column.label, 1) for column in spec.columns)),)
    return cells, Page(heads, tuple(lines), spec.paper_line)


def _block_entries(
    cells: list[CellSpec], columns: tuple[BlockColumn, ...]
) -> tuple[tuple[Key, Shown] | None, ...]:
    """The entries of a row, one per column.

    A column without a density shows a further number of the row's first entry, or of the one at
    `at`. A dense network has one entry, in the first column.
    """
    by_density = {cell.key[1]: cell.key for cell in cells}
    first = cells[0].key
    entries: list[tuple[Key, Shown] | None] = []
    for i, column in enumerate(columns):
        key: Key | None = first if column.at is None else by_density.get(_at(column.at), first)
        if column.density is not None:
            dense = first if i == 0 and DENSE in by_density else None
            key = by_density.get(_at(column.density), dense)
        entries.append((key, find_metric(column.metric)) if key else None)
    return tuple(entries)


def _block_row(
    row: BlockRow,
    block: Block,
    spec: BlocksTable,
    options: Mapping[str, str],
    networks: Mapping[str, str],
) -> list[CellSpec]:
    """Return a cell spec for each density of a row in a block."""
    network = block.network or next(iter(networks))
    standing = spec.of_paper(network)
    label, ref = row.label.format(network=network), row.ref_on(network)
    name = ", ".join(filter(None, (block.label or network, label, row.name)))
    overrides = (
        *(*spec.overrides, *(() if row.dense else block.overrides), f"model={networks[network]}"),
        *row.overrides,
        *rule_overrides(spec, options, block.label or None, network, ref),
    )
    cells = []
    for density in densities_of(row, block, spec):
        line = block_line(row, block, standing, density)
        labels = {
            "panel": block.label,
            "network": network,
            "method": ", ".join(filter(None, (label, row.name))),
            "density": _at(density),
        }
        cell = CellSpec(
            key=(name, _at(density)),
            network=network,
            overrides=overrides,
            densities=() if density is None else (density,),
            paper=tuple(line.get(key, "").format(network=standing) for key in spec.paper_line),
            quoted=row.quoted,
            labels=labels,
            ids=labels | {"method": ref},
            ran=_ran(row, block),
            seeds=block.seeds,
        )
        cells.append(cell)
    return cells


def _ran(row: BlockRow, block: Block) -> dict[str, str]:
    """Axis -> the reading of the number in its label; a dense network is alike in all blocks."""
    axes = {"method": row.ran, "panel": "" if row.dense else block.ran}
    return {axis: key for axis, key in axes.items() if key}


def rows_of(block: Block, spec: BlocksTable, options: Mapping[str, str]) -> list[BlockRow]:
    """The rows of a block with these options of the table."""
    rows = [row for row in spec.rows if applies(row.when, options)]
    return [row for row in rows if block.rows is None or row.ref in block.rows]


def densities_of(row: BlockRow, block: Block, spec: BlocksTable) -> list[float | None]:
    """The densities of a row in a block: [None] if dense, those of the columns, or the block's."""
    if row.dense:
        return [None]
    listed = [column.density for column in spec.columns if column.density is not None]
    own = [each for each in listed if block.densities is None or each in block.densities]
    return [*own] or [block.density]


def block_line(row: BlockRow, block: Block, network: str, density: float | None) -> dict[str, str]:
    """The line of an entry in the paper's CSV: column -> text."""
    shares = {"density": density, "sparsity": None if density is None else 1 - density}
    texts = {key: "" if share is None else f"{share:g}" for key, share in shares.items()}
    return {"architecture": network} | texts | block.paper | row.paper


def _at(density: float | None) -> str:
    return DENSE if density is None else f"{density:g}"

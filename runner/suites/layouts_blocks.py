"""The matrix and blocks layouts, whose YAML names each entry's line of the paper's CSV."""

from collections.abc import Mapping
from itertools import product

from runner.suites.metrics import ACCURACY, find_metric
from runner.suites.page import CellSpec, Line, Page, Parts, Shown
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

# --- matrix


def matrix(
    spec: MatrixTable, options: Mapping[str, str], networks: Mapping[str, str]
) -> tuple[list[CellSpec], Page]:
    """Lay out methods on data sets (`panels`) and networks as rows.

    The data set, method and column of an entry together name its line in the paper's CSV.
    """
    shown: Shown = Parts(spec.parts, spec.paper_number) if spec.parts else ACCURACY
    cells, lines = [], []
    for panel, method, network in product(
        (p for p in spec.panels if applies(p.when, options)), spec.methods, networks
    ):
        row = spec.row.format(method=method.label, dataset=panel.label) + (
            f", {network}" if len(networks) > 1 else ""
        )
        for column in spec.columns:
            words = (
                *spec.overrides,
                *panel.overrides,
                f"model={networks[network]}",
                *method.overrides,
                *column.overrides,
            )
            said = matrix_line(spec, panel, method, column, network)
            labels = {
                "panel": panel.label,
                "network": network,
                "method": method.label,
                "column": column.label,
            }
            cells.append(
                CellSpec(
                    (row, column.label),
                    network,
                    (*words, *rule_overrides(spec, options, panel.ref, network, method.ref)),
                    () if panel.density is None else (panel.density,),
                    tuple(said[name] for name in spec.paper_line),
                    labels=labels,
                    ids=labels | {"panel": panel.ref, "method": method.ref, "column": column.ref},
                )
            )
        lines.append(Line((row,), tuple(((row, column.label), shown) for column in spec.columns)))
    over = [((spec.over[0], 1), (spec.over[1], len(spec.columns)))] if spec.over else []
    return cells, Page(
        (*over, ((spec.stub, 1), *((column.label, 1) for column in spec.columns))),
        tuple(lines),
        spec.paper_line,
    )


def matrix_line(
    spec: MatrixTable, panel: MatrixPanel, method: MatrixMethod, column: MatrixColumn, network: str
) -> dict[str, str]:
    """The line of an entry in the paper's CSV: column -> text."""
    return (
        {"architecture": spec.paper_networks.get(network, network)}
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
    for block in (
        block for block in spec.blocks if block.network is None or block.network in networks
    ):
        lines += [Line((block.label,))] if block.label else []
        for i, row in enumerate(row for row in spec.rows if applies(row.when, options)):
            found = _block_row(row, block, spec, options, networks)
            begins = i == 0 and bool(lines) and not block.label
            lines.append(
                Line(
                    (row.label.format(network=found[0].network),),
                    _block_entries(found, spec.columns),
                    begins,
                )
            )
            cells += found
    return cells, Page(
        (((spec.stub, 1), *((column.label, 1) for column in spec.columns)),),
        tuple(lines),
        spec.paper_line,
    )


def _block_entries(
    found: list[CellSpec], columns: tuple[BlockColumn, ...]
) -> tuple[tuple[tuple[str, str], Shown] | None, ...]:
    """The entries of a row, one per column.

    A column without a density shows a further number of the row's first entry. A dense network has
    one entry, in the first column.
    """
    by_density = {cell.key[1]: cell.key for cell in found}
    first = found[0].key
    keys = [
        first
        if column.density is None
        else by_density.get(_at(column.density), first if i == 0 else None)
        for i, column in enumerate(columns)
    ]
    return tuple(
        (key, find_metric(column.metric)) if key else None
        for key, column in zip(keys, columns, strict=True)
    )


def _block_row(
    row: BlockRow,
    block: Block,
    spec: BlocksTable,
    options: Mapping[str, str],
    networks: Mapping[str, str],
) -> list[CellSpec]:
    """Return a cell spec for each density of a row in a block."""
    network = block.network or next(iter(networks))
    label, ref = row.label.format(network=network), row.ref_on(network)
    name = ", ".join(filter(None, (block.label or network, label, row.name)))
    words = (
        *spec.overrides,
        *(() if row.dense else block.overrides),
        f"model={networks[network]}",
        *row.overrides,
    )
    rules = rule_overrides(spec, options, block.label or None, network, ref)
    cells = []
    for density in densities_of(row, block, spec):
        said = block_line(row, block, network, density)
        labels = {
            "panel": block.label,
            "network": network,
            "method": ", ".join(filter(None, (label, row.name))),
            "density": _at(density),
        }
        cells.append(
            CellSpec(
                (name, _at(density)),
                network,
                (*words, *rules),
                () if density is None else (density,),
                tuple(said[key].format(network=network) for key in spec.paper_line),
                quoted=row.quoted,
                labels=labels,
                ids=labels | {"method": ref},
            )
        )
    return cells


def densities_of(row: BlockRow, block: Block, spec: BlocksTable) -> list[float | None]:
    """The densities of a row in a block: [None] if dense, those of the columns, or the block's."""
    if row.dense:
        return [None]
    return [column.density for column in spec.columns if column.density is not None] or [
        block.density
    ]


def block_line(row: BlockRow, block: Block, network: str, density: float | None) -> dict[str, str]:
    """The line of an entry in the paper's CSV: column -> text."""
    sparsity = "" if density is None else f"{1 - density:g}"
    return {"architecture": network, "sparsity": sparsity} | block.paper | row.paper


def _at(density: float | None) -> str:
    return "dense" if density is None else f"{density:g}"

"""Check the references inside the YAML of tables, in general and by layout."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from string import Formatter
from typing import TypeVar

from runner.errors import nearest
from runner.paths import PAPERS, ROOT
from runner.suites.layouts_blocks import block_line, densities_of, matrix_line
from runner.suites.metrics import metric_names
from runner.suites.papers import header, lines_of, paper_files, papers_csv
from runner.suites.references_base import Problems, check_name, forms_of
from runner.suites.schema import TableSpec
from runner.suites.schema_blocks import (
    Block,
    BlockRow,
    BlocksTable,
    MatrixColumn,
    MatrixMethod,
    MatrixPanel,
    MatrixTable,
)
from runner.suites.schema_tables import GridTable, NetworksTable, SettingsTable

# Items that name lines of the paper's CSV.
Named = Block | BlockRow | MatrixColumn | MatrixMethod | MatrixPanel
T = TypeVar("T")


def check_table(spec: TableSpec) -> Problems:
    """Yield a message for every unknown reference of a table, except in its options and rules."""
    yield from _table_claims(spec)
    yield from _paper_csv(spec)
    match spec:
        case NetworksTable():
            yield from _metrics("metrics", spec.metrics)
            yield from _rows(spec)
        case MatrixTable():
            yield from _matrix(spec)
        case BlocksTable():
            yield from _metrics("columns", [column.metric for column in spec.columns], ".metric")
            yield from _blocks(spec)
        case SettingsTable():
            yield from _no_rules(spec)


# --- all tables


def _table_claims(spec: TableSpec) -> Problems:
    for prefix, form in forms_of(spec):
        assert isinstance(form, TableSpec)
        refs = [*form.method_refs, *form.column_refs]
        for i, claim in enumerate(form.claims):
            yield from check_name(f"{prefix}claims.{i}.entry", claim.entry, refs)
            for rival in claim.above.ids:
                yield from check_name(f"{prefix}claims.{i}.above", rival, refs)


def _metrics(key: str, names: Iterable[str], ending: str = "") -> Problems:
    for i, name in enumerate(names):
        yield from check_name(f"{key}.{i}{ending}", name, metric_names())


def _rows(spec: NetworksTable) -> Problems:
    """Check the rows named in `best_of` and findings, and that densities cover all networks."""
    for row in spec.best_of:
        yield from check_name("best_of", row, spec.method_refs)
    for i, finding in enumerate(spec.findings):
        yield from check_name(f"findings.{i}.row", finding.row, spec.method_refs)
    most = max(len(form.networks) for _, form in forms_of(spec))
    for i, row_ in enumerate(spec.rows):
        if row_.density and len(row_.density) < most:
            yield (
                f"rows.{i}.density={list(row_.density)} must have a value for each of {most}"
                " networks"
            )


def _paper_csv(spec: TableSpec) -> Problems:
    """Check that the paper's CSV exists and has the columns that name the lines of entries."""
    for prefix, form in forms_of(spec):
        assert isinstance(form, TableSpec)
        for name in form.beside:
            known = sorted(path.stem for path in PAPERS.glob("*_table*.csv"))
            yield from check_name(f"{prefix}beside", name, known)
    if spec.number is None:
        return
    path = papers_csv(spec)
    if not path.is_file():
        yield f"number={spec.number}: {path.relative_to(ROOT)} does not exist"
        return
    columns = header(path)
    for name in spec.paper_columns:
        yield from check_name("paper_line", name, columns)
    if isinstance(spec, MatrixTable):
        yield from check_name("paper_number", spec.paper_number if spec.parts else None, columns)
    elif "architecture" in spec.paper_columns:
        for network in spec.networks:
            yield from _printed("networks", network, "architecture", path)
    if isinstance(spec, GridTable):
        for i, panel in enumerate(spec.panels):
            yield from _printed(f"panels.{i}.paper", panel.paper, "dataset", path)


def _printed(key: str, value: str, column: str, path: Path) -> Problems:
    """Yield a message if no line of the paper's CSV has `value` in `column`."""
    known = list(dict.fromkeys(line[column] for line in lines_of(path)))
    if value not in known:
        yield (
            f"{key}={value} is not in column {column} of {path.relative_to(ROOT)}:"
            f" {', '.join(known)}{nearest(value, known)}"
        )


def _numbered(key: str, items: Iterable[T]) -> Iterator[tuple[str, T]]:
    """Return the items of a list with their keys."""
    return ((f"{key}.{i}", item) for i, item in enumerate(items))


def _paper_names(spec: TableSpec, items: Iterable[tuple[str, Named]]) -> Problems:
    """Check that the keys of each item's `paper` are columns of the papers' CSVs."""
    if known := list(dict.fromkeys(name for path in _csvs(spec) for name in header(path))):
        for key, item in items:
            for name in item.paper:
                yield from check_name(f"{key}.paper", name, known)


def _csvs(spec: TableSpec) -> list[Path]:
    """The existing CSVs beside the table or one of its variants."""
    forms = [form for _, form in forms_of(spec) if isinstance(form, TableSpec)]
    return list(filter(Path.is_file, dict.fromkeys(p for form in forms for p in paper_files(form))))


def _unnamed(paper_line: Iterable[str], named: Mapping[str, str], entry: str) -> Problems:
    """Yield a message for each name of `paper_line` that an entry does not define."""
    for name in paper_line:
        if name not in named:
            yield (
                f"paper_line={name} is missing in `paper` of {entry}, which has"
                f" {', '.join(named)}{nearest(name, named)}"
            )


def _matrix(spec: MatrixTable) -> Problems:
    """Check that every entry names its line and that all named networks exist."""
    for network in spec.paper_networks:
        yield from check_name(
            "paper_networks",
            network,
            (name for _, form in forms_of(spec) for name in form.networks),
        )
    for _, name, _, _ in Formatter().parse(spec.row):
        yield from check_name("row", name, ("method", "dataset"))
    yield from _paper_names(spec, _numbered("methods", spec.methods))
    yield from _paper_names(spec, _numbered("columns", spec.columns))
    for prefix, form in forms_of(spec):
        assert isinstance(form, MatrixTable)
        yield from _paper_names(spec, _numbered(f"{prefix}panels", form.panels))
        for panel, method, column, network in product(
            form.panels, form.methods, form.columns, form.networks
        ):
            named = matrix_line(form, panel, method, column, network)
            yield from _unnamed(
                form.paper_line, named, f"{panel.label}, {method.label}, {column.label}"
            )


def _blocks(spec: BlocksTable) -> Problems:
    """Check that every entry names its line and has a density, and that named networks exist."""
    yield from _paper_names(spec, _numbered("rows", spec.rows))
    printed = {line["architecture"] for path in _csvs(spec) for line in lines_of(path)}
    for name in spec.paper_networks:
        yield from check_name("paper_networks", name, sorted(printed))
    for prefix, form in forms_of(spec):
        assert isinstance(form, BlocksTable)
        yield from _paper_names(spec, _numbered(f"{prefix}blocks", form.blocks))
        for i, block in enumerate(form.blocks):
            key = f"{prefix}blocks.{i}"
            yield from check_name(
                f"{key}.network", block.network, {**form.networks, **spec.networks}
            )
            for name in block.rows or ():
                yield from check_name(f"{key}.rows", name, [row.ref for row in spec.rows])
        named = {block.network for block in form.blocks}
        lacking = [] if None in named else [each for each in form.networks if each not in named]
        yield from (f"{prefix}blocks: none has the network {each}" for each in lacking)
    for i, block in enumerate(spec.blocks):
        for j, row in enumerate(spec.rows):
            if not row.dense and None in densities_of(row, block, spec):
                yield f"blocks.{i}.density is missing: no column has one"
            yield from _unnamed(
                spec.paper_line, block_line(row, block, "", None), f"rows.{j} in blocks.{i}"
            )


# --- settings


def _no_rules(spec: SettingsTable) -> Problems:
    """Check that a table of settings has no rules: nothing is run, so they would have no effect."""
    if any(rule.overrides for rule in spec.where):
        yield (
            "where: its overrides have no effect, since nothing is run for this table; use `under`"
            " of a row"
        )

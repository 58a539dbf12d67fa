"""References of a table's or figure's YAML to what it does not have: each is a message with its key, what there is, and the nearest spelling.

Keys and types are checked before (runner/config/typed.py); what Hydra composes is checked by Hydra.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from string import Formatter
from typing import TypeVar

from runner.errors import nearest, one_of
from runner.paths import PAPERS, ROOT
from runner.suites.layouts_blocks import block_line, densities_of, matrix_line
from runner.suites.merge import on_variant
from runner.suites.metrics import accuracy_names, metric_names
from runner.suites.options import OPTIONS
from runner.suites.schema import SuiteSpec, TableSpec
from runner.suites.schema_blocks import Block, BlockRow, BlocksTable, MatrixColumn, MatrixMethod, MatrixPanel, MatrixTable
from runner.suites.schema_claims import BelowClaim
from runner.suites.schema_figures import FigurePanel, FigureSpec
from runner.suites.schema_tables import GridTable, NetworksTable

Problems = Iterator[str]
Named = Block | BlockRow | MatrixColumn | MatrixMethod | MatrixPanel  # items that name lines of the paper's CSV
T = TypeVar("T")


def unknown_references(spec: SuiteSpec) -> list[str]:
    """Every reference of the spec to what is not there."""
    checks: list[Problems] = [_conditions(spec), _options(spec), _rules(spec)]
    if isinstance(spec, TableSpec):
        checks += [_notes(spec), _table_claims(spec), _paper_csv(spec)]
    match spec:
        case NetworksTable():
            checks += [_metrics("metrics", spec.metrics), _rows(spec)]
        case MatrixTable():
            checks += [_matrix(spec)]
        case BlocksTable():
            checks += [_metrics("columns", [column.metric for column in spec.columns], ".metric"), _blocks(spec)]
        case FigureSpec():
            checks += [_figure(spec)]
    return list(dict.fromkeys(problem for check in checks for problem in check))


def _one(key: str, value: str | None, choices: Iterable[str]) -> Problems:
    """The message for a name that is none of the choices; None names nothing."""
    choices = list(dict.fromkeys(choices))
    if value is not None and value not in choices:
        yield one_of(key, value, choices) if choices else f"{key}={value}: there are none"


def _forms(spec: SuiteSpec) -> list[tuple[str, SuiteSpec]]:
    """The spec and its variants, merged, with the key under which a variant stands."""
    return [("", spec), *((f"elsewhere.{name}.", on_variant(spec, name)) for name in spec.elsewhere)]


# --- options and rules


def _conditions(spec: SuiteSpec) -> Problems:
    """Every `when` names an option and one of its values."""
    values = OPTIONS | spec.options
    whens = [*spec.conditions(), *((f"elsewhere.{n}.where.{i}.when", rule.when) for n, v in spec.elsewhere.items() for i, rule in enumerate(v.where))]
    for key, when in whens:
        for option, value in when.items():
            yield from _one(key, option, values)
            yield from _one(f"{key}.{option}", value, values.get(option, (value,)))


def _options(spec: SuiteSpec) -> Problems:
    """Options decide something; variants give values that they have; `metric` chooses among accuracies."""
    used = [*OPTIONS, *(option for _, when in spec.conditions() for option in when)]
    for option, values in spec.options.items():
        if option not in used:
            yield f"options.{option} decides nothing: no `when` asks for it; known are {', '.join(dict.fromkeys(used))}{nearest(option, used)}"
        if not values:
            yield f"options.{option} has no values"
    for value in spec.options.get("metric", ()):
        yield from _one("options.metric", value, accuracy_names())
    for name, variant in spec.elsewhere.items():
        for option, value in variant.options.items():
            yield from _one(f"elsewhere.{name}.options", option, OPTIONS | spec.options)
            yield from _one(f"elsewhere.{name}.options.{option}", value, (OPTIONS | spec.options).get(option, (value,)))


def _rules(spec: SuiteSpec) -> Problems:
    """Every rule of `where` is for an entry: one of the whole table, or of the variant that has the rule."""
    forms = [form for _, form in _forms(spec)]
    yield from _rules_of("", spec, forms if spec.adds_rules else [spec])
    for name, variant in spec.elsewhere.items():
        yield from _rules_of(f"elsewhere.{name}.", variant_rules := on_variant(spec, name), [variant_rules], own=len(variant.where))


def _rules_of(prefix: str, spec: SuiteSpec, forms: list[SuiteSpec], own: int | None = None) -> Problems:
    rules = spec.where if own is None else spec.where[len(spec.where) - own :]
    methods = [ref for form in forms for ref in form.method_refs]
    for i, rule in enumerate(rules):
        key = f"{prefix}where.{i}"
        yield from _one(f"{key}.panel", rule.panel, (ref for form in forms for ref in form.panel_refs))
        yield from _one(f"{key}.network", rule.network, (network for form in forms for network in form.networks))
        if rule.method and not any(ref.startswith(rule.method) for ref in methods):
            begins = "no method begins with that" if methods else "there are none"
            yield f"{key}.method={rule.method}: {begins}: {', '.join(dict.fromkeys(methods))}{nearest(rule.method, methods)}"


# --- tables


def _notes(spec: TableSpec) -> Problems:
    forms = [form for _, form in _forms(spec)]
    for name, notes in (("notes", spec.notes), ("anomalies", spec.anomalies)):
        for i, note in enumerate(notes):
            yield from _one(f"{name}.{i}.panel", note.panel, (ref for form in forms for ref in form.panel_refs))
            yield from _one(f"{name}.{i}.network", note.network, (network for form in forms for network in form.networks))


def _table_claims(spec: TableSpec) -> Problems:
    refs = [*spec.method_refs, *spec.column_refs]
    for i, claim in enumerate(spec.claims):
        yield from _one(f"claims.{i}.entry", claim.entry, refs)
        for rival in claim.above.ids:
            yield from _one(f"claims.{i}.above", rival, refs)


def _metrics(key: str, names: Iterable[str], ending: str = "") -> Problems:
    for i, name in enumerate(names):
        yield from _one(f"{key}.{i}{ending}", name, metric_names())


def _rows(spec: NetworksTable) -> Problems:
    """Rows that `best_of` and findings name; a density for each network."""
    for row in spec.best_of:
        yield from _one("best_of", row, spec.method_refs)
    for i, finding in enumerate(spec.findings):
        yield from _one(f"findings.{i}.row", finding.row, spec.method_refs)
    most = max(len(form.networks) for _, form in _forms(spec))
    for i, row_ in enumerate(spec.rows):
        if row_.density and len(row_.density) < most:
            yield f"rows.{i}.density={list(row_.density)} must have a value for each of {most} networks"


def _paper_csv(spec: TableSpec) -> Problems:
    """The paper's numbers: a file, and the columns by which entries name their lines."""
    if spec.number is None:
        return
    path = papers_csv(spec)
    if not path.is_file():
        yield f"number={spec.number}: {path.relative_to(ROOT)} does not exist"
        return
    columns = header(path)
    for name in spec.paper_columns:
        yield from _one("paper_line", name, columns)
    if isinstance(spec, MatrixTable):
        yield from _one("paper_number", spec.paper_number if spec.parts else None, columns)
    elif "architecture" in spec.paper_columns:
        for network in spec.networks:
            yield from _printed("networks", network, "architecture", path)
    if isinstance(spec, GridTable):
        for i, panel in enumerate(spec.panels):
            yield from _printed(f"panels.{i}.paper", panel.paper, "dataset", path)


def _printed(key: str, value: str, column: str, path: Path) -> Problems:
    """The message for a name that no line of the paper's CSV has in `column`."""
    known = list(dict.fromkeys(line[column] for line in _lines(path)))
    if value not in known:
        yield f"{key}={value} is no {column} of {path.relative_to(ROOT)}: {', '.join(known)}{nearest(value, known)}"


def papers_csv(spec: TableSpec) -> Path:
    """The file of the paper's numbers."""
    return PAPERS / f"{spec.paper}_table{spec.number:02d}.csv"


@cache
def _lines(path: Path) -> tuple[dict[str, str], ...]:
    """The lines of a CSV."""
    with path.open(newline="") as file:
        return tuple(csv.DictReader(file))


def header(path: Path) -> list[str]:
    """Columns of a CSV."""
    return list(_lines(path)[0])


def _numbered(key: str, items: Iterable[T]) -> Iterator[tuple[str, T]]:
    """The items of a list with their keys."""
    return ((f"{key}.{i}", item) for i, item in enumerate(items))


def _paper_names(spec: TableSpec, items: Iterable[tuple[str, Named]]) -> Problems:
    """What the `paper` of an item says are columns of the paper's CSV."""
    if spec.number is not None and (path := papers_csv(spec)).is_file():
        for key, item in items:
            for name in item.paper:
                yield from _one(f"{key}.paper", name, header(path))


def _unnamed(paper_line: Iterable[str], named: Mapping[str, str], entry: str) -> Problems:
    """Names of `paper_line` that an entry does not say."""
    for name in paper_line:
        if name not in named:
            yield f"paper_line={name}: `paper` of {entry} has {', '.join(named)}{nearest(name, named)}"


def _matrix(spec: MatrixTable) -> Problems:
    """Every entry names its line; networks are named that there are."""
    for network in spec.paper_networks:
        yield from _one("paper_networks", network, (name for _, form in _forms(spec) for name in form.networks))
    for _, name, _, _ in Formatter().parse(spec.row):
        yield from _one("row", name, ("method", "dataset"))
    yield from _paper_names(spec, _numbered("methods", spec.methods))
    yield from _paper_names(spec, _numbered("columns", spec.columns))
    for prefix, form in _forms(spec):
        assert isinstance(form, MatrixTable)
        yield from _paper_names(spec, _numbered(f"{prefix}panels", form.panels))
        for panel, method, column, network in product(form.panels, form.methods, form.columns, form.networks):
            named = matrix_line(form, panel, method, column, network)
            yield from _unnamed(form.paper_line, named, f"{panel.label}, {method.label}, {column.label}")


def _blocks(spec: BlocksTable) -> Problems:
    """Every entry names its line and has a density; networks are named that there are."""
    networks = list(dict.fromkeys(name for _, form in _forms(spec) for name in form.networks))
    yield from _paper_names(spec, _numbered("rows", spec.rows))
    yield from _paper_names(spec, _numbered("blocks", spec.blocks))
    for i, block in enumerate(spec.blocks):
        yield from _one(f"blocks.{i}.network", block.network, networks)
        for j, row in enumerate(spec.rows):
            if not row.dense and None in densities_of(row, block, spec):
                yield f"blocks.{i}.density is missing: no column has one"
            yield from _unnamed(spec.paper_line, block_line(row, block, "", None), f"rows.{j} in blocks.{i}")


# --- figures


def _figure(spec: FigureSpec) -> Problems:
    """Panels and series have ids of their own; claims name them; panels name networks of the figure."""
    for prefix, form in _forms(spec):
        assert isinstance(form, FigureSpec)
        by_ref = {panel.ref: panel for panel in form.panels}
        yield from _twice(f"{prefix}panels", form.panel_refs)
        for i, panel in enumerate(form.panels):
            yield from _twice(f"{prefix}panels.{i}.series", [series.ref for series in panel.series])
            for network in panel.networks or ():
                yield from _one(f"{prefix}panels.{i}.networks", network, form.networks)
        for i, claim in enumerate(form.claims):
            key = f"{prefix}claims.{i}"
            yield from _one(f"{key}.panel", claim.panel, by_ref)
            if claim.panel in by_ref:
                names = _series(by_ref[claim.panel], form)
                yield from _one(f"{key}.series", claim.series, names)
                if isinstance(claim, BelowClaim):
                    yield from _one(f"{key}.below", claim.below, names)


def _series(panel: FigurePanel, spec: FigureSpec) -> list[str]:
    """Ids of a panel's series as claims name them: with the network where there are several."""
    return [series.ref + more for series, _, more in panel.names(spec.networks)]


def _twice(key: str, refs: list[str]) -> Problems:
    for ref in dict.fromkeys(ref for ref in refs if refs.count(ref) > 1):
        yield f"{key}: {ref} is there twice; give one an id of its own"

"""Check the references inside the YAML of tables and figures.

An unknown name produces a message with its key, the known names and the nearest spelling. Keys and
types are checked before (runner/config/typed.py); Hydra checks what it composes.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from string import Formatter
from typing import TypeVar

from runner.errors import nearest, one_of
from runner.paths import ROOT
from runner.suites.layouts_blocks import block_line, densities_of, matrix_line
from runner.suites.merge import on_variant
from runner.suites.metrics import accuracy_names, metric_names
from runner.suites.options import OPTIONS, all_options
from runner.suites.papers import header, lines_of, papers_csv
from runner.suites.schema import Rule, SuiteSpec, TableSpec, TableVariant, When, whens
from runner.suites.schema_blocks import (
    Block,
    BlockRow,
    BlocksTable,
    MatrixColumn,
    MatrixMethod,
    MatrixPanel,
    MatrixTable,
)
from runner.suites.schema_claims import BelowClaim
from runner.suites.schema_figures import FigurePanel, FigureSpec
from runner.suites.schema_tables import GridTable, NetworksTable, SettingsTable

Problems = Iterator[str]
# Items that name lines of the paper's CSV.
Named = Block | BlockRow | MatrixColumn | MatrixMethod | MatrixPanel
T = TypeVar("T")


def unknown_references(spec: SuiteSpec) -> list[str]:
    """Return a message for every unknown reference in the spec."""
    checks: list[Problems] = [_options(spec), _rules(spec)]
    if isinstance(spec, TableSpec):
        checks += [_notes(spec), _table_claims(spec), _paper_csv(spec)]
    match spec:
        case NetworksTable():
            checks += [_metrics("metrics", spec.metrics), _rows(spec)]
        case MatrixTable():
            checks += [_matrix(spec)]
        case BlocksTable():
            checks += [
                _metrics("columns", [column.metric for column in spec.columns], ".metric"),
                _blocks(spec),
            ]
        case SettingsTable():
            checks += [_no_rules(spec)]
        case FigureSpec():
            checks += [_figure(spec)]
    return list(dict.fromkeys(problem for check in checks for problem in check))


def _one(key: str, value: str | None, choices: Iterable[str]) -> Problems:
    """Yield a message if `value` is not one of the choices; None is always valid."""
    choices = list(dict.fromkeys(choices))
    if value is not None and value not in choices:
        yield one_of(key, value, choices) if choices else f"{key}={value}: there are none"


def _forms(spec: SuiteSpec) -> list[tuple[str, SuiteSpec]]:
    """The spec and its merged variants, each with the key of the variant in the YAML."""
    return [
        ("", spec),
        *((f"elsewhere.{name}.", on_variant(spec, name)) for name in spec.elsewhere),
    ]


# --- options and rules


def _conditions(spec: SuiteSpec) -> Iterator[tuple[str, When]]:
    """Yield every `when` of the spec and of its variants with its key."""
    yield from spec.conditions()
    for name, variant in spec.elsewhere.items():
        claims = (variant.claims or ()) if isinstance(variant, TableVariant) else ()
        yield from whens(
            **{f"elsewhere.{name}.where": variant.where, f"elsewhere.{name}.claims": claims}
        )


def _options(spec: SuiteSpec) -> Problems:
    """Check the options.

    Every `when` names an option and one of its values, some `when` uses each option, and variants
    set options to values that they have.
    """
    known = all_options(spec)
    for key, when in _conditions(spec):
        for option, value in when.items():
            yield from _one(key, option, known)
            yield from _one(f"{key}.{option}", value, known.get(option, (value,)))
    used = list(
        dict.fromkeys([*OPTIONS, *(option for _, when in _conditions(spec) for option in when)])
    )
    for option, values in spec.options.items():
        if option not in used:
            yield (
                f"options.{option} decides nothing: no `when` asks for it; known are"
                f" {', '.join(used)}{nearest(option, used)}"
            )
        if not values:
            yield f"options.{option} has no values"
    for value in spec.options.get("metric", ()):
        yield from _one("options.metric", value, accuracy_names())
    for name, variant in spec.elsewhere.items():
        for option, value in variant.options.items():
            yield from _one(f"elsewhere.{name}.options", option, known)
            yield from _one(
                f"elsewhere.{name}.options.{option}", value, known.get(option, (value,))
            )


def _rules(spec: SuiteSpec) -> Problems:
    """Check that every rule of `where` can match an entry of the table or of the rule's variant."""
    yield from _rules_of(
        "where", spec.where, [form for _, form in _forms(spec)] if spec.adds_rules else [spec]
    )
    for name, variant in spec.elsewhere.items():
        yield from _rules_of(f"elsewhere.{name}.where", variant.where, [on_variant(spec, name)])


def _rules_of(key: str, rules: tuple[Rule, ...], forms: list[SuiteSpec]) -> Problems:
    methods = list(dict.fromkeys(ref for form in forms for ref in form.method_refs))
    beginnings = [ref.split()[0] for ref in methods]
    for i, rule in enumerate(rules):
        yield from _one(
            f"{key}.{i}.panel", rule.panel, (ref for form in forms for ref in form.panel_refs)
        )
        yield from _one(
            f"{key}.{i}.network",
            rule.network,
            (network for form in forms for network in form.networks),
        )
        if rule.method and not any(ref.startswith(rule.method) for ref in methods):
            like = nearest(rule.method, [*beginnings, *methods])
            yield (
                f"{key}.{i}.method={rule.method} begins no id of a method:"
                f" {', '.join(methods) or 'there are none'}{like}"
            )


def _no_rules(spec: SettingsTable) -> Problems:
    """Check that a table of settings has no rules: nothing is run, so they would have no effect."""
    if any(rule.overrides for rule in spec.where):
        yield (
            "where: nothing is run for this table, so that its overrides do nothing; a row has"
            " `under`"
        )


# --- tables


def _notes(spec: TableSpec) -> Problems:
    forms = [form for _, form in _forms(spec)]
    for name, notes in (("notes", spec.notes), ("anomalies", spec.anomalies)):
        for i, note in enumerate(notes):
            yield from _one(
                f"{name}.{i}.panel", note.panel, (ref for form in forms for ref in form.panel_refs)
            )
            yield from _one(
                f"{name}.{i}.network",
                note.network,
                (network for form in forms for network in form.networks),
            )


def _table_claims(spec: TableSpec) -> Problems:
    for prefix, form in _forms(spec):
        assert isinstance(form, TableSpec)
        refs = [*form.method_refs, *form.column_refs]
        for i, claim in enumerate(form.claims):
            yield from _one(f"{prefix}claims.{i}.entry", claim.entry, refs)
            for rival in claim.above.ids:
                yield from _one(f"{prefix}claims.{i}.above", rival, refs)


def _metrics(key: str, names: Iterable[str], ending: str = "") -> Problems:
    for i, name in enumerate(names):
        yield from _one(f"{key}.{i}{ending}", name, metric_names())


def _rows(spec: NetworksTable) -> Problems:
    """Check the rows named in `best_of` and findings, and that densities cover all networks."""
    for row in spec.best_of:
        yield from _one("best_of", row, spec.method_refs)
    for i, finding in enumerate(spec.findings):
        yield from _one(f"findings.{i}.row", finding.row, spec.method_refs)
    most = max(len(form.networks) for _, form in _forms(spec))
    for i, row_ in enumerate(spec.rows):
        if row_.density and len(row_.density) < most:
            yield (
                f"rows.{i}.density={list(row_.density)} must have a value for each of {most}"
                " networks"
            )


def _paper_csv(spec: TableSpec) -> Problems:
    """Check that the paper's CSV exists and has the columns that name the lines of entries."""
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
    """Yield a message if no line of the paper's CSV has `value` in `column`."""
    known = list(dict.fromkeys(line[column] for line in lines_of(path)))
    if value not in known:
        yield (
            f"{key}={value} is no {column} of {path.relative_to(ROOT)}:"
            f" {', '.join(known)}{nearest(value, known)}"
        )


def _numbered(key: str, items: Iterable[T]) -> Iterator[tuple[str, T]]:
    """Return the items of a list with their keys."""
    return ((f"{key}.{i}", item) for i, item in enumerate(items))


def _paper_names(spec: TableSpec, items: Iterable[tuple[str, Named]]) -> Problems:
    """Check that the keys of each item's `paper` are columns of the paper's CSV."""
    if spec.number is not None and (path := papers_csv(spec)).is_file():
        for key, item in items:
            for name in item.paper:
                yield from _one(f"{key}.paper", name, header(path))


def _unnamed(paper_line: Iterable[str], named: Mapping[str, str], entry: str) -> Problems:
    """Yield a message for each name of `paper_line` that an entry does not define."""
    for name in paper_line:
        if name not in named:
            yield (
                f"paper_line={name}: `paper` of {entry} has"
                f" {', '.join(named)}{nearest(name, named)}"
            )


def _matrix(spec: MatrixTable) -> Problems:
    """Check that every entry names its line and that all named networks exist."""
    for network in spec.paper_networks:
        yield from _one(
            "paper_networks", network, (name for _, form in _forms(spec) for name in form.networks)
        )
    for _, name, _, _ in Formatter().parse(spec.row):
        yield from _one("row", name, ("method", "dataset"))
    yield from _paper_names(spec, _numbered("methods", spec.methods))
    yield from _paper_names(spec, _numbered("columns", spec.columns))
    for prefix, form in _forms(spec):
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
    networks = list(dict.fromkeys(name for _, form in _forms(spec) for name in form.networks))
    yield from _paper_names(spec, _numbered("rows", spec.rows))
    yield from _paper_names(spec, _numbered("blocks", spec.blocks))
    for i, block in enumerate(spec.blocks):
        yield from _one(f"blocks.{i}.network", block.network, networks)
        for j, row in enumerate(spec.rows):
            if not row.dense and None in densities_of(row, block, spec):
                yield f"blocks.{i}.density is missing: no column has one"
            yield from _unnamed(
                spec.paper_line, block_line(row, block, "", None), f"rows.{j} in blocks.{i}"
            )


# --- figures


def _figure(spec: FigureSpec) -> Problems:
    """Check that ids of panels and series are unique and that claims and panels name known ones."""
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
    """The ids of a panel's series in claims: with the network if the panel shows several."""
    return [series.ref + more for series, _, more in panel.names(spec.networks)]


def _twice(key: str, refs: list[str]) -> Problems:
    for ref in dict.fromkeys(ref for ref in refs if refs.count(ref) > 1):
        yield f"{key}: {ref} is there twice; give one an id of its own"

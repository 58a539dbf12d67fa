"""Compare the settings of a table's entries with those that its paper states."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runner.config.build import build_plain
from runner.config.compose import Composer
from runner.config.interpolation import resolve
from runner.errors import ConfigError, one_of
from runner.suites.cells import fitting_options, options_of_methods
from runner.suites.expand import choose_networks, requested_seeds
from runner.suites.layouts import lay_out
from runner.suites.merge import on_variant
from runner.suites.options import choose_options
from runner.suites.page import CellSpec
from runner.suites.readings import Source, read, text_of
from runner.suites.schema import SuiteSpec
from runner.suites.schema_settings import (
    PaperSettings,
    Setting,
    Statement,
    papers_with_settings,
    read_settings,
)
from runner.suites.spec import read_spec

ROWS, COLUMNS = ("panel", "method"), ("network", "density", "column")  # axes of labels
NOT_STATED, EQUAL, EXPLAINED, UNEXPLAINED = "not stated", "equal", "explained", "unexplained"


@dataclass(frozen=True)
class Compared:
    """A setting of an entry, ours beside the paper's.

    Args:
        ours, paper: as text.
        source: where the paper's value is stated.
        state: NOT_STATED, EQUAL, EXPLAINED or UNEXPLAINED.
        because: why ours is another value, if that is explained.
    """

    setting: str
    ours: str
    paper: str
    source: str
    state: str
    because: str = ""


@dataclass(frozen=True)
class ComparedEntry:
    """The settings of an entry.

    Args:
        row: its label.
        at: its labels along the axes of the columns.
        used: the statements that count for it.
    """

    row: str
    at: tuple[tuple[str, str], ...]
    settings: tuple[Compared, ...]
    used: tuple[Statement, ...]

    def named(self, name: str) -> tuple[Compared, ...]:
        """The settings with this printed name."""
        return tuple(each for each in self.settings if each.setting == name)


@dataclass(frozen=True)
class ComparedTable:
    """The settings of all entries of a table.

    Args:
        note: what the sources are.
    """

    name: str
    heading: str
    note: str
    entries: tuple[ComparedEntry, ...]

    def count(self, *states: str) -> int:
        """How many different lines have one of these states; all lines without an argument."""
        lines = {(e.row, s) for e in self.entries for s in e.settings}
        return sum(not states or s.state in states for _, s in lines)


def compare_table(
    name: str, chosen: Mapping[str, list[str]], overrides: Sequence[str], composer: Composer
) -> ComparedTable:
    """The settings of a table's entries beside those of its paper.

    Args:
        name: a table, or `table@variant`: a small version, which explains what it changes.
        chosen: as in `runner.suites.expand.expand`.
        overrides: further overrides for every entry.

    Raises:
        ConfigError: the settings of the paper are not in conf/settings, or as in `expand`.
    """
    stem, _, variant = name.partition("@")
    original = _comparable(stem, variant)
    options = choose_options(original, variant or None, chosen)
    spec = on_variant(original, variant or None)
    number = spec.number if isinstance(spec.number, int) else None
    about = _About(spec, read_settings(spec.paper), number, options, variant)
    seeds = tuple(requested_seeds(chosen.get("seeds"))) or spec.seeds
    optional = options_of_methods(overrides)
    cells = lay_out(spec, options, choose_networks(spec.networks, chosen.get("models")))[0]
    entries, used = list[ComparedEntry](), set[str]()
    for cell in _distinct(cells, original.drawn):
        fitting = fitting_options(cell.overrides, overrides, composer)
        used |= fitting
        further = [each for each in overrides if each not in optional - fitting]
        entries.append(_entry(cell, further, seeds, about, composer))
    if unused := sorted(optional - used):
        raise ConfigError(*(f"{option}: no method of {stem} has this option" for option in unused))
    return ComparedTable(name, spec.heading, about.stated.note, tuple(entries))


def _comparable(stem: str, variant: str) -> SuiteSpec:
    """The spec of a table whose paper's settings conf/settings has, and which has the variant."""
    spec = read_spec(stem)
    if spec.paper not in papers_with_settings():
        raise ConfigError(
            f"TABLE={stem}: conf/settings has the papers {', '.join(papers_with_settings())}"
        )
    if variant and variant not in spec.variants:
        raise ConfigError(one_of(f"TABLE={stem}@", variant, spec.variants))
    if spec.drawn != read_settings(spec.paper).figures:
        has, lacks = ("tables", "figures") if spec.drawn else ("figures", "tables")
        raise ConfigError(
            f"TABLE={stem}: conf/settings/{spec.paper}.yaml has the settings of the paper's {has},"
            f" not of its {lacks}"
        )
    return spec


def _distinct(cells: Sequence[CellSpec], drawn: bool) -> Sequence[CellSpec]:
    """The entries to compare: one for each series of a figure, whose points vary one setting.

    The entries of a table of settings all read one configuration: its first one is taken.
    """
    if drawn:
        return list({cell.key[0]: cell for cell in reversed(cells)}.values())[::-1]
    return cells[:1] if all(cell.reads for cell in cells) else cells


@dataclass(frozen=True)
class _About:
    """What is compared with a table.

    Args:
        spec: of the small version, if that is compared.
        variant: the name of the table's small version; empty for the table itself.
    """

    spec: SuiteSpec
    stated: PaperSettings
    number: int | None
    options: Mapping[str, str]
    variant: str


def _entry(
    cell: CellSpec,
    overrides: Sequence[str],
    seeds: tuple[int, ...],
    about: _About,
    composer: Composer,
) -> ComparedEntry:
    own = [*cell.overrides, *overrides]
    by_key = {key: value for key, _, value in (each.partition("=") for each in own)}
    if cell.densities:
        by_key.setdefault("density", str(cell.densities[0]))
    plain = composer.plain([f"{key}={value}" for key, value in by_key.items()])
    source = Source(build_plain(plain), resolve(plain).values, seeds, about.options["metric"])
    ids = {axis: about.spec.of_paper(each) for axis, each in cell.ids.items()}
    ids = {"row": cell.key[0]} | ids
    lines, used = list[Compared](), list[Statement]()
    for setting in about.stated.settings:
        matching = [
            each
            for each in setting.stated
            if each.matches(about.number, by_key["method"], ids, about.options)
        ]
        ours = read(setting.reads, source)
        if matching and ours is not None:
            lines.append(_compared(setting, matching[-1], ours, about.variant))
            used.append(matching[-1])
    labels = cell.labels or {"method": cell.key[0]}
    row = ", ".join(labels[axis] for axis in ROWS if labels.get(axis))
    at = tuple((axis, cell.labels[axis]) for axis in COLUMNS if cell.labels.get(axis))
    return ComparedEntry(row, at, tuple(lines), tuple(used))


def _compared(setting: Setting, statement: Statement, ours: str, variant: str) -> Compared:
    name, source = setting.setting, statement.source
    if statement.paper is None:
        return Compared(name, ours, "not stated", source, NOT_STATED)
    paper = text_of(statement.paper)
    if ours == paper:
        return Compared(name, ours, paper, source, EQUAL)
    if statement.ours and ours in map(text_of, statement.ours.values):
        return Compared(name, ours, paper, source, EXPLAINED, statement.because)
    if variant:
        because = f"The small version @{variant} of the table changes it."
        return Compared(name, ours, paper, source, EXPLAINED, because)
    return Compared(name, ours, paper, source, UNEXPLAINED)

"""Cells: the entries of tables and figures with their runs.

A cell is one configuration; its runs differ by the seed alone. The entries of a figure are the
points of its series, which runner/figures/series.py draws.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from runner.config.build import build_seeds
from runner.config.check import OPTION_GROUPS
from runner.config.compose import Composer, has_method, method_names
from runner.config.plain import has_key
from runner.config.unread import unread
from runner.errors import ConfigError, one_of
from runner.spec.planned import PlannedRun, plan_runs
from runner.spec.run import Run
from runner.suites.page import CellSpec, Key
from runner.suites.read_setting import read_settings
from runner.suites.readings import label_as_ran
from runner.suites.schema import Note

# Values of the method and of its option groups apply to the entries that have them.
OF_METHODS = tuple(f"{group}." for group in ("method", *OPTION_GROUPS))


@dataclass(frozen=True)
class Cell:
    """An entry of the table and its runs.

    Args:
        candidates: sets of runs that differ by the seed alone: one set, or several of which the
            best is printed. Empty for an entry that needs no run.
        paper: the names of its line in the paper's CSV.
        value: the value in the configuration, for an entry that needs no run.
        quoted: whether the paper took its number from elsewhere.
        labels: its printed label along each axis.
        ids: its id along each axis, by which claims refer to it.
        unread: override -> message, for those without an effect on any of its runs.
        told: key -> value of the settings that notes of the page state.
    """

    row: str
    network: str
    candidates: tuple[tuple[PlannedRun, ...], ...] = ()
    paper: tuple[str, ...] = ()
    value: str | None = None
    quoted: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)

    @property
    def jobs(self) -> tuple[PlannedRun, ...]:
        """The runs of all candidates."""
        return tuple(job for jobs in self.candidates for job in jobs)


def make_cells(
    stem: str,
    layout: Sequence[CellSpec],
    overrides: Sequence[str],
    seeds: list[int],
    composer: Composer,
    notes: Sequence[Note] = (),
) -> dict[Key, Cell]:
    """Compose the entries of a table and build their runs.

    Args:
        notes: those of the page, whose keys are told for the entries that they are about.

    Raises:
        ConfigError: an invalid configuration, or an override that no run reads.
    """
    optional = options_of_methods(overrides)
    cells: dict[Key, Cell] = {}
    used: set[str] = set()
    earlier: dict[tuple[str, ...], dict[str, str]] = {}
    for cell in layout:
        fitting = fitting_options(cell.overrides, overrides, composer)
        used |= fitting
        further = [each for each in overrides if each not in optional - fitting]
        refuse_equal_entries(stem, cell, further, earlier)
        cells[cell.key] = make_cell(
            cell, further, list(cell.seeds) or seeds, composer, _keys(notes, cell)
        )
    if unused := sorted(optional - used):
        raise ConfigError(*(f"{option}: no method of {stem} has this option" for option in unused))
    _refuse_unread(cells.values(), overrides)
    return cells


def _keys(notes: Sequence[Note], cell: CellSpec) -> list[str]:
    """The keys of an entry's settings that notes state."""
    return list(dict.fromkeys(key for n in notes if n.is_about(cell.ids) for key in n.reads))


def _refuse_unread(cells: Iterable[Cell], overrides: Sequence[str]) -> None:
    """Refuse an override that has no effect on any run of a table.

    Raises:
        ConfigError: with the reason in the first entry for each such override.
    """
    entries = [cell for cell in cells if cell.candidates or cell.value is not None]
    idle = [each for each in overrides if entries and all(each in e.unread for e in entries)]
    if idle:
        raise ConfigError(*(entries[0].unread[each] for each in idle))


def options_of_methods(overrides: Sequence[str]) -> set[str]:
    """The overrides `method.KEY=VALUE`, `schedule.KEY=VALUE` and the like: values, not choices."""
    return {each for each in overrides if each.startswith(OF_METHODS)}


def fitting_options(own: Sequence[str], further: Sequence[str], composer: Composer) -> set[str]:
    """The `options_of_methods` among `further` that an entry has.

    Args:
        own: the overrides of the entry.
        further: the overrides for every entry; their choices (`schedule=once`) count.
    """
    options = options_of_methods(further)
    overrides = [*own, *(each for each in further if each not in options)]
    if not options or not has_method(_method(overrides), overrides):
        return set()
    plain = composer.plain(_last_wins(overrides))
    return {option for option in options if has_key(plain, option.partition("=")[0])}


def make_cell(
    spec: CellSpec,
    overrides: Sequence[str],
    seeds: list[int],
    composer: Composer,
    told: Sequence[str] = (),
) -> Cell:
    """Build a cell with one candidate per density.

    Args:
        overrides: further overrides for every run; a `density` among them replaces all densities.
        told: keys of `Cell.told`.

    Raises:
        ConfigError: an invalid configuration.
    """
    own, method = [*spec.overrides, *overrides], _method([*spec.overrides, *overrides])
    cell = Cell(spec.key[0], spec.network, paper=spec.paper)
    if spec.reads:
        values = _values(spec, overrides, composer)
        return replace(cell, value=", ".join(dict.fromkeys(values)))
    if not has_method(method, own):
        raise ConfigError(one_of("method", method, method_names(own)))
    asked = [[f"density={density}", *own] for density in spec.densities] or [own]
    unique = dict.fromkeys(tuple(_last_wins(candidate)) for candidate in asked)
    planned = [_plan(each, seeds, composer) for each in unique]
    first, idle = planned[0][0][0], planned[0][1]
    idle = {key: why for key, why in idle.items() if all(key in other for _, other in planned)}
    return replace(
        cell,
        quoted=spec.quoted,
        ids=spec.ids,
        candidates=tuple(runs for runs, _ in planned),
        labels=_labels_as_ran(spec, first.run),
        unread=idle,
        told=read_settings(told, list(first.overrides), composer),
    )


def _values(spec: CellSpec, overrides: Sequence[str], composer: Composer) -> list[str]:
    """The settings that an entry prints, which needs no run."""
    return [
        value
        for key, more in spec.reads
        for value in read_settings(
            [key], _last_wins([*spec.overrides, *more, *overrides]), composer
        ).values()
    ]


def _labels_as_ran(spec: CellSpec, run: Run) -> dict[str, str]:
    """The labels of an entry with what its first run ran."""
    return {
        axis: label_as_ran(label, spec.ran[axis], run) if axis in spec.ran else label
        for axis, label in spec.labels.items()
    }


def refuse_equal_entries(
    table: str,
    cell: CellSpec,
    overrides: Sequence[str],
    earlier: dict[tuple[str, ...], dict[str, str]],
) -> None:
    """Refuse overrides that make an entry equal to an earlier one.

    Overrides take precedence, so an override along an axis of the table would fill entries with
    different labels by one run.

    Args:
        overrides: further overrides for every run.
        earlier: for each earlier entry, all its settings -> its settings without the further
            overrides; this entry is added.

    Raises:
        ConfigError: an earlier entry has the same settings, and different ones without the further
            overrides.
    """
    density = {"density": " ".join(map(str, cell.densities))} if cell.densities else {}
    settings = _settings([*cell.overrides, *overrides])
    before = density | _settings(cell.overrides)
    after = tuple(sorted("=".join(pair) for pair in (density | settings).items()))
    other = earlier.setdefault(after, before)
    keys = [key for key in settings if before.get(key) != other.get(key)]
    if cell.reads or not keys:
        return
    values = {
        key: " and ".join(each.get(key, "the default") for each in (other, before)) for key in keys
    }
    raise ConfigError(
        *(
            f"{key}={settings[key]}: entries of {table} differ in it ({values[key]}); leave it out"
            for key in keys
        )
    )


def _method(overrides: Sequence[str]) -> str:
    """The method that the overrides choose."""
    return _settings(overrides)["method"]


def _plan(
    overrides: Sequence[str], seeds: list[int], composer: Composer
) -> tuple[tuple[PlannedRun, ...], dict[str, str]]:
    """One run per seed, and a message for each override that has no effect on them.

    A command that contains such an override would be refused, so the runs' overrides lack it.
    """
    plain = composer.plain(list(overrides))
    runs = build_seeds(plain, seeds)
    idle = unread(plain, overrides)
    own = [each for each in overrides if each not in idle]
    return plan_runs(runs, [(*own, f"seed={run.seed}") for run in runs]), idle


def _last_wins(overrides: Sequence[str]) -> list[str]:
    """Keep the last override of each key: Hydra rejects two choices of one group."""
    return [f"{key}={value}" for key, value in _settings(overrides).items()]


def _settings(overrides: Sequence[str]) -> dict[str, str]:
    """Key -> value of the last override of that key."""
    return {key: value for key, _, value in (each.partition("=") for each in overrides)}

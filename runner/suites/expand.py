"""Expand tables and figures into cells: the runs behind each entry.

A cell is one configuration; its runs differ by the seed alone. The entries of a figure are the
points of its series, which runner/figures/series.py draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from omegaconf import OmegaConf

from runner.config.build import build_seeds
from runner.config.compose import Composer, has_method
from runner.errors import ConfigError, nearest, one_of
from runner.spec.planned import PlannedRun, plan_runs
from runner.suites.layouts import lay_out
from runner.suites.merge import on_variant
from runner.suites.options import choose_options, options_of
from runner.suites.page import CellSpec, Key, Page
from runner.suites.schema import SuiteSpec
from runner.suites.settings import read_setting
from runner.suites.spec import figure_names, read_spec, table_names

NOTHING = object()


@dataclass(frozen=True)
class Cell:
    """An entry of the table and its runs.

    Args:
        candidates: sets of jobs that differ by the seed alone: one set, or several of which the
            best is printed. Empty when the row's method does not exist yet.
        missing: why it has no runs, for a method that does not exist yet.
        paper: the names of its line in the paper's CSV.
        value: the value in the configuration, for an entry that needs no run.
        quoted: whether the paper took its number from elsewhere.
        labels: its printed label along each axis.
        ids: its id along each axis, by which claims refer to it.
    """

    row: str
    network: str
    candidates: tuple[tuple[PlannedRun, ...], ...] = ()
    missing: str | None = None
    paper: tuple[str, ...] = ()
    value: str | None = None
    quoted: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    @property
    def jobs(self) -> tuple[PlannedRun, ...]:
        """The runs of all candidates."""
        return tuple(job for jobs in self.candidates for job in jobs)


@dataclass(frozen=True)
class Suite:
    """A requested table or figure with its runs.

    Args:
        original: its spec on the paper's data set.
        spec: its spec on the requested data set.
        options: the value of each of its options.
        networks: printed name -> model of the chosen networks.
        cells: its cells by row and column.
        given: the overrides that apply to all its runs.
    """

    name: str
    original: SuiteSpec
    spec: SuiteSpec
    variant: str | None
    options: dict[str, str]
    page: Page
    networks: dict[str, str]
    cells: dict[Key, Cell] = field(default_factory=dict)
    given: tuple[str, ...] = ()

    @property
    def drawn(self) -> bool:
        """Whether it is a figure."""
        return self.spec.drawn

    @property
    def rows(self) -> tuple[str, ...]:
        """Keys of the rows in order."""
        return tuple(dict.fromkeys(row for row, _ in self.cells))

    @property
    def jobs(self) -> list[PlannedRun]:
        """All runs without duplicates."""
        unique = {job.run_id: job for cell in self.cells.values() for job in cell.jobs}
        return list(unique.values())


def parse_arguments(words: list[str]) -> tuple[list[str], dict[str, list[str]], list[str]]:
    """Split command-line words into table names, selections and overrides for every run.

    Selections are lists under `models`, `seeds` and `table.KEY`.

    Raises:
        ConfigError: no table is named.
    """
    names = [n for word in words if "=" not in word for n in word.split(",") if n]
    pairs = [word for word in words if "=" in word]
    chosen = {
        key: value.split(",")
        for key, _, value in (p.partition("=") for p in pairs)
        if _selects(key)
    }
    if not names:
        raise ConfigError(
            f"TABLE is missing: {', '.join(table_names())}, with @digits and the like for another"
            " data set"
        )
    return names, chosen, [p for p in pairs if not _selects(p.partition("=")[0])]


def _selects(key: str) -> bool:
    return key in ("models", "seeds") or key.startswith("table.")


def expand(
    name: str, chosen: dict[str, list[str]], overrides: list[str], composer: Composer | None = None
) -> Suite:
    """The table or figure `name` or `name@dataset` with its runs.

    Args:
        chosen: `models` keeps some networks, `seeds` replaces the seeds, `table.KEY` sets an
            option of the table.
        overrides: further overrides for every run; they take precedence.
        composer: the composer of tables expanded before, so that what they share is composed once.

    Raises:
        ConfigError: unknown table, data set, model, seed or override.
    """
    stem, _, variant = name.partition("@")
    if stem not in (names := table_names() + figure_names()):
        raise ConfigError(one_of("TABLE", stem, names))
    spec = read_spec(stem)
    if variant and variant not in spec.elsewhere:
        raise ConfigError(one_of(f"TABLE={stem}@", variant, spec.elsewhere))
    return expand_spec(spec, name, chosen, overrides, composer or Composer())


def expand_all(names: list[str], chosen: dict[str, list[str]], overrides: list[str]) -> list[Suite]:
    """Expand several tables; an option `table.KEY` applies to those that have it.

    Raises:
        ConfigError: as in `expand`; an option that none of the tables has.
    """
    composer, known = (
        Composer(),
        {
            name: options_of(read_spec(stem))
            for name in names
            if (stem := name.partition("@")[0]) in table_names() + figure_names()
        },
    )
    owned = {f"table.{key}" for options in known.values() for key in options}

    def fitting(name: str) -> dict[str, list[str]]:
        has = known.get(name, {})
        return {
            key: value
            for key, value in chosen.items()
            if key not in owned or key.removeprefix("table.") in has
        }

    return [expand(name, fitting(name), overrides, composer) for name in names]


def expand_spec(
    original: SuiteSpec,
    name: str,
    chosen: dict[str, list[str]],
    overrides: list[str],
    composer: Composer,
) -> Suite:
    """Expand a spec that has been read; as `expand`."""
    stem, _, variant = name.partition("@")
    options, spec = (
        choose_options(original, variant or None, chosen),
        on_variant(original, variant or None),
    )
    networks = _choose_networks(spec.networks, chosen.get("models"))
    seeds = _seeds(chosen.get("seeds")) or list(spec.seeds)
    layout, page = lay_out(spec, options, networks)
    cells, taken, told_apart = (
        dict[Key, Cell](),
        set[str](),
        dict[tuple[str, ...], dict[str, str]](),
    )
    # Options of a method apply to the rows that have them.
    own = {word for word in overrides if word.startswith(("method.", "start."))}
    for cell in layout:
        fitting = _fitting(cell.words, own, composer)
        taken |= fitting
        words = [*cell.words, *(w for w in overrides if w not in own - fitting)]
        _refuse_equal_entries(stem, cell, words, told_apart)
        cells[cell.key] = _cell(cell, words, seeds, composer)
    if own - taken:
        raise ConfigError(
            *(f"{word}: no method of {stem} has this option" for word in sorted(own - taken))
        )
    return Suite(
        name, original, spec, variant or None, options, page, networks, cells, tuple(overrides)
    )


def _refuse_equal_entries(
    table: str, cell: CellSpec, words: list[str], told_apart: dict[tuple[str, ...], dict[str, str]]
) -> None:
    """Raise an error if the overrides make this entry equal to an earlier one.

    Overrides take precedence, so an override along an axis of the table would fill entries with
    different labels by one run.

    Args:
        told_apart: for each earlier entry, its words with the overrides -> its settings without
            them; this entry is added.

    Raises:
        ConfigError: an earlier entry has the same words, and different words without the overrides.
    """
    density = {"density": " ".join(map(str, cell.densities))} if cell.densities else {}
    before, after = (
        density | _settings(cell.words),
        tuple(sorted("=".join(pair) for pair in (density | _settings(words)).items())),
    )
    other = told_apart.setdefault(after, before)
    keys = [key for key in _settings(words) if before.get(key) != other.get(key)]
    if keys and not cell.reads:
        values = {
            key: " and ".join(each.get(key, "the default") for each in (other, before))
            for key in keys
        }
        raise ConfigError(
            *(
                f"{key}={_settings(words)[key]}: entries of {table} differ in it ({values[key]});"
                " leave it out"
                for key in keys
            )
        )


def _fitting(row: tuple[str, ...], options: set[str], composer: Composer) -> set[str]:
    """Return the options `method.KEY=VALUE` and `start.KEY=VALUE` that the row's method has."""
    if not options or not has_method(_method(row)):
        return set()
    cfg = composer.config(_last_wins(list(row)))
    return {
        word
        for word in options
        if OmegaConf.select(cfg, word.partition("=")[0], default=NOTHING) is not NOTHING
    }


def _method(words: Sequence[str]) -> str:
    return next(w.partition("=")[2] for w in reversed(words) if w.startswith("method="))


def _cell(cell: CellSpec, words: list[str], seeds: list[int], composer: Composer) -> Cell:
    """Build a cell with one candidate per density; `density` in `words` overrides them all."""
    row, network, method = cell.key[0], cell.network, _method(words)
    if cell.reads:
        found = [
            read_setting(key, _last_wins([*cell.words, *more, *words[len(cell.words) :]]), composer)
            for key, more in cell.reads
        ]
        return Cell(row, network, paper=cell.paper, value=", ".join(dict.fromkeys(found)))
    if not has_method(method):
        return Cell(
            row,
            network,
            missing=f"method={method} does not exist yet",
            paper=cell.paper,
            quoted=cell.quoted,
            labels=cell.labels,
            ids=cell.ids,
        )
    candidates = [_last_wins([f"density={density}", *words]) for density in cell.densities] or [
        _last_wins(words)
    ]
    unique = {tuple(candidate): candidate for candidate in candidates}.values()
    jobs = tuple(_jobs(candidate, seeds, composer) for candidate in unique)
    return Cell(
        row, network, jobs, paper=cell.paper, quoted=cell.quoted, labels=cell.labels, ids=cell.ids
    )


def _jobs(words: list[str], seeds: list[int], composer: Composer) -> tuple[PlannedRun, ...]:
    """Plan one run per seed."""
    runs = build_seeds(composer.plain(words), seeds)
    return plan_runs(runs, [(*words, f"seed={run.seed}") for run in runs])


def _last_wins(words: list[str]) -> list[str]:
    """Keep the last override of each key: Hydra rejects two choices of one group."""
    return [f"{key}={value}" for key, value in _settings(words).items()]


def _settings(words: Sequence[str]) -> dict[str, str]:
    return {word.partition("=")[0]: word.partition("=")[2] for word in words}


def _choose_networks(networks: dict[str, str], wanted: list[str] | None) -> dict[str, str]:
    if wanted is None or not networks:
        return networks
    plain = {label.lower().replace("-", ""): label for label in networks} | {
        model: label for label, model in networks.items()
    }
    unknown = [word for word in wanted if word not in plain]
    if unknown:
        raise ConfigError(
            f"models={','.join(unknown)}: this table has"
            f" {', '.join(networks.values())}{nearest(unknown[0], networks.values())}"
        )
    keep = {plain[word] for word in wanted}
    return {label: model for label, model in networks.items() if label in keep}


def _seeds(words: list[str] | None) -> list[int]:
    try:
        seeds = [int(word) for word in words or []]
    except ValueError:
        seeds = [-1]
    if any(seed < 0 for seed in seeds):
        raise ConfigError(
            f"seeds={','.join(words or [])} must be whole numbers of 0 or more, e.g. seeds=0,1,2"
        )
    return seeds

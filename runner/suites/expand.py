"""Expand tables and figures into cells with their runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from runner.config.compose import Composer
from runner.config.overrides import given_twice, with_search_path
from runner.config.synonyms import corrected
from runner.errors import ConfigError, nearest, one_of
from runner.spec.planned import PlannedRun
from runner.suites.as_ran import page_as_ran
from runner.suites.cells import Cell, make_cells
from runner.suites.kept import KeptCells, read_cells, write_cells
from runner.suites.layouts import lay_out
from runner.suites.merge import on_variant
from runner.suites.metrics import metric_names
from runner.suites.options import choose_options, options_of
from runner.suites.page import Key, Page
from runner.suites.schema import SuiteSpec
from runner.suites.schema_tables import NetworksTable
from runner.suites.spec import figure_names, read_spec, table_names

# Beginnings of words that change no number of a page.
OF_MACHINE = ("env.", "logger", "hydra")


@dataclass(frozen=True)
class Suite:
    """A requested table or figure with its runs.

    Args:
        original: its spec on the paper's data set.
        spec: its spec on the requested data set.
        options: the value of each of its options.
        networks: printed name -> model of the chosen networks.
        cells: its cells by row and column.
        overrides: those that apply to all its runs.
        chosen: its selections, as words of the command line.
        stem: the name of its files without an ending; None for its name.
    """

    name: str
    original: SuiteSpec
    spec: SuiteSpec
    variant: str | None
    options: dict[str, str]
    page: Page
    networks: dict[str, str]
    cells: dict[Key, Cell] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()
    stem: str | None = None

    @property
    def file_name(self) -> str:
        """The name of its files without an ending."""
        return self.stem or self.name

    @property
    def settings(self) -> tuple[str, ...]:
        """The words of the command line that decide what its pages show, sorted."""
        given = (*self.chosen, *self.overrides)
        return tuple(sorted(word for word in given if not word.startswith(OF_MACHINE)))

    @property
    def command(self) -> str:
        """The command that performs its missing runs and writes its pages."""
        further = f' ARGS="{" ".join(self.settings)}"' if self.settings else ""
        return f"make reproduce TABLE={self.name}{further}"

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


def parse_arguments(arguments: list[str]) -> tuple[list[str], dict[str, list[str]], list[str]]:
    """Split command-line arguments into table names, selections and overrides for every run.

    Selections are lists under `models`, `seeds`, `columns` and `table.KEY`.

    Raises:
        ConfigError: no table is named, a key is given twice, or a key is none of a table's.
    """
    arguments = with_search_path(arguments)
    if problems := [*given_twice(arguments), *_with_dashes_or_seed(arguments)]:
        raise ConfigError(*problems)
    names = [n for argument in arguments if "=" not in argument for n in argument.split(",") if n]
    if not names:
        raise ConfigError(
            f"TABLE is missing: {', '.join(table_names())}; NAME@DATASET is a table on another data"
            " set, e.g. imc_table01@digits"
        )
    chosen: dict[str, list[str]] = {}
    overrides: list[str] = []
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if sign and _selects(key):
            chosen[key] = value.split(",")
        elif sign:
            overrides.append(argument)
    return names, chosen, overrides


def _with_dashes_or_seed(arguments: list[str]) -> Iterator[str]:
    """A message for each argument that would have no effect on a table."""
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "seed":
            yield f"{argument}: a table has several seeds; write seeds={value}, e.g. seeds=0,1,2"
        if argument.startswith("-"):
            plain = key.lstrip("-").replace("-", "_")
            known = f"seeds={value}" if plain in ("seed", "seeds") else corrected(plain, value)
            written = known if value else "KEY=VALUE, e.g. seeds=0"
            yield f"{argument}: values have no dashes; write {written}"


def _selects(key: str) -> bool:
    return key in ("models", "seeds", "columns") or key.startswith("table.")


def expand(
    name: str,
    chosen: dict[str, list[str]],
    overrides: list[str],
    composer: Composer | None = None,
    kept: KeptCells | None = None,
) -> Suite:
    """The table or figure `name` or `name@dataset` with its runs.

    Args:
        chosen: `models` keeps some networks, `seeds` replaces the seeds, `columns` adds metrics,
            `table.KEY` sets an option of the table.
        overrides: further overrides for every run; they take precedence.
        composer: the composer of tables expanded before, so that what they share is composed once.
        kept: the cells of tables expanded before, also by other processes.

    Raises:
        ConfigError: unknown table, data set, model, seed or override.
    """
    stem, _, variant = name.partition("@")
    if stem not in (names := table_names() + figure_names()):
        raise ConfigError(one_of("TABLE", stem, names))
    spec = read_spec(stem)
    if variant and variant not in spec.variants:
        raise ConfigError(one_of(f"TABLE={stem}@", variant, spec.variants))
    return expand_spec(spec, name, chosen, overrides, composer or Composer(), kept)


def expand_all(
    names: list[str],
    chosen: dict[str, list[str]],
    overrides: list[str],
    kept: KeptCells | None = None,
) -> list[Suite]:
    """Expand several tables; an option `table.KEY` applies to those that have it.

    Raises:
        ConfigError: as in `expand`; an option that none of the tables has.
    """
    composer = Composer()
    known = {
        name: options_of(read_spec(stem))
        for name in names
        if (stem := name.partition("@")[0]) in table_names() + figure_names()
    }
    owned = {f"table.{key}" for options in known.values() for key in options}

    def fitting(name: str) -> dict[str, list[str]]:
        has = known.get(name, {})
        return {
            key: value
            for key, value in chosen.items()
            if key not in owned or key.removeprefix("table.") in has
        }

    return [expand(name, fitting(name), overrides, composer, kept) for name in names]


def expand_spec(
    original: SuiteSpec,
    name: str,
    chosen: dict[str, list[str]],
    overrides: list[str],
    composer: Composer,
    kept: KeptCells | None = None,
) -> Suite:
    """Expand a spec that has been read; as `expand`."""
    stem, _, variant = name.partition("@")
    options = choose_options(original, variant or None, chosen)
    spec = with_columns(on_variant(original, variant or None), chosen.get("columns", []))
    networks = choose_networks(spec.networks, chosen.get("models"))
    requested = requested_seeds(chosen.get("seeds"))
    seeds = requested or list(spec.seeds)
    layout, page = lay_out(spec, options, networks)
    if requested:
        layout = [replace(cell, seeds=()) for cell in layout]
    path = kept.path(spec, layout, seeds, overrides) if kept else None
    cells = read_cells(path, layout, composer)
    if cells is None:
        made = make_cells(stem, layout, overrides, seeds, composer, spec.notes)
        write_cells(path, tuple(made.values()))
        cells = read_cells(path, layout, composer) or made  # the former hold no runs
    page = page_as_ran(page, layout, cells)
    return Suite(
        name,
        original,
        spec,
        variant or None,
        options,
        page,
        networks,
        cells,
        tuple(overrides),
        tuple(f"{key}={','.join(values)}" for key, values in chosen.items()),
    )


def choose_networks(networks: dict[str, str], requested: list[str] | None) -> dict[str, str]:
    """The requested networks, named by model or by printed name; all if none is requested."""
    if requested is None or not networks:
        return networks
    labels = {label.lower().replace("-", ""): label for label in networks}
    labels |= {model: label for label, model in networks.items()}
    if unknown := [name for name in requested if name not in labels]:
        raise ConfigError(
            f"models={','.join(unknown)}: this table has"
            f" {', '.join(networks.values())}{nearest(unknown[0], networks.values())}"
        )
    keep = {labels[name] for name in requested}
    return {label: model for label, model in networks.items() if label in keep}


def with_columns(spec: SuiteSpec, requested: Sequence[str]) -> SuiteSpec:
    """The spec with further metrics, which are printed after its own.

    Raises:
        ConfigError: a metric is unknown, or the table has one number an entry.
    """
    if not requested:
        return spec
    if not isinstance(spec, NetworksTable):
        raise ConfigError(
            f"columns={','.join(requested)}: only tables with several columns for each network take"
            " more, e.g. imc_table01; leave it out"
        )
    if unknown := [name for name in requested if name not in metric_names()]:
        raise ConfigError(one_of("columns", unknown[0], metric_names()))
    return replace(spec, metrics=tuple(dict.fromkeys((*spec.metrics, *requested))))


def requested_seeds(requested: list[str] | None) -> list[int]:
    """The requested seeds; empty if none is requested."""
    try:
        seeds = [int(text) for text in requested or []]
    except ValueError:
        seeds = [-1]
    if any(seed < 0 for seed in seeds):
        raise ConfigError(
            f"seeds={','.join(requested or [])} must be whole numbers of 0 or more, e.g."
            " seeds=0,1,2"
        )
    return seeds

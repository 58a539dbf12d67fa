"""The lines of `index.yaml` in results/published: their runs, and the names of their files.

A line of the sections `tables` and `figures` has the words of `make reproduce`; one of the section
`runs` has those of `python run.py -m`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import track

from runner.commands.write import write
from runner.config.build import build_plain
from runner.config.compose import Composer
from runner.records.read import HISTORY
from runner.spec.planned import PlannedRun, plan_run
from runner.suites.expand import Suite, expand, parse_arguments
from runner.suites.file_names import file_name
from runner.suites.kept import KeptCells
from runner.suites.schema_figures import FigureSpec
from runner.suites.spec import figure_names

INDEX = "index.yaml"
SECTIONS = ("tables", "figures", "runs")


@dataclass(frozen=True)
class PublishedLine:
    """A line of the index.

    Args:
        name: the name of its files, without their endings.
        suite: the table or figure, under its own name; None for a sweep.
    """

    words: str
    name: str
    jobs: tuple[PlannedRun, ...]
    suite: Suite | None = None

    @property
    def page(self) -> Suite | None:
        """The table or figure under the name of its files."""
        return replace(self.suite, stem=self.name) if self.suite else None

    @property
    def reads(self) -> frozenset[str]:
        """The keys of numbers that its figure draws, apart from axes."""
        spec = self.suite.spec if self.suite else None
        if not isinstance(spec, FigureSpec):
            return frozenset()
        return frozenset(
            key for panel in spec.panels for series in panel.series for key in series.reads
        )

    @property
    def reads_history(self) -> bool:
        """Whether its figure draws values of each epoch."""
        return any(key.startswith(HISTORY) for key in self.reads)


def read_index(published: Path) -> Mapping[str, Sequence[str]]:
    """Section -> its lines; empty without an index."""
    path = published / INDEX
    index: Any = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else {}
    return {section: tuple(lines or ()) for section, lines in index.items()}


def section_of(words: str) -> str:
    """The section of the index to which a line belongs."""
    name = words.split()[0].partition("@")[0]
    return "runs" if "=" in name else "figures" if name in figure_names() else "tables"


def page_name(words: str, listed: Sequence[str]) -> str:
    """The name of the files of an index line.

    This is the table's name for the first line with that table. For others and for sweeps, all
    words are joined (`file_name`).

    Args:
        listed: all lines of the section.
    """
    name = words.split()[0]
    if "=" not in name and words == next(line for line in listed if line.split()[0] == name):
        return name
    return file_name(words.split())


def published_line(
    words: str,
    listed: Sequence[str],
    composer: Composer | None = None,
    kept: KeptCells | None = None,
) -> PublishedLine:
    """A line of the index with its runs. Composer and kept cells: `runner.suites.expand.expand`.

    Raises:
        ConfigError: as for `make reproduce` or `python run.py` with these words.
    """
    composer, name = composer or Composer(), page_name(words, listed)
    if "=" in words.split()[0]:
        return PublishedLine(words, name, _sweep(words.split(), composer))
    (table,), chosen, overrides = parse_arguments(words.split())
    suite = expand(table, chosen, overrides, composer, kept)
    return PublishedLine(words, name, tuple(suite.jobs), suite)


def _sweep(words: Sequence[str], composer: Composer) -> tuple[PlannedRun, ...]:
    """The runs of every combination of the values between commas, read as Hydra reads them."""
    (jobs,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(words), None)
    return tuple(plan_run(build_plain(composer.plain(job)), tuple(job)) for job in jobs)


def published_pages(published: Path, kept: KeptCells | None = None) -> Iterator[PublishedLine]:
    """Every line of the index that has a page, with its runs."""
    composer = Composer()
    for section, listed in read_index(published).items():
        if section != "runs":
            yield from (published_line(words, listed, composer, kept) for words in listed)


def write_pages(
    published: Path, results_dir: Path, console: Console, kept: KeptCells | None = None
) -> None:
    """Write the published tables as HTML, figures as SVG, and verdicts to `results_dir`."""
    index = read_index(published)
    total = sum(len(listed) for section, listed in index.items() if section != "runs")
    for line in track(
        published_pages(published, kept), "published pages", total, console=console, transient=True
    ):
        if line.page:
            write(line.page, results_dir, ["html"], ["svg"])

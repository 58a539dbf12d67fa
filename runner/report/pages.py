"""The written pages of tables and figures, which the report shows."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.errors import Damaged
from runner.paths import typed
from runner.report.pictures import Styles, picture
from runner.streams import say
from runner.suites.file_names import file_name
from runner.suites.spec import figure_names, read_spec, table_names
from runner.tables.leads import Leads, read_leads

MAIN = re.compile(r"<main>\n?(.*?)</main>", re.DOTALL)
HEADING = re.compile(r"<h1>.*?</h1>\n?", re.DOTALL)


@dataclass(frozen=True)
class Shown:
    """One written page of a table or figure.

    Args:
        body: HTML; a figure is an SVG element.
        notes: the caption of a figure; a table's is in its body.
        claims: rows of verdicts with the columns `runner.suites.verdicts.COLUMNS`.
    """

    leads: Leads
    body: str
    notes: str = ""
    claims: tuple[tuple[str, ...], ...] = ()

    @property
    def anchor(self) -> str:
        """The id of its article: its table and settings."""
        return file_name((self.leads.table, *self.leads.settings))

    @property
    def drawn(self) -> bool:
        """Whether it is a figure."""
        return self.body.startswith("<svg")

    @property
    def verdicts(self) -> Counter[str]:
        """The number of claims per verdict."""
        return Counter(row[-1] for row in self.claims)


@dataclass(frozen=True)
class Listed:
    """A table or figure of a paper, or an additional one of this project.

    Args:
        title: the heading in its YAML.
        command: the command that reproduces it in the paper's setting.
        shown: its measured pages, one per data set and setting.
        unmeasured: leads of pages that were written without any number.
    """

    name: str
    title: str
    command: str
    shown: tuple[Shown, ...] = ()
    unmeasured: tuple[Leads, ...] = ()


@dataclass(frozen=True)
class Written:
    """A page among the files of a results directory."""

    path: Path
    leads: Leads

    @property
    def words(self) -> tuple[str, ...]:
        """What distinguishes it from other pages."""
        return (self.leads.table, *self.leads.settings)


def listed(paper: str, roots: Sequence[Path], styles: Styles) -> list[Listed]:
    """All tables and figures of a paper with their written pages.

    Tables come before figures, and both before additional ones without a number in the paper.

    Args:
        roots: results directories; a measured page of an earlier one takes precedence.
        styles: those of the pictures are added.
    """
    names = [*table_names(), *figure_names()]
    specs = {name: spec for name in names if (spec := read_spec(name)).paper == paper}
    found = []
    for name, spec in sorted(specs.items(), key=lambda item: item[1].number is None):
        pages = list(_pages(name, roots))
        shown = [_shown(page, styles) for page in pages if page.leads.measured]
        bare = tuple(page.leads for page in pages if not page.leads.measured)
        command = typed("reproduce", name)
        found.append(Listed(name, spec.heading, command, tuple(shown), bare))
    return found


def _pages(name: str, roots: Sequence[Path]) -> Iterator[Written]:
    """The pages of a table or figure, sorted by their words.

    Of several with the same words, that is the first that is measured.
    """
    found: dict[tuple[str, ...], Written] = {}
    for root in roots:
        for page in _written(name, root):
            other = found.get(page.words)
            if other is None or page.leads.measured and not other.leads.measured:
                found[page.words] = page
    return (page for _, page in sorted(found.items()))


def _written(name: str, root: Path) -> Iterator[Written]:
    """The pages of a table or figure in a results directory.

    A page without the list of its runs is from an earlier version; a message names it.
    """
    own = re.compile(re.escape(name) + r"([@+].*)?")
    for path in sorted([*(root / "tables").glob("*.html"), *(root / "figures").glob("*.svg")]):
        if not own.fullmatch(path.stem):
            continue
        try:
            leads = read_leads(path.with_name(f"{path.stem}.json"))
        except Damaged as error:
            say(f"{error}; the report leaves {path} out")
            continue
        if leads is None:
            say(f"{path} is from an earlier version and left out: write it again")
        elif leads.table.partition("@")[0] == name:
            yield Written(path, leads)


def _shown(page: Written, styles: Styles) -> Shown:
    """The page for the report."""
    claims = _claims(page.path.with_name(f"{page.path.stem}.claims.csv"))
    if page.path.suffix == ".html":
        return Shown(page.leads, _table(page.path), claims=claims)
    drawing = picture(page.path, styles)
    return Shown(page.leads, drawing.svg, drawing.notes, claims)


def _claims(path: Path) -> tuple[tuple[str, ...], ...]:
    """The rows of a file of claims without its header; none if there is no file."""
    if not path.is_file():
        return ()
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    return tuple(map(tuple, rows[1:]))


def _table(path: Path) -> str:
    """What a table's document has below its heading."""
    text = path.read_text(encoding="utf-8")
    found = MAIN.search(text)
    return HEADING.sub("", found[1]) if found else ""

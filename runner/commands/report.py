"""An HTML page of all results: tables, figures, verdicts on the papers' claims, missing entries.

It collects the output of `make reproduce`, `make tables` and `make figures`, prints and draws the
published tables and figures from their records, and runs nothing. Results of this machine take
precedence over published ones. The page requires no other file and no network.
"""

import base64
import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from runner.commands.published import write_pages
from runner.config.compose import compose_config
from runner.config.overrides import SEARCH, with_search_path
from runner.config.plain import to_plain
from runner.errors import ConfigError
from runner.files import atomically
from runner.records.find import all_records, results_roots
from runner.spec.findings import is_diverged
from runner.suites.papers import paper_titles
from runner.suites.spec import figure_names, read_spec, table_names
from runner.suites.verdicts import FAILS, HOLDS, OPEN, UNKNOWN

TEMPLATE = Path(__file__).with_name("report.html")
VERDICTS = (HOLDS, FAILS, OPEN, UNKNOWN)
ENTRY = re.compile(r"<td>([^<\[]*\S) (\[[^<\]]*\])</td>")  # `ours [the paper's]`


@dataclass(frozen=True)
class Shown:
    """One written page of a table or figure.

    Args:
        name: the name as in `TABLE=`; the words of another setting follow after a plus.
        body: HTML; a figure is embedded as an image.
        claims: rows of verdicts with the columns `runner.suites.verdicts.COLUMNS`.
    """

    name: str
    body: str
    claims: tuple[tuple[str, ...], ...] = ()

    @property
    def verdicts(self) -> Counter[str]:
        """The number of claims per verdict."""
        return Counter(row[-1] for row in self.claims)


@dataclass(frozen=True)
class Entry:
    """A table or figure of a paper, or an additional one of this project.

    Args:
        title: the heading in its YAML.
        command: the command that reproduces it in the paper's setting.
        shown: its pages, one per data set and setting.
    """

    name: str
    title: str
    command: str
    shown: tuple[Shown, ...]


def report(words: list[str], console: Console) -> int:
    """Write <env.results_dir>/report.html.

    Raises:
        ConfigError: a word other than env.results_dir=DIR, or jinja2 is not installed.
    """
    words = with_search_path(words)
    if other := [word for word in words if not word.startswith(("env.results_dir=", SEARCH))]:
        raise ConfigError(
            f"{' '.join(other)}: the report accepts only env.results_dir=DIR; it shows all tables"
            " and figures that were written there"
        )
    try:
        import jinja2
    except ImportError as error:
        raise ConfigError("make report needs jinja2: pip install -e '.[report]'") from error
    env = to_plain(compose_config(words).env, resolve=True)
    target = Path(env["results_dir"]) / "report.html"
    roots = results_roots(target.parent)
    titles = paper_titles()
    with TemporaryDirectory() as pages:
        for root in roots[1:]:
            write_pages(root, Path(pages), console)
        written = [roots[0], Path(pages), *roots[1:]]
        papers = {title: list(entries_of(paper, written)) for paper, title in titles.items()}
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        TEMPLATE.read_text(encoding="utf-8")
    )
    text = page.render(papers=papers, provenance=provenance(roots), verdicts=VERDICTS)
    atomically(target, partial(_write, text=text))
    entries = [entry for found in papers.values() for entry in found]
    there = sum(bool(entry.shown) for entry in entries)
    judged = sum((shown.verdicts for entry in entries for shown in entry.shown), Counter[str]())
    console.print(
        f"{there} of {len(entries)} tables and figures have been measured, in whole or in part;"
        f" claims: {counted(judged)}",
        soft_wrap=True,
    )
    console.print(f"written to {target}", soft_wrap=True)
    return 0


def counted(judged: Counter[str]) -> str:
    """The numbers of verdicts as text, in the order of VERDICTS."""
    parts = [f"{verdict} {judged[verdict]}" for verdict in VERDICTS if judged[verdict]]
    return ", ".join(parts) or "none judged"


def entries_of(paper: str, roots: list[Path]) -> Iterator[Entry]:
    """All tables and figures of a paper with their written pages.

    Tables come before figures, and both before additional ones without a number in the paper.
    """
    names = [*table_names(), *figure_names()]
    specs = {name: spec for name in names if (spec := read_spec(name)).paper == paper}
    for name, spec in sorted(specs.items(), key=lambda item: item[1].number is None):
        yield Entry(name, spec.heading, f"make reproduce TABLE={name}", tuple(_shown(name, roots)))


def _shown(name: str, roots: list[Path]) -> Iterator[Shown]:
    """The pages of a table or figure, sorted by name; earlier roots take precedence."""
    own = re.compile(re.escape(name) + r"([@+].*)?")
    found: dict[str, Path] = {}
    for root in roots:
        for path in sorted([*(root / "tables").glob("*.html"), *(root / "figures").glob("*.svg")]):
            if own.fullmatch(path.stem):
                found.setdefault(path.stem, path)
    for stem, path in sorted(found.items()):
        body = _picture(path, stem) if path.suffix == ".svg" else _table(path)
        yield Shown(stem, body, _claims(path.with_name(f"{stem}.claims.csv")))


def _claims(path: Path) -> tuple[tuple[str, ...], ...]:
    """The rows of a file of claims without its header; none if there is no file."""
    if not path.is_file():
        return ()
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    return tuple(map(tuple, rows[1:]))


def _table(path: Path) -> str:
    """The HTML of a table's page, with the papers' numbers marked by a class."""
    return ENTRY.sub(r'<td>\1 <span class="paper">\2</span></td>', path.read_text(encoding="utf-8"))


def _picture(path: Path, name: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{name}" src="data:image/svg+xml;base64,{data}">'


def provenance(roots: list[Path]) -> list[str]:
    """A summary of the provenance of all records, one sentence per item."""
    everything = (record for root in reversed(roots) for record in all_records(root))
    records = list({record["run_id"]: record for record in everything}.values())
    if not records:
        return ["No run is done yet."]
    made = [record["provenance"] for record in records]
    days = sorted(str(origin["finished"])[:10] for origin in made)
    versions = len({origin["git_sha"] for origin in made})
    devices = Counter(origin["device_name"] for origin in made).most_common()
    data_sets = Counter(record["dataset"] for record in records).most_common()
    dirty = sum(origin["git_dirty"] is not False for origin in made)
    diverged = sum(map(is_diverged, records))
    runs = f"{len(records):,} runs, finished {days[0]} to {days[-1]}"
    return [
        f"{runs}, by {versions} versions of the code.",
        f"Devices: {', '.join(f'{name} ({count:,} runs)' for name, count in devices)}.",
        f"Data sets: {', '.join(f'{name} ({count:,})' for name, count in data_sets)}.",
        *([f"{diverged:,} runs diverged and have no result."] if diverged else []),
        *([f"{dirty:,} runs were measured by code that was not committed."] if dirty else []),
    ]


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")

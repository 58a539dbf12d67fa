"""One page of everything that was measured: each table and figure that has been printed or drawn, the verdicts on its paper's claims, and what is missing.

It gathers what `make reproduce`, `make tables`, `make figures` and `make publish` wrote, this machine's before what we ship; it composes and runs nothing.
The page needs no other file and no network.
"""

import base64
import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from runner.config.compose import compose_config
from runner.errors import ConfigError
from runner.files import atomically
from runner.paths import CONF
from runner.records.find import results_roots
from runner.suites.spec import figure_names, read_spec, table_names
from runner.suites.verdicts import FAILS, HOLDS, OPEN, UNKNOWN

TEMPLATE = Path(__file__).with_name("report.html")
VERDICTS = (HOLDS, FAILS, OPEN, UNKNOWN)
ENTRY = re.compile(r"<td>([^<\[]*\S) (\[[^<\]]*\])</td>")  # `ours [the paper's]`


@dataclass(frozen=True)
class Shown:
    """A table or figure that has been written.

    Args:
        name: as in `TABLE=`, with the words of another setting after a plus.
        body: HTML; a figure is an image in it.
        claims: rows of its verdicts, as `runner.suites.verdicts.COLUMNS`.
    """

    name: str
    body: str
    claims: tuple[tuple[str, ...], ...] = ()

    @property
    def verdicts(self) -> Counter[str]:
        """How many of its claims hold, do not, are open, were not run."""
        return Counter(row[-1] for row in self.claims)


@dataclass(frozen=True)
class Entry:
    """A table or figure of a paper, or one of our own beside it.

    Args:
        title: as its YAML has it.
        command: what runs it in the paper's own setting.
        shown: its pages, one for each data set and setting.
    """

    name: str
    title: str
    command: str
    shown: tuple[Shown, ...]


def report(words: list[str], console: Console) -> int:
    """Write <env.results_dir>/report.html.

    Raises:
        ConfigError: a word that is no env.results_dir=DIR; jinja2 is not installed.
    """
    if other := [word for word in words if not word.startswith("env.results_dir=")]:
        raise ConfigError(f"{' '.join(other)}: the report takes env.results_dir=DIR alone; it shows all tables and figures that were written there")
    try:
        import jinja2
    except ImportError as error:
        raise ConfigError("make report needs jinja2: pip install 'winnow[report]'") from error
    env: dict[str, Any] = OmegaConf.to_container(compose_config(words).env, resolve=True)  # type: ignore[assignment]
    target = Path(env["results_dir"]) / "report.html"
    roots = results_roots(target.parent)
    titles: dict[str, str] = OmegaConf.to_container(OmegaConf.load(CONF / "papers.yaml"))  # type: ignore[assignment]
    papers = {title: list(entries_of(paper, roots)) for paper, title in titles.items()}
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    text = page.render(papers=papers, provenance=provenance(roots), verdicts=VERDICTS)
    atomically(target, partial(_write, text=text))
    entries = [entry for found in papers.values() for entry in found]
    there = sum(bool(entry.shown) for entry in entries)
    judged = sum((shown.verdicts for entry in entries for shown in entry.shown), Counter[str]())
    console.print(f"{there} of {len(entries)} tables and figures have been measured, in whole or in part; claims: {counted(judged)}", soft_wrap=True)
    console.print(f"written to {target}", soft_wrap=True)
    return 0


def counted(judged: Counter[str]) -> str:
    """Numbers of verdicts, in their order."""
    return ", ".join(f"{verdict} {judged[verdict]}" for verdict in VERDICTS if judged[verdict]) or "none judged"


def entries_of(paper: str, roots: list[Path]) -> Iterator[Entry]:
    """Every table and figure that has a YAML of that paper, tables first and our own last, with what was written of it."""
    specs = {name: read_spec(name) for name in [*table_names(), *figure_names()] if name.partition("_")[0] == paper}
    for name, spec in sorted(specs.items(), key=lambda item: item[1].number is None):
        yield Entry(name, spec.heading, f"make reproduce TABLE={name}", tuple(_shown(name, roots)))


def _shown(name: str, roots: list[Path]) -> Iterator[Shown]:
    """Its pages and pictures by name, of two with one name the first root's."""
    own = re.compile(re.escape(name) + r"([@+].*)?")
    found: dict[str, Path] = {}
    for root in roots:
        for path in sorted([*(root / "tables").glob("*.html"), *(root / "figures").glob("*.svg")]):
            if own.fullmatch(path.stem):
                found.setdefault(path.stem, path)
    for stem, path in sorted(found.items()):
        claims = path.with_name(f"{stem}.claims.csv")
        rows = list(csv.reader(claims.read_text(encoding="utf-8").splitlines()))[1:] if claims.is_file() else []
        yield Shown(stem, _picture(path, stem) if path.suffix == ".svg" else _table(path), tuple(map(tuple, rows)))


def _table(path: Path) -> str:
    """The page's own HTML, the papers' numbers set apart."""
    return ENTRY.sub(r'<td>\1 <span class="paper">\2</span></td>', path.read_text(encoding="utf-8"))


def _picture(path: Path, name: str) -> str:
    return f'<img alt="{name}" src="data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}">'


def provenance(roots: list[Path]) -> list[str]:
    """What all records say of where they come from."""
    paths = {path.parent.name: path for root in reversed(roots) for path in root.glob("runs/*/result.json")}
    records = [json.loads(path.read_text()) for path in paths.values()]
    if not records:
        return ["No run is done yet."]
    made = [record["provenance"] for record in records]
    days = sorted(str(origin["finished"])[:10] for origin in made)
    devices = Counter(origin["device_name"] for origin in made)
    dirty = sum(origin["git_dirty"] is not False for origin in made)
    return [
        f"{len(records):,} runs, finished {days[0]} to {days[-1]}, by {len({origin['git_sha'] for origin in made})} versions of the code.",
        "Devices: " + ", ".join(f"{device} ({count:,} runs)" for device, count in devices.most_common()) + ".",
        "Data sets: " + ", ".join(f"{name} ({count:,})" for name, count in Counter(record["dataset"] for record in records).most_common()) + ".",
        *([f"{dirty:,} runs were measured by code that was not committed."] if dirty else []),
    ]


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")

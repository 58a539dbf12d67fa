"""An HTML page of all results: tables, figures, verdicts on the papers' claims, missing entries.

It collects the output of `make reproduce`, `make tables` and `make figures`, prints and draws the
published tables and figures from their records, and runs nothing. Results of this machine take
precedence over published ones. The page requires no other file and no network.
"""

from collections import Counter
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
from runner.paths import user_path
from runner.records.find import results_roots
from runner.records.index import indexed
from runner.report.pages import listed
from runner.report.pictures import Styles
from runner.report.render import VERDICTS, render
from runner.suites.kept import KeptCells
from runner.suites.papers import paper_titles


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
    env = to_plain(compose_config(words).env, resolve=True)
    target = Path(env["results_dir"]) / "report.html"
    roots, styles = results_roots(target.parent), Styles()
    with TemporaryDirectory() as pages:
        for root in roots[1:]:
            write_pages(root, Path(pages), console, KeptCells(user_path(env["cache_dir"])))
        written = [roots[0], Path(pages)]
        papers = {title: listed(paper, written, styles) for paper, title in paper_titles().items()}
    with indexed(target.parent):
        text = render(papers, styles, roots)
    atomically(target, partial(Path.write_text, data=text, encoding="utf-8"))
    entries = [entry for found in papers.values() for entry in found]
    there = sum(bool(entry.shown) for entry in entries)
    judged = sum((shown.verdicts for entry in entries for shown in entry.shown), Counter[str]())
    console.print(
        f"{there} of {len(entries)} tables and figures have been measured, in whole or in part;"
        f" claims: {counted(judged)}",
        soft_wrap=True,
    )
    console.print(f"written to {target} ({len(text.encode()) / 1e6:.1f} MB)", soft_wrap=True)
    return 0


def counted(judged: Counter[str]) -> str:
    """The numbers of verdicts as text, in the order of VERDICTS."""
    parts = [f"{verdict} {judged[verdict]}" for verdict in VERDICTS if judged[verdict]]
    return ", ".join(parts) or "none judged"

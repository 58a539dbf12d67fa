"""The report shows every page that was written, once, with its verdicts, and the command of
everything else. The page is read by an HTML parser."""

import re
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from runner.commands import report as module
from runner.commands.published import page_name, read_index
from runner.commands.report import report
from runner.errors import ConfigError
from runner.paths import PUBLISHED
from runner.records.find import finished_runs
from runner.suites.expand import expand
from runner.suites.spec import figure_names, table_names
from runner.tables.render import write_table

CLAIMS = (
    'claim,what was measured,95 % confidence interval,holds\nA < B & C,"+0.50 points, 3'
    ' pairs","[+0.10, +0.90]",holds\nD,–,–,not run\n'
)


class Page(HTMLParser):
    """Articles by id with their text, their images, and all text of the page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.articles: dict[str, str] = defaultdict(str)
        self.images: dict[str, str] = {}
        self.text, self.inside, self.remote = "", "", False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.remote |= any(
            given.get(name, "").startswith(("http", "//", "/")) for name in ("src", "href")
        )
        if tag == "article":
            assert given["id"] not in self.articles
            self.inside = given["id"]
            self.articles[self.inside] = ""
        if tag == "img":
            self.images[self.inside] = given["src"]

    def handle_endtag(self, tag: str) -> None:
        self.handle_data(" " if tag == "td" else "")
        self.inside = "" if tag == "article" else self.inside

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.inside:
            self.articles[self.inside] += data


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine's results, beside shipped ones that have a page of the same name."""
    mine, shipped = tmp_path / "results", tmp_path / "published"
    monkeypatch.setattr(module, "results_roots", lambda folder: [folder, shipped])
    for root, text in ((mine, "mine"), (shipped, "shipped")):
        (root / "tables").mkdir(parents=True)
        (root / "tables" / "imc_table01@digits.html").write_text(
            f"<h3>{text}</h3><table><tr><td>SNIP</td><td>99.35 ± 0.16 [92.4,"
            " +7.0]</td></tr></table>"
        )
    (mine / "tables" / "imc_table01@digits.claims.csv").write_text(CLAIMS)
    (shipped / "tables" / "imc_table01@digits+seeds=0.html").write_text("<h3>one seed</h3>")
    (shipped / "figures").mkdir()
    (shipped / "figures" / "sketching_figure01.svg").write_text("<svg/>")
    return mine


def shown(results: Path) -> Page:
    assert report([f"env.results_dir={results}"], Console(quiet=True)) == 0
    return Page(results / "report.html")


def test_every_page_stands_there_once_and_this_machines_before_the_shipped_one(
    results: Path,
) -> None:
    page = shown(results)
    assert set(page.articles) == {
        "imc_table01@digits",
        "imc_table01@digits+seeds=0",
        "sketching_figure01",
    }
    assert "mine" in page.articles["imc_table01@digits"] and "shipped" not in page.text
    assert page.images == {"sketching_figure01": "data:image/svg+xml;base64,PHN2Zy8+"}  # <svg/>
    assert not page.remote


def test_the_papers_number_is_set_apart_and_no_text_changes(results: Path) -> None:
    page = shown(results)
    assert "99.35 ± 0.16 [92.4, +7.0]" in page.articles["imc_table01@digits"]
    assert '<span class="paper">[92.4, +7.0]</span>' in (results / "report.html").read_text()


def test_verdicts_stand_below_their_table_and_are_counted(results: Path) -> None:
    article = " ".join(shown(results).articles["imc_table01@digits"].split())
    assert "these runs say: holds 1, not run 1" in article
    assert "A < B & C +0.50 points, 3 pairs [+0.10, +0.90] holds D – – not run" in article


def test_what_was_never_written_stands_with_its_command(results: Path) -> None:
    commands = re.findall(r"make reproduce TABLE=(\w+)", shown(results).text)
    assert sorted(commands) == sorted(
        {*table_names(), *figure_names()} - {"imc_table01", "sketching_figure01"}
    )


def test_a_table_without_runs_is_a_page_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "results_roots", lambda folder: [folder])
    write_table(
        expand(
            "imc_table01@digits", {"models": ["resnet20"], "seeds": ["0"]}, ["train.scale=0.0123"]
        ),
        tmp_path,
    )
    page = shown(tmp_path)
    assert (
        "LTH+Rewinding" in page.articles["imc_table01@digits"]
        and "No run is done yet." in page.text
    )


def test_what_we_ship_makes_a_report_with_all_of_it(tmp_path: Path) -> None:
    page, index = shown(tmp_path), read_index(PUBLISHED)
    sections = [index["tables"], index["figures"]]
    names = {page_name(line, listed) for listed in sections for line in listed}
    assert set(page.articles) == names
    figures = {page_name(line, index["figures"]) for line in index["figures"]}
    assert set(page.images) == figures
    assert f"{len(finished_runs(PUBLISHED)):,} runs" in page.text


def test_other_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="models=resnet20: the report takes env.results_dir=DIR alone"
    ):
        report(["models=resnet20"], Console(quiet=True))

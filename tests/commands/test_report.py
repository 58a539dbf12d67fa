"""The report contains each written page once, with its verdicts, and the commands of the others."""

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
    """A parsed page: text and image of each article by id, and the whole text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.articles: dict[str, str] = defaultdict(str)
        self.images: dict[str, str] = {}
        self.text, self.inside, self.remote = "", "", False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.remote |= any(
            values.get(name, "").startswith(("http", "//", "/")) for name in ("src", "href")
        )
        if tag == "article":
            assert values["id"] not in self.articles
            self.inside = values["id"]
            self.articles[self.inside] = ""
        if tag == "img":
            self.images[self.inside] = values["src"]

    def handle_endtag(self, tag: str) -> None:
        self.handle_data(" " if tag == "td" else "")
        self.inside = "" if tag == "article" else self.inside

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.inside:
            self.articles[self.inside] += data


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Local results, and published results that also have a page of the same name."""
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


def make_report(results: Path) -> Page:
    assert report([f"env.results_dir={results}"], Console(quiet=True)) == 0
    return Page(results / "report.html")


def test_the_report_contains_each_page_once_and_prefers_local_results(
    results: Path,
) -> None:
    page = make_report(results)
    assert set(page.articles) == {
        "imc_table01@digits",
        "imc_table01@digits+seeds=0",
        "sketching_figure01",
    }
    assert "mine" in page.articles["imc_table01@digits"] and "shipped" not in page.text
    assert page.images == {"sketching_figure01": "data:image/svg+xml;base64,PHN2Zy8+"}  # <svg/>
    assert not page.remote


def test_the_numbers_of_the_paper_are_marked_and_the_text_is_unchanged(results: Path) -> None:
    page = make_report(results)
    assert "99.35 ± 0.16 [92.4, +7.0]" in page.articles["imc_table01@digits"]
    assert '<span class="paper">[92.4, +7.0]</span>' in (results / "report.html").read_text()


def test_verdicts_follow_their_table_and_are_counted(results: Path) -> None:
    article = " ".join(make_report(results).articles["imc_table01@digits"].split())
    assert "these runs say: holds 1, not run 1" in article
    assert "A < B & C +0.50 points, 3 pairs [+0.10, +0.90] holds D – – not run" in article


def test_missing_pages_are_listed_with_their_commands(results: Path) -> None:
    commands = re.findall(r"make reproduce TABLE=(\w+)", make_report(results).text)
    assert sorted(commands) == sorted(
        {*table_names(), *figure_names()} - {"imc_table01", "sketching_figure01"}
    )


def test_a_table_without_runs_has_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "results_roots", lambda folder: [folder])
    write_table(
        expand(
            "imc_table01@digits", {"models": ["resnet20"], "seeds": ["0"]}, ["train.scale=0.0123"]
        ),
        tmp_path,
    )
    page = make_report(tmp_path)
    assert "LTH+Rewinding" in page.articles["imc_table01@digits"]
    assert "No run is done yet." in page.text


def test_the_report_contains_all_published_pages(tmp_path: Path) -> None:
    page, index = make_report(tmp_path), read_index(PUBLISHED)
    sections = [index["tables"], index["figures"]]
    names = {page_name(line, listed) for listed in sections for line in listed}
    assert set(page.articles) == names
    figures = {page_name(line, index["figures"]) for line in index["figures"]}
    assert set(page.images) == figures
    assert f"{len(finished_runs(PUBLISHED)):,} runs" in page.text


def test_other_arguments_give_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="models=resnet20: the report accepts only env.results_dir=DIR"
    ):
        report(["models=resnet20"], Console(quiet=True))

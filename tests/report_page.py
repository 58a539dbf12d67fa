"""A report as a browser reads it: articles, entries with the runs behind them, and details."""

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any


@dataclass
class Article:
    """One page of a table or figure.

    Args:
        text: its whole text.
        cells: pairs (number of the entry, text) of the cells that lead to runs.
        drawings: number of its SVG elements.
    """

    text: str = ""
    cells: list[tuple[int, str]] = field(default_factory=list)
    drawings: int = 0


class Page(HTMLParser):
    """A parsed page.

    Args:
        elements: the name of each element, with its attributes.
        details: the embedded JSON.
        sheets: the text of style and script elements.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.articles: dict[str, Article] = {}
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text, self.sheets, self.inside, self.reading, self.cell = "", "", "", "", -1
        self.details: Any = None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.elements.append((tag, values))
        if tag == "article":
            assert values["id"] not in self.articles
            self.inside = values["id"]
            self.articles[self.inside] = Article()
        if tag == "svg" and self.inside:
            self.articles[self.inside].drawings += 1
        if tag == "td":
            self.cell = int(values.get("data-cell", -1)) if self.inside else -1
            if self.cell >= 0:
                self.articles[self.inside].cells.append((self.cell, ""))
        if tag in ("script", "style"):
            self.reading = values.get("id", tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.handle_data(" ")
            self.cell = -1
        if tag in ("script", "style"):
            self.reading = ""
        self.inside = "" if tag == "article" else self.inside

    def handle_data(self, data: str) -> None:
        if self.reading == "details":
            self.details = json.loads(data)
        elif self.reading:
            self.sheets += data
        else:
            self.text += data
            if self.inside:
                self.articles[self.inside].text += data
            if self.cell >= 0:
                (number, text) = self.articles[self.inside].cells.pop()
                self.articles[self.inside].cells.append((number, text + data))

    @property
    def remote(self) -> list[str]:
        """What it would load from elsewhere: neither anchors nor embedded data."""
        targets = [
            values[name]
            for _, values in self.elements
            for name in ("src", "href")
            if name in values
        ]
        return [target for target in targets if not target.startswith(("#", "data:"))]

    def runs(self, anchor: str, number: int, kind: int = 1) -> list[str]:
        """The ids of the runs of an entry: shown (1), diverged (2), or not chosen (3)."""
        entry = self.details["pages"][anchor][number]
        return [self.details["runs"][at][0] for at in (entry[kind] if len(entry) > kind else [])]

    def commands(self, anchor: str, number: int) -> list[str]:
        """The commands of the missing runs of an entry."""
        entry = self.details["pages"][anchor][number]
        return list(entry[4]) if len(entry) > 4 else []

    def numbers(self, run_id: str) -> dict[str, Any]:
        """The numbers of a run."""
        (row,) = (row for row in self.details["runs"] if row[0] == run_id)
        return dict(zip(self.details["shared"][row[3]], row[4], strict=True))

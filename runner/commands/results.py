"""`make results`: write the blocks of documents whose numbers come from published records.

results/templates/NAME.md is the text of the blocks `make results: NAME`. It begins with a list of
pages: for each a name, and words of its line in results/published/index.yaml. In the text,
`{{PAGE.STATISTIC(...)}}` prints a number (runner/commands/result_queries.py).
"""

import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from runner.blocks import blocks, renewed
from runner.commands.result_pages import ResultPage, find_page
from runner.commands.result_queries import parse_query
from runner.commands.result_verdicts import NAME, verdicts_text
from runner.errors import ConfigError, one_of
from runner.files import atomically
from runner.paths import PUBLISHED, ROOT

COMMAND = "results"
TEMPLATES = ROOT / "results" / "templates"
PLACEHOLDER = re.compile(r"\{\{(.+?)\}\}", re.DOTALL)
HEAD = re.compile(r"---\n(.*?)---\n", re.DOTALL)
WIDTH = 100  # columns
KEPT = ("|", "#", "```", "![", "<", "    ")  # begins of paragraphs whose lines stay as they are


@dataclass(frozen=True)
class Template:
    """The text of a block.

    Args:
        pages: name -> the published page.
    """

    name: str
    pages: Mapping[str, ResultPage]
    text: str

    def filled(self) -> str:
        """The text with its numbers; paragraphs are broken into lines again.

        Raises:
            ConfigError: a query is invalid or fits nothing, or a page is not used.
        """
        parts = [
            PLACEHOLDER.sub(self._number, part) for part in self.text.strip("\n").split("\n\n")
        ]
        if idle := self.pages.keys() - set(re.findall(r"\{\{\s*(\w+)\.", self.text)):
            raise ConfigError(f"{self.name}.md does not use {', '.join(sorted(idle))}")
        return "\n\n".join(part if part.startswith(KEPT) else _broken(part) for part in parts)

    def _number(self, found: re.Match[str]) -> str:
        """The number of a placeholder; messages name the template and the placeholder."""
        source = " ".join(found.group(1).split())
        try:
            query = parse_query(source)
            if query.page not in self.pages:
                raise ConfigError(one_of("page", query.page, self.pages))
            return query.statistic.text(self.pages[query.page])
        except ConfigError as error:
            place = f"results/templates/{self.name}.md: {source}"
            raise ConfigError(*(f"{place}: {message}" for message in error.messages)) from None


def _broken(paragraph: str) -> str:
    """A paragraph, or a list of items, in lines of at most WIDTH columns."""
    items = re.split(r"\n(?=- )", paragraph)
    return "\n".join(
        textwrap.fill(
            " ".join(item.split()),
            WIDTH,
            subsequent_indent="  " if item.startswith("- ") else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for item in items
    )


def read_template(path: Path, published: Path = PUBLISHED) -> Template:
    """Read a template and find its pages.

    Raises:
        ConfigError: it has no list of pages, or one that the index lacks.
    """
    text = path.read_text(encoding="utf-8")
    head = HEAD.match(text)
    if not head:
        raise ConfigError(f"{path} must begin with a list of pages between two lines ---")
    lines = [line.partition(":") for line in head.group(1).splitlines()]
    pages = {name.strip(): find_page(words.strip(), published) for name, _, words in lines}
    return Template(path.stem, pages, text[head.end() :])


def documents() -> list[Path]:
    """The documents with blocks of this command."""
    pages = [ROOT / "README.md", ROOT / "RESULTS.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in pages if blocks(page.read_text(encoding="utf-8"), COMMAND)]


def renewed_documents(published: Path = PUBLISHED) -> dict[Path, str]:
    """The text of every document, with new blocks.

    Raises:
        ConfigError: a template or a block of a document is invalid.
    """
    texts = {
        path.stem: read_template(path, published).filled()
        for path in sorted(TEMPLATES.glob("*.md"))
    }
    texts[NAME] = verdicts_text(published)
    found = {}
    for page in documents():
        try:
            found[page] = renewed(page.read_text(encoding="utf-8"), COMMAND, texts)
        except ValueError as error:
            raise ConfigError(f"{page.relative_to(ROOT)}: {error}") from error
    return found


def write_results(words: list[str], console: Console) -> int:
    """Write the blocks of all documents."""
    if words:
        raise ConfigError(f"make results takes no ARGS: {' '.join(words)}")
    for page, text in renewed_documents().items():
        changed = text != page.read_text(encoding="utf-8")
        atomically(page, partial(_write, text=text))
        console.print(f"{'written' if changed else 'as before'}: {page.relative_to(ROOT)}")
    return 0


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")

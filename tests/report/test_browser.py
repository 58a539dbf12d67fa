"""The report in a real browser: keyboard, sorting, search, phones, dark mode."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from support import COMPOSER
from table_support import record, write

from runner.commands.published import published_line, read_index, section_of
from runner.commands.write import write as write_pages
from runner.paths import PUBLISHED
from runner.records.find import results_roots
from runner.report.pages import listed
from runner.report.pictures import Styles
from runner.report.render import render
from runner.suites.expand import Suite, expand
from runner.suites.papers import paper_titles

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="needs Chromium: apt-get install chromium"),
]
INDEX = read_index(PUBLISHED)
SHOWN = ("sketching_figure01@digits", "jackpots_table09@digits train.lr=0.02 train.precision=bf16")
KEYS = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowDown": 40, "ArrowRight": 39, "ArrowUp": 38}


class Tab:
    """A page in headless Chromium, driven through its debugging pipe."""

    def __init__(self, folder: Path) -> None:
        read, self.output = os.pipe()
        self.input, write_end = os.pipe()
        flags = (
            "--headless --no-sandbox --disable-gpu --no-first-run --remote-debugging-pipe"
            f" --user-data-dir={folder}"
        )
        self.process = subprocess.Popen(
            ["bash", "-c", f"exec {BROWSER} {flags} about:blank 3<&{read} 4>&{write_end}"],
            pass_fds=(read, write_end),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read)
        os.close(write_end)
        self.numbers, self.rest, self.session = count(1), b"", ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = found["sessionId"]
        self.call("Page.enable")

    def call(self, method: str, **params: Any) -> Any:
        """The result of a command of the DevTools protocol."""
        number = next(self.numbers)
        to = {"sessionId": self.session} if self.session else {}
        message = {"id": number, "method": method, "params": params, **to}
        os.write(self.output, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def wait(self, event: str) -> None:
        """Wait for an event."""
        while self._message().get("method") != event:
            pass

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            more = os.read(self.input, 1 << 20)
            assert more, "Chromium ended"
            self.rest += more
        text, _, self.rest = self.rest.partition(b"\0")
        return dict(json.loads(text))

    def open(self, path: Path, width: int = 1200) -> None:
        """Load a file in a window of this width."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=844,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        self.call("Page.navigate", url=path.as_uri())
        self.wait("Page.loadEventFired")

    def js(self, expression: str) -> Any:
        """The value of an expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, *keys: str) -> None:
        """Press keys, as a person would."""
        for key in keys:
            code = {"key": key, "windowsVirtualKeyCode": KEYS[key], "code": key}
            text = {"text": "\r"} if key == "Enter" else {}
            self.call("Input.dispatchKeyEvent", type="keyDown", **code, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    def close(self) -> None:
        """End the browser."""
        self.session = ""
        self.call("Browser.close")
        self.process.wait(30)
        os.close(self.input)
        os.close(self.output)


@pytest.fixture(scope="module")
def suite() -> Suite:
    chosen = {"models": ["resnet20"], "seeds": ["0", "1"]}
    return expand("imc_table01@digits", chosen, ["train.scale=0.0123"], COMPOSER)


@pytest.fixture(scope="module")
def made(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a table whose last row has no run, and of two published pages."""
    results = tmp_path_factory.mktemp("results")
    jobs = [job for cell in list(suite.cells.values())[:-1] for job in cell.jobs]
    write(results, *(record(job, 98.9 - 0.7 * i) for i, job in enumerate(jobs)))
    published = [published_line(words, INDEX[section_of(words)], COMPOSER) for words in SHOWN]
    for page in (suite, *(line.page for line in published)):
        assert page
        write_pages(page, results, ["html"], ["svg"])
    styles = Styles()
    papers = {title: listed(paper, [results], styles) for paper, title in paper_titles().items()}
    path = results / "report.html"
    path.write_text(render(papers, styles, results_roots(results)))
    return path


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    opened = Tab(tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()


ARTICLE = (
    "document.getElementById('imc_table01@digits+models=resnet20+seeds=0,1+train.scale=0.0123')"
)
ROWS = f"{ARTICLE}.querySelector('table').tBodies[0].rows"
FOCUS = "document.activeElement"


def column(tab: Tab, place: int) -> list[str]:
    """The texts of a column of the table."""
    cells = f"[...{ROWS}].map(row => row.cells[{place}].textContent)"
    found: list[str] = tab.js(cells)
    return found


def test_an_entry_opens_by_keyboard_and_escape_returns_to_it(
    tab: Tab, made: Path, suite: Suite
) -> None:
    tab.open(made)
    tab.js(f"{ARTICLE}.querySelector('.up').focus()")
    tab.press("Tab")  # a table is one stop
    assert tab.js(f"{FOCUS}.dataset.cell") == "0"
    tab.press("ArrowDown", "ArrowRight")
    assert tab.js(f"{FOCUS}.dataset.cell") == "1"
    tab.press("Enter")
    assert tab.js("document.querySelector('dialog').open")
    text = tab.js("document.querySelector('dialog').textContent")
    jobs = list(suite.cells.values())[1].jobs
    for job in jobs:
        assert f"/runs/{job.run_id} env.results_dir=again/results" in text
    for word in ("The paper's line", "row 2", "commit", "versions", "hardware", "findings", "log"):
        assert word in text
    assert tab.js(f"{FOCUS}.textContent") == "close"
    tab.press("Escape")
    assert not tab.js("document.querySelector('dialog').open")
    assert tab.js(f"{FOCUS}.dataset.cell") == "1"
    tab.press("Tab")
    assert tab.js(f"{FOCUS}.closest('table')?.role") != "grid"


def test_a_missing_entry_has_its_commands(tab: Tab, made: Path, suite: Suite) -> None:
    tab.open(made)
    last = len(suite.cells) - 1
    tab.js(f"{ARTICLE}.querySelector('[data-cell=\"{last}\"]').click()")
    text = tab.js("document.querySelector('dialog').textContent")
    assert f"Missing runs ({len(list(suite.cells.values())[-1].jobs)})" in text
    for job in list(suite.cells.values())[-1].jobs:
        assert " ".join(job.overrides[:1]) in text and "python run.py" in text


def test_columns_sort_by_number_and_back(tab: Tab, made: Path) -> None:
    tab.open(made)
    before = column(tab, 2)
    click = f"{ARTICLE}.querySelectorAll('thead tr:last-child button')[2].click()"
    numbers = []
    for _ in range(2):
        tab.js(click)
        numbers.append([float(text.split(" ")[0]) for text in column(tab, 2)[:-1]])
        assert column(tab, 2)[-1].startswith("–")  # what has no number is last
    assert numbers[0] == sorted(numbers[0]) and numbers[1] == numbers[0][::-1]
    tab.js(click)
    assert column(tab, 2) == before


def test_the_index_sorts_as_tables_do(tab: Tab, made: Path) -> None:
    tab.open(made)
    index = "document.querySelector('.index')"
    texts = f"[...{index}.querySelectorAll('tbody tr')].map(row => row.cells[1].textContent)"
    before: list[str] = tab.js(texts)
    orders = []
    for _ in range(2):
        tab.js(f"{index}.querySelectorAll('thead button')[1].click()")  # by title
        found = [re.match(r"(Table|Figure) (\d+):", text) for text in tab.js(texts)]
        orders.append([(each[1], int(each[2])) for each in found if each])
    assert len(orders[0]) > 20 and orders[0] == sorted(orders[0])  # Table 2 before Table 10
    assert orders[1] == sorted(orders[0], reverse=True)
    tab.js(f"{index}.querySelectorAll('thead button')[1].click()")
    assert tab.js(texts) == before


def test_search_shows_the_lines_with_all_words_and_runs_by_id(
    tab: Tab, made: Path, suite: Suite
) -> None:
    tab.open(made)
    look = (
        "f = document.querySelector('#search'); f.value = '{}'; f.dispatchEvent(new Event('input'))"
    )
    tab.js(look.format("train.scale=0.0123 synflow"))
    seen = "[...document.querySelectorAll('article')].filter(a => !a.hidden).length"
    assert tab.js(seen) == 1
    rows = f"[...{ROWS}].filter(row => !row.hidden).map(row => row.cells[0].textContent)"
    assert tab.js(rows) == ["SynFlow"]
    job = suite.jobs[0]
    tab.js(look.format(job.run_id))
    assert tab.js("document.querySelector('#runs summary').textContent").endswith(job.run_id)
    tab.js(look.format(""))
    assert tab.js(seen) == tab.js("document.querySelectorAll('article').length")


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_but_scrolling_boxes_is_wider_than_the_window(
    tab: Tab, made: Path, width: int
) -> None:
    tab.open(made, width)
    assert tab.js("document.documentElement.scrollWidth") <= width
    tab.js(f"{ARTICLE}.querySelector('[data-cell]').click()")
    tab.js("document.querySelectorAll('dialog details').forEach(d => d.open = true)")
    assert tab.js("document.querySelector('dialog').scrollWidth") <= width
    for page in ("h1", ".back", "#search"):
        box = tab.js(f"(({{left, right}}) => [left, right])(document.querySelector('{page}')"
                     ".getBoundingClientRect())")  # fmt: skip
        assert box[0] >= 0 and box[1] <= width


def test_text_and_drawings_are_readable_in_the_dark(tab: Tab, made: Path) -> None:
    contrast = """(query => {
      const light = colour => {
        const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
          .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const page = light(getComputedStyle(document.body).backgroundColor);
      return [...document.querySelectorAll(query)].map(each => {
        const style = getComputedStyle(each);
        const own = light(each instanceof SVGElement ? style.fill : style.color);
        return (Math.max(own, page) + 0.05) / (Math.min(own, page) + 0.05);
      });
    })"""
    for scheme in ("dark", "light"):
        tab.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        tab.open(made)
        found = tab.js(f"{contrast}('p, td, th, li, .paper, .holds, .fails, .open, svg text')")
        assert len(found) > 300 and min(found) >= 4.5  # WCAG 2.1, level AA
    tab.call("Emulation.setEmulatedMedia", features=[])


def test_figures_lead_to_their_runs_and_there_is_a_way_back_up(tab: Tab, made: Path) -> None:
    tab.open(made)
    tab.js("document.querySelector('.points').scrollIntoView()")
    tab.js("document.querySelector('.points').click()")
    tab.js("document.querySelector('dialog details').open = true")
    tab.js("new Promise(done => setTimeout(done))")
    tab.js("1")
    assert "python run.py --again" in tab.js("document.querySelector('dialog').textContent")
    tab.press("Escape")
    tab.js("document.querySelector('.back').click()")
    assert tab.js("location.hash") == "#top"
    assert tab.js("document.querySelector('#top').getBoundingClientRect().top") >= -1

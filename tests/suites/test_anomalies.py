"""What does not fit in the papers' numbers is a footnote at the numbers on its pages."""

import csv
import re
from pathlib import Path

import pytest
from support import COMPOSER
from table_support import bare, expanded

from runner.figures.write import notes
from runner.paths import PAPERS
from runner.suites.anomalies import Place, anomalies_of, anomalies_on
from runner.suites.expand import expand
from runner.suites.spec import figure_names, table_names
from runner.tables.entries import entries
from runner.tables.marks import column_of, marks_of
from runner.tables.render import as_latex, as_text, sheet_of

# The list of what does not fit in the papers: anomaly -> numbers of the tables that it names,
# and the figures and own tables (OTHERS).
TABLES = {
    "imc": {
        "I1": [5],
        "I2": [1, 2],
        "I3": [15],
        "I4": [5, 6],
        "I5": [5],
        "I6": [3, 5],
        "I7": [4],
        "I8": [9, 13],
        "I9": [12, 13],
        "I10": [10, 11, 12, 13],
        "I11": [3, 4, 6, 7, 8, 9, 12, 13],
        "I12": [1, 7, 10, 11, 12, 13],
        "I13": [6, 7, 12, 13],
        "I14": [10],
        "I15": [3, 4],
        "I16": [1, 2],
        "I17": [],
        "I18": [3, 4],
        "I19": [1, 2, 3, 4],
        "I20": [2, 4],
        "I21": [1, 2, 3, 6, 7],
        "I22": [7],
        "I23": [14],
        "I24": [14, 15],
        "I25": [14, 15, 16],
        "I26": [16],
        "I27": [1],
        "R1": [1, 2],
        "R2": [3, 4],
        "R3": [3],
        "R4": [1, 6],
        "R5": [8, 10, 12],
    },
    "sketching": {
        "S1": [1, 4],
        "S2": [2],
        "S3": [1, 2, 3],
        "S4": [3],
        "S5": [1, 2, 4],
        "S6": [2],
        "S7": [3],
        "S8": [1, 2, 4],
        "C1": [1, 2, 4],
    },
    "jackpots": {
        "J1": [3],
        "J2": [5],
        "J3": [1, 6],
        "J4": [9],
        "J5": [8, 9],
        "J6": [7, 9],
        "J7": [7],
        "J8": [7, 8, 9],
        "J9": [3],
        "J10": [3],
        "J11": [4],
        "J12": [4],
        "J13": [1],
        "J14": [1, 2],
        "J15": [3],
        "J16": [],
        "J17": [2, 3, 4, 5, 6],
        "J18": [1, 2, 5],
    },
}
OTHERS = {
    "I17": {"imc_figure01"},
    "I25": {"imc_figure03", "imc_sweep"},
    "S8": {"sketching_figure02"},
    "J16": {"jackpots_figure07"},
}
PRINTED = sorted({f"{p}_table{n:02d}" for p in TABLES for ns in TABLES[p].values() for n in ns})


def places() -> list[tuple[str, Place]]:
    return [(a.id, place) for paper in TABLES for a in anomalies_of(paper) for place in a.at]


@pytest.mark.parametrize("paper", TABLES)
def test_every_anomaly_of_the_list_names_the_pages_of_the_list(paper: str) -> None:
    found: dict[str, set[str]] = {}
    for anomaly in anomalies_of(paper):
        found.setdefault(anomaly.id, set()).update(place.page for place in anomaly.at)
    assert found == {
        name: {f"{paper}_table{number:02d}" for number in numbers} | OTHERS.get(name, set())
        for name, numbers in TABLES[paper].items()
    }


def test_every_place_is_a_page_and_names_lines_and_numbers_of_its_csv() -> None:
    for name, place in places():
        assert place.page in table_names() + figure_names(), name
        if not place.lines:
            continue
        with (PAPERS / f"{place.page}.csv").open(newline="") as file:
            lines = list(csv.DictReader(file))
        for column, values in place.lines.items():
            assert set(values) <= {line[column] for line in lines}, (name, place)
        for column in place.columns:
            there = [line for line in lines if place.has(line, column)]
            assert there and all(line[column] for line in there), (name, place)


@pytest.mark.parametrize("name", PRINTED)
def test_a_page_prints_its_anomalies_at_their_numbers(name: str, tmp_path: Path) -> None:
    suite = bare(name)
    found = entries(suite, tmp_path)
    text, tex = as_text(sheet_of(suite, found)), as_latex(sheet_of(suite, found))
    marks = marks_of(suite, found)
    shown = {(at[0], column_of(at[1])) for line in suite.page.lines for at in line.entries if at}
    for anomaly in anomalies_on(suite.spec.paper, name):
        assert anomaly.note in text and f"The paper ({anomaly.id}):" in tex
        letter = next(n for n in marks.notes if n.endswith(anomaly.note)).removesuffix(anomaly.note)
        at = {
            (key, column)
            for key, entry in found.items()
            for place in anomaly.on(name)
            for column in place.columns
            if (key, column) in shown and place.has(entry.paper, column)
        }
        assert bool(at) == bool(letter.strip())
        # the numbers with the letter are exactly those of the anomaly's lines
        assert at == {
            each for each, letters in marks.papers.items() if letter and letter.strip() in letters
        }


def test_the_two_numbers_of_one_cell_have_a_footnote_in_both_tables(tmp_path: Path) -> None:
    for number, printed in ((1, "94.5"), (2, "94.4")):
        suite = bare(f"imc_table{number:02d}")
        text = as_text(sheet_of(suite, entries(suite, tmp_path)))
        line = next(row for row in text.splitlines() if row.startswith("IMC-Rewinding"))
        (letters,) = re.findall(rf"\[{printed}([^\], ]+)\]", line)
        notes_below = [row for row in text.splitlines() if row.startswith(tuple(letters))]
        assert any("(I2): IMC-Rewinding on ResNet-20 has 94.5" in row for row in notes_below)


def test_a_page_of_one_net_has_no_footnote_on_the_other(tmp_path: Path) -> None:
    suite = expanded(1, models=["resnet20"], seeds=["0"])
    text = as_text(sheet_of(suite, entries(suite, tmp_path)))
    assert "(I2)" in text and "(I16)" not in text  # ResNet-32 alone


def test_figures_print_their_anomalies(tmp_path: Path) -> None:
    suite = expand(
        "jackpots_figure07@digits", {"models": ["resnet32"], "seeds": ["0"]}, [], COMPOSER
    )
    assert any("(J16): the caption names SNIP" in line for line in notes(suite, [], tmp_path))


def test_a_place_has_lines_and_columns_or_neither() -> None:
    with pytest.raises(ValueError, match="give lines and columns, or neither"):
        Place(page="imc_table01", lines={"row": ("1",)})
    assert not list(anomalies_of("samples"))

"""Signs and footnotes of a page: the best entries, the paper's anomalies, and shared runs."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from runner.latex import RAISED
from runner.suites.anomalies import anomalies_on
from runner.suites.expand import Suite
from runner.suites.metrics import Metric
from runner.suites.page import Key, Parts, Setting, Shown
from runner.suites.shared import shared_runs
from runner.tables.best import BEST, At, by_metric, explained, ranked, with_best
from runner.tables.entries import Entry, table_spec
from runner.tables.ranks import Ranks, rank_ranges, with_rivals
from runner.tables.ranks import explained as ranks_explained

VALUE = "value"  # the column of a table of settings


@dataclass(frozen=True)
class Marks:
    """What stands behind the numbers of a page.

    Args:
        best: the sign of the entries that are the best, or not told from it.
        ranks: the ranks that are not excluded, for a table with ranks.
        shared: the letters of entries whose runs other labels have as well.
        papers: (entry, column of the paper's CSV) -> the letters behind the paper's number.
        notes: what the letters and signs mean, and anomalies of the whole page.
    """

    best: dict[At, str] = field(default_factory=dict)
    ranks: dict[At, Ranks] = field(default_factory=dict)
    shared: dict[Key, str] = field(default_factory=dict)
    papers: dict[At, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def marks_of(suite: Suite, found: Mapping[Key, Entry]) -> Marks:
    """The signs and footnotes of a table."""
    letters = _letters()
    best, ranks, notes = _compared(suite, found)
    shared: dict[Key, str] = {}
    for text, keys in shared_runs(suite).items():
        letter = next(letters)
        notes.append(f"{letter} {text}")
        shared |= {key: shared.get(key, "") + letter for key in keys}
    page, numbers = page_name(suite), list(_numbers(suite, found))
    papers: dict[At, str] = {}
    for anomaly in anomalies_on(suite.spec.paper, page):
        at = [
            (key, column)
            for key, column in numbers
            if any(place.has(found[key].paper, column) for place in anomaly.on(page))
        ]
        letter = next(letters) if at else ""
        if at or any(not place.lines for place in anomaly.on(page)):
            notes.append(f"{letter} {anomaly.note}".strip())
        papers |= {each: papers.get(each, "") + letter for each in at}
    return Marks(best, ranks, shared, papers, tuple(notes))


def _compared(
    suite: Suite, found: Mapping[Key, Entry]
) -> tuple[dict[At, str], dict[At, Ranks], list[str]]:
    """The signs of the best entries, the ranks of a table that has them, and their note."""
    if table_spec(suite).ranks:
        ranks = rank_ranges(suite, found)
        best = {at: BEST for at, rank in ranks.items() if rank.best == 1}
        rivals = by_metric(suite, found, with_rivals).values()
        return best, ranks, ranks_explained(ranks, [each for some in rivals for each in some])
    best = ranked(suite, found)
    several = any(len(entry.records) > 1 for entry in found.values())
    pairings = by_metric(suite, found, with_best).values()
    return best, {}, explained(list(best.values()), several, list(pairings))


def page_notes(suite: Suite) -> list[str]:
    """The anomalies of a figure, which has no entries, and its shared runs."""
    return [
        *shared_runs(suite),
        *(anomaly.note for anomaly in anomalies_on(suite.spec.paper, page_name(suite))),
    ]


def page_name(suite: Suite) -> str:
    """The name of a table or figure without its variant and further words."""
    return re.split("[@+]", suite.name)[0]


def column_of(shown: Shown) -> str:
    """The column of the paper's CSV beside what an entry shows."""
    match shown:
        case Parts():
            return shown.paper_number
        case Setting():
            return VALUE
        case Metric():
            return shown.paper_column


def _numbers(suite: Suite, found: Mapping[Key, Entry]) -> Iterable[At]:
    """The paper's numbers on the page once each: entry and column."""
    shown = ((at[0], column_of(at[1])) for line in suite.page.lines for at in line.entries if at)
    return dict.fromkeys(
        (key, name) for key, name in shown if key in found and found[key].paper.get(name)
    )


def _letters() -> Iterator[str]:
    """Letters for footnotes: a to z, then aa, bb, ..."""
    times = 1
    while True:
        yield from (letter * times for letter in RAISED)
        times += 1

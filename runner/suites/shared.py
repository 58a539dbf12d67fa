"""Runs that a page shows under several labels, found by run id.

Such entries are one measurement: a short schedule rounds two lengths to one, or an option has no
effect on them. Pages say so in a note, and no claim compares them.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace

from runner.suites.expand import Suite
from runner.suites.layouts import series_key
from runner.suites.page import Key
from runner.suites.schema_figures import FigureSpec

Names = tuple[str, ...]  # of an entry, outermost first


def shared_runs(suite: Suite) -> dict[str, tuple[Key, ...]]:
    """The note on each group of labels that share runs -> the entries that have them."""
    spec = suite.spec
    named = _drawn(suite, spec) if isinstance(spec, FigureSpec) else _printed(suite)
    by_run: dict[Hashable, dict[Key, Names]] = {}
    for key, about, names in named:
        for job in suite.cells[key].jobs:
            by_run.setdefault((about, job.run_id), {})[key] = names
    notes: dict[str, tuple[Key, ...]] = {}
    for entries in by_run.values():
        labels = _labels(list(entries.values()))
        if len(labels) > 1:
            note = f"One set of runs under several labels: {'; '.join(labels)}."
            notes[note] = tuple(dict.fromkeys((*notes.get(note, ()), *entries)))
    return notes


def _printed(suite: Suite) -> Iterator[tuple[Key, str, Names]]:
    """The entries of a table with their labels."""
    for key, cell in suite.cells.items():
        yield key, "", tuple(cell.labels.values()) or key


def _drawn(suite: Suite, spec: FigureSpec) -> Iterator[tuple[Key, Hashable, Names]]:
    """The points of a figure with the panel and the numbers that they are about.

    Series that draw different numbers of a run do not share it.
    """
    for panel in spec.panels:
        for series, network, more in panel.names(suite.networks):
            about = replace(
                series, label="", id="", overrides=(), points=None, colour=None, line="solid"
            )
            for point in panel.points_of(series):
                key = series_key(panel.ref, series.ref, network), point
                yield key, (panel.ref, about), (series.label + more, point)


def _labels(entries: Sequence[Names]) -> Names:
    """What distinguishes entries: their names along the axes in which they differ."""
    differ = [len(set(names)) > 1 for names in zip(*entries, strict=True)]
    return tuple(
        dict.fromkeys(
            ", ".join(name for name, differs in zip(names, differ, strict=True) if differs)
            for names in entries
        )
    )

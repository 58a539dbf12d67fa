"""Notes below a page: which of its YAML's apply, filled with the settings of its runs."""

from collections.abc import Iterator

from runner.suites.cells import Cell
from runner.suites.expand import Suite
from runner.suites.rules import applies
from runner.suites.schema import Note


def notes_of(suite: Suite) -> Iterator[str]:
    """Yield the notes for the panels, networks, options and methods on the page."""
    for note in suite.spec.notes:
        if (
            note.panel in (None, *suite.spec.panel_refs)
            and note.network in (None, *suite.networks)
            and applies(note.when, suite.options)
            and (not (note.of or note.reads) or _about(note, suite))
        ):
            yield _filled(note, suite)


def _filled(note: Note, suite: Suite) -> str:
    """The text of a note with the settings of the entries that it is about, as they are run."""
    values = {
        key: " or ".join(dict.fromkeys(c.told[key] for c in _about(note, suite) if key in c.told))
        for key in note.reads
    }
    return note.filled(values)


def _about(note: Note, suite: Suite) -> list[Cell]:
    """The entries that a note with `of` is about."""
    return [cell for cell in suite.cells.values() if note.is_about(cell.ids)]

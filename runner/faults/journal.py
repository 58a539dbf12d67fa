"""The trials of a run of the harness, kept line by line, so that an interruption loses none."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.faults.work import Done, Event
from runner.files import remove


@dataclass(frozen=True)
class Journal:
    """A file with one event per line, in the order in which they ended.

    Args:
        path: the file; None = nothing is kept.
        heading: what must be equal for trials of an earlier command to count: seed and commit.
    """

    path: Path | None
    heading: str

    def begin(self) -> list[Event]:
        """The events that an interrupted command with the same heading left; else a new file."""
        if self.path is None:
            return []
        kept = self._kept()
        lines = [json.dumps(self.heading), *(json.dumps(each.as_json()) for each in kept)]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return kept

    def _kept(self) -> list[Event]:
        if self.path is None or not self.path.is_file():
            return []
        heading, *rows = self.path.read_text(encoding="utf-8").splitlines() or [""]
        if heading != json.dumps(self.heading):
            return []
        events = []
        for row in rows:
            try:
                events.append(Event.from_json(json.loads(row)))
            except (ValueError, TypeError, KeyError):  # the last line of a killed command
                break
        return [event for event in events if event.trial is not None]

    def add(self, event: Event) -> None:
        """Append an event."""
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event.as_json()) + "\n")

    def end(self) -> None:
        """Remove the file: all trials are made, and the figures written."""
        if self.path is not None:
            remove(self.path)


def counted(kept: Sequence[Event]) -> Done:
    """The number of trials by kind and part."""
    return Counter((event.kind, event.part) for event in kept)

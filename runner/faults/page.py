"""The table of figures: printed, as JSON, and as a page between markers."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from runner.blocks import renewed
from runner.faults.trial import Trial, Verdict
from runner.files import atomically, write_json

COMMAND = "faults"  # whose blocks a page has: the whole table, or one sentence
TABLE, SUMMARY = "begin", "summary"
HEADINGS = ("kind of fault", "trials", *(verdict.value for verdict in Verdict))


@dataclass(frozen=True)
class Origin:
    """Where and when figures were measured."""

    machine: str
    date: str
    commit: str
    seed: int
    minutes: float

    def __str__(self) -> str:
        return (
            f"{self.machine}; {self.date}; commit {self.commit}; seed {self.seed};"
            f" {self.minutes:.0f} minutes"
        )


@dataclass(frozen=True)
class Figures:
    """The trials of a run of the harness.

    Args:
        kinds: titles of all kinds, in order.
        skipped: title -> why this machine cannot make such faults.
    """

    origin: Origin
    kinds: Sequence[str]
    trials: Sequence[Trial]
    skipped: Mapping[str, str]

    @property
    def faults(self) -> list[Trial]:
        """The trials that show a fault of the code under test."""
        return [trial for trial in self.trials if trial.is_fault]

    def rows(self) -> list[tuple[str, ...]]:
        """A row for each kind that was tried, and their sum."""
        counts = {kind: Counter[Verdict]() for kind in self.kinds}
        for trial in self.trials:
            counts[trial.kind][trial.verdict] += 1
        tried = {kind: found for kind, found in counts.items() if found}
        total = sum(tried.values(), Counter[Verdict]())
        return [_row(kind, found) for kind, found in [*tried.items(), ("all", total)]]

    def as_json(self) -> Mapping[str, object]:
        """The figures as plain JSON: origin, rows, what was skipped and every fault."""
        names = [name.replace(" ", "_") for name in HEADINGS]
        return {
            "origin": vars(self.origin),
            "rows": [
                {
                    n: v if n == names[0] else int(v.replace(",", ""))
                    for n, v in zip(names, row, strict=True)
                }
                for row in self.rows()
            ],
            "skipped": dict(self.skipped),
            "faults": [{**vars(t), "verdict": t.verdict.value} for t in self.faults],
        }


def _row(kind: str, found: Counter[Verdict]) -> tuple[str, ...]:
    return (kind, f"{found.total():,}", *(f"{found[verdict]:,}" for verdict in Verdict))


def markdown(figures: Figures) -> str:
    """The figures as a Markdown table with their origin and what was skipped."""
    lines = ["| " + " | ".join(row) + " |" for row in (HEADINGS, *figures.rows())]
    lines.insert(1, "|---" * len(HEADINGS) + "|")
    skipped = [f"- not tried: {kind}: {why}" for kind, why in figures.skipped.items()]
    origin = re.sub(r"; ", ";\n", str(figures.origin))
    return "\n".join([*lines, "", f"Measured on {origin}.", *([""] if skipped else []), *skipped])


def summary(figures: Figures) -> str:
    """The figures in one sentence."""
    counts = Counter(trial.verdict for trial in figures.trials)
    bad = (Verdict.UNEQUAL, Verdict.TRACEBACK, Verdict.HANG, Verdict.UNCLEAR)
    words = ("silent wrong result", "traceback", "hang", "unclear message")
    found = ", ".join(
        f"{counts[v]:,} {word}{'' if counts[v] == 1 else 's'}"
        for v, word in zip(bad, words, strict=True)
    )
    return f"{len(figures.trials):,} trials: {found} ({figures.origin.date})."


def plain(figures: Figures) -> str:
    """The figures as a table for a terminal."""
    rows = [HEADINGS, *figures.rows()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [cells[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        )
        for cells in rows
    )


def write(figures: Figures, results: Path, pages: Sequence[Path]) -> None:
    """Write the JSON file, and renew the blocks of each page."""
    write_json(results, figures.as_json())
    texts = {TABLE: markdown(figures), SUMMARY: summary(figures)}
    for page in pages:
        new = renewed(page.read_text(encoding="utf-8"), COMMAND, texts)
        atomically(page, partial(_write, text=new))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")

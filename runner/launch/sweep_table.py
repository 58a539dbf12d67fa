"""The table that a sweep prints at its end: the accuracy by the swept keys, over the seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from runner.records.find import record_in
from runner.records.pivot import Pivot, pivot
from runner.spec.identity import run_id
from runner.spec.run import Run

VALUE: Final = "accuracy"
SEED, COLUMNS, ROWS = "seed", "density", "method"


@dataclass(frozen=True)
class Sweep:
    """The jobs of a sweep.

    Args:
        overrides: those of each run, as typed by the user.
    """

    runs: Sequence[Run]
    overrides: Sequence[Sequence[str]]
    results_dir: Path

    def show(self, console: Console) -> None:
        """Print the table of the finished runs; nothing if there is nothing to compare."""
        if (found := self.table()) is not None:
            console.print(f"\n{found}", soft_wrap=True)

    def table(self) -> Pivot | None:
        """The table; None for one run, and if no run has an accuracy.

        Densities are the columns, or the last key that is swept beside another. The other keys make
        the rows.
        """
        settings = [_settings(each) for each in self.overrides]
        keys = [key for key in settings[0] if len({each.get(key) for each in settings}) > 1]
        axes = [key for key in keys if key != SEED]
        columns = COLUMNS if COLUMNS in axes else axes[-1] if len(axes) > 1 else ""
        rows = [key for key in axes if key != columns]
        heading = " ".join(rows) or ROWS
        found = []
        for run, each in zip(self.runs, settings, strict=True):
            record = record_in([self.results_dir], run_id(run))
            label = [each[key] for key in rows] or [run.method]
            place = {heading: _value(" ".join(label)), columns: _value(each.get(columns, ""))}
            found.append({**place, VALUE: record[VALUE] if record else None})
        if len(keys) == 0 or all(each[VALUE] is None for each in found):
            return None
        return pivot(found, heading, columns, VALUE)


def _settings(overrides: Sequence[str]) -> dict[str, str]:
    """Key -> value of the overrides, without Hydra's own."""
    pairs = (each.partition("=") for each in overrides if not each.startswith("hydra"))
    return {key.lstrip("+"): value for key, _, value in pairs}


def _value(text: str) -> Any:
    """A number, if the text is one, so that values are in order."""
    try:
        return float(text)
    except ValueError:
        return text

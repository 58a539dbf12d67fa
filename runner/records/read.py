"""Read a finished run for figures: its record, its series and its history by epoch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.errors import ConfigError
from runner.records.fields import FIELDS
from runner.records.find import results_roots, run_in
from runner.records.stored import Row, last_training

HISTORY = "history."  # prefix of the history's keys
# What a record of an earlier version lacks counts as null.
LATER: dict[str, Any] = {field.name: None for field in FIELDS if field.optional and field.nullable}


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Args:
        record: the content of result.json.
        series: lists of numbers: those of series.json, and `history.KEY` of the last training.
    """

    record: dict[str, Any]
    series: dict[str, list[Any]] = field(default_factory=dict)

    def tells(self, keys: Sequence[str]) -> bool:
        """Whether the run has a history, or `keys` need none. Published records can lack it."""
        return not any(key.startswith(HISTORY) for key in keys) or any(
            key.startswith(HISTORY) for key in self.series
        )

    def number(self, key: str, item: int | None = None) -> Any:
        """A number of the record or its report, None for null; with `item`, an item of `numbers`.

        A key can have a number and a list: a search has its overlap at its end and by epoch.

        Raises:
            ConfigError: the run has no such number.
        """
        if item is not None:
            return self.numbers(key)[item]
        return self._first(key, self.record, self.record["report"], LATER)

    def numbers(self, key: str) -> list[Any]:
        """A list of numbers of the series, the record or its report.

        Raises:
            ConfigError: the run has no such list.
        """
        found: list[Any] = self._first(key, self.series, self.record, self.record["report"])
        return found

    def _first(self, key: str, *sources: dict[str, Any]) -> Any:
        for source in sources:
            if key in source:
                return source[key]
        raise ConfigError(
            f"{self.record['run_id']} has no {key}, which the figure draws: neither series.json nor"
            " the record; run it again, or mend the YAML"
        )


def find_run(run_id: str, results_dir: Path) -> FinishedRun | None:
    """A finished run from the `results_roots`; None if no root has it."""
    run = run_in(results_roots(results_dir), run_id)
    return FinishedRun(run.record, {**_columns(run.history), **run.series}) if run else None


def _columns(history: Sequence[Row]) -> dict[str, list[Any]]:
    """`history.KEY` -> its values by epoch of the last stage that trained.

    A value is None where the number was not finite.
    """
    last = last_training(history)
    return {f"{HISTORY}{key}": [row.get(key) for row in last] for key in (last[0] if last else ())}

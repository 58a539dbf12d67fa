"""Read a finished run for figures: its record, series.json and metrics.jsonl."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.errors import ConfigError
from runner.records.find import find_folder, read_record, results_roots

HISTORY = "history."  # prefix of the history's keys


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
        return self._first(key, self.record, self.record["report"])

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
    folder = find_folder(run_id, results_roots(results_dir))
    record = read_record(folder) if folder else None
    if folder is None or record is None:
        return None
    series = (
        json.loads(numbers.read_text()) if (numbers := folder / "series.json").is_file() else {}
    )
    return FinishedRun(record, {**_history(folder / "metrics.jsonl"), **series})


def _history(path: Path) -> dict[str, list[Any]]:
    """`history.KEY` -> its values by epoch of the last stage that trained.

    A value is None where the number was not finite.
    """
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    last = [row for row in rows if row["stage"] == rows[-1]["stage"]]
    return {f"{HISTORY}{key}": [row[key] for row in last] for key in (last[0] if last else ())}

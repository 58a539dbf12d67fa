"""A finished run as figures read it: its record, series.json, and the epochs of its last training (metrics.jsonl)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.errors import ConfigError
from runner.records.find import results_roots

HISTORY = "history."  # what keys of the history begin with


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: its record, and its lists of numbers: those for pictures, and `history.KEY` of its last training."""

    record: dict[str, Any]
    series: dict[str, list[Any]] = field(default_factory=dict)

    def tells(self, keys: Sequence[str]) -> bool:
        """Whether it has a history if `keys` ask for one: records that we ship may come without."""
        return not any(key.startswith(HISTORY) for key in keys) or any(key.startswith(HISTORY) for key in self.series)

    def number(self, key: str, item: int | None = None) -> Any:
        """A number of the record or its report, None where that has null; of a list, its `item`. A search has its overlap both at its end and by epoch.

        Raises:
            ConfigError: the run has no such number.
        """
        if item is not None:
            return self.numbers(key)[item]
        return self._first(key, self.record, self.record["report"])

    def numbers(self, key: str) -> list[Any]:
        """A list of numbers.

        Raises:
            ConfigError: the run has no such list.
        """
        found: list[Any] = self._first(key, self.series, self.record, self.record["report"])
        return found

    def _first(self, key: str, *sources: dict[str, Any]) -> Any:
        for source in sources:
            if key in source:
                return source[key]
        raise ConfigError(f"{self.record['run_id']} has no {key}, which the figure draws: neither series.json nor the record; run it again, or mend the YAML")


def find_run(run_id: str, results_dir: Path) -> FinishedRun | None:
    """A finished run, from this machine's results or from those that we ship."""
    for root in results_roots(results_dir):
        folder = root / "runs" / run_id
        if (folder / "result.json").is_file():
            series = json.loads(numbers.read_text()) if (numbers := folder / "series.json").is_file() else {}
            return FinishedRun(json.loads((folder / "result.json").read_text()), {**_history(folder / "metrics.jsonl"), **series})
    return None


def _history(path: Path) -> dict[str, list[Any]]:
    """`history.KEY` -> its values over the epochs of the last stage that trained, None where a number was not finite."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    last = [row for row in rows if row["stage"] == rows[-1]["stage"]]
    return {f"{HISTORY}{key}": [row[key] for row in last] for key in (last[0] if last else ())}

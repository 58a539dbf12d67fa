"""Read a finished run for figures: its record, its series and its history by epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.errors import ConfigError
from runner.records.fields import FIELDS
from runner.records.find import results_roots, run_in
from runner.records.stored import last_training
from runner.spec.findings import number
from runner.spec.record import Record, Row, single_values

HISTORY = "history."  # prefix of the history's keys
# What a record of an earlier version lacks counts as null.
LATER: Mapping[str, None] = {
    field.name: None for field in FIELDS if field.optional and field.nullable
}


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Args:
        record: the content of result.json.
        series: lists of numbers: those of series.json, and `history.KEY` of the last training.
    """

    record: Record
    series: Mapping[str, Sequence[float | None]] = field(default_factory=dict)

    def tells(self, keys: Sequence[str]) -> bool:
        """Whether the run has a history, or `keys` need none. Published records can lack it."""
        return not any(key.startswith(HISTORY) for key in keys) or any(
            key.startswith(HISTORY) for key in self.series
        )

    def number(self, key: str, item: int | None = None) -> float | None:
        """A number of the record or its report, None for null; with `item`, an item of `numbers`.

        A key can have a number and a list: a search has its overlap at its end and by epoch.

        Raises:
            ConfigError: the run has no such number.
        """
        if item is not None:
            return self.numbers(key)[item]
        for source in (single_values(self.record), self.record["report"], LATER):
            if key in source:
                value = source[key]
                if isinstance(value, str):
                    raise ConfigError(
                        f"{self.record['run_id']} has the text {value!r} as {key}, which a figure"
                        " draws as a number; mend the YAML"
                    )
                return value
        raise self._without(key)

    def numbers(self, key: str) -> Sequence[float | None]:
        """A list of numbers of the series; None is a number of the history that was not finite.

        Raises:
            ConfigError: the run has no such list.
        """
        if key not in self.series:
            raise self._without(key)
        return self.series[key]

    def whole_list(self, key: str) -> list[float]:
        """As `numbers`, of a list without null.

        Raises:
            ConfigError: the run has no such list.
        """
        found = self.numbers(key)
        known = [value for value in found if value is not None]
        if len(known) < len(found):
            raise ConfigError(
                f"{self.record['run_id']} has null in {key}, of which a figure needs each number;"
                " mend the YAML"
            )
        return known

    def _without(self, key: str) -> ConfigError:
        return ConfigError(
            f"{self.record['run_id']} has no {key}, which the figure draws: neither series.json nor"
            " the record; run it again, or mend the YAML"
        )


def find_run(run_id: str, results_dir: Path) -> FinishedRun | None:
    """A finished run from the `results_roots`; None if no root has it."""
    run = run_in(results_roots(results_dir), run_id)
    return FinishedRun(run.record, {**_columns(run.history), **run.series}) if run else None


def _columns(history: Sequence[Row]) -> dict[str, list[float | None]]:
    """`history.KEY` -> its values by epoch of the last stage that trained.

    A value is None where the number was not finite.
    """
    rows = [single_values(row) for row in last_training(history)]
    names = [name for name in (rows[0] if rows else ()) if name != "stage"]
    return {f"{HISTORY}{name}": [number(row, name) for row in rows] for name in names}

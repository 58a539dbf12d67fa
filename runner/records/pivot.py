"""Mean, deviation and number of runs for each combination of a row and a column."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from tabulate import tabulate

NONE = "–"


@dataclass(frozen=True)
class Spread:
    """The numbers of equal runs.

    Args:
        values: those of the runs that have one, in the order of the runs.
        runs: the number of runs; more than values where runs diverged or lack the number.
    """

    values: tuple[float, ...]
    runs: int

    @property
    def mean(self) -> float | None:
        """The mean; None without values."""
        return fmean(self.values) if self.values else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation with n - 1; None for fewer than two values."""
        return stdev(self.values) if len(self.values) > 1 else None

    def __str__(self) -> str:
        if self.mean is None:
            return f"{NONE} (0 of {self.runs})"
        count = f"{len(self.values)}" + (f" of {self.runs}" if len(self.values) < self.runs else "")
        spread = "" if self.deviation is None else f" ± {number(self.deviation, self.mean)}"
        return f"{number(self.mean, self.mean)}{spread} ({count})"


def number(value: float, beside: float) -> str:
    """A number with two decimals, or with four digits beside one below 1 or of a billion."""
    return f"{value:.2f}" if 1 <= abs(beside) < 1e9 or value == 0 else f"{value:.4g}"


@dataclass(frozen=True)
class Pivot:
    """A table of one number by two keys.

    Args:
        rows, columns: the names of the two keys.
        cells: (value of `rows`, value of `columns`) -> its numbers, in the order of the runs.
    """

    rows: str
    columns: str
    value: str
    cells: Mapping[tuple[Any, Any], Spread]

    @property
    def row_values(self) -> list[Any]:
        """The values along the rows, in order."""
        return in_order({row for row, _ in self.cells})

    @property
    def column_values(self) -> list[Any]:
        """The values along the columns, in order."""
        return in_order({column for _, column in self.cells})

    def __str__(self) -> str:
        heads = [f"{self.rows} \\ {self.columns}", *map(shown, self.column_values)]
        lines = [
            [
                shown(row),
                *(str(self.cells.get((row, column), NONE)) for column in self.column_values),
            ]
            for row in self.row_values
        ]
        if self.columns == "":
            heads = [self.rows, self.value]
        table = tabulate(lines, heads, tablefmt="simple", disable_numparse=True)
        return f"{self.value}: mean ± deviation (n)\n{table}"


def pivot(runs: Iterable[Mapping[str, Any]], rows: str, columns: str, value: str) -> Pivot:
    """The numbers of runs by two of their keys.

    Args:
        runs: each by column; a key that a run lacks counts as None.
        columns: a key, or empty for one column.
    """
    groups: dict[tuple[Any, Any], list[Any]] = {}
    for run in runs:
        place = run.get(rows), run.get(columns) if columns else ""
        groups.setdefault(place, []).append(run.get(value))
    cells = {
        place: Spread(tuple(float(each) for each in found if _is_number(each)), len(found))
        for place, found in groups.items()
    }
    return Pivot(rows, columns, value, cells)


def in_order(values: Collection[Any]) -> list[Any]:
    """Numbers by size, largest first as densities are printed, then texts, then None."""
    numbers = sorted((each for each in values if _is_number(each)), reverse=True)
    texts = sorted(str(each) for each in values if not _is_number(each) and each is not None)
    return [*numbers, *texts, *([None] if None in values else [])]


def shown(value: Any) -> str:
    """A value of a key as text."""
    return f"{value:g}" if _is_number(value) else "none" if value is None else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

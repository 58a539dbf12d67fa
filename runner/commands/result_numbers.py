"""Statistics of the numbers of published pages: entries of tables, points of figures, records."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import stdev
from typing import ClassVar

from runner.commands.published import read_index
from runner.commands.result_pages import ResultPage, Row, matching
from runner.commands.result_texts import mean_text, span
from runner.errors import ConfigError, one_of
from runner.records.flat import Cells
from runner.spec.findings import number
from runner.suites.spec import figure_names, table_names
from runner.tables.text import MISSING


@dataclass(frozen=True, kw_only=True)
class Entries:
    """Entries of a table by the labels in its CSV; a pattern may contain `*`.

    Args:
        density: as asked for.
        metric: a column of the CSV.
        digits: decimals.
    """

    row: str | None = None
    column: str | None = None
    network: str | None = None
    density: str | None = None
    metric: str = "accuracy"
    digits: int = 2

    def entries(self, page: ResultPage) -> list[list[Row]]:
        """The printed runs of each entry."""
        chosen = matching(page.rows, "printed", "True")
        for column, pattern in (
            ("row", self.row),
            ("column", self.column),
            ("network", self.network),
            ("density_asked", self.density),
        ):
            chosen = matching(chosen, column, pattern)
        matching(chosen, self.metric, "*")
        keys = dict.fromkeys((row["row"], row["column"]) for row in chosen)
        return [[row for row in chosen if (row["row"], row["column"]) == key] for key in keys]

    def one(self, page: ResultPage) -> list[Row]:
        """The runs of the only entry.

        Raises:
            ConfigError: the labels fit several entries.
        """
        found = self.entries(page)
        if len(found) > 1:
            names = [f"{runs[0]['row']}, {runs[0]['column']}" for runs in found]
            raise ConfigError(f"{len(found)} entries fit: {'; '.join(names)}; choose one")
        return found[0]

    def numbers(self, runs: Sequence[Row]) -> list[float]:
        """The numbers of an entry's runs that have one."""
        return [float(run[self.metric]) for run in runs if run[self.metric]]


@dataclass(frozen=True, kw_only=True)
class Value(Entries):
    """The mean over seeds of one entry, with the number of missing seeds.

    Args:
        spread: whether the deviation is printed, too.
    """

    tag: ClassVar[str] = "value"
    spread: bool = True

    def text(self, page: ResultPage) -> str:
        """`99.35 ± 0.16`."""
        runs = self.one(page)
        return mean_text(self.numbers(runs), self.digits, len(runs), self.spread)


@dataclass(frozen=True, kw_only=True)
class Range(Entries):
    """The smallest and the largest mean of several entries."""

    tag: ClassVar[str] = "range"

    def text(self, page: ResultPage) -> str:
        """`98.98 to 99.72`."""
        numbers = [self.numbers(runs) for runs in self.entries(page)]
        means = [sum(each) / len(each) for each in numbers if each]
        return span([f"{mean:,.{self.digits}f}" for mean in means])


@dataclass(frozen=True, kw_only=True)
class Papers(Entries):
    """The paper's number of one entry, as printed."""

    tag: ClassVar[str] = "paper"
    metric: str = "paper_accuracy"

    def text(self, page: ResultPage) -> str:
        """`94.5`; `1,120`."""
        text = self.one(page)[0][self.metric] or MISSING
        return f"{int(text):,}" if text.isdigit() else text


@dataclass(frozen=True, kw_only=True)
class Points:
    """The y of the points of a figure's series, or their range.

    Args:
        x: of one point; by default all.
        spread: whether the deviation of a single point over the seeds is printed, too.
    """

    tag: ClassVar[str] = "points"
    series: str = "*"
    panel: str = "*"
    x: float | None = None
    digits: int = 2
    spread: bool = False

    def text(self, page: ResultPage) -> str:
        """`98.70 to 99.50`; `0.41 ± 0.02`."""
        rows = matching(matching(page.rows, "panel", self.panel), "series", self.series)
        there = [row for row in rows if self.x is None or math.isclose(float(row["x"]), self.x)]
        if not there:
            raise ConfigError(one_of("x", self.x, dict.fromkeys(row["x"] for row in rows)))
        y = span(f"{float(row['y']):,.{self.digits}f}" for row in there if row["y"])
        if not self.spread:
            return y
        if len(there) > 1:
            raise ConfigError(f"{len(there)} points fit; a deviation is that of one: choose one")
        (row,) = there
        return f"{y} ± {float(row['y_std']):,.{self.digits}f}" if row["y_std"] else y


@dataclass(frozen=True, kw_only=True)
class Records:
    """The mean over the records of a line, or the range of a number of theirs.

    Args:
        field: of the record, or of its report.
        method: of the records.
        setting: KEY=VALUE of their configuration, e.g. `train.lr=0.1`.
        spans: whether the range is printed in place of the mean.
    """

    tag: ClassVar[str] = "records"
    field: str = "accuracy"
    method: str = "*"
    setting: str = ""
    spans: bool = False
    digits: int = 2

    def text(self, page: ResultPage) -> str:
        """`86.22 ± 0.12`; `0.8 to 31.2`."""
        methods = [{"method": str(run["method"])} for run in page.runs]
        wanted = {row["method"] for row in matching(methods, "method", self.method)}
        found = self._with_setting([run for run in page.runs if str(run["method"]) in wanted])
        if any(self.field not in row for row in found):
            raise ConfigError(one_of("field", self.field, found[0]))
        known = [each for row in found if (each := number(row, self.field)) is not None]
        if self.spans:
            return span(f"{each:,.{self.digits}f}" for each in known)
        return mean_text(known, self.digits, len(found))

    def _with_setting(self, runs: list[Cells]) -> list[Cells]:
        """The runs whose configuration has the setting."""
        if not self.setting:
            return runs
        key, _, value = self.setting.partition("=")
        rows = [{key: str(run[key])} for run in runs if key in run]
        if not rows:
            raise ConfigError(one_of("setting", key, runs[0]))
        matching(rows, key, value)
        return [run for run in runs if str(run.get(key)) == value]


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """How a number of the line's records differs from that of a former measurement of the runs.

    The former records are in results/withdrawn, under the name of the line's records.

    Args:
        what: `runs`, their number; `largest`, of the absolute differences; `deviation`, the
            standard deviation of the differences.
        field: of the record.
    """

    tag: ClassVar[str] = "repeated"
    what: str
    field: str = "accuracy"
    digits: int = 1

    def text(self, page: ResultPage) -> str:
        """`18`; `2.3`."""
        former = page.withdrawn
        pairs = [(r, former[str(r["run_id"])]) for r in page.runs if r["run_id"] in former]
        for row in chain.from_iterable(pairs):
            if self.field not in row:
                raise ConfigError(one_of("field", self.field, row))
        numbers = [(number(now, self.field), number(then, self.field)) for now, then in pairs]
        differences = [a - b for a, b in numbers if a is not None and b is not None]
        statistics = {
            "runs": lambda: str(len(differences)),
            "largest": lambda: f"{max(map(abs, differences)):.{self.digits}f}",
            "deviation": lambda: f"{stdev(differences):.{self.digits}f}",
        }
        if self.what not in statistics:
            raise ConfigError(one_of("what", self.what, statistics))
        if len(differences) < 2:
            raise ConfigError(f"{page.name}: {len(differences)} runs were measured twice")
        return statistics[self.what]()


@dataclass(frozen=True, kw_only=True)
class Link:
    """A link to the printed page: a table, or the verdicts or numbers of a figure.

    Args:
        to: its text.
    """

    tag: ClassVar[str] = "link"
    to: str

    def text(self, page: ResultPage) -> str:
        """`[Table 1](results/published/tables/imc_table01@digits.md)`."""
        return f"[{self.to}]({page.printed.relative_to(page.published.parents[1]).as_posix()})"


@dataclass(frozen=True, kw_only=True)
class Covered:
    """How many of the papers' tables or figures have published pages.

    Args:
        kind: `table` or `figure`.
    """

    tag: ClassVar[str] = "covered"
    kind: str

    def text(self, page: ResultPage) -> str:
        """`14 of the 29`."""
        form = re.compile(rf"[a-z]+_{self.kind}\d+")
        known = {name for name in [*table_names(), *figure_names()] if form.fullmatch(name)}
        if not known:
            raise ConfigError(one_of("kind", self.kind, ("table", "figure")))
        lines = [line for listed in read_index(page.published).values() for line in listed]
        there = known & {line.split()[0].partition("@")[0] for line in lines}
        return f"{len(there)} of the {len(known)}"

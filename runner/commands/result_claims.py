"""Statistics of the verdicts on a published page."""

import re
from dataclasses import dataclass
from typing import ClassVar

from runner.commands.result_pages import ResultPage, Row, matching
from runner.commands.result_texts import NUMBER, first, span
from runner.errors import ConfigError, one_of
from runner.suites.verdicts import COLUMNS, FAILS, HOLDS, OPEN, UNKNOWN

CLAIM, MEASURED, INTERVAL, P, TOLD, PAPERS, VERDICT = COLUMNS
VERDICTS = {  # for one claim, for several
    HOLDS: (HOLDS, "hold"),
    FAILS: (FAILS, "do not hold"),
    OPEN: (OPEN, OPEN),
    UNKNOWN: (UNKNOWN, UNKNOWN),
}
ENDS = {"low": rf"\[({NUMBER})", "high": rf"({NUMBER})\]"}


@dataclass(frozen=True, kw_only=True)
class Claims:
    """Verdicts of a page.

    Args:
        claim: a pattern for their text, which may contain `*`.
    """

    claim: str = "*"

    def claims(self, page: ResultPage) -> list[Row]:
        """The verdicts that fit."""
        return matching(page.claims, CLAIM, self.claim)


@dataclass(frozen=True, kw_only=True)
class Tally(Claims):
    """How many of the claims hold, do not hold, and are open."""

    tag: ClassVar[str] = "tally"

    def text(self, page: ResultPage) -> str:
        """`holds`; `all 9 open`; `3 hold, 6 open`."""
        verdicts = [row[VERDICT] for row in self.claims(page)]
        counts = {verdict: verdicts.count(verdict) for verdict in VERDICTS if verdict in verdicts}
        several = {1: "", 2: "both "}.get(len(verdicts), f"all {len(verdicts)} ")
        if len(counts) == 1:
            return several + VERDICTS[verdicts[0]][len(verdicts) > 1]
        return ", ".join(f"{n} {VERDICTS[verdict][n > 1]}" for verdict, n in counts.items())


@dataclass(frozen=True, kw_only=True)
class Measured(Claims):
    """The number that was measured, or the range of those of several claims.

    Args:
        after: the word before the number, such as `gap` or `slope`.
    """

    tag: ClassVar[str] = "measured"
    after: str = ""

    def text(self, page: ResultPage) -> str:
        """`+0.09`; `-0.46 to +0.28`."""
        before = rf"\b{re.escape(self.after)}[^\d+-]*" if self.after else "[^+0-9-]*"
        return span(first(f"{before}({NUMBER})", row[MEASURED]) for row in self.claims(page))


@dataclass(frozen=True, kw_only=True)
class Interval(Claims):
    """The 95 % interval of one claim, or the range of an end of several.

    Args:
        end: `low` or `high`; both for one claim by default.
    """

    tag: ClassVar[str] = "interval"
    end: str = ""

    def text(self, page: ResultPage) -> str:
        """`[-0.31, +0.49]`."""
        rows = self.claims(page)
        if self.end in ENDS:
            return span(first(ENDS[self.end], row[INTERVAL]) for row in rows)
        if self.end or len(rows) > 1:
            raise ConfigError(one_of("end", self.end, ENDS))
        return rows[0][INTERVAL]


@dataclass(frozen=True, kw_only=True)
class Adjusted(Claims):
    """The adjusted p of one claim, or the range of several."""

    tag: ClassVar[str] = "p"

    def text(self, page: ResultPage) -> str:
        """`0.041`."""
        return span(row[P] for row in self.claims(page))


@dataclass(frozen=True, kw_only=True)
class Told(Claims):
    """The smallest difference that the seeds can tell."""

    tag: ClassVar[str] = "told"

    def text(self, page: ResultPage) -> str:
        """`1.66 to 8.14`."""
        return span(first(f"({NUMBER})", row[TOLD]) for row in self.claims(page))


@dataclass(frozen=True, kw_only=True)
class PapersDifference(Claims):
    """The paper's own difference."""

    tag: ClassVar[str] = "papers"

    def text(self, page: ResultPage) -> str:
        """`+1.20 to +4.10`."""
        return span(first(f"({NUMBER})", row[PAPERS]) for row in self.claims(page))


@dataclass(frozen=True, kw_only=True)
class Needed(Claims):
    """The number of seeds that the paper's own difference needs."""

    tag: ClassVar[str] = "needed"

    def text(self, page: ResultPage) -> str:
        """`3 to 7`; `37 to more than 10,000`."""
        return span(first(f": ((?:more than )?{NUMBER})", row[PAPERS]) for row in self.claims(page))

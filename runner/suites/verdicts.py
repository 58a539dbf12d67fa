"""Verdicts on the claims of a table or figure: lines of a small table, and files.

All verdicts of a page are decided together: their p-values are adjusted for their number by Holm's
method. A claim holds or does not hold if its adjusted p-value is below 5 %; otherwise it is open.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tabulate import tabulate

from runner import latex
from runner.files import atomically
from runner.records.kinds import told_apart
from runner.stats.evidence import LEVEL, Evidence, holm
from runner.stats.power import MOST, seeds_needed, smallest_difference
from runner.stats.seeds import Pairing

COLUMNS = (
    "claim",
    "what was measured",
    "95 % confidence interval",
    "adjusted p",
    "smallest difference told",
    "the paper's difference: seeds needed",
    "holds",
)
HOLDS, FAILS, OPEN, UNKNOWN = "holds", "does not hold", "open", "not run"
NONE = "–"
OVER_IMAGES = "over test images"  # follows an interval that covers these instead of seeds

SHARES = (0.26, 0.16, 0.12, 0.08, 0.1, 0.11, 0.08)  # of the page's width, in LaTeX
WIDTH = 48  # characters per line of a claim on the terminal
NARROW = 20  # of the other columns


@dataclass(frozen=True)
class Power:
    """What the power of a comparison follows from.

    Args:
        seeds: number of seeds that were compared.
        spread: standard deviation of the number that one seed gives; None if it is unknown.
        papers: the paper's own difference; None if it prints none.
        papers_spread: its standard deviation for one seed, if the paper prints one.
        unit: what follows a difference.
    """

    seeds: int
    spread: float | None
    papers: float | None = None
    papers_spread: float | None = None
    unit: str = ""

    def told(self, level: float) -> str:
        """The smallest difference that the seeds tell with a power of 80 % at `level`."""
        smallest = smallest_difference(self.seeds, level)
        if smallest is None or self.spread is None:
            return NONE
        return f"{smallest * self.spread:.3g}{self.unit}"

    def needed(self, level: float) -> str:
        """The paper's difference, and the number of seeds that it needs if a spread is known."""
        if self.papers is None:
            return NONE
        shown = f"{self.papers:+.2f}"
        spread = self.papers_spread or self.spread
        if not spread:
            return shown
        seeds = seeds_needed(self.papers / spread, level)
        return f"{shown}: {f'more than {MOST:,}' if seeds is None else seeds}"


@dataclass(frozen=True)
class Verdict:
    """A line of the table of verdicts.

    Args:
        interval: the confidence interval of this line alone, as text.
        evidence: None if nothing can be decided from the finished runs.
        p: the p-value, adjusted for the number of verdicts on the page.
        told: the smallest difference that the seeds can tell, as text.
        papers: the paper's own difference and the seeds that it needs, as text.
        power: None for a verdict that is no comparison of means.
        pairing: how the seeds were used; None for a verdict that does not come from seeds.
    """

    claim: str
    measured: str = NONE
    interval: str = NONE
    evidence: Evidence | None = None
    p: float | None = None
    told: str = NONE
    papers: str = NONE
    power: Power | None = None
    pairing: Pairing | None = None
    holds: str = UNKNOWN

    @property
    def row(self) -> tuple[str, ...]:
        """The cells in the order of COLUMNS."""
        p = NONE if self.p is None else _p(self.p)
        return self.claim, self.measured, self.interval, p, self.told, self.papers, self.holds


def decided(lines: Sequence[Verdict]) -> list[Verdict]:
    """Decide the verdicts of a page with p-values that are adjusted for their number."""
    tested = [line.evidence for line in lines if line.evidence]
    adjusted = iter(zip(tested, holm([evidence.p for evidence in tested]), strict=True))
    level = LEVEL / max(1, len(tested))
    found = [_decide(line, *next(adjusted)) if line.evidence else line for line in lines]
    return [
        replace(line, told=line.power.told(level), papers=line.power.needed(level))
        if line.power
        else line
        for line in found
    ]


def _decide(line: Verdict, evidence: Evidence, p: float) -> Verdict:
    if p >= LEVEL:
        return replace(line, p=p, holds=OPEN)
    return replace(line, p=p, holds=HOLDS if evidence.holds else FAILS)


def _p(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}" if p < LEVEL else f"{p:.2f}"


def seeds_used(pairing: Pairing, left_out: Sequence[str] = ()) -> str:
    """How many seeds a verdict comes from, what was left out, and what was not paired."""
    parts = [f"{pairing.left_out} left out, of other kinds"] if pairing.left_out else []
    n = pairing.seeds - pairing.left_out
    text = f"{n} seed{'' if n == 1 else 's'}"
    if pairing.unpaired:
        points = pairing.contrasts > pairing.unpaired
        text += ", not paired"
        text += f" in {pairing.unpaired} of {pairing.contrasts} differences" if points else ""
    return f"{text} ({'; '.join([*left_out, *parts])})" if left_out or parts else text


def told_by(seeds: int, verdicts: int) -> str:
    """What a number of seeds can tell on a page with so many verdicts."""
    smallest = smallest_difference(seeds, LEVEL / verdicts)
    if smallest is None:
        return "one seed decides nothing; two or more can"
    return (
        f"{seeds} seeds tell a difference of {smallest:.1f} standard deviations of a pair (power"
        f" 80 %, level {LEVEL:g}/{verdicts})"
    )


def footer(lines: Sequence[Verdict]) -> str:
    """The sentences that say what the intervals, the p-values and the verdicts mean."""
    tested = sum(line.p is not None for line in lines)
    images = (
        f"An interval {OVER_IMAGES} is that of one seed, by the paired bootstrap: it covers the"
        " choice of the test images, not that of the seed, and decides no claim."
    )
    parts = [images] if any(line.interval.endswith(OVER_IMAGES) for line in lines) else []
    parts += unlike_seeds([line.pairing for line in lines if line.pairing])
    return " ".join([*([_of_seeds(lines, tested)] if tested else []), *parts])


def unlike_seeds(pairings: Sequence[Pairing]) -> list[str]:
    """The note on seeds that are no pairs, with their kinds; empty if all are."""
    if not (unlike := sum(each.unlike for each in pairings)):
        return []
    kinds = sorted({kind for each in pairings for kind in each.kinds})
    seeds = sum(each.seeds for each in pairings)
    return [
        f"No pairs: in {unlike} of {seeds} cases, the runs of a seed are of different kinds"
        f" ({' | '.join(told_apart(kinds))}). A comparison without enough pairs is that of two"
        " samples, by Welch's t-test."
    ]


def _of_seeds(lines: Sequence[Verdict], tested: int) -> str:
    """What intervals over seeds, the p-values and the verdicts mean."""
    return (
        "Intervals cover the choice of seeds (or of trials and masks, where a run has many), not"
        " that of the test images, which are the same for all; each is for its line alone."
        f" p-values are two-sided, adjusted by Holm's method for {tested}"
        f" verdict{'s' if tested > 1 else ''}; below {LEVEL:g} a claim holds or does not hold."
        + (
            f" Smallest differences and seeds needed: power 80 % at level {LEVEL:g}/{tested}; the"
            " spread is that of our seeds, and for seeds needed that of the paper's deviations if"
            " it prints them."
            if any(line.told != NONE or line.papers != NONE for line in lines)
            else ""
        )
    )


def as_table(lines: Sequence[Verdict]) -> str:
    """Format the verdicts for a terminal."""
    table = tabulate(
        [line.row for line in lines],
        headers=COLUMNS,
        maxcolwidths=[WIDTH, *[NARROW] * (len(COLUMNS) - 1)],
        maxheadercolwidths=[WIDTH, *[NARROW] * (len(COLUMNS) - 1)],
        disable_numparse=True,
    )
    return f"{table}\n\n{text}" if (text := footer(lines)) else table


def as_markdown(lines: Sequence[Verdict]) -> str:
    """Format the verdicts as a pipe table with its footer."""
    table = tabulate(
        [line.row for line in lines], headers=COLUMNS, tablefmt="github", disable_numparse=True
    )
    return f"{table}\n\n{text}" if (text := footer(lines)) else table


def write_claims(lines: Sequence[Verdict], folder: Path, name: str) -> None:
    """Write the verdicts to <name>.claims.{txt,md,tex,csv} in `folder`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([COLUMNS, *(line.row for line in lines)])
    below = footer(lines)
    forms = {
        "txt": as_table(lines) + "\n",
        "md": as_markdown(lines) + "\n",
        "tex": latex.long_table(
            "Verdicts on the paper's claims",
            f"{name}.claims",
            SHARES,
            COLUMNS,
            [line.row for line in lines],
            [below] if below else [],
        ),
        "csv": text.getvalue(),
    }
    for ending, content in forms.items():
        atomically(folder / f"{name}.claims.{ending}", partial(Path.write_text, data=content))

"""Numbers of printed tables as text, ours and the papers'."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """The numbers of one entry's runs.

    Args:
        centre: the mean, or the median (`Metric.centre`).
        spread: standard deviation over the seeds; None for one seed.
        sign: the text that the paper prints between mean and deviation.
        epoch_kind: `search` or `train`, as in the records.
    """

    centre: float
    spread: float | None
    sign: str
    epoch_kind: str


@dataclass(frozen=True)
class Printed:
    """A number of the paper.

    Args:
        text: the number as in the paper's CSV; not empty.
        line: the whole line of the CSV.
        sign: as in `Sample`.
        quoted: the mark of a number that the paper took from elsewhere; empty otherwise.
    """

    text: str
    line: Mapping[str, str]
    sign: str
    quoted: str


def points(sample: Sample) -> str:
    """Format a percentage, with the deviation if there are several seeds."""
    spread = "" if sample.spread is None else f"{sample.sign}{sample.spread:.2f}"
    return f"{sample.centre:.2f}{spread}"


def sparsity(sample: Sample) -> str:
    """Format a sparsity; none is 0."""
    return f"{sample.centre:.2f}" if sample.centre else "0"


def whole(sample: Sample) -> str:
    """Format a whole number."""
    return f"{sample.centre:,.0f}"


def seconds(sample: Sample) -> str:
    """Format seconds, those below ten with a decimal."""
    return f"{sample.centre:,.0f}" if sample.centre >= 10 else f"{sample.centre:.1f}"


def share(sample: Sample) -> str:
    """Format a percentage of one decimal."""
    return f"{sample.centre:.1f}%"


def share_with_spread(sample: Sample) -> str:
    """Format a percentage of one decimal, with the deviation if there are several seeds."""
    spread = "" if sample.spread is None else f"{sample.sign}{sample.spread:.1f}"
    return f"{sample.centre:.1f}{spread}%"


def cost(sample: Sample) -> str:
    """Format epochs with their kind."""
    return _epochs_of(f"{sample.centre:,.0f}", sample.epoch_kind)


def _epochs_of(epochs: str, kind: str) -> str:
    """Format epochs as the jackpots paper does: of training (T) or of the mask search (S)."""
    return f"{epochs} ({'S' if kind == 'search' else 'T'})"


def papers_accuracy(paper: Printed) -> str:
    """The paper's accuracy, with its deviation if it has one."""
    spread = paper.line.get("accuracy_std", "")
    return f"{paper.text}{paper.sign}{spread}" if spread else papers_points(paper)


def papers_points(paper: Printed) -> str:
    """The paper's percentage, with the mark of a quoted number."""
    return paper.text + paper.quoted


def papers_whole(paper: Printed) -> str:
    """The paper's whole number."""
    return f"{int(paper.text):,}"


def papers_share(paper: Printed) -> str:
    """The paper's percentage."""
    return f"{paper.text}%"


def papers_cost(paper: Printed) -> str:
    """The paper's epochs with their kind."""
    return _epochs_of(paper.text, paper.line.get("epoch_kind", "search"))


def large(sample: Sample) -> str:
    """Format a number of operations with three digits: 1.23e+15."""
    return f"{sample.centre:.2e}"


def ratio(sample: Sample) -> str:
    """Format a ratio as the papers on training cost do: 0.23x."""
    return f"{sample.centre:.3g}x"

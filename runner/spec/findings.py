"""Names of the findings that the engine writes into a record's `report`; methods add their own."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pruners.declared import CONVERGED, HALF, LEAST, OF, STANDARD_ERROR, Finding

# Of a run that diverged: the stage, its first epoch with a number that is not finite (0 before the
# first step and where nothing trains), and what is not finite.
DIVERGED: Final = "diverged"  # also the status of the record
DIVERGED_STAGE, DIVERGED_EPOCH, DIVERGED_WHAT = (
    f"{DIVERGED}_{part}" for part in ("stage", "epoch", "what")
)
# For a prune stage whose masks disconnect something: outputs that inputs reach, empty layers.
CONNECTED, REACHED, EMPTY = "connected", "outputs_reached", "empty_layers"
# For a stage that loads weights: their origin, and the net's results with them on the test images.
ORIGIN = "pretrained"
RENAMED = "pretrained_renamed"
ACCURACY = "pretrained_accuracy"
TOP5 = "pretrained_accuracy_top5"
LOSS = "pretrained_test_loss"
# For a stage that reads masks from a file: its checksum, what was renamed, and layers without a
# mask, which stay dense.
MASKS_ORIGIN = "masks"
MASKS_RENAMED = "masks_renamed"
MASKS_MISSING = "masks_missing"

# The density that a method has found by itself, with its errors (`errors`).
FOUND = "found_density"


def number(report: Mapping[str, Finding], name: str) -> float | None:
    """A finding that is a number; None for null and text, and if there is no such finding."""
    value = report.get(name)
    return value if isinstance(value, (int, float)) else None


def written(value: float) -> str:
    """A number with four digits, or with as many as tell it from 1."""
    return next(
        text for digits in range(4, 18) if (text := f"{value:.{digits}g}") != "1" or value == 1
    )


def errors(report: Mapping[str, Finding], name: str) -> str:
    """Standard error, limit and convergence of a finding, to print behind it; empty if it has none.

    A finding without a limit has no verdict; its value with half of the work is printed, where the
    record has one.
    """
    error, half, least = (number(report, name + suffix) for suffix in (STANDARD_ERROR, HALF, LEAST))
    text = "" if error is None else f" ± {error:.2g}"
    text += "" if least is None else f", at least {written(least)}"
    text += f" (errors of {report[name + OF]} alone)" if name + OF in report else ""
    converged = number(report, name + CONVERGED)
    if converged or half is None and converged is None:
        return text
    if name + HALF not in report:
        return f"{text}, not converged"
    less = f"{'none' if half is None else f'{half:.4g}'} with half of the work"
    return f"{text}, {'' if converged is None else 'not converged: '}{less}"


def doubts(reports: Sequence[Mapping[str, Finding]], name: str, checked: bool) -> str:
    """How many of several runs have a finding that failed its convergence check; empty for none.

    Args:
        checked: whether to count runs without a check, too.
    """
    failed = sum(report.get(name + CONVERGED) == 0 for report in reports)
    unchecked = sum(name + CONVERGED not in report for report in reports) if checked else 0
    counts = {"not converged": failed, "convergence not checked": unchecked}
    return "; ".join(f"{what} in {n} of {len(reports)} runs" for what, n in counts.items() if n)


def is_diverged(record: Mapping[str, Any]) -> bool:
    """Whether a run diverged: its numbers are not finite, so it has no result.

    Records from before version 0.2.0 have the status `done`, the finding `diverged_<stage>`, or an
    accuracy without a finite test loss.
    """
    return (
        record["status"] == DIVERGED
        or any(name.startswith(f"{DIVERGED}_") for name in record["report"])
        or (record["accuracy"] is not None and record["test_loss"] is None)
    )

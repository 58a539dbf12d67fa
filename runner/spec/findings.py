"""Names of the findings that the engine writes into a record's `report`; methods add their own."""

from collections.abc import Mapping
from typing import Any

# Of a run that diverged: the stage, its first epoch with a number that is not finite (0 before the
# first step and where nothing trains), and what is not finite.
DIVERGED = "diverged"  # also the status of the record
DIVERGED_STAGE, DIVERGED_EPOCH, DIVERGED_WHAT = (
    f"{DIVERGED}_{part}" for part in ("stage", "epoch", "what")
)
# For a prune stage whose masks disconnect something: outputs that inputs reach, empty layers.
CONNECTED, REACHED, EMPTY = "connected", "outputs_reached", "empty_layers"
# For a stage that loads weights: their origin, and the net's results with them on the test images.
ORIGIN = "pretrained"
ACCURACY = "pretrained_accuracy"
TOP5 = "pretrained_accuracy_top5"
LOSS = "pretrained_test_loss"


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

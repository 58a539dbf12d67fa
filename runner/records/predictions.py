"""Predictions on the test images, which a run saves on request in its series.json.

`env.save_predictions=true` requests them. They are sealed like the rest of series.json.
"""

from runner.records.stored import StoredRun
from runner.spec.record import Series

LABELS, PREDICTIONS = "test_labels", "test_predictions"  # one class for each test image, in order


def complete(run: StoredRun | None, predictions: bool) -> bool:
    """Whether a run is finished, and has what was requested.

    Args:
        predictions: whether its predictions are requested; a run without an accuracy has none.
    """
    if run is None:
        return False
    return not predictions or PREDICTIONS in run.series or run.record["accuracy"] is None


def without_predictions(series: Series) -> Series:
    """The series that are published."""
    return {name: numbers for name, numbers in series.items() if name not in (LABELS, PREDICTIONS)}

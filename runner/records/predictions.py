"""Predictions on the test images, which a run saves on request in its series.json.

`env.save_predictions=true` requests them. They are sealed like the rest of series.json.
"""

from runner.spec.record import Series

LABELS, PREDICTIONS = "test_labels", "test_predictions"  # one class for each test image, in order


def without_predictions(series: Series) -> Series:
    """The series that are published."""
    return {name: numbers for name, numbers in series.items() if name not in (LABELS, PREDICTIONS)}

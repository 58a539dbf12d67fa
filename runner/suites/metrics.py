"""Metrics of printed tables.

A new column is one object in METRICS. A table's YAML refers to it by name; the page and the CSV
print it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

Record = Mapping[str, Any]  # a finished run's result.json


@dataclass(frozen=True)
class Sample:
    """The numbers of one entry's runs.

    Args:
        spread: standard deviation over the seeds; None for one seed.
        sign: the text that the paper prints between mean and deviation.
        epoch_kind: `search` or `train`, as in the records.
    """

    mean: float
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


@dataclass(frozen=True)
class Metric:
    """A number that tables print.

    Args:
        name: its name in the YAML of tables.
        heading: the heading of its column.
        value: returns the number of a record, or None if the record has none.
        text: formats our number as the paper prints it.
        paper_column: its column of the paper's CSV.
        paper_text: formats the paper's number as the paper prints it.
        points: whether it is in percent, so that the difference to the paper's number is printed.
        compared: whether the paper's number is printed beside ours.
        csv, paper_csv: columns of our CSV with our and with the paper's number; empty for none.
        always: whether these columns are in the CSV of every table; otherwise they are in the CSV
            of tables that print the metric.
        caption: its description in the line that explains the entries. It is set for the metrics
            that `table.metric` can choose.
    """

    name: str
    heading: str
    value: Callable[[Record], float | None]
    text: Callable[[Sample], str]
    paper_column: str
    paper_text: Callable[[Printed], str] = lambda paper: paper.text
    points: bool = False
    compared: bool = True
    csv: str = ""
    paper_csv: str = ""
    always: bool = False
    caption: str = ""


def _field(name: str) -> Callable[[Record], float | None]:
    """Return a function that reads the top-level field `name` of a record."""

    def read(record: Record) -> float | None:
        value: float | None = record[name]
        return value

    return read


def _overlap(record: Record) -> float | None:
    """The share of entries that two masks have in common, in percent."""
    share = record["report"].get("overlap_magnitude")
    return None if share is None else 100 * share


def _mask_overlap(record: Record) -> float | None:
    """The expected overlap of the mask with that of endless sampling, in percent."""
    share = record["report"].get("mask_overlap")
    return None if share is None else 100 * share


def _epochs_before(record: Record) -> float | None:
    """The epochs that the paper does not count."""
    return int(record["epochs_total"] - record["epochs"])


def _points(sample: Sample) -> str:
    """Format a percentage, with the deviation if there are several seeds."""
    spread = "" if sample.spread is None else f"{sample.sign}{sample.spread:.2f}"
    return f"{sample.mean:.2f}{spread}"


def _sparsity(sample: Sample) -> str:
    return f"{sample.mean:.2f}" if sample.mean else "0"


def _whole(sample: Sample) -> str:
    return f"{sample.mean:,.0f}"


def _seconds(sample: Sample) -> str:
    return f"{sample.mean:,.0f}" if sample.mean >= 10 else f"{sample.mean:.1f}"


def _share(sample: Sample) -> str:
    return f"{sample.mean:.1f}%"


def _cost(sample: Sample) -> str:
    return _epochs_of(f"{sample.mean:,.0f}", sample.epoch_kind)


def _epochs_of(epochs: str, kind: str) -> str:
    """Format epochs as the jackpots paper does: of training (T) or of the mask search (S)."""
    return f"{epochs} ({'S' if kind == 'search' else 'T'})"


def _papers_accuracy(paper: Printed) -> str:
    spread = paper.line.get("accuracy_std", "")
    return f"{paper.text}{paper.sign}{spread}" if spread else _papers_points(paper)


def _papers_points(paper: Printed) -> str:
    return paper.text + paper.quoted


def _papers_whole(paper: Printed) -> str:
    return f"{int(paper.text):,}"


def _papers_share(paper: Printed) -> str:
    return f"{paper.text}%"


def _papers_cost(paper: Printed) -> str:
    return _epochs_of(paper.text, paper.line.get("epoch_kind", "search"))


ACCURACY = Metric(
    "accuracy",
    "Accuracy",
    _field("accuracy"),
    _points,
    "accuracy_mean",
    _papers_accuracy,
    points=True,
    csv="accuracy",
    paper_csv="paper_accuracy",
    always=True,
    caption="test accuracy at the last epoch",
)
METRICS = (
    Metric(
        "sparsity",
        "Sparsity",
        _field("sparsity"),
        _sparsity,
        "sparsity",
        csv="sparsity",
        paper_csv="paper_sparsity",
        always=True,
    ),
    ACCURACY,  # in tables, the accuracy that `table.metric` chooses
    Metric(
        "epochs",
        "Epoch",
        _field("epochs"),
        _whole,
        "epochs",
        _papers_whole,
        csv="epochs",
        paper_csv="paper_epochs",
        always=True,
    ),
    Metric(
        "runtime_s",
        "Runtime (s)",
        _field("runtime_s"),
        _seconds,
        "runtime_s",
        _papers_whole,
        csv="runtime_s",
        paper_csv="paper_runtime_s",
        always=True,
    ),
    replace(
        ACCURACY,
        name="accuracy_best",
        heading="Best accuracy",
        value=_field("accuracy_best"),
        csv="accuracy_best",
        paper_csv="",
        caption="test accuracy at the best epoch",
    ),
    replace(
        ACCURACY,
        name="val_accuracy",
        heading="Validation accuracy",
        value=_field("val_accuracy"),
        csv="val_accuracy",
        paper_csv="",
        caption="accuracy on held-out training images at the last epoch",
    ),
    Metric(
        "top5",
        "Top-5 accuracy",
        _field("accuracy_top5"),
        _points,
        "accuracy_top5",
        _papers_points,
        points=True,
        csv="accuracy_top5",
        paper_csv="paper_accuracy_top5",
    ),
    Metric(
        "overlap",
        "Overlap",
        _overlap,
        _share,
        "overlap_percent",
        _papers_share,
        csv="overlap_percent",
        paper_csv="paper_overlap_percent",
    ),
    Metric(
        "mask_overlap",
        "Mask overlap",
        _mask_overlap,
        _share,
        "mask_overlap_percent",
        compared=False,
        csv="mask_overlap_percent",
    ),
    Metric(
        "before",
        "Pre-training",
        _epochs_before,
        _whole,
        "epochs_before",
        compared=False,
        csv="epochs_before",
        paper_csv="paper_epochs_before",
    ),
    Metric(
        "epochs_total",
        "Epochs in all",
        _field("epochs_total"),
        _whole,
        "epochs_total",
        compared=False,
        csv="epochs_total",
    ),
    Metric("cost", "Epoch", _field("epochs"), _cost, "epochs", _papers_cost),
)


def find_metric(name: str) -> Metric:
    """Return the metric of that name. Names in YAML are checked when the file is read.

    Raises:
        KeyError: no metric has this name.
    """
    for metric in METRICS:
        if metric.name == name:
            return metric
    raise KeyError(name)


def metric_names() -> list[str]:
    """The names that a column may have."""
    return [metric.name for metric in METRICS]


def accuracy_names() -> list[str]:
    """The names of the accuracies that `table.metric` can choose."""
    return [metric.name for metric in METRICS if metric.caption]

"""Metrics of printed tables.

A new column is one object in METRICS. A table's YAML refers to it by name; the page and the CSV
print it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from runner.spec.findings import number
from runner.spec.record import Record
from runner.suites import metric_texts as texts
from runner.suites.metric_texts import Printed as Printed
from runner.suites.metric_texts import Sample as Sample


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
        finding: the finding of the report whose convergence check marks the number; empty for none.
        centre: what an entry prints of the numbers of its seeds. It is the mean, but the median for
            times: other work on the machine can lengthen a run many times.
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
    finding: str = ""
    centre: Callable[[Sequence[float]], float] = fmean


def _overlap(record: Record) -> float | None:
    """The share of entries that two masks have in common, in percent."""
    share = number(record["report"], "overlap_magnitude")
    return None if share is None else 100 * share


def _mask_overlap(record: Record) -> float | None:
    """The expected overlap of the mask with that of endless sampling, in percent."""
    share = number(record["report"], "mask_overlap")
    return None if share is None else 100 * share


def _epochs_before(record: Record) -> float | None:
    """The epochs that the paper does not count."""
    return record["epochs_total"] - record["epochs"]


ACCURACY = Metric(
    "accuracy",
    "Accuracy",
    lambda record: record["accuracy"],
    texts.points,
    "accuracy_mean",
    texts.papers_accuracy,
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
        lambda record: record["sparsity"],
        texts.sparsity,
        "sparsity",
        csv="sparsity",
        paper_csv="paper_sparsity",
        always=True,
    ),
    ACCURACY,  # in tables, the accuracy that `table.metric` chooses
    Metric(
        "epochs",
        "Epoch",
        lambda record: record["epochs"],
        texts.whole,
        "epochs",
        texts.papers_whole,
        csv="epochs",
        paper_csv="paper_epochs",
        always=True,
    ),
    Metric(
        "runtime_s",
        "Runtime (s)",
        lambda record: record["runtime_s"],
        texts.seconds,
        "runtime_s",
        texts.papers_whole,
        csv="runtime_s",
        paper_csv="paper_runtime_s",
        always=True,
        centre=median,
    ),
    replace(
        ACCURACY,
        name="accuracy_best",
        heading="Best accuracy",
        value=lambda record: record["accuracy_best"],
        csv="accuracy_best",
        paper_csv="",
        caption="test accuracy at the best epoch",
    ),
    replace(
        ACCURACY,
        name="val_accuracy",
        heading="Validation accuracy",
        value=lambda record: record["val_accuracy"],
        csv="val_accuracy",
        paper_csv="",
        caption="accuracy on held-out training images at the last epoch",
    ),
    Metric(
        "top5",
        "Top-5 accuracy",
        lambda record: record["accuracy_top5"],
        texts.points,
        "accuracy_top5",
        texts.papers_points,
        points=True,
        csv="accuracy_top5",
        paper_csv="paper_accuracy_top5",
    ),
    Metric(
        "overlap",
        "Overlap",
        _overlap,
        texts.share,
        "overlap_percent",
        texts.papers_share,
        csv="overlap_percent",
        paper_csv="paper_overlap_percent",
    ),
    Metric(
        "mask_overlap",
        "Mask overlap",
        _mask_overlap,
        texts.share_with_spread,
        "mask_overlap_percent",
        compared=False,
        csv="mask_overlap_percent",
        finding="mask_overlap",
    ),
    Metric(
        "before",
        "Pre-training",
        _epochs_before,
        texts.whole,
        "epochs_before",
        compared=False,
        csv="epochs_before",
        paper_csv="paper_epochs_before",
    ),
    Metric(
        "cost", "Epoch", lambda record: record["epochs"], texts.cost, "epochs", texts.papers_cost
    ),
    Metric(
        "train_flops",
        "Training MACs",
        lambda record: record.get("train_flops"),
        texts.large,
        "train_flops",
        compared=False,
        csv="train_flops",
    ),
    Metric(
        "train_flops_ratio",
        "Training MACs / dense",
        lambda record: record.get("train_flops_ratio"),
        texts.ratio,
        "train_flops_ratio",
        compared=False,
        csv="train_flops_ratio",
    ),
    Metric(
        "epochs_total",
        "Epochs in all",
        lambda record: record["epochs_total"],
        texts.whole,
        "epochs_total",
        compared=False,
        csv="epochs_total",
    ),
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

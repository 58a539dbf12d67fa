"""The text below a printed table: the caption, notes, and findings of the methods."""

from collections.abc import Mapping
from itertools import product
from typing import Any

from runner.spec.findings import doubts
from runner.suites.expand import Suite
from runner.suites.metrics import Metric, find_metric
from runner.suites.notes import notes_of
from runner.suites.numbers import mean_and_spread
from runner.suites.page import Key, Parts, Shown
from runner.suites.schema import TableSpec
from runner.suites.schema_settings import Statement, papers_with_settings, read_settings
from runner.suites.schema_tables import NetworksTable
from runner.suites.titles import origins, other_data, paper_data
from runner.tables.entries import Entry, collapsed_note, has_paper, metrics, table_spec
from runner.tables.marks import Marks
from runner.tables.text import DAGGER, DIVERGED, MISSING, UNCONVERGED, unconverged

# Our names of the papers' data sets -> theirs.
PRINTED = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "tiny_imagenet": "Tiny-ImageNet",
    "imagenet": "ImageNet",
}
EPOCH = "reported epoch"  # the reading of the epoch whose accuracy a paper reports
JUDGES = {
    "validation": "a tenth of the training images, which these runs hold out",
    "test": "the test images themselves",
}
QUOTED = (
    "{}: quoted by the paper from others' work, on nets and recipes that differ from these;"
    " the number beside it is our own run."
)


def caption(suite: Suite, found: dict[Key, Entry], marks: Marks) -> list[str]:
    """Return the caption: meaning of the numbers, seeds, devices, mixed code."""
    records = [record for entry in found.values() for record in entry.records]
    requested = {len(jobs) for entry in found.values() for jobs in entry.cell.candidates}
    lines = [
        _entry_line(suite, "/".join(map(str, sorted(requested)))),
        *_seldom_tested(suite),
        *notes_of(suite),
        *_of_paper(suite, found),
        *marks.notes,
        *_of_unconverged(suite, found),
        *origins(records),
    ]
    if any(entry.cell.quoted and entry.paper for entry in found.values()):
        lines.append(QUOTED.format(DAGGER))
    if any(entry.tried for entry in found.values()):
        on = suite.options["select_on"]
        lines.append(
            f"Sparsities chosen by mean accuracy on {JUDGES[on]} (table.select_on={on}), ties to"
            " the larger; all tried are in the appendix."
        )
    if diverged := sum(entry.diverged(entry.cell.jobs) for entry in found.values()):
        lines.append(
            f"{diverged} {'run' if diverged == 1 else 'runs'} diverged: a loss, weight or score is"
            " not finite (stage and epoch are in the record). Means, claims and choices leave them"
            " out; entries state their number."
        )
    lines += collapsed_note(
        sum(entry.collapsed for entry in found.values()),
        "Means and claims have them; entries state their number.",
    )
    undone = sum(len(entry.cell.jobs) - len(entry.done) for entry in found.values())
    lines += [f"{undone} runs are not done: {suite.command}"] if undone else []
    return lines


def _of_unconverged(suite: Suite, found: Mapping[Key, Entry]) -> list[str]:
    """What the sign of numbers that have not converged means; empty if there are none."""
    read = dict.fromkeys(name for shown in suite.page.shown for name in _findings_of(shown))
    if not any(unconverged(entry, *read) for entry in found.values()):
        return []
    return [f"{UNCONVERGED}: not converged in at least one run (docs/records.md)."]


def _findings_of(shown: Shown) -> list[str | float]:
    """The findings of the report that an entry prints."""
    if isinstance(shown, Parts):
        return [name for part in shown.parts for name in part.of]
    return [shown.finding] if isinstance(shown, Metric) and shown.finding else []


def _entry_line(suite: Suite, seeds: str) -> str:
    """Describe the numbers of an entry: the YAML's `entry`, or accuracy."""
    if entry := table_spec(suite).entry:
        return f"{entry}{f', means over n={seeds} seeds' if seeds else ''}."
    timed = ""
    if find_metric("runtime_s") in metrics(suite):
        timed = "; runtime: seconds of all the method's stages, median"
    theirs, beside = "", ""
    if has_paper(suite):
        theirs = " [the paper's]"
        beside = f" [the paper's{'' if other_data(suite) else ', difference'}]"
    return (
        f"Each entry: ours{theirs}; accuracy: {find_metric(suite.options['metric']).caption} in"
        f" percent, mean ± standard deviation over n={seeds} seeds{beside}{timed}."
    )


def _seldom_tested(suite: Suite) -> list[str]:
    """State among which epochs the best was chosen; empty if every epoch was tested."""
    every = sorted({every for job in suite.jobs for every in job.outline.tested} - {1})
    if suite.options["metric"] != "accuracy_best" or not every:
        return []
    return [
        "The best epoch is the best of those that were tested"
        f" (train.test_every={', '.join(map(str, every))})."
    ]


def _of_paper(suite: Suite, found: Mapping[Key, Entry]) -> list[str]:
    """Notes on the paper's numbers: of which epoch and, on another data set, of which data."""
    lines, beside = _reported(suite), table_spec(suite).beside
    if beside:
        lines.append(
            f"In brackets: numbers of {', '.join(beside)}, whose settings differ from ours."
        )
    if other_data(suite) and (names := _data_of_paper(suite, found)):
        lines.append(f"The paper's numbers are those for {', '.join(names)}.")
    return lines


def _reported(suite: Suite) -> list[str]:
    """State that the paper's numbers are of another epoch than ours, where a source says so."""
    spec = table_spec(suite)
    if spec.number is None or spec.paper not in papers_with_settings():
        return []
    ours = "best" if find_metric(suite.options["metric"]).name.endswith("_best") else "last"
    return [
        f"The paper's accuracies are those of the {found.paper} epoch ({found.source}), ours of the"
        f" {ours}."
        for found in _statements(spec, suite.options)
        if found.paper not in (None, ours)
    ]


def _statements(spec: TableSpec, options: Mapping[str, str]) -> list[Statement]:
    """The statement on the reported epoch that counts for a table; at most one."""
    stated = (
        each
        for setting in read_settings(spec.paper).settings
        for each in setting.stated
        if setting.reads == EPOCH and each.matches(spec.number, "", {}, options)
    )
    return list(stated)[-1:]


def _data_of_paper(suite: Suite, found: Mapping[Key, Entry]) -> list[str]:
    """Names of the data sets of the paper's numbers, as the paper writes them."""
    if "dataset" in suite.page.paper:
        at = suite.page.paper.index("dataset")
        return [*dict.fromkeys(cell.paper[at] for cell in suite.cells.values())]
    stated = (entry.paper.get("dataset") for entry in found.values())
    names = [*dict.fromkeys(name for name in stated if name)]
    return names or [PRINTED[name] for name in paper_data(suite.original) if name in PRINTED]


def findings(suite: Suite, found: dict[Key, Entry]) -> list[str]:
    """Return the lines of the appendix: values that methods found, from the records' reports."""
    lines = []
    if isinstance(suite.spec, NetworksTable):
        labels = {row.ref: row.label for row in suite.spec.rows}
        for item, network in product(suite.spec.findings, suite.networks):
            records = found[labels[item.row], network].records
            values = [record["report"].get(item.key) for record in records]
            if values:
                doubt = doubts([r["report"] for r in records], item.key, item.checked)
                shown = f"{_finding(values)} ({doubt})" if doubt else _finding(values)
                lines.append(f"{item.label}, {network}: {shown}")
    return lines + [_choice(key, entry) for key, entry in found.items() if entry.tried]


def _choice(key: Key, entry: Entry) -> str:
    """Describe the sparsities that were tried for an entry and the one that was chosen."""
    tried = ", ".join(
        f"{1 - density:.2f}: {_mean(mean, entry.diverged(jobs), len(jobs))}"
        for (density, mean), jobs in zip(entry.tried.items(), entry.cell.candidates, strict=True)
    )
    chosen = "none chosen, no sparsity is done with all seeds"
    if entry.diverged():
        chosen += " and no diverged run"
    if entry.jobs:
        chosen = f"{1 - (entry.jobs[0].outline.density or 1):.2f} chosen"
    return f"{', '.join(key)}: {chosen} of {tried}"


def _mean(mean: float | None, diverged: int, runs: int) -> str:
    if mean is not None:
        return f"{mean:.2f}"
    return f"{DIVERGED} ({diverged} of {runs})" if diverged else MISSING


def _finding(values: list[Any]) -> str:
    numbers = [float(v) for v in values if isinstance(v, (int, float))]
    if len(numbers) < len(values):
        return ", ".join(
            "none" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v) for v in values
        )
    mean, spread = mean_and_spread(numbers)
    return f"{mean:.4g}" + (f" ± {float(f'{spread:.2g}'):g}" if spread is not None else "")

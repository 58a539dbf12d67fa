"""Records to tables, in the papers' own layout: ours beside the paper's number. Nothing is run here, and no number is typed in."""

import csv
import json
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.cells import Cell, Table, results_roots
from runner.compose import CONF

MISSING = "–"
HEADS = {"sparsity": "Sparsity", "accuracy": "Accuracy", "epochs": "Epoch", "runtime_s": "Runtime (s)"}


@dataclass(frozen=True)
class Entry:
    """One network's part of a row: the records by seed, how many were asked, and the paper's line."""

    cell: Cell
    records: tuple[dict[str, Any], ...]
    paper: dict[str, str]

    def values(self, metric: str) -> list[float]:
        """The metric of every record that has it."""
        return [record[metric] for record in self.records if record[metric] is not None]


def find_record(run_id: str, results_dir: Path) -> dict[str, Any] | None:
    """The record of a run, from this machine's results or from those that we ship."""
    for root in results_roots(results_dir):
        path = root / "runs" / run_id / "result.json"
        if path.is_file():
            record: dict[str, Any] = json.loads(path.read_text())
            return record
    return None


def entries(table: Table, results_dir: Path) -> dict[tuple[str, str], Entry]:
    """Every entry of the table with the records that are there."""
    printed = _paper_lines(table)
    return {
        place: Entry(cell, tuple(r for job in cell.jobs if (r := find_record(job.run_id, results_dir))), printed.get(place, {}))
        for place, cell in table.cells.items()
    }


def _paper_lines(table: Table) -> dict[tuple[str, str], dict[str, str]]:
    """(row label, network) -> the line of the paper's table, numbers as printed."""
    path = CONF.parent / "results" / "paper" / f"{table.spec['paper']}_table{table.spec['number']:02d}.csv"
    with path.open(newline="") as file:
        return {(line["method"], line["architecture"]): line for line in csv.DictReader(file)}


def mean_and_spread(values: list[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1); no spread for one value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def ours(entry: Entry, metric: str) -> str:
    """Our number as the paper prints that metric; accuracy with its spread; `–` when nothing was measured."""
    values = entry.values(metric)
    if not values:
        return MISSING
    mean, spread = mean_and_spread(values)
    if metric == "accuracy":
        return f"{mean:.2f}" + (f" ± {spread:.2f}" if spread is not None else "") + _short(entry)
    if metric == "sparsity":
        return f"{mean:.2f}" if mean else "0"
    return f"{mean:,.0f}" if mean >= 10 or metric == "epochs" else f"{mean:.1f}"


def _short(entry: Entry) -> str:
    """A mark on an entry with fewer seeds than asked."""
    n, asked = len(entry.records), len(entry.cell.jobs)
    return "" if n == asked else f" (n={n} of {asked})"


PAPER_COLUMN = {"sparsity": "sparsity", "accuracy": "accuracy_mean", "epochs": "epochs", "runtime_s": "runtime_s"}


def papers(entry: Entry, metric: str) -> str:
    """The paper's number as printed; thousands with a comma as there."""
    text = entry.paper.get(PAPER_COLUMN[metric], "")
    if not text:
        return MISSING
    return f"{int(text):,}" if metric in ("epochs", "runtime_s") else text


def difference(entry: Entry) -> float | None:
    """Our mean accuracy minus the paper's, in points; None when either is missing."""
    values, text = entry.values("accuracy"), entry.paper.get("accuracy_mean")
    return statistics.fmean(values) - float(text) if values and text else None


def full(entry: Entry, metric: str) -> str:
    """`ours [paper's]`; for accuracy also the difference."""
    gap = difference(entry) if metric == "accuracy" else None
    extra = f", {gap:+.1f}" if gap is not None and math.isfinite(gap) else ""
    return f"{ours(entry, metric)} [{papers(entry, metric)}{extra}]"


def title(table: Table, found: dict[tuple[str, str], Entry]) -> str:
    """The paper's title, and what differs from its setting."""
    spec, runs = table.spec, [job.run for job in table.jobs]
    notes = []
    if table.variant:
        notes.append(f"here on {', '.join(sorted({run.dataset.name for run in runs}))}")
    if table.networks != {k: v for k, v in spec["networks"].items() if k in table.networks}:
        notes.append("width-16 nets" if table.variant else "other nets")
    notes += [f"padded to {run.dataset.size}x{run.dataset.size}" for run in runs[:1] if getattr(run.dataset, "size", None)]
    scales = {run.scale for run in runs}
    if scales - {1.0}:
        notes.append("every duration x " + ", ".join(f"{s:.4g}" for s in sorted(scales)))
    if any(run.train_fraction < 1 for run in runs):
        notes.append(f"{runs[0].train_fraction:.0%} of the training images")
    shown = f"Table {spec['number']}: {spec['title']}"
    return shown + (f" ({'; '.join(notes)})" if notes else "")


def caption(table: Table, found: dict[tuple[str, str], Entry]) -> list[str]:
    """What a reader has to know: what the numbers are, seeds, devices, mixed code, missing rows."""
    records = [record for entry in found.values() for record in entry.records]
    asked = {len(entry.cell.jobs) for entry in found.values() if entry.cell.jobs}
    lines = [
        "Each entry: ours [the paper's]; accuracy: test accuracy at the last epoch in percent, mean ± standard deviation over "
        f"n={'/'.join(map(str, sorted(asked)))} seeds [the paper's, difference]; runtime: seconds of all the method's stages, mean.",
        *table.spec.get("notes", []),
    ]
    origins: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
        ("device", lambda r: f"{r['provenance']['device_name']}, {r['provenance']['threads']} thread(s)"),
        ("NUMERICS", lambda r: json.dumps(r["provenance"]["numerics"])),
        ("precision", lambda r: r["provenance"]["precision"]),
    ]
    for what, read in origins:
        if what == "NUMERICS":  # kinds differ between methods; only one kind with two numbers is a mixture
            kinds: dict[str, set[int]] = {}
            for record in records:
                for kind, number in record["provenance"]["numerics"].items():
                    kinds.setdefault(kind, set()).add(number)
            lines += [f"Mixed code versions: NUMERICS of {kind} are {sorted(n)}." for kind, n in kinds.items() if len(n) > 1]
            continue
        values = sorted({str(read(record)) for record in records})
        lines += [f"{what.capitalize()}: {values[0]}."] if len(values) == 1 else [f"Mixes {what}s: {'; '.join(values)}."] if values else []
    absent = sorted({entry.cell.missing for entry in found.values() if entry.cell.missing})
    lines += ["Missing: " + "; ".join(absent) + "."] if absent else []
    undone = sum(len(entry.cell.jobs) - len(entry.records) for entry in found.values())
    lines += [f"{undone} runs are not done: make reproduce TABLE={table.name}"] if undone else []
    return lines


def findings(table: Table, found: dict[tuple[str, str], Entry]) -> list[str]:
    """Lines of the appendix: what methods found by themselves, from the records' reports."""
    lines = []
    for item in table.spec.get("findings", []):
        for network in table.networks:
            values = [record["report"].get(item["key"]) for record in found[item["row"], network].records]
            if values:
                lines.append(f"{item['label']}, {network}: {_finding(values)}")
    return lines


def _finding(values: list[Any]) -> str:
    numbers = [float(v) for v in values if isinstance(v, (int, float))]
    if len(numbers) < len(values):
        return ", ".join("none" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v) for v in values)
    mean, spread = mean_and_spread(numbers)
    return f"{mean:.4g}" + (f" ± {float(f'{spread:.2g}'):g}" if spread is not None else "")


def long_form(table: Table, found: dict[tuple[str, str], Entry]) -> list[dict[str, Any]]:
    """A line for every row, network and seed, measured or not, with the paper's numbers: for the CSV."""
    lines = []
    for (row, network), entry in found.items():
        by_id = {record["run_id"]: record for record in entry.records}
        paper = {f"paper_{metric}": entry.paper.get(column, "") for metric, column in PAPER_COLUMN.items()}
        for job in entry.cell.jobs or (None,):
            record = by_id.get(job.run_id, {}) if job else {}
            lines.append(
                {
                    "table": table.name,
                    "row": row,
                    "network": network,
                    "model": table.networks[network],
                    "seed": job.run.seed if job else "",
                    "run_id": job.run_id if job else "",
                    **{metric: record.get(metric, "") for metric in (*table.spec["metrics"], "accuracy_best", "scale")},
                    **paper,
                    "missing": entry.cell.missing or ("" if record else "not run"),
                }
            )
    return lines

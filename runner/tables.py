"""Records to tables, in the papers' own layout: ours beside the paper's number. Nothing is run here, and no number is typed in."""

import csv
import json
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.cells import Cell, Job, Table, results_roots
from runner.compose import CONF

MISSING = "–"
JUDGES = {"validation": "a tenth of the training images, which these runs hold out", "test": "the test images themselves"}
EPOCHS = {"accuracy": "last", "accuracy_best": "best"}  # table.metric -> the epoch whose accuracy is printed
SELECT = {"validation": "val_accuracy", "test": "accuracy"}  # table.select_on -> what the best candidate is chosen by


@dataclass(frozen=True)
class Entry:
    """One network's part of a row: what is printed of it, and what it was chosen from.

    Args:
        jobs: one run a seed: the cell's only set, or the best of several.
        records: of those that are done.
        paper: the paper's line.
        metric: which accuracy is printed.
        sign: between mean and deviation, as the paper prints it.
        done: run id -> record, of all candidates.
        tried: density asked -> the mean by which candidates were compared, None for one that is not done; empty where there was no choice.
    """

    cell: Cell
    jobs: tuple[Job, ...]
    records: tuple[dict[str, Any], ...]
    paper: dict[str, str]
    metric: str = "accuracy"
    sign: str = " ± "
    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    tried: dict[float, float | None] = field(default_factory=dict)

    def values(self, metric: str) -> list[float]:
        """The metric of every record that has it."""
        key = self.metric if metric == "accuracy" else metric
        return [record[key] for record in self.records if record[key] is not None]


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
    return {key: _entry(cell, printed.get(cell.paper, {}), table.spec, results_dir) for key, cell in table.cells.items()}


def _entry(cell: Cell, paper: dict[str, str], spec: dict[str, Any], results_dir: Path) -> Entry:
    """The cell's runs, or the best of its candidates: highest mean over all seeds, ties to the larger sparsity (design.md, section 6)."""
    done = {job.run_id: r for job in cell.jobs if (r := find_record(job.run_id, results_dir))}
    sets = [tuple(done[job.run_id] for job in jobs if job.run_id in done) for jobs in cell.candidates]
    if len(sets) < 2:
        return Entry(cell, cell.jobs, sets[0] if sets else (), paper, spec["metric"], spec.get("sign", " ± "), done)
    on = SELECT[spec["select_on"]]
    means = [_mean_of(records, on) if len(records) == len(jobs) else None for records, jobs in zip(sets, cell.candidates, strict=True)]
    densities = [jobs[0].run.density or 1.0 for jobs in cell.candidates]
    best = max(range(len(sets)), key=lambda i: (means[i] is not None, means[i] or 0.0, -densities[i]))
    tried = dict(zip(densities, means, strict=True))
    if means[best] is None:
        return Entry(cell, (), (), paper, spec["metric"], spec.get("sign", " ± "), done, tried)
    return Entry(cell, cell.candidates[best], sets[best], paper, spec["metric"], spec.get("sign", " ± "), done, tried)


def _mean_of(records: tuple[dict[str, Any], ...], key: str) -> float | None:
    """Mean of a metric over records; None when one of them lacks it."""
    values = [record[key] for record in records]
    return statistics.fmean(values) if values and None not in values else None


def _paper_lines(table: Table) -> dict[tuple[str, ...], dict[str, str]]:
    """What names a line of the paper's table -> the line, numbers as printed."""
    path = CONF.parent / "results" / "paper" / f"{table.spec['paper']}_table{table.spec['number']:02d}.csv"
    with path.open(newline="") as file:
        return {tuple(line[column] for column in table.page.paper): line for line in csv.DictReader(file)}


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
        return f"{mean:.2f}" + (f"{entry.sign}{spread:.2f}" if spread is not None else "") + _short(entry)
    if metric == "sparsity":
        return f"{mean:.2f}" if mean else "0"
    return f"{mean:,.0f}" if mean >= 10 or metric == "epochs" else f"{mean:.1f}"


def _short(entry: Entry) -> str:
    """A mark on an entry with fewer seeds than asked."""
    n, asked = len(entry.records), len(entry.jobs)
    return "" if n == asked else f" (n={n} of {asked})"


PAPER_COLUMN = {"sparsity": "sparsity", "accuracy": "accuracy_mean", "epochs": "epochs", "runtime_s": "runtime_s"}


def papers(entry: Entry, metric: str) -> str:
    """The paper's number as printed; thousands with a comma as there."""
    text = entry.paper.get(PAPER_COLUMN[metric], "")
    if not text:
        return MISSING
    if metric == "accuracy" and entry.paper["accuracy_std"]:
        return f"{text}{entry.sign}{entry.paper['accuracy_std']}"
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
    if table.variant and not any(word in spec.get("overrides", []) for word in {f"dataset={run.dataset.name}" for run in runs}):
        notes.append(f"here on {', '.join(sorted({run.dataset.name for run in runs}))}")
    if table.networks != {k: v for k, v in spec["networks"].items() if k in table.networks}:
        notes.append(", ".join(table.networks) if table.drawn else "width-16 nets" if table.variant else "other nets")
    notes += [f"padded to {run.dataset.size}x{run.dataset.size}" for run in runs[:1] if getattr(run.dataset, "size", None)]
    scales = {run.scale for run in runs}
    if scales - {1.0}:
        notes.append("every duration x " + ", ".join(f"{s:.4g}" for s in sorted(scales)))
    if any(run.train_fraction < 1 for run in runs):
        notes.append(f"{runs[0].train_fraction:.0%} of the training images")
    shown = f"{'Figure' if table.drawn else 'Table'} {spec['number']}: {spec['title']}"
    return shown + (f" ({'; '.join(notes)})" if notes else "")


def caption(table: Table, found: dict[tuple[str, str], Entry]) -> list[str]:
    """What a reader has to know: what the numbers are, seeds, devices, mixed code, missing rows."""
    records = [record for entry in found.values() for record in entry.records]
    asked = {len(jobs) for entry in found.values() for jobs in entry.cell.candidates}
    lines = [
        f"Each entry: ours [the paper's]; accuracy: test accuracy at the {EPOCHS[table.spec['metric']]} epoch in percent, mean ± standard deviation over "
        f"n={'/'.join(map(str, sorted(asked)))} seeds [the paper's, difference]; runtime: seconds of all the method's stages, mean.",
        *table.spec.get("notes", []),
        *origins(records),
    ]
    absent = sorted({entry.cell.missing for entry in found.values() if entry.cell.missing})
    lines += ["Missing: " + "; ".join(absent) + "."] if absent else []
    if any(entry.tried for entry in found.values()):
        on = table.spec["select_on"]
        lines.append(f"Sparsities chosen by mean accuracy on {JUDGES[on]} (table.select_on={on}), ties to the larger; all tried are in the appendix.")
    undone = sum(len(entry.cell.jobs) - len(entry.done) for entry in found.values())
    lines += [f"{undone} runs are not done: make reproduce TABLE={table.name}"] if undone else []
    return lines


def origins(records: list[dict[str, Any]]) -> list[str]:
    """Where the records come from: device, code, precision, and whether they mix several."""
    lines = []
    sources: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
        ("device", lambda r: f"{r['provenance']['device_name']}, {r['provenance']['threads']} thread(s)"),
        ("NUMERICS", lambda r: json.dumps(r["provenance"]["numerics"])),
        ("precision", lambda r: r["provenance"]["precision"]),
    ]
    for what, of in sources:
        if what == "NUMERICS":  # kinds differ between methods; only one kind with two numbers is a mixture
            kinds: dict[str, set[int]] = {}
            for record in records:
                for kind, number in record["provenance"]["numerics"].items():
                    kinds.setdefault(kind, set()).add(number)
            lines += [f"Mixed code versions: NUMERICS of {kind} are {sorted(n)}." for kind, n in kinds.items() if len(n) > 1]
            continue
        values = sorted({str(of(record)) for record in records})
        lines += [f"{what.capitalize()}: {values[0]}."] if len(values) == 1 else [f"Mixes {what}s: {'; '.join(values)}."] if values else []
    return lines


def findings(table: Table, found: dict[tuple[str, str], Entry]) -> list[str]:
    """Lines of the appendix: what methods found by themselves, from the records' reports."""
    lines = []
    for item in table.spec.get("findings", []):
        for network in table.networks:
            values = [record["report"].get(item["key"]) for record in found[item["row"], network].records]
            if values:
                lines.append(f"{item['label']}, {network}: {_finding(values)}")
    return lines + [_choice(place, entry) for place, entry in found.items() if entry.tried]


def _choice(place: tuple[str, str], entry: Entry) -> str:
    """What was tried for an entry, and what was chosen."""
    tried = ", ".join(f"{1 - density:.2f}: {MISSING if mean is None else f'{mean:.2f}'}" for density, mean in entry.tried.items())
    chosen = f"{1 - (entry.jobs[0].run.density or 1):.2f} chosen" if entry.jobs else "none chosen, no sparsity is done with all seeds"
    return f"{', '.join(place)}: {chosen} of {tried}"


def _finding(values: list[Any]) -> str:
    numbers = [float(v) for v in values if isinstance(v, (int, float))]
    if len(numbers) < len(values):
        return ", ".join("none" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v) for v in values)
    mean, spread = mean_and_spread(numbers)
    return f"{mean:.4g}" + (f" ± {float(f'{spread:.2g}'):g}" if spread is not None else "")


def long_form(table: Table, found: dict[tuple[str, str], Entry]) -> list[dict[str, Any]]:
    """A line for every row, network and seed, measured or not, with the paper's numbers: for the CSV."""
    lines = []
    for (row, column), entry in found.items():
        printed, network = {job.run_id for job in entry.jobs}, entry.cell.network
        paper = {f"paper_{metric}": entry.paper.get(name, "") for metric, name in PAPER_COLUMN.items()}
        for job in entry.cell.jobs or (None,):
            record = entry.done.get(job.run_id, {}) if job else {}
            lines.append(
                {
                    "table": table.name,
                    "row": row,
                    "column": column,
                    "network": network,
                    "model": job.run.model.name if job else table.networks[network],
                    "density_asked": job.run.density if job else "",
                    "printed": bool(job and job.run_id in printed),
                    "seed": job.run.seed if job else "",
                    "run_id": job.run_id if job else "",
                    **{metric: record.get(metric, "") for metric in ("sparsity", "accuracy", "epochs", "runtime_s", "accuracy_best", "val_accuracy", "scale")},
                    **paper,
                    "missing": entry.cell.missing or ("" if record else "not run"),
                }
            )
    return lines

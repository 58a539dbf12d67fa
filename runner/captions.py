"""What stands above and below a printed table: the paper's title and how its setting differs from ours, notes, what methods found."""

import json
from collections.abc import Callable
from typing import Any

from runner.cells import Table
from runner.places import applies
from runner.tables import DAGGER, MISSING, Entry, mean_and_spread, metrics

JUDGES = {"validation": "a tenth of the training images, which these runs hold out", "test": "the test images themselves"}
# Settings that a page tells in words where they matter, or that are the machine's.
TOLD = ("dataset", "dataset.size", "train.scale", "train_fraction", "train.precision", "train.test_every", "logger")
QUOTED = "{}: as quoted by the paper from others' work, on nets and recipes that are not quite these; the number beside it is our own run."
ACCURACIES = {  # table.metric -> what is printed
    "accuracy": "test accuracy at the last epoch",
    "accuracy_best": "test accuracy at the best epoch",
    "val_accuracy": "accuracy on held-out training images at the last epoch",
}


def title(table: Table, found: dict[tuple[str, str], Entry]) -> str:
    """The paper's title, and what differs from its setting."""
    spec, runs = table.spec, [job.run for job in table.jobs]
    notes = []
    setting = spec["elsewhere"][table.variant] if table.variant else spec
    if table.variant and not any(word in spec.get("overrides", []) for word in {f"dataset={run.dataset.name}" for run in runs}):
        notes.append(f"here on {', '.join(sorted({run.dataset.name for run in runs}))}")
    if table.networks != {k: v for k, v in spec["networks"].items() if k in table.networks}:
        notes.append(", ".join(table.networks) if table.drawn else setting.get("nets", "width-16 nets") if table.variant else "other nets")
    notes += [rule["title"] for rule in setting.get("where", []) if "title" in rule and applies(rule, spec)]
    notes += _padding(table)
    scales = {run.scale for run in runs}
    if scales - {1.0}:
        notes.append("every duration x " + ", ".join(f"{s:.4g}" for s in sorted(scales)))
    shares = sorted({run.train_fraction for run in runs})
    if shares and shares[0] < 1 and f"train_fraction={shares[0]:g}" not in spec.get("overrides", []):
        notes.append(" to ".join(f"{share:.0%}" for share in dict.fromkeys((shares[0], shares[-1]))) + " of the training images")
    notes += _given(table)
    return heading(spec, table.drawn) + (f" ({'; '.join(notes)})" if notes else "")


def heading(spec: dict[str, Any], drawn: bool) -> str:
    """The paper's number and title; without a number it is our own."""
    what = spec.get("what", "Figure" if drawn else "Table")
    return f"{what} {spec['number']}: {spec['title']}" if "number" in spec else str(spec["title"])


def _given(table: Table) -> list[str]:
    """Settings from the command line that are part of what was run and that nothing else on the page tells."""
    return [word for word in table.given if (key := word.partition("=")[0]) not in TOLD and not key.startswith(("env.", "hydra"))]


def _padding(table: Table) -> list[str]:
    """Which networks see images on a larger black border, unless all see the data set's own."""
    sizes: dict[int, list[str]] = {}
    for cell in table.cells.values():
        for job in cell.jobs[:1]:
            sizes.setdefault(getattr(job.run.dataset, "size", None) or 0, []).append(cell.network)
    padded = {size: "" if len(sizes) == 1 else f" for {', '.join(dict.fromkeys(networks))}" for size, networks in sizes.items() if size}
    return [f"padded to {size}x{size}{whose}" for size, whose in sorted(padded.items())]


def caption(table: Table, found: dict[tuple[str, str], Entry]) -> list[str]:
    """What a reader has to know: what the numbers are, seeds, devices, mixed code, missing rows."""
    records = [record for entry in found.values() for record in entry.records]
    asked = {len(jobs) for entry in found.values() for jobs in entry.cell.candidates}
    lines = [_entry_line(table, "/".join(map(str, sorted(asked)))), *_seldom_tested(table), *_notes(table), *origins(records)]
    lines += [QUOTED.format(DAGGER)] if any(entry.cell.quoted and entry.paper for entry in found.values()) else []
    absent = sorted({entry.cell.missing for entry in found.values() if entry.cell.missing})
    lines += ["Missing: " + "; ".join(absent) + "."] if absent else []
    if any(entry.tried for entry in found.values()):
        on = table.spec["select_on"]
        lines.append(f"Sparsities chosen by mean accuracy on {JUDGES[on]} (table.select_on={on}), ties to the larger; all tried are in the appendix.")
    undone = sum(len(entry.cell.jobs) - len(entry.done) for entry in found.values())
    lines += [f"{undone} runs are not done: make reproduce TABLE={table.name}"] if undone else []
    return lines


def _entry_line(table: Table, seeds: str) -> str:
    """What the numbers of an entry are: the YAML's `entry`, or accuracy."""
    if "entry" in table.spec:
        return f"{table.spec['entry']}{f', means over n={seeds} seeds' if seeds else ''}."
    timed = "; runtime: seconds of all the method's stages, mean" if "runtime_s" in metrics(table) else ""
    return (
        f"Each entry: ours [the paper's]; accuracy: {ACCURACIES[table.spec['metric']]} in percent, mean ± standard deviation over "
        f"n={seeds} seeds [the paper's, difference]{timed}."
    )


def _seldom_tested(table: Table) -> list[str]:
    """What a best epoch is the best of, unless every epoch was tested."""
    every = sorted({stage.recipe.test_every for job in table.jobs for stage in job.run.stages if stage.recipe} - {1})
    if table.spec.get("metric") != "accuracy_best" or not every:
        return []
    return [f"The best epoch is the best of those that were tested (train.test_every={', '.join(map(str, every))})."]


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


def _notes(table: Table) -> list[str]:
    """The notes of the table's YAML that hold for the panels, networks and options printed here, and whose numbers stand beside another data set's."""
    spec = table.spec
    panels = {panel["label"] for panel in (spec["elsewhere"][table.variant] if table.variant else spec).get("panels", [])}
    notes = [{"text": note} if isinstance(note, str) else note for note in (*spec.get("notes", []), *spec.get("anomalies", []))]
    lines = [
        note["text"] for note in notes if {note.get("panel")} <= {None, *panels} and {note.get("network")} <= {None, *table.networks} and applies(note, spec)
    ]
    if table.variant and "dataset" in table.page.paper:
        at = table.page.paper.index("dataset")
        lines.append(f"The paper's numbers are those for {', '.join(dict.fromkeys(cell.paper[at] for cell in table.cells.values()))}.")
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

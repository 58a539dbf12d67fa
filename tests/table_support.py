"""Records, printed tables and plans for the tests of several packages."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from conftest import ROOT
from rich.console import Console
from support import COMPOSER

from runner.commands.plan import show_tables
from runner.engine.machine import Machine
from runner.latex import RAISED
from runner.planning.hours import Team
from runner.spec.planned import PlannedRun
from runner.suites.cells import Cell
from runner.suites.expand import Suite, expand
from runner.suites.layouts import lay_out
from runner.suites.options import choose_options
from runner.suites.spec import read_spec
from runner.tables.best import BEST, TIED
from runner.tables.render import write_table


def record(job: PlannedRun, accuracy: float | None, **more: Any) -> dict[str, Any]:
    """A finished run's record, as runner/engine/record.py writes it."""
    run = job.run
    density = run.density or 1.0
    return {
        "schema": 1,
        "run_id": job.run_id,
        "status": "done",
        "method": run.method,
        "label": run.label,
        "dataset": run.dataset.name,
        "train_fraction": run.train_fraction,
        "model": run.model.name,
        "seed": run.seed,
        "density_target": run.density,
        "density": density,
        "sparsity": 1 - density,
        "prunable": 10**6,
        "kept": round(10**6 * density),
        "flops": {"dense": 1, "nonzero": 1, "unit": "multiply-accumulates per example"},
        "train_flops": None,
        "train_flops_ratio": None,
        "accuracy": accuracy,
        "accuracy_best": None if accuracy is None else accuracy + 1,
        "accuracy_top5": None,
        "test_loss": 0.5,
        "val_accuracy": None,
        "epochs": 2,
        "epochs_total": 3,
        "epoch_kind": "train",
        "scale": run.scale,
        "runtime_s": 100.0,
        "wall_s": 1.0,
        "stages": [
            {"name": s.name, "key": "0" * 32, "cached": False, "epochs": 1, "seconds": 1.0}
            for s in run.stages
        ],
        "report": {},
        "provenance": {
            "git_sha": None,
            "git_dirty": None,
            "device_name": "cpu A",
            "threads": 1,
            "numerics": dict.fromkeys(sorted({s.kind for s in run.stages}), 1),
            "precision": "fp32",
            "finished": "2026-11-28T06:07:40+00:00",
        },
        **more,
    }


def write(results: Path, *records: dict[str, Any]) -> None:
    for item in records:
        folder = results / "runs" / item["run_id"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(json.dumps(item))


def unmarked(text: str) -> str:
    """A page without footnotes at its numbers, bold numbers and signs of the best entries."""
    text = re.sub(rf"[{RAISED}]|\\textsuperscript\{{[a-z]\}}| [{BEST}{TIED}]", "", text)
    return re.sub(r"\*\*(\d[^*|]*)\*\*", r"\1", text)


def printed(table: Suite, results: Path, marks: bool = False) -> tuple[dict[str, list[str]], str]:
    """The cells of every row in the Markdown form, and the whole text form.

    Args:
        marks: whether to keep footnotes, bold type and signs.
    """
    text = write_table(table, results)
    show = str if marks else unmarked
    lines = show((results / "tables" / f"{table.name}.md").read_text()).splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("|")
    ]
    return {row[0]: row[1:] for row in rows[3:]}, show(text)  # without two header lines and a rule


def console_text(show_it: Callable[[Console], Any]) -> str:
    out = io.StringIO()
    show_it(Console(file=out, width=300, highlight=False))
    return out.getvalue()


def paper(number: int) -> list[dict[str, str]]:
    with (ROOT / "results" / "paper" / f"imc_table{number:02d}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def expanded(number: int, variant: str = "", **chosen: list[str]) -> Suite:
    return expand(
        f"imc_table{number:02d}{variant}",
        {key.replace("__", "."): value for key, value in chosen.items()},
        [],
        COMPOSER,
    )


def bare(name: str, **options: str) -> Suite:
    """A table as it is printed before anything is planned: without runs, composed of nothing."""
    spec = read_spec(name)
    chosen = choose_options(spec, None, {}) | options
    layout, page = lay_out(spec, chosen, spec.networks)
    cells = {
        each.key: Cell(
            each.key[0],
            each.network,
            paper=each.paper,
            value="?" if each.reads else None,
            labels=each.labels,
            ids=each.ids,
        )
        for each in layout
    }
    return Suite(name, spec, spec, None, chosen, page, spec.networks, cells)


def plan_of(table: Suite, folder: Path) -> str:
    where = Machine(
        torch.device("cpu"), folder / "results", folder / "cache", folder / "data", 60.0, "none"
    )
    return console_text(lambda console: show_tables([table], where, Team(1), console))

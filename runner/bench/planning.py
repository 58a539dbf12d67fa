"""Benchmarks of planning: time and memory of expanding tables.

One table is expanded and compared with a composition for each job. Then 29 tables over ten thousand
finished runs are planned and printed. They stand in for those of the four papers: rows of the
existing methods at many densities. The first call keeps their cells and an index of the records,
which the second one reads.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from runner.bench.printing import tables_in
from runner.config.build import build_run
from runner.config.compose import compose_config
from runner.config.plain import Plain
from runner.paths import CONF, PUBLISHED
from runner.records.find import all_records
from runner.records.folders import FILES, seal
from runner.spec.identity import run_id
from runner.spec.planned import PlannedRun
from runner.spec.record import Record, RecordedStage
from runner.suites.expand import Suite, expand
from runner.suites.schema_tables import NetworksTable

TABLES, SEEDS = 29, 3
WEIGHTS = 1_000_000  # that masks cover, in the records
LONG_AGO = 10**18  # ns since 1970: as records are that nobody writes at the time
SETTINGS = (  # data set, its two networks
    ("cifar10", ("resnet20_w32", "resnet32_w32")),
    ("cifar100", ("resnet20_w32", "resnet32_w32")),
    ("fashion_mnist", ("resnet20", "lenet_300_100")),
    ("digits", ("resnet20", "mlp")),
)


@dataclass(frozen=True)
class Measured:
    """Time and memory of planning and printing.

    `planned` and `printed` are seconds since the start of the process, `cpu` is its processor time
    in seconds, and `peak` its largest resident memory in bytes.
    """

    planned: float
    printed: float
    cpu: float
    peak: int


def expanded() -> list[str]:
    """Return the run ids of a table's jobs as every command on tables computes them."""
    return [job.run_id for job in _small_table().jobs]


def composed() -> list[str]:
    """Return the same run ids, with each job composed in full."""
    jobs = _small_table().jobs
    return [run_id(build_run(compose_config(list(job.overrides)))) for job in jobs]


def _small_table() -> Suite:
    return expand("imc_table01@digits", {"models": ["resnet20"], "seeds": list("01234")}, [])


def make_tables(folder: Path, records: int) -> None:
    """Write specifications of tables with `records` runs or a few more, and their records.

    Each record is as large as a real one.
    """
    rows = -(-records // (TABLES * SEEDS * 2))
    pattern = next(all_records(PUBLISHED))
    published = expand("imc_table01", {"seeds": ["0"]}, [])
    specs = [_spec(published, number, rows) for number in range(TABLES)]
    (folder / "tables.json").write_text(json.dumps(specs))
    jobs = [job for table in tables_in(folder) for job in table.jobs]
    for i, job in enumerate(jobs):
        path = folder / "results" / "runs" / job.run_id / "result.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(seal(_record(pattern, job, 90 + i % 7)), indent=1))
        os.utime(path, ns=(LONG_AGO, LONG_AGO))


def _record(pattern: Record, job: PlannedRun, accuracy: float) -> Record:
    """Return the record of a job, as large as that of a real run."""
    stages: list[RecordedStage] = [
        {**pattern["stages"][-1], "name": name, "key": key} for name, key in job.keys.items()
    ]
    run, kept = job.outline, round(WEIGHTS * (job.outline.density or 1.0))
    provenance = pattern["provenance"].copy()
    provenance.pop(FILES, None)
    return {
        **pattern,
        "run_id": job.run_id,
        "method": job.run_id.partition(f"-{run.model}-")[0],
        "model": run.model,
        "dataset": run.dataset,
        "seed": run.seed,
        "train_fraction": run.train_fraction,
        "scale": run.scale,
        "density_target": run.density,
        "density": kept / WEIGHTS,
        "sparsity": 1 - kept / WEIGHTS,
        "prunable": WEIGHTS,
        "kept": kept,
        "accuracy": accuracy,
        "accuracy_best": accuracy,
        "accuracy_top5": None,
        "stages": stages,
        "provenance": provenance,
    }


def _spec(published: Suite, number: int, rows: int) -> Plain:
    """Return a table's YAML: `rows` rows of the existing methods on two networks."""
    dataset, nets = SETTINGS[number % len(SETTINGS)]
    spec = published.spec
    assert isinstance(spec, NetworksTable)
    kinds = [
        list(row.overrides)
        for row in spec.rows
        if row.density and published.cells[row.label, "ResNet-20"].jobs
    ]
    return {
        "paper": spec.paper,
        "number": spec.number,
        "title": spec.title,
        "layout": spec.layout,
        "metrics": list(spec.metrics),
        "seeds": list(range(SEEDS)),
        "overrides": [f"dataset={dataset}", "train=quick", f"train_fraction={1 - number / 100}"],
        "networks": dict(zip(spec.networks, nets, strict=True)),  # keyed by the paper's names
        "rows": [
            {
                "label": f"row {i}",
                "overrides": kinds[i % len(kinds)],
                "density": [round(0.99 - 0.9 * i / rows, 4)] * 2,
            }
            for i in range(rows)
        ],
    }


def measure(folder: Path) -> Measured:
    """Plan and print the tables in `folder` in a fresh process."""
    start = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "runner.bench.printing", str(folder)],
        cwd=CONF.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    planned, printed, cpu, peak = json.loads(done.stdout.splitlines()[-1])
    return Measured(planned - start, printed - start, cpu, peak)

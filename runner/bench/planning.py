"""Benchmarks of planning: time and memory of expanding tables.

One table is expanded and compared with a composition for each job. Then 29 tables over ten thousand
finished runs are planned and printed. They stand in for those of the four papers: rows of the
existing methods at many densities. `python -m runner.bench.planning DIR` plans and prints the
tables that `make_tables` wrote to DIR; its last line gives time and memory.
"""

import json
import re
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from runner.commands.plan import show_tables
from runner.config.build import build_run
from runner.config.compose import Composer, compose_config
from runner.console import console
from runner.engine.machine import Machine
from runner.paths import CONF, PUBLISHED
from runner.records.find import all_records
from runner.spec.identity import run_id
from runner.suites.expand import Suite, expand, expand_spec
from runner.suites.schema_tables import NetworksTable
from runner.suites.spec import parse
from runner.tables.render import write_table

TABLES, SEEDS = 29, 3
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
    """Write specifications of the tables and a record for each of their first `records` runs.

    Each record is as large as a real one.
    """
    rows = -(-records // (TABLES * SEEDS * 2))
    pattern = next(all_records(PUBLISHED))
    published = expand("imc_table01", {"seeds": ["0"]}, [])
    specs = [_spec(published, number, rows) for number in range(TABLES)]
    (folder / "tables.json").write_text(json.dumps(specs))
    jobs = [job for table in _tables(folder) for job in table.jobs]
    for i, job in enumerate(jobs[:records]):
        path = folder / "results" / "runs" / job.run_id / "result.json"
        path.parent.mkdir(parents=True)
        stages = [
            {**pattern["stages"][-1], "name": name, "key": key} for name, key in job.keys.items()
        ]
        run = job.run
        own = {
            "run_id": job.run_id,
            "method": run.method,
            "model": run.model.name,
            "dataset": run.dataset.name,
            "seed": run.seed,
            "accuracy": 90 + i % 7,
        }
        path.write_text(json.dumps({**pattern, **own, "stages": stages}, indent=1))


def _spec(published: Suite, number: int, rows: int) -> dict[str, Any]:
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


def _tables(folder: Path) -> list[Suite]:
    composer = Composer()
    specs = [
        parse(plain, f"tables.json, number {i}")
        for i, plain in enumerate(json.loads((folder / "tables.json").read_text()))
    ]
    return [expand_spec(spec, f"table{i:02d}", {}, [], composer) for i, spec in enumerate(specs)]


def measure(folder: Path) -> Measured:
    """Plan and print the tables in `folder` in a fresh process."""
    start = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "runner.bench.planning", str(folder)],
        cwd=CONF.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    planned, printed, cpu, peak = json.loads(done.stdout.splitlines()[-1])
    return Measured(planned - start, printed - start, cpu, peak)


def main(folder: Path) -> None:
    """Do the work of `make plan` and `make tables` on the tables in `folder`."""
    machine = Machine(
        torch.device("cpu"), folder / "results", folder / "cache", folder / "data", 60.0, "none"
    )
    tables = _tables(folder)
    show_tables(tables, machine, 1, console())
    planned = time.time()
    for table in tables:
        write_table(table, machine.results_dir)
    print(json.dumps([planned, time.time(), time.process_time(), _peak()]))


def _peak() -> int:
    """Return the largest resident memory of this process in bytes.

    On Linux, ru_maxrss includes the parent's memory until the child's program starts, so VmHWM is
    read instead.
    """
    status = Path("/proc/self/status")
    marks = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else []
    if marks:
        return int(marks[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main(Path(sys.argv[1]))

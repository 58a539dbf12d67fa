"""The program that `runner.bench.planning` measures: plan and print the tables of a folder.

`python -m runner.bench.printing DIR` does the work of `make plan` and `make tables` on the tables
that `make_tables` wrote to DIR. Its last line gives times and memory. Where everything is kept, it
imports no torch.
"""

import json
import re
import resource
import sys
import time
from pathlib import Path

from runner.commands.plan import show_tables
from runner.config.compose import Composer
from runner.console import console
from runner.engine.machine import Place
from runner.planning.hours import Team
from runner.records.index import indexed
from runner.spec.request import Environment
from runner.suites.expand import Suite, expand_spec
from runner.suites.kept import KeptCells
from runner.suites.spec import parse
from runner.tables.render import write_table


def tables_in(folder: Path, kept: KeptCells | None = None) -> list[Suite]:
    """The tables that are specified in a folder."""
    composer = Composer()
    specs = [
        parse(plain, f"tables.json, number {i}")
        for i, plain in enumerate(json.loads((folder / "tables.json").read_text()))
    ]
    return [
        expand_spec(spec, f"table{i:02d}", {}, [], composer, kept) for i, spec in enumerate(specs)
    ]


def main(folder: Path) -> None:
    """Plan and print the tables in `folder`."""
    place = Place(
        Environment(
            device="cpu",
            threads=None,
            workers=None,
            results_dir=folder / "results",
            cache_dir=folder / "cache",
            data_dir=folder / "data",
            plan=False,
            checkpoint_seconds=60.0,
            progress="none",
        )
    )
    tables = tables_in(folder, KeptCells(place.cache_dir))
    with indexed(place.results_dir):
        show_tables(tables, place, Team(1), console())
        planned = time.time()
        for table in tables:
            write_table(table, place.results_dir)
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

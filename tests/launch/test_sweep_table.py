"""A sweep ends with one table of its results, with and without a launcher, and when it is done."""

import re
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL, records
from support import compose_run

from runner.launch.sweep_table import Sweep

SWEEP = ["-m", "method=random,magnitude", "density=0.5,0.1", "seed=0,1", *SMALL]


@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=gpu_queue", "hydra.launcher.slots=1"]])
def test_a_sweep_ends_with_its_table_and_so_does_a_finished_one(
    command: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    launcher: list[str],
) -> None:
    first, again = (command(*SWEEP, *launcher) for _ in range(2))
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    found = [
        r["accuracy"]
        for r in records(tmp_path)
        if (r["method"], r["density_target"]) == ("random", 0.1)
    ]
    assert len(found) == 2
    entry = f"{statistics.fmean(found):.2f} ± {statistics.stdev(found):.2f} (2)"
    for done in (first, again):
        assert "╭" not in done.stdout  # no panels
        head, rule, magnitude, random = done.stdout.splitlines()[-4:]
        assert re.split(r"\s{2,}", head) == [r"method \ density", "0.5", "0.1"]
        assert magnitude.startswith("magnitude") and random.endswith(entry), done.stdout


def test_swept_keys_make_the_rows_and_the_columns(tmp_path: Path) -> None:
    def table(*jobs: str) -> tuple[str, str] | None:
        runs = [compose_run(*job.split(), *SMALL[:3]) for job in jobs]
        made = Sweep(runs, [job.split() for job in jobs], tmp_path).table()
        return None if made is None else (made.rows, made.columns)

    assert table("method=dense seed=0", "method=dense seed=1") is None  # nothing is done
    assert table("method=dense") is None

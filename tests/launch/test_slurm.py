"""Sweeps on a real Slurm: requeued, failed and timed-out jobs. `make slurm-test` runs this file."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SMALL, environment

from runner.engine.record import comparable
from runner.faults.cluster import missing, slurm

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if missing():
        pytest.fail(f"not installed: {', '.join(missing())}; apt-get install slurm-wlm munge")
    with slurm(tmp_path_factory.mktemp("slurm") / "cluster") as env:
        yield {**environment(), **env}


def own(folder: Path, name: str) -> list[str]:
    return [f"env.results_dir={folder / name}", f"env.cache_dir={folder / (name + '-cache')}"]


def sweep(cluster: dict[str, str], folder: Path, *overrides: str) -> subprocess.Popen[str]:
    options = [
        "hydra/launcher=slurm",
        "hydra.launcher.cpus_per_task=1",
        "hydra.launcher.poll_s=0.5",
    ]
    line = [
        sys.executable,
        str(ROOT / "run.py"),
        "-m",
        *SMALL,
        *options,
        *own(folder, "slurm"),
        *overrides,
    ]
    return subprocess.Popen(
        line, cwd=folder, env=cluster, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def alone(folder: Path, *overrides: str) -> None:
    line = [sys.executable, str(ROOT / "run.py"), "-m", *SMALL, *own(folder, "alone"), *overrides]
    subprocess.run(
        line, cwd=folder, env=environment(), check=True, capture_output=True, timeout=1500
    )


def by_id(folder: Path, name: str) -> dict[str, Any]:
    return {
        path.parent.name: comparable(json.loads(path.read_text()))
        for path in (folder / name / "runs").glob("*/result.json")
    }


def wait_for(found: Callable[[], Any], what: str) -> Any:
    """Poll until `found()` is true, and return its value. The limit only ends a test that hangs."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what}: it never became so")


def log_of(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("slurm/runs/*/run.log"))


def submitted_to(process: subprocess.Popen[str]) -> str:
    """Id of the Slurm array of a sweep, read from its output."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("submitted as Slurm jobs "):
            return line.split()[4].partition("_")[0]
    raise AssertionError("nothing was submitted: " + "".join(lines))


def test_a_preempted_job_resumes_and_failed_jobs_are_reported(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    short = [
        "method.spectrum.probes=1",
        "method.spectrum.steps=3",
        "train.scale=0.5",
        "env.checkpoint_seconds=0",
    ]
    overrides = ["method=imc", "method.gap.rule=smoothed_sign,literal", "seed=0,1,2,3", *short]
    process = sweep(cluster, tmp_path, *overrides)
    array = submitted_to(process)
    wait_for(lambda: list(tmp_path.glob("slurm-cache/checkpoints/*.pt")), "a checkpoint")
    subprocess.run(["scontrol", "requeue", f"{array}_0"], env=cluster, check=True)
    output, _ = process.communicate(timeout=1500)
    assert process.returncode == 1, output
    assert output.count("done: imc-mlp") == 4
    assert "4 of 8 jobs failed" in output and "method.gap.rule=literal" in output
    assert output.count(": left Slurm's queue without a result\n") == 4
    assert output.count("  repeat: python run.py ") == 4
    logs = log_of(tmp_path)
    assert logs.count("method.gap.rule=literal found no gap") >= 4
    assert "wrote a checkpoint; repeat the command to continue" in logs  # the preempted job
    alone(tmp_path, *[word.replace(",literal", "") for word in overrides])
    assert by_id(tmp_path, "slurm") == by_id(tmp_path, "alone")
    assert len(by_id(tmp_path, "alone")) == 4


def test_a_job_that_reaches_its_time_limit_is_requeued_and_resumes(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    # The limit is one minute, with a warning five seconds before it. Slurm checks every 30 seconds
    # and sends the warning 25 to 55 seconds after the start: long before the end of 960 epochs with
    # a checkpoint after every step. Then the limit is raised, because one requeue suffices.
    overrides = ["method=dense", "train.scale=6", "env.checkpoint_seconds=0"]
    process = sweep(
        cluster,
        tmp_path,
        *overrides,
        "hydra.launcher.timeout_min=1",
        "hydra.launcher.signal_delay_s=5",
    )
    job = submitted_to(process)
    wait_for(
        lambda: f"Requeued job {job}" in log_of(tmp_path) or process.poll() is not None, "a requeue"
    )
    assert process.poll() is None, log_of(tmp_path)
    status = json.loads(next(tmp_path.glob("slurm/runs/*/status.json")).read_text())
    assert status["status"] == "stopped" and 0 < status["epoch"] < 960
    subprocess.run(["scontrol", "update", f"jobid={job}", "timelimit=60"], env=cluster, check=True)
    output, _ = process.communicate(timeout=1500)
    log = log_of(tmp_path)
    assert process.returncode == 0, output + log
    # two attempts, each with its dated line
    assert log.count("==== ") == 2 and "this job is timed-out" in log
    steps = re.search(r"(\d+)/14400 steps", log[log.rindex("==== ") :])
    # the second attempt resumed at the step of the first
    assert steps is not None and int(steps[1]) >= status["epoch"] * 15, log
    alone(tmp_path, *overrides[:-1])
    assert by_id(tmp_path, "slurm") == by_id(tmp_path, "alone")
    assert len(by_id(tmp_path, "alone")) == 1


def test_a_second_call_submits_nothing(cluster: dict[str, str], tmp_path: Path) -> None:
    for expected in ("1 runs, 0 done, 1 to do", "1 runs, 1 done, 0 to do"):
        output, _ = sweep(cluster, tmp_path, "method=random", "density=0.5").communicate(
            timeout=600
        )
        assert expected in output, output
        assert ("submitted" in output) == expected.endswith("1 to do")

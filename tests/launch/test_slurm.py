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
from conftest import ROOT, SMALL, environment, last_of_each

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
        *last_of_each(*SMALL, *options, *own(folder, "slurm"), *overrides),
    ]
    return subprocess.Popen(
        line, cwd=folder, env=cluster, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def output_of(process: subprocess.Popen[str], timeout: float = 1500) -> str:
    """All (further) output of a sweep, which is killed at the time limit."""
    try:
        return process.communicate(timeout=timeout)[0]
    finally:
        process.kill()


def alone(folder: Path, *overrides: str) -> None:
    words = last_of_each(*SMALL, *own(folder, "alone"), *overrides)
    line = [sys.executable, str(ROOT / "run.py"), "-m", *words]
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
    output = output_of(process)
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
    output = output_of(process)
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


def test_slurms_warning_stops_a_team_on_two_nodes_at_a_checkpoint(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    # As before a time limit, the signal reaches all processes of the job, those of torchrun, too.
    overrides = ["method=dense", "train.scale=0.25", "env.checkpoint_seconds=0"]
    team = ["hydra.launcher.nodes=2", "hydra.launcher.partition=pair"]
    process = sweep(cluster, tmp_path, *overrides, *team)
    job = submitted_to(process)
    wait_for(lambda: list(tmp_path.glob("slurm-cache/checkpoints/*.pt")), "a checkpoint")
    subprocess.run(["scancel", "--signal=USR2", job], env=cluster, check=True)
    wait_for(lambda: f"Requeued job {job}" in log_of(tmp_path), "a requeue")
    status = json.loads(next(tmp_path.glob("slurm/runs/*/status.json")).read_text())
    assert status["status"] == "stopped", log_of(tmp_path)
    output, log = output_of(process), log_of(tmp_path)
    assert process.returncode == 0, output + log
    assert log.count("==== ") == 2 and log.count("wrote a checkpoint; repeat the command") == 1
    alone(tmp_path, *overrides[:-1])
    records = [
        json.loads(next(tmp_path.glob(f"{name}/runs/*/result.json")).read_text())
        for name in ("slurm", "alone")
    ]
    assert [record["provenance"]["processes"] for record in records] == [2, 1]
    assert records[0]["test_loss"] == pytest.approx(records[1]["test_loss"], rel=2e-3)


def test_a_second_call_submits_nothing(cluster: dict[str, str], tmp_path: Path) -> None:
    for expected in ("1 runs, 0 done, 1 to do", "1 runs, 1 done, 0 to do"):
        output = output_of(sweep(cluster, tmp_path, "method=random", "density=0.5"))
        assert expected in output, output
        assert ("submitted" in output) == expected.endswith("1 to do")


# --- refusals, by Slurm itself

REFUSED = [
    (["hydra.launcher.extra={account: nobody}"], "Invalid account", "hydra.launcher.extra.account"),
    (["hydra.launcher.extra.qos=gold"], "Invalid qos", "hydra.launcher.extra.qos"),
    (["hydra.launcher.partition=nowhere"], "invalid partition", "hydra.launcher.partition"),
    (["hydra.launcher.mem_gb=1e6"], "Memory specification", "hydra.launcher.mem_gb"),
    (["hydra.launcher.gpus_per_node=1"], "generic resource", "hydra.launcher.gpus_per_node"),
    (["hydra.launcher.extra={nonsense: 1}"], "unrecognized option", "hydra.launcher.extra"),
]


@pytest.mark.parametrize(("options", "words", "key"), REFUSED)
def test_a_refusal_of_sbatch_ends_in_one_message(
    cluster: dict[str, str], tmp_path: Path, options: list[str], words: str, key: str
) -> None:
    process = sweep(cluster, tmp_path, "method=random", "density=0.5", "seed=0,1", *options)
    output = output_of(process)
    assert process.returncode == 2, output
    counted, *message = output.splitlines()
    assert counted.endswith("2 to do") and len(message) == 1, output
    assert message[0].startswith("error: hydra/launcher=slurm: sbatch refused the jobs: "), output
    assert words in message[0] and key in message[0].rpartition("; ")[2], output


def test_an_array_beyond_what_the_cluster_allows_ends_in_one_message(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    # Without an answer of scontrol the size of Slurm's default is assumed; this cluster has less.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "scontrol").chmod(0o755)
    blind = {**cluster, "PATH": f"{tmp_path / 'bin'}:{cluster['PATH']}"}
    process = sweep(blind, tmp_path, "method=random", "density=0.5", "seed=0,1,2,3,4")
    output = output_of(process)
    assert process.returncode == 2, output
    assert "sbatch refused the jobs: " in output and "Invalid job array specification" in output
    assert output.rstrip().endswith("submit fewer jobs at a time"), output
    assert "Traceback" not in output


def test_a_large_sweep_runs_in_arrays_of_the_clusters_size_with_further_options(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    overrides = ["method=random", "density=0.5,0.2,0.1", "seed=0,1,2"]
    extra = "hydra.launcher.extra={account: lab, comment: of a test}"
    output = output_of(sweep(cluster, tmp_path, *overrides, extra))
    assert output.count("submitted as Slurm jobs ") == 3, output  # 9 jobs in arrays of 4
    assert output.count("done: random-mlp") == 9 and "Traceback" not in output, output
    arrays = re.findall(r"submitted as Slurm jobs (\d+)", output)
    for array in arrays:
        line = ["scontrol", "show", "job", array]
        shown = subprocess.run(line, env=cluster, check=True, capture_output=True, text=True).stdout
        assert "Account=lab" in shown and "Comment=of a test" in shown, shown
    alone(tmp_path, *overrides)
    assert by_id(tmp_path, "slurm") == by_id(tmp_path, "alone")
    assert len(by_id(tmp_path, "alone")) == 9


def test_the_reason_is_printed_when_slurm_accepts_jobs_that_it_cannot_start(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    more = "hydra.launcher.cpus_per_task=10000"
    process = sweep(cluster, tmp_path, "method=random", "density=0.5", "seed=0,1", more)
    array = submitted_to(process)
    assert process.stdout is not None
    line = process.stdout.readline()  # a test that hangs here fails at its time limit
    assert line.startswith("Slurm does not start 2 jobs for now: PartitionConfig; "), line
    command = re.search(r"scancel [\d ]+", line)
    assert command is not None and command[0].split() == ["scancel", array]
    subprocess.run(command[0].split(), env=cluster, check=True)
    output = output_of(process)
    assert process.returncode == 1 and "2 of 2 jobs failed" in output, output


# --- folders

NAMES = ["a=b,c d\u00e9", 'it\'s "so" (1) [2] #3 {4} ~', "$HOME `id` & x;"]


@pytest.mark.parametrize("name", NAMES)
def test_folders_may_have_any_name(cluster: dict[str, str], tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    overrides = ["method=random", "density=0.5", "seed=0,1"]
    process = sweep(cluster, folder, *overrides)
    output = output_of(process)
    assert process.returncode == 0, output + log_of(folder)
    assert len(list((folder / "slurm-cache" / "stages").glob("*/stage.json"))) >= 2
    alone(folder, *overrides)
    assert by_id(folder, "slurm") == by_id(folder, "alone")
    assert len(by_id(folder, "alone")) == 2


def test_a_sweep_with_its_own_configuration_folder(cluster: dict[str, str], tmp_path: Path) -> None:
    mine = tmp_path / "my conf" / "method"
    mine.mkdir(parents=True)
    snip = (ROOT / "conf" / "method" / "random.yaml").read_text()
    (mine / "mine.yaml").write_text(snip.replace("label: ", "label: My "))
    overrides = ["method=mine", "density=0.5", "seed=0,1", "--config-dir", "my conf"]
    process = sweep(cluster, tmp_path, *overrides)
    output = output_of(process)
    assert process.returncode == 0, output + log_of(tmp_path)
    assert len(by_id(tmp_path, "slurm")) == 2, output

"""Jobs of several processes in the queue: they start, stop, die and are queued again as one job."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SMALL, environment, last_of_each
from rich.console import Console
from small_jobs import HANGS, plain_slots, small_job
from support import machine

from runner.engine.record import comparable
from runner.errors import ConfigError
from runner.launch.gpu_queue import GpuQueue
from runner.launch.jobs import Outcome, QueueJob, last_message
from runner.launch.queue import Interrupted, run_queue
from runner.launch.slots import joined, slots_of
from runner.launch.team import RUN_ID, code_of_team

# Each process of a team writes its variables and can wait for a file.
MEMBER = """
RANK = os.environ["RANK"]
(F / f"pid{RANK}").write_text(f"{os.getpid()}")
"""


def team_of_two(folder: Path, name: str, does: str) -> QueueJob:
    return replace(small_job(folder, name, MEMBER + does, script=True), size=2)


def alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(true: Callable[[], Any], seconds: float = HANGS) -> Any:
    """Wait until `true()` is true. The limit only ends a test that would hang."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it never became so"
        time.sleep(0.01)
    return found


def pids(folder: Path) -> list[int]:
    return [int(path.read_text() or 0) for path in sorted(folder.glob("pid*"))]


def killed_once(folder: Path, member: int) -> threading.Thread:
    """A thread that kills a process of a team, once both of them wait for it."""

    def kill() -> None:
        eventually(lambda: len(list(folder.glob("ready*"))) == 2)
        os.kill(int((folder / f"pid{member}").read_text()), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def run_all_of(jobs: list[QueueJob], slots: int, **options: Any) -> dict[str, Outcome]:
    ended = run_queue(jobs, plain_slots(slots), Console(file=io.StringIO()), **options)
    return {outcome.job.name: outcome for outcome in ended}


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([-9, 1], -9),  # the others lost the killed process
        ([1, 2], 2),  # a refusal
        ([143, 143], 143),  # all stopped at a checkpoint
        ([1, 143], 1),  # torchrun stopped the other
        ([3, -15], 3),  # likewise, before it could save a checkpoint
        ([-9, -15, 143], -9),
        ([-15], -15),
        ([1], 1),
        ([], 1),
    ],
)
def test_the_exit_code_of_a_team_is_that_of_the_cause(codes: list[int], code: int) -> None:
    assert code_of_team(codes) == code


def test_a_team_on_gpus_sees_all_of_its_gpus_and_one_on_cores_has_threads_for_each() -> None:
    gpus = slots_of(["3", "GPU-b"], 16)
    both = joined(gpus)
    assert both.environment == {
        "CUDA_VISIBLE_DEVICES": "3,GPU-b",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
    assert both.overrides == ("env.device=cuda",) and both.gpu == "3,GPU-b"
    assert joined(gpus[:1]) == gpus[0]
    assert joined(slots_of([], 8, slots=4)).threads == 2


def test_a_team_has_one_process_for_each_slot(tmp_path: Path) -> None:
    does = (
        "names = ('WORLD_SIZE', 'LOCAL_WORLD_SIZE', 'LOCAL_RANK')\n"
        "(F / f'env{RANK}').write_text(json.dumps([os.environ[name] for name in names]))\n"
        "done() if RANK == '0' else None"
    )
    jobs = [team_of_two(tmp_path, "team", does), small_job(tmp_path, "alone", "done()")]
    ended = run_all_of(jobs, 3)
    assert [ended[name].failed for name in ("team", "alone")] == [False, False]
    for rank in "01":
        assert json.loads((tmp_path / "team" / f"env{rank}").read_text()) == ["2", "2", rank]
    assert len(pids(tmp_path / "team")) == 2


def test_a_failure_of_one_process_ends_its_team_and_no_other_job(tmp_path: Path) -> None:
    does = "print('failed: because') if RANK == '1' else until('never')\nsys.exit(3)"
    jobs = [team_of_two(tmp_path, "team", does), small_job(tmp_path, "alone", "done()")]
    ended = run_all_of(jobs, 3)
    assert ended["team"].describe() == "failed (exit 3)" and not ended["alone"].failed
    assert ended["team"].message == "failed: because"
    assert not any(map(alive, pids(tmp_path / "team")))


WAITS = """
(F / f"ready{RANK}").touch()
if len((F / "attempts").read_text().splitlines()) <= 2: until("never")
done() if RANK == "0" else None
"""


@pytest.mark.parametrize("member", [0, 1])
def test_a_killed_process_ends_its_team_which_is_queued_again(member: int, tmp_path: Path) -> None:
    job = team_of_two(tmp_path, "team", WAITS)
    thread = killed_once(tmp_path / "team", member)
    ended = run_all_of([job], 2, requeue=1)
    thread.join()
    assert not ended["team"].failed, job.log.read_text()
    assert len((tmp_path / "team" / "attempts").read_text().splitlines()) == 4


def test_without_requeue_the_signal_is_reported(tmp_path: Path) -> None:
    thread = killed_once(tmp_path / "team", 1)
    ended = run_all_of([team_of_two(tmp_path, "team", WAITS)], 2)
    thread.join()
    assert ended["team"].describe().startswith("killed by SIGKILL")
    assert not any(map(alive, pids(tmp_path / "team")))


def interrupted(job: QueueJob, grace: float) -> Outcome:
    """The outcome of a job whose queue gets SIGTERM when both processes are ready."""

    def stop() -> None:
        eventually(lambda: len(list(job.folder.glob("ready*"))) == 2)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(Interrupted) as caught:
        run_all_of([job], 2, grace_seconds=grace)
    thread.join()
    (outcome,) = caught.value.ended
    return outcome


def test_a_stop_reaches_all_processes_and_counts_as_one(tmp_path: Path) -> None:
    does = (
        "signal.signal(signal.SIGTERM, lambda *_: ((F / f'saved{RANK}').touch(), sys.exit(143)))\n"
        "(F / f'ready{RANK}').touch()\nuntil('never')"
    )
    outcome = interrupted(team_of_two(tmp_path, "team", does), HANGS)
    assert outcome.stopped and outcome.code == 143
    assert sorted(path.name for path in (tmp_path / "team").glob("saved*")) == ["saved0", "saved1"]


def test_processes_that_ignore_the_stop_are_killed_with_their_team(tmp_path: Path) -> None:
    ignores = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    does = f"{ignores}(F / f'ready{{RANK}}').touch()\nuntil('never')"
    outcome = interrupted(team_of_two(tmp_path, "team", does), 0.2)
    assert outcome.describe() == "killed before it wrote a checkpoint"
    eventually(lambda: not any(map(alive, pids(tmp_path / "team"))), 20)


# --- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slots_per_job": 3, "slots": 2}, "slots_per_job=3: this machine has 2 slots .*at most 2"),
        ({"gpus_per_job": 2}, "gpus_per_job=2 has no effect: .* on CPUs; set slots_per_job=2"),
        ({"sizes": {"mpl": 2}}, "sizes=mpl is not a choice: mlp; did you mean 'mlp'"),
        ({"sizes": {"mlp": 9}, "slots": 4}, "sizes.mlp=9: this machine has 4 slots"),
    ],
)
def test_a_size_that_never_fits_is_refused(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    job = replace(small_job(tmp_path, "job", "done()"), model="mlp")
    with pytest.raises(ConfigError, match=message):
        GpuQueue(**options).run([job], machine(tmp_path), None, Console())


def test_jobs_get_the_size_of_their_model() -> None:
    jobs = [
        QueueJob(name, (), Path(name), lambda: False, model=name) for name in ("resnet50", "mlp")
    ]
    queue = GpuQueue(sizes={"resnet50": 2}, slots=4)
    found = queue.sized(jobs, slots_of([], 4))
    assert [job.size for job in found] == [2, 1]
    cards = GpuQueue(gpus_per_job=2).sized(jobs, slots_of(["0", "1"], 4))
    assert [job.size for job in cards] == [2, 2]
    with pytest.raises(ConfigError, match="slots_per_job=2 has no effect: the jobs run on GPUs"):
        GpuQueue(slots_per_job=2).sized(jobs, slots_of(["0", "1"], 4))
    with pytest.raises(ConfigError, match="gpus_per_job=2: CUDA shows a process one MIG instance"):
        GpuQueue(gpus_per_job=2).sized(jobs, slots_of(["MIG-a", "MIG-b"], 4))
    with pytest.raises(ConfigError, match="gpus_per_job=3: this machine has 2 GPUs"):
        GpuQueue(gpus_per_job=3, jobs_per_gpu=2).sized(
            jobs, slots_of(["0", "1"], 4, jobs_per_gpu=2)
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gpus_per_job": 0}, "gpus_per_job=0 must be at least 1"),
        ({"slots_per_job": 0}, "slots_per_job=0 must be at least 1"),
        ({"requeue": -1}, "requeue=-1 must be at least 0"),
        ({"sizes": {"mlp": 0}}, "sizes.mlp=0 must be at least 1"),
    ],
)
def test_sizes_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GpuQueue(**options)


# --- runs


def sweep(folder: Path, name: str, *overrides: str) -> subprocess.Popen[str]:
    own = [f"env.results_dir={folder / name}", f"env.cache_dir={folder / (name + '-cache')}"]
    queue = ["hydra/launcher=gpu_queue", "hydra.launcher.slots=2", "hydra.launcher.slots_per_job=2"]
    words = last_of_each(*SMALL, "method=dense", "seed=0,1", *own, *queue, *overrides)
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), "-m", *words],
        cwd=folder,
        env={**environment(), "GLOO_SOCKET_IFNAME": "lo"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def output_of(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=HANGS)[0]
    finally:
        process.kill()


def records(folder: Path, name: str) -> dict[str, Any]:
    return {
        path.parent.name: json.loads(path.read_text())
        for path in (folder / name / "runs").glob("*/result.json")
    }


def members(name: str) -> list[int]:
    """The processes that torchrun has started with this text in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            started = f"{RUN_ID}=winnow".encode() in (path / "environ").read_bytes()
        except OSError:
            continue
        if started and any(name.encode() in word for word in words):
            found.append(int(path.name))
    return sorted(found)


@pytest.mark.slow
def test_runs_as_teams_have_the_numbers_of_one_process_also_after_a_kill(tmp_path: Path) -> None:
    undisturbed = sweep(tmp_path, "whole")
    output = output_of(undisturbed)
    assert undisturbed.returncode == 0 and "as 2 processes" in output, output
    expected = records(tmp_path, "whole")
    assert {record["provenance"]["processes"] for record in expected.values()} == {2}

    cut = sweep(
        tmp_path,
        "cut",
        "train.scale=0.0125",
        "env.checkpoint_seconds=0",
        "hydra.launcher.requeue=1",
    )
    folder = str(tmp_path / "cut")
    eventually(lambda: list(tmp_path.glob("cut-cache/checkpoints/*.pt")) or cut.poll() is not None)
    found = members(folder)
    assert len(found) == 2, found
    os.kill(found[1], signal.SIGKILL)
    output = output_of(cut)
    assert cut.returncode == 0 and output.count("queued again: ") == 1, output
    ours = {name: comparable(record) for name, record in records(tmp_path, "cut").items()}
    assert ours == {name: comparable(record) for name, record in expected.items()}
    assert not members(folder)

    one = sweep(tmp_path, "alone", "hydra.launcher.slots_per_job=1", "env.threads=1")
    assert output_of(one) and one.returncode == 0
    for name, record in records(tmp_path, "alone").items():
        assert expected[name]["test_loss"] == pytest.approx(record["test_loss"], rel=2e-3)


@pytest.mark.slow
def test_ctrl_c_stops_a_team_at_a_checkpoint_and_the_same_command_continues(tmp_path: Path) -> None:
    process = sweep(tmp_path, "results", "seed=0", "train.scale=0.25", "env.checkpoint_seconds=0")
    eventually(lambda: list(tmp_path.glob("results-cache/checkpoints/*.pt")))
    process.send_signal(signal.SIGINT)
    output = output_of(process)
    assert process.returncode == 143 and "failed" not in output, output
    assert not members(str(tmp_path))
    (status,) = tmp_path.glob("results/runs/*/status.json")
    assert json.loads(status.read_text())["status"] == "stopped"
    assert last_message(status.with_name("run.log"), 0).startswith("stopped: ")
    again = sweep(tmp_path, "results", "seed=0", "train.scale=0.25")
    assert output_of(again) and again.returncode == 0

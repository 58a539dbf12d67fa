"""The queue of one machine runs real processes, and a failing job never affects the others."""

import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SMALL, environment, last_of_each, records
from forked import start_forked
from omegaconf import OmegaConf
from rich.console import Console
from small_jobs import HANGS, plain_slots, small_job
from support import compose_run, machine, perform_run

from runner.commands.arguments import launcher
from runner.engine.record import comparable
from runner.errors import ConfigError
from runner.launch.gpu_queue import GpuQueue
from runner.launch.jobs import Outcome, Process, QueueJob, shared_first
from runner.launch.launcher import launcher_class, launcher_names, make_launcher, read_launcher
from runner.launch.monitor import Monitor, Pace, job_line, span, time_left
from runner.launch.queue import run_queue, summary
from runner.launch.slots import Slot, free_gb, gpu_ids, slots_of
from runner.launch.slurm import Slurm
from runner.launch.sweep import make_job

CARDS = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb)
  MIG 3g.20gb     Device  0: (UUID: MIG-cccc)
  MIG 3g.20gb     Device  1: (UUID: MIG-dddd)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-eeee)
"""


@pytest.mark.parametrize(
    ("visible", "listing", "found"),
    [
        (None, "", []),
        (None, CARDS, ["0", "MIG-cccc", "MIG-dddd", "2"]),
        ("", CARDS, []),
        ("0,2", CARDS, ["0", "2"]),
        ("2, 0", CARDS, ["2", "0"]),
        ("GPU-bbbb", CARDS, ["GPU-bbbb"]),
        ("MIG-dddd,MIG-cccc", CARDS, ["MIG-dddd", "MIG-cccc"]),
        ("1,-1,2", CARDS, ["1"]),
        ("-1", CARDS, []),
    ],
)
def test_gpus_are_the_inherited_ones_or_all_with_mig_parts_listed_separately(
    visible: str | None, listing: str, found: list[str]
) -> None:
    assert gpu_ids(visible, listing) == found


def test_without_nvidia_smi_torch_counts_the_gpus() -> None:
    assert gpu_ids(None, "", 2) == ["0", "1"]
    assert gpu_ids("3", "", 1) == ["3"]


def test_slots_share_gpus_or_cores() -> None:
    two = slots_of(["3", "MIG-x"], 16, jobs_per_gpu=2)
    # neighbouring slots use different GPUs
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in two] == [
        "3",
        "MIG-x",
        "3",
        "MIG-x",
    ]
    assert {slot.overrides for slot in two} == {("env.device=cuda",)}
    assert [slot.overrides for slot in slots_of([], 4)] == [("env.threads=1",)] * 4
    assert [slot.overrides for slot in slots_of([], 8, slots=3)] == [("env.threads=2",)] * 3
    assert [slot.environment["OMP_NUM_THREADS"] for slot in slots_of([], 2, slots=5)] == ["1"] * 5
    # env.threads is set: as many slots as the cores suffice for
    assert [slot.threads for slot in slots_of([], 8, threads=4)] == [4, 4]
    assert [slot.threads for slot in slots_of([], 2, threads=4)] == [4]
    assert {slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots_of([], 2)} == {""}


def test_free_memory_is_read_by_index_or_identifier() -> None:
    listing = "0, GPU-aaaa-1, 2048\n1, GPU-bbbb-2, 40960\n2, GPU-cccc-3, [N/A]\n"
    assert [free_gb(listing, gpu) for gpu in ("0", "GPU-bbbb", "2", "MIG-x", "7")] == [
        2.0,
        40.0,
        None,
        None,
        None,
    ]


def test_launcher_options_are_parsed_and_invalid_ones_give_errors() -> None:
    assert launcher(["imc_table01", "slots=3", "on_error=stop", "seeds=0"]) == (
        GpuQueue(slots=3, on_error="stop"),
        ["imc_table01", "seeds=0"],
    )
    assert launcher(["imc_table01", "slots=null", "hydra.launcher.min_free_gb=4"]) == (
        GpuQueue(min_free_gb=4.0),
        ["imc_table01"],
    )
    overrides = [
        "hydra/launcher=slurm",
        "imc_table01",
        "hydra.launcher.partition=gpu",
        "hydra.launcher.extra={qos: low}",
    ]
    assert launcher(overrides) == (Slurm(partition="gpu", extra={"qos": "low"}), ["imc_table01"])
    for wrong, message in (
        (["slots=0"], "slots=0 must be at least 1"),
        (["slots=two"], "slots='two' must be a whole number or null"),
        (["slots=1.5"], "slots=1.5 must be a whole number"),
        (["min_free_gb=nan"], "min_free_gb='nan' must be a number"),
        (["on_error=stopp"], "did you mean 'stop'"),
        (
            ["hydra/launcher=slrm"],
            "hydra/launcher=slrm is not a choice: gpu_queue, slurm; did you mean 'slurm'",
        ),
        (
            ["hydra/launcher=slurm", "hydra.launcher.timeout=3"],
            "hydra.launcher.timeout is not an option; .*did you mean 'timeout_min'",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            launcher(wrong)


@pytest.mark.parametrize("name", launcher_names())
def test_each_launcher_file_lists_the_options_of_its_class_with_their_defaults(
    name: str,
) -> None:
    cls, options = read_launcher(name)
    assert cls.tag == name and options == asdict(cls())
    assert re.findall(r"hydra\.launcher\.(\w+)", cls.at_a_time)[0] in options
    assert launcher([f"hydra/launcher={name}"]) == (cls(), [])


def test_an_unknown_launcher_tag_gives_an_error() -> None:
    with pytest.raises(
        ConfigError, match="hydra.launcher._launcher_=slrm is not the tag of a launcher"
    ):
        launcher_class({"_launcher_": "slrm"})


def test_plans_use_the_number_of_threads_of_a_job(tmp_path: Path) -> None:
    where = machine(tmp_path)  # the CPU
    assert GpuQueue(slots=1).job_threads(where, None) == len(os.sched_getaffinity(0))
    assert (
        GpuQueue(slots=1).job_threads(where, 3),
        Slurm(cpus_per_task=6).job_threads(where, None),
        Slurm().job_threads(where, 3),
    ) == (3, 6, 3)


def test_all_invalid_options_are_reported_with_their_keys() -> None:
    with pytest.raises(ConfigError) as caught:
        make_launcher(
            GpuQueue, {"slots": 1.5, "jobs_per_gpu": "two", "min_free_gb": True, "grace": 3}
        )
    assert [message.split(" ")[0] for message in caught.value.messages] == [
        "hydra.launcher.slots=1.5",
        "hydra.launcher.jobs_per_gpu='two'",
        "hydra.launcher.min_free_gb=True",
        "hydra.launcher.grace",
    ]
    with pytest.raises(ConfigError) as caught:
        make_launcher(GpuQueue, {"slots": 0, "min_free_gb": -1.0})
    assert [message.split(" ")[0] for message in caught.value.messages] == [
        "hydra.launcher.slots=0",
        "hydra.launcher.min_free_gb=-1",
    ]


def test_an_omegaconf_mapping_is_accepted_as_an_option() -> None:
    found = make_launcher(Slurm, {"extra": OmegaConf.create({"qos": "low"})})
    assert isinstance(found, Slurm) and found.extra == {"qos": "low"} and type(found.extra) is dict
    with pytest.raises(ConfigError, match="extra='low' must be a mapping"):
        make_launcher(Slurm, {"extra": "low"})


def test_the_slurm_signal_delay_must_leave_time_for_the_job() -> None:
    # Of a minute, Slurm may be early by 30 s and starting takes 20 s: 10 s remain for the signal
    # before the limit.
    assert Slurm(timeout_min=1, signal_delay_s=10).signal_delay_s == 10
    with pytest.raises(
        ConfigError,
        match=(
            "signal_delay_s=11 leaves a job of timeout_min=1 no time.*at most 10, or a larger"
            " timeout_min"
        ),
    ):
        Slurm(timeout_min=1, signal_delay_s=11)


# --- the queue with small commands as jobs

BEHAVIOUR = {
    5: "raise RuntimeError('broken')",
    9: "sys.exit(3)",
    13: "os.kill(os.getpid(), signal.SIGKILL)",
    17: "resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28)); bytearray(1 << 30)",
}


def small_jobs(
    tmp_path: Path, count: int, behaviour: dict[int, str], script: bool = False
) -> list[QueueJob]:
    return [
        small_job(
            tmp_path, f"job{i:02d}", behaviour.get(i, "time.sleep(0.02); done()"), script=script
        )
        for i in range(count)
    ]


def attempts(folder: Path) -> dict[str, int]:
    return {
        path.parent.name: len(path.read_text().splitlines()) for path in folder.glob("*/attempts")
    }


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


def run_all_of(
    jobs: list[QueueJob], slots: list[Slot], **options: Any
) -> tuple[dict[str, Outcome], str]:
    """Outcome of each job, and the output of the queue."""
    output = io.StringIO()
    ended = run_queue(jobs, slots, Console(file=output, width=300), **options)
    return {outcome.job.name: outcome for outcome in ended}, output.getvalue()


def quiet() -> Console:
    return Console(file=io.StringIO())


@pytest.mark.parametrize("script", [False, True], ids=["processes", "forks"])
def test_twenty_jobs_finish_although_four_fail_in_different_ways(
    script: bool, tmp_path: Path
) -> None:
    jobs = small_jobs(tmp_path, 24, BEHAVIOUR, script)
    ended = run_queue(jobs, plain_slots(2), quiet())
    assert len(ended) == 24
    assert {outcome.job.name: outcome.code for outcome in ended if outcome.failed} == {
        "job05": 1,
        "job09": 3,
        "job13": -signal.SIGKILL,
        "job17": 1,
    }
    spans = [json.loads((job.folder / "result.json").read_text()) for job in jobs if job.done()]
    assert len(spans) == 20
    # at most two at a time
    assert max(sum(a["started"] <= b["started"] < a["ended"] for a in spans) for b in spans) <= 2
    output = summary(ended, jobs)
    assert output.startswith("4 of 24 jobs failed; repeat the command to run only these\n")
    killed = "killed by SIGKILL (out of memory? see the kernel's log)"
    for name, how, last in (
        ("job05", "failed (exit 1)", "RuntimeError: broken"),
        ("job09", "failed (exit 3)", "(it printed nothing)"),
        ("job13", killed, "(it printed nothing)"),
        ("job17", "failed (exit 1)", "MemoryError"),
    ):
        assert (
            f"failed: {name}: {how}\n  output: {last}\n  log:    {tmp_path / name / 'run.log'}\n "
            f" repeat: again {name}" in output
        )
    again = run_queue(small_jobs(tmp_path, 24, {9: "sys.exit(3)"}), plain_slots(2), quiet())
    assert sorted(outcome.job.name for outcome in again) == ["job05", "job09", "job13", "job17"]
    assert {name for name, count in attempts(tmp_path).items() if count == 2} == {
        "job05",
        "job09",
        "job13",
        "job17",
    }
    assert summary(again, [outcome.job for outcome in again]).startswith("1 of 4 jobs failed")


def test_exit_code_0_without_a_record_counts_as_a_failure(tmp_path: Path) -> None:
    ended, output = run_all_of(
        [small_job(tmp_path, "pretends", "sys.exit(0)"), small_job(tmp_path, "works", "done()")],
        plain_slots(2),
    )
    assert (ended["pretends"].code, ended["pretends"].failed, ended["works"].failed) == (
        0,
        True,
        False,
    )
    assert "ended with exit code 0, but there is no result.json after" in output


@pytest.mark.parametrize("broken", ["program", "folder"])
def test_a_job_that_cannot_be_started_counts_as_a_failure(broken: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    absent = {
        "program": QueueJob(
            "absent", (str(tmp_path / "no-such-program"),), tmp_path / "absent", lambda: False
        ),
        "folder": QueueJob(
            "absent", (sys.executable, "-c", ""), tmp_path / "file" / "absent", lambda: False
        ),
    }
    ended, output = run_all_of(
        [absent[broken], small_job(tmp_path, "fine", "done()")], plain_slots(1)
    )
    assert ended["absent"].failed and not ended["fine"].failed
    assert "could not be started: " in output


def test_child_processes_of_a_job_are_ended_with_it(tmp_path: Path) -> None:
    does = "child = subprocess.Popen(['sleep', '1000']); done(child=child.pid)"
    ended, _ = run_all_of([small_job(tmp_path, "careless", does)], plain_slots(1))
    assert not ended["careless"].failed
    child = json.loads((tmp_path / "careless" / "result.json").read_text())["child"]
    eventually(lambda: not alive(child))


def test_the_log_contains_all_attempts_and_the_summary_quotes_the_last(
    tmp_path: Path,
) -> None:
    jobs = [
        small_job(
            tmp_path,
            "one",
            "print('failed: attempt', len((F / 'attempts').read_text().splitlines())); print(' "
            " where: there'); sys.exit(1)",
        )
    ]
    run_all_of(jobs, plain_slots(1))
    ended, _ = run_all_of(jobs, plain_slots(1))
    assert "  output: failed: attempt 2\n" in summary(list(ended.values()), jobs)
    lines = jobs[0].log.read_text().splitlines()
    # each attempt prints two lines
    assert all(
        re.fullmatch(r"==== \d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d{4} again one", line)
        for line in lines[::3]
    )
    assert lines[1::3] == ["failed: attempt 1", "failed: attempt 2"]
    silent = [small_job(tmp_path, "one", "os.kill(os.getpid(), signal.SIGKILL)")]
    ended, _ = run_all_of(silent, plain_slots(1))
    assert ended["one"].message == "(it printed nothing)"  # not the output of an earlier attempt


def test_on_error_stop_starts_no_further_job(tmp_path: Path) -> None:
    jobs = small_jobs(tmp_path, 6, {1: "sys.exit(7)"})
    ended = run_queue(jobs, plain_slots(1), quiet(), on_error="stop")
    assert [(outcome.job.name, outcome.code) for outcome in ended] == [("job00", 0), ("job01", 7)]
    assert (
        "1 of 6 jobs failed; repeat the command to run only these and 4 more that have not run"
        in summary(ended, jobs)
    )
    assert not (tmp_path / "job02").exists()


def test_on_error_stop_lets_running_jobs_finish(tmp_path: Path) -> None:
    jobs = [
        small_job(
            tmp_path,
            "long",
            "until('gone')\nwhile os.path.exists('/proc/' + (F.parent / 'gone').read_text()):"
            " time.sleep(0.01)\ndone()",
        ),
        small_job(
            tmp_path,
            "fails",
            "(F.parent / 'writing').write_text(str(os.getpid())); (F.parent /"
            " 'writing').rename(F.parent / 'gone'); sys.exit(1)",
        ),
        small_job(tmp_path, "never", "done()"),
    ]
    ended, _ = run_all_of(jobs, plain_slots(2), on_error="stop")
    assert {name: outcome.failed for name, outcome in ended.items()} == {
        "long": False,
        "fails": True,
    }


def test_jobs_with_shared_stages_run_first() -> None:
    def job_with(name: str, *makes: str) -> QueueJob:
        return QueueJob(
            name, (), Path(name), lambda: False, frozenset(makes), lambda key: key == "there"
        )

    # Uses of missing stages: chain1 3, chain2 2, dense 2, the others 1. Sums of (uses - 1): a 0,
    # b 2 + 1, c 2, d 2 + 1 + 1, e 1.
    jobs = [
        job_with("a", "own", "there"),
        job_with("b", "chain1", "chain2", "there"),
        job_with("c", "chain1", "there"),
        job_with("d", "chain1", "chain2", "dense"),
        job_with("e", "dense"),
    ]
    assert [job.name for job in shared_first(jobs)] == ["d", "b", "c", "e", "a"]
    # Three jobs use the dense net. The one that rewinds to its epoch 1 computes it, so that no job
    # trains that epoch again: 2, 2 + 2, 2.
    chains = [
        job_with("reinit", "dense", "x"),
        job_with("rewind", "dense", "dense@1", "y"),
        job_with("finetune", "dense", "z"),
    ]
    assert [job.name for job in shared_first(chains)] == ["rewind", "reinit", "finetune"]
    # the stage exists, its rewinding point does not: counts zero
    late = [job_with("other", "x"), job_with("rewind", "there", "there@1")]
    assert [job.name for job in shared_first(late)] == ["other", "rewind"]


def test_a_job_waits_only_until_a_running_job_has_computed_their_shared_stage(
    tmp_path: Path,
) -> None:
    first = (
        "until('other/result.json'); assert not (F.parent / 'second').exists(); (F.parent /"
        " 'stage').touch(); until('second/result.json'); done()"
    )
    jobs = [
        small_job(tmp_path, "first", first, makes=("stage", "first's own")),
        # starts beside the first as soon as the stage exists
        small_job(tmp_path, "second", "done()", makes=("stage",)),
        # starts before the second job, although it comes after it
        small_job(tmp_path, "other", "done()", makes=("another",)),
    ]
    ended, output = run_all_of(jobs, plain_slots(2))
    assert {name: outcome.message for name, outcome in ended.items() if outcome.failed} == {}
    assert [line for line in output.splitlines() if line.startswith("started")] == [
        "started: first",
        "started: other",
        "started: second",
    ]


def test_a_job_that_needs_more_of_a_shared_stage_waits_only_until_the_stage_exists(
    tmp_path: Path,
) -> None:
    # E.g. a rewinding point that the running job does not store: the stage is complete for the
    # first job, and incomplete for the second.
    first = small_job(
        tmp_path,
        "first",
        "(F.parent / 'stage').touch(); until('second/result.json'); done()",
        makes=("stage",),
    )
    second = replace(
        small_job(tmp_path, "second", "done()", makes=("stage",)), there=lambda key: False
    )
    ended, _ = run_all_of([first, second], plain_slots(2))
    assert {name: outcome.message for name, outcome in ended.items() if outcome.failed} == {}


def test_a_job_computes_the_stage_itself_if_the_job_it_waited_for_fails(tmp_path: Path) -> None:
    jobs = [
        small_job(tmp_path, "fails", "sys.exit(1)", makes=("stage",)),
        small_job(tmp_path, "next", "done()", makes=("stage",)),
    ]
    ended, _ = run_all_of(jobs, plain_slots(2))
    assert {name: outcome.failed for name, outcome in ended.items()} == {
        "fails": True,
        "next": False,
    }


def test_a_job_that_another_queue_has_finished_is_not_started(tmp_path: Path) -> None:
    does = (
        "(F.parent / 'second').mkdir(); (F.parent / 'second' / 'result.json').write_text('{}');"
        " done()"
    )
    ended, _ = run_all_of(
        [small_job(tmp_path, "first", does), small_job(tmp_path, "second", "done()")],
        plain_slots(1),
    )
    assert list(ended) == ["first"] and attempts(tmp_path) == {"first": 1}


def test_each_job_uses_only_the_gpu_of_its_slot(tmp_path: Path) -> None:
    slots = slots_of(["3", "MIG-a"], 2, jobs_per_gpu=2)
    ended, output = run_all_of(
        [
            small_job(
                tmp_path,
                f"job{i}",
                "done(gpu=os.environ['CUDA_VISIBLE_DEVICES'], overrides=sys.argv[2:])",
            )
            for i in range(8)
        ],
        slots,
    )
    spans = [json.loads((tmp_path / name / "result.json").read_text()) for name in ended]
    assert {span["gpu"] for span in spans} == {"3", "MIG-a"} and len(spans) == 8
    assert [span["overrides"] for span in spans] == [["env.device=cuda"]] * 8
    for one in spans:
        assert (
            sum(
                s["gpu"] == one["gpu"] and s["started"] <= one["started"] < s["ended"]
                for s in spans
            )
            <= 2
        )
    assert "started: job0 on GPU 3" in output


def test_a_job_waits_for_free_memory_on_its_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a fake nvidia-smi, which reports little free memory at its first call only
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(
        f'#!/bin/sh\n[ -e "{tmp_path}/called" ] && echo "0, GPU-a, 40960" || echo "0, GPU-a,'
        f' 1024"\ntouch "{tmp_path}/called"\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    ended, output = run_all_of(
        [small_job(tmp_path, "large", "done()")], slots_of(["0"], 2), min_free_gb=8.0
    )
    assert not ended["large"].failed
    assert output.splitlines()[:2] == [
        "waiting: GPU 0 has 1.0 GiB free, min_free_gb=8",
        "started: large on GPU 0",
    ]


# --- output


def status_of(stage: str, epoch: int | None, updated: float, since: float = 0.0) -> dict[str, Any]:
    return {
        "status": "running",
        "stage": stage,
        "since": since,
        "updated": updated,
        **({} if epoch is None else {"epoch": epoch, "epochs": 10}),
    }


def test_the_time_left_in_a_stage_is_estimated_from_its_pace() -> None:
    pace = Pace()
    assert pace.left({}) is None and pace.left(status_of("dense", None, 90.0)) is None
    # resumed: the first two epochs were trained before
    assert pace.left(status_of("dense", 3, 100.0)) is None
    assert pace.left(status_of("dense", 5, 110.0)) == 25.0  # two epochs in ten seconds, five remain
    assert pace.left(status_of("train", 1, 120.0, 111.0)) is None
    assert pace.left(status_of("train", 2, 121.0, 111.0)) == 8.0


def test_a_job_line_contains_run_time_stage_epoch_results_and_time_left() -> None:
    status = {**status_of("train", 4, 105.0, 100.0), "loss": 0.25, "accuracy": 97.5}
    assert job_line("imc-x", 42.4, status, 10.0) == (
        "imc-x  42 s  train  epoch 4/10  loss 0.25, accuracy 97.50 %  about 10 s left in this stage"
    )
    assert job_line("imc-x", 3.0, {}, None) == "imc-x  3 s  starting"
    assert [span(s) for s in (119.4, 120.0, 7199.0, 9000.0)] == [
        "119 s",
        "2 min",
        "120 min",
        "2.5 h",
    ]


def test_the_total_time_left_is_estimated_from_the_finished_jobs() -> None:
    assert time_left([], [3.0], 5, 2) is None
    # 10 s per job: (4 x 10 s + 6 s + 0 s of the two running jobs) / 2 slots = 23 s
    assert time_left([8.0, 12.0], [4.0, 15.0], 4, 2) == 23.0
    assert time_left([10.0], [1.0], 0, 4) == 9.0  # a single job uses one slot


def test_a_terminal_shows_a_line_for_each_running_job_and_one_for_all(tmp_path: Path) -> None:
    status = (
        '{"status": "running", "stage": "train", "epoch": 3, "epochs": 30, "accuracy": 91.5,'
        ' "since": 0, "updated": time.time()}'
    )
    does = (
        f"(F / 'status.json').write_text(json.dumps({status})); until('stop'); done(accuracy=91.5,"
        " density=0.25)"
    )
    folder = tmp_path / "snip-mlp"
    folder.mkdir()
    # the status of an earlier attempt
    (folder / "status.json").write_text(
        '{"status": "stopped", "stage": "earlier", "epoch": 1, "epochs": 2, "since": 0,'
        ' "updated": 5}'
    )

    class Terminal(io.StringIO):
        def write(self, text: str) -> int:
            if "epoch 3/30" in text:
                (tmp_path / "stop").touch()
            return super().write(text)

    shown = Terminal()
    ended = run_queue(
        [small_job(tmp_path, "snip-mlp", does)],
        plain_slots(2),
        Console(file=shown, width=150, force_terminal=True, color_system=None),
    )
    assert [outcome.failed for outcome in ended] == [False]
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.getvalue()).replace("\r", "\n")
    assert re.search(r"snip-mlp  \d+ s  train  epoch 3/30  accuracy 91\.50 %", plain)
    assert "0 done, 1 running, 0 failed, 0 to do" in plain
    assert "done after" in plain
    assert "snip-mlp: 91.50 % at density 0.250" in plain
    assert "earlier" not in plain


def test_a_console_that_cannot_be_written_does_not_stop_the_jobs(tmp_path: Path) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    ended = run_queue(
        small_jobs(tmp_path, 2, {}),
        plain_slots(1),
        Console(file=Gone(), width=100, force_terminal=True),
    )
    assert [outcome.failed for outcome in ended] == [False, False]
    with Monitor(Console(file=Gone()), 1) as monitor:
        monitor.say("no output")


# --- a stopped or killed queue

DRIVER = f"""
import os, sys
from pathlib import Path
sys.path[:0] = {[str(Path(__file__).parent)]!r}
from small_jobs import plain_slots, small_job
from rich.console import Console
from runner.engine import signals
from runner.launch.queue import Interrupted, run_queue
T, what, grace = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
signals.SAME_REQUEST = float(sys.argv[4])
forks = what.startswith("forked ")
what = what.removeprefix("forked ")
POLITE = '''
signal.signal(signal.SIGTERM, lambda *_: ((F / 'checkpoint').touch(), sys.exit(143)))
(F / 'ready').touch()
until('go')
done()
'''
SLOW = '''
def stop(*_):
    (F / 'asked').touch()
    until('go')
    (F / 'checkpoint').touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
(F / 'ready').touch()
until('no')
'''
STUBBORN = '''
signal.signal(signal.SIGTERM, signal.SIG_IGN)
(F / 'child').write_text(str(subprocess.Popen(['sleep', '1000']).pid))
(F / 'ready').touch()
until('no')
'''
if what == "terminal":
    import fcntl, termios
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
polite = SLOW if what == "slow" else POLITE
polite = [small_job(T, "polite", polite, script=forks)] if what != "stubborn" else []
stubborn = what in ("both", "stubborn")
stubborn = [small_job(T, "stubborn", STUBBORN, script=forks)] if stubborn else []
jobs = [*polite, *stubborn, small_job(T, "waits", "done()", script=forks)]
slots = plain_slots(2 if what == "both" else 1)
try:
    run_queue(jobs, slots, Console(width=200), grace_seconds=grace)
except Interrupted as stop:
    (T / "outcomes").write_text("".join(f"{{o.job.name}}: {{o.describe()}}\\n" for o in stop.ended))
    sys.exit(143)
"""


def driven(
    folder: Path,
    what: str,
    grace: float = 60,
    prefix: tuple[str, ...] = (),
    same_request: float = 0,
    **more: Any,
) -> subprocess.Popen[bytes]:
    """Start a queue in its own process and wait until its jobs run.

    It receives SIGINT and SIGHUP even if the tests run in the background or under nohup.

    Args:
        same_request: seconds within which signals are one request.
    """
    more.setdefault("stdout", subprocess.DEVNULL)
    more.setdefault(
        "preexec_fn",
        lambda: [
            signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)
        ],
    )
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", DRIVER, str(folder), what, str(grace), str(same_request)],
        env=environment(),
        cwd=ROOT,
        **more,
    )
    eventually(
        lambda: (
            len(list(folder.glob("*/ready"))) == (2 if what.endswith("both") else 1)
            or process.poll() is not None
        )
    )
    return process


def pid_of(folder: Path, name: str) -> int:
    return int((folder / name / "attempts").read_text())


@pytest.mark.parametrize(
    ("number", "what"),
    [
        (signal.SIGINT, "both"),
        (signal.SIGTERM, "both"),
        (signal.SIGHUP, "both"),
        (signal.SIGINT, "forked both"),
    ],
)
def test_a_signal_stops_jobs_at_a_checkpoint_and_kills_jobs_that_ignore_it(
    number: int, what: str, tmp_path: Path
) -> None:
    process = driven(tmp_path, what, grace=1e6)
    process.send_signal(number)
    eventually(lambda: not alive(pid_of(tmp_path, "polite")))
    assert (tmp_path / "polite" / "checkpoint").exists()
    process.send_signal(number)  # ends the grace period
    assert process.wait(timeout=HANGS) == 143
    assert not (tmp_path / "waits").exists()
    assert sorted((tmp_path / "outcomes").read_text().splitlines()) == [
        "polite: stopped at a checkpoint",
        "stubborn: killed before it wrote a checkpoint",
    ]
    child = int((tmp_path / "stubborn" / "child").read_text())
    eventually(
        lambda: (
            not any(
                alive(pid)
                for pid in (pid_of(tmp_path, "polite"), pid_of(tmp_path, "stubborn"), child)
            )
        )
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_that_comes_as_two_signals_kills_no_job(number: int, tmp_path: Path) -> None:
    """`timeout` signals the queue and then the queue's process group."""
    process = driven(tmp_path, "slow", same_request=1e6, start_new_session=True)
    process.send_signal(number)
    eventually((tmp_path / "polite" / "asked").exists)
    os.killpg(process.pid, number)
    time.sleep(0.3)  # for a queue that would kill the job
    (tmp_path / "go").touch()
    assert process.wait(timeout=HANGS) == 143
    assert (tmp_path / "polite" / "checkpoint").exists()
    assert (tmp_path / "outcomes").read_text() == "polite: stopped at a checkpoint\n"


def test_a_job_that_ignores_the_signal_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    process = driven(tmp_path, "stubborn", grace=0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=HANGS) == 143
    assert (tmp_path / "outcomes").read_text() == (
        "stubborn: killed before it wrote a checkpoint\n"
    )
    eventually(lambda: not alive(pid_of(tmp_path, "stubborn")))


def test_a_closed_terminal_stops_the_jobs_at_a_checkpoint(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    process = driven(
        tmp_path, "terminal", stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    os.close(ours)  # sends SIGHUP, and writing to the terminal fails from now on
    assert process.wait(timeout=HANGS) == 143
    assert (tmp_path / "polite" / "checkpoint").exists()


def test_under_nohup_a_closed_terminal_does_not_stop_the_jobs(tmp_path: Path) -> None:
    process = driven(tmp_path, "alone", prefix=("nohup",), stderr=subprocess.DEVNULL)
    process.send_signal(signal.SIGHUP)
    (tmp_path / "go").touch()
    assert process.wait(timeout=HANGS) == 0
    assert (tmp_path / "waits" / "result.json").exists()


@pytest.mark.parametrize("what", ["alone", "forked alone"])
def test_a_job_of_a_killed_queue_stops_at_a_checkpoint(what: str, tmp_path: Path) -> None:
    process = driven(tmp_path, what)
    process.kill()
    process.wait()
    eventually((tmp_path / "polite" / "checkpoint").exists)  # on Linux
    eventually(lambda: not alive(pid_of(tmp_path, "polite")))


# --- sweeps of real runs

COMMON = ["-m", "hydra/launcher=gpu_queue", "hydra.launcher.slots=2", *SMALL]


def test_an_existing_rewinding_point_between_two_epochs_is_recognised(tmp_path: Path) -> None:
    overrides = [
        "method=imp",
        "density=0.8",
        "dataset=digits",
        "model=mlp",
        "train=sketching",
        "train.scale=0.00625",
    ]
    # 391 iterations are an epoch: the point is after 0.016 epochs at this scale
    run = compose_run(*overrides, "retrain.rewind=1000it")
    where = machine(tmp_path)
    job = make_job(run, where, [])
    (point,) = (item for item in job.makes if "@" in item)
    assert 0 < float(point.partition("@")[2]) < 1 and point in job.claims()
    perform_run(run, where)
    assert job.claims() == set()


SWEEP = [*COMMON, "method=magnitude", "density=0.3", "start=dense", "retrain=rewind,finetune"]
SHORT = ["method.spectrum.probes=1", "method.spectrum.steps=3"]


def sweep(
    folder: Path,
    *overrides: str,
    name: str = "results",
    program: str = "run.py",
    common: list[str] = SWEEP,
) -> Process:
    """Start a command; the tests of `driven` start theirs with an interpreter of its own."""
    own = [
        f"env.results_dir={folder / name}",
        f"env.cache_dir={folder / (name + '-cache')}",
        "env.checkpoint_seconds=0",
    ]
    line = last_of_each(*common, *own, *overrides)
    with (folder / "output").open("wb") as file:
        output = file.fileno()
        process = start_forked(ROOT / program, line, folder, environment(), output, output)
    (folder / "output").rename(folder / f"output-{process.pid}")
    return process


def finish(process: Process, folder: Path) -> str:
    """Wait for the end of a command in a folder and return its output."""
    try:
        process.wait(HANGS)
    finally:
        process.kill()
    return (folder / f"output-{process.pid}").read_text()


def children_at_work(folder: Path) -> list[int]:
    """Ids of the processes whose command line contains the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def by_id(folder: Path, name: str = "results") -> dict[str, Any]:
    return {
        path.parent.name: comparable(json.loads(path.read_text()))
        for path in (folder / name / "runs").glob("*/result.json")
    }


def logs(folder: Path) -> dict[str, str]:
    return {path.parent.name: path.read_text() for path in folder.glob("results/runs/*/run.log")}


def computed(folder: Path) -> list[str]:
    """Keys of the computed stages, once for each computation."""
    return [
        stage["key"]
        for record in records(folder)
        for stage in record["stages"]
        if not stage["cached"]
    ]


def test_a_sweep_reports_the_failed_job_and_finishes_the_others(tmp_path: Path) -> None:
    process = sweep(
        tmp_path,
        "method=imc",
        "method.gap.rule=literal,smoothed_sign",
        "seed=0,0",
        *SHORT,
        common=COMMON,
    )
    output = finish(process, tmp_path)
    assert process.returncode == 1, output
    assert (
        "2 runs, 0 done, 2 to do (2 more that were requested are equal to one of these)" in output
    )
    assert "1 of 2 jobs failed" in output and "Traceback" not in output
    (record,) = records(tmp_path)
    assert record["report"]["gap_rule"] == "smoothed_sign"
    (failed,) = [name for name in logs(tmp_path) if name != record["run_id"]]
    closing = output[output.index("1 of 2 jobs failed") :].splitlines()
    assert closing[1] == f"failed: {failed}: failed (exit 1)"
    assert closing[2].startswith(
        f"  output: failed: {failed}: ValueError: method.gap.rule=literal found no gap"
    )
    assert closing[3] == f"  log:    {tmp_path / 'results' / 'runs' / failed / 'run.log'}"
    assert closing[4].startswith("  repeat: python run.py ")
    assert "method.gap.rule=literal" in closing[4]
    assert "launcher" not in closing[4]
    assert all(log.count("==== ") == 1 for log in logs(tmp_path).values())  # equal runs run once
    # the other job computed it
    assert [stage["cached"] for stage in record["stages"] if stage["name"] == "wstar"] == [True]
    kinds = [
        kind
        for line in output.splitlines()
        for kind in ("started", "failed (exit 1) after")
        if line.startswith(kind)
    ]
    # the second job starts when W* exists, before or after the first one fails
    assert kinds[0] == "started"
    assert sorted(kinds) == ["failed (exit 1) after", "started", "started"]


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (
            ["density=0.5,2"],
            ["density=2 must be in (0, 1]: it is kept / prunable, and sparsity = 1 - density"],
        ),
        (
            ["hydra.launcher.slot=2"],
            [
                "hydra.launcher.slot is not a key",
                "hydra/launcher=gpu_queue has: slots, jobs_per_gpu,",
                "did you mean 'slots'",
            ],
        ),
        (
            ["hydra.launcher.jobs_per_gpu=two"],
            ["hydra.launcher.jobs_per_gpu='two' must be a whole number"],
        ),
        (
            ["hydra.launcher.on_error=stopp"],
            ["hydra.launcher.on_error=stopp is not a choice: continue, stop; did you mean 'stop'"],
        ),
        (["hydra.swep.dir=x"], ["hydra.swep", "--cfg hydra"]),
        (
            ["hydra.sweeper.max_batch_size=2"],
            ["hydra.sweeper.max_batch_size", "hydra.launcher.slots sets how many run at a time"],
        ),
        (
            ["env.threads=1,2"],
            ["env.threads=1,2: env.* describes this machine", "give env.threads one value"],
        ),
        (
            ["hydra/launcher=gpu_queu"],
            ["hydra/launcher=gpu_queu is not a choice", "did you mean 'gpu_queue'"],
        ),
    ],
    ids=lambda value: value[0].partition("=")[0] if isinstance(value, list) else "",
)
def test_an_invalid_sweep_gives_a_one_line_error_and_starts_no_job(
    overrides: list[str], parts: list[str], tmp_path: Path
) -> None:
    keys = {word.partition("=")[0] for word in overrides}
    process = sweep(
        tmp_path, *overrides, common=[word for word in SWEEP if word.partition("=")[0] not in keys]
    )
    output = finish(process, tmp_path)
    assert process.returncode == 2, output
    assert output.startswith("error: "), output
    assert output.count("error: ") == len(output.splitlines()) == 1, output
    assert all(part in output for part in parts), output
    assert not list(tmp_path.glob("results/runs/*"))


def test_max_batch_size_gives_an_error_with_slurm(tmp_path: Path) -> None:
    process = sweep(
        tmp_path,
        "seed=0,1",
        "hydra.sweeper.max_batch_size=2",
        common=["-m", "hydra/launcher=slurm", *SMALL],
    )
    hint = (
        "this launcher takes a sweep's jobs all at once; hydra.launcher.array_parallelism sets how"
        " many run at a time"
    )
    assert finish(process, tmp_path) == f"error: hydra.sweeper.max_batch_size: {hint}\n"
    assert process.returncode == 2


def test_sigterm_stops_all_jobs_at_a_checkpoint_and_leaves_no_process(tmp_path: Path) -> None:
    process = sweep(tmp_path, "train.scale=1", "seed=0,1")
    eventually(lambda: len(list(tmp_path.glob("results-cache/checkpoints/*.pt"))) >= 2)
    process.terminate()
    output = finish(process, tmp_path)
    assert process.returncode == 143, output
    assert "repeat the command to continue" in output and "failed:" not in output
    assert not children_at_work(tmp_path)
    states = [
        json.loads(path.read_text())["status"]
        for path in tmp_path.glob("results/runs/*/status.json")
    ]
    assert states == ["stopped"] * 2


def written_since(cache: Path, moment: float) -> bool:
    """Whether a checkpoint or artefact is newer; files may be renamed during the search."""
    for path in cache.rglob("*"):
        try:
            if path.suffix in (".pt", ".safetensors") and path.stat().st_mtime > moment:
                return True
        except FileNotFoundError:
            continue
    return False


def kill_and_repeat(tmp_path: Path, kills: int, scale: float) -> None:
    """Kill the queue `kills` times at random moments and repeat its command.

    The records have to equal those of an undisturbed queue.
    """
    overrides = [f"train.scale={scale}", "seed=0,1"]
    process = sweep(tmp_path, *overrides, name="alone")
    assert finish(process, tmp_path) and process.returncode == 0
    dice, killed = random.Random(0), 0
    while killed < kills:
        started = time.time()
        process = sweep(tmp_path, *overrides)
        while (
            process.poll() is None
            and killed % 4 != 3
            and not written_since(tmp_path / "results-cache", started)
        ):
            time.sleep(0.01)  # every fourth queue is killed while it starts
        time.sleep(dice.uniform(0, 1.5))
        at_work = process.poll() is None
        process.kill()
        output = finish(process, tmp_path)
        killed += at_work
        if not at_work:  # it has finished: continue with an empty cache
            assert process.returncode == 0, output
            for path in (tmp_path / "results", tmp_path / "results-cache"):
                path.rename(path.with_name(f"{path.name}-after-{killed}-{dice.random()}"))
    process = sweep(tmp_path, *overrides)
    output = finish(process, tmp_path)
    assert process.returncode == 0, output
    assert by_id(tmp_path) == by_id(tmp_path, "alone") and len(by_id(tmp_path)) == 4
    assert not list(tmp_path.glob("results-cache/checkpoints/*")) and not children_at_work(tmp_path)


def test_a_killed_queue_resumes_to_the_same_records(tmp_path: Path) -> None:
    kill_and_repeat(tmp_path, 2, 0.05)


@pytest.mark.slow
def test_a_queue_killed_ten_times_resumes_to_the_same_records(tmp_path: Path) -> None:
    kill_and_repeat(tmp_path, 10, 0.3)


def test_two_simultaneous_sweeps_compute_each_stage_once(tmp_path: Path) -> None:
    overrides = ["retrain=rewind,finetune,reinit"]
    both = [
        sweep(
            tmp_path, *overrides, common=[word for word in SWEEP if not word.startswith("retrain=")]
        )
        for _ in range(2)
    ]
    for process in both:
        output = finish(process, tmp_path)
        assert process.returncode == 0, output
    # one dense net, one mask, three retrainings
    assert len(computed(tmp_path)) == len(set(computed(tmp_path))) == 1 + 1 + 3


# --- make reproduce

REPRODUCE = [*SMALL, "models=resnet20", "model=mlp", "seeds=0"]


@pytest.mark.slow
def test_two_simultaneous_commands_reproduce_two_tables_and_compute_each_stage_once(
    tmp_path: Path,
) -> None:
    # SMALL sets dataset=digits, so both tables have the same runs
    tables = ["imc_table01@digits", "imc_table01@fashion_mnist"]
    both = [
        sweep(
            tmp_path,
            *SHORT,
            "slots=1",
            program="scripts/reproduce.py",
            common=[*tables, *REPRODUCE],
        )
        for _ in range(2)
    ]
    output = [finish(process, tmp_path) for process in both]
    assert [process.returncode for process in both] == [0, 0], output
    assert len(computed(tmp_path)) == len(set(computed(tmp_path))) and len(records(tmp_path)) >= 5
    for text in output:
        assert text.count("Accuracy with found sparsity by our IMC method") == 2
        assert all(
            f"written to {tmp_path / 'results' / 'tables' / name}." in text for name in tables
        )


def test_reproduce_prints_the_table_and_the_failed_runs_and_exits_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # PyHessian cannot be imported. Shared stages come first, so that one run fails early and
    # others do not start.
    (tmp_path / "stub" / "pyhessian").mkdir(parents=True)
    (tmp_path / "stub" / "pyhessian" / "__init__.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stub"))
    check = "method.spectrum.check=pyhessian"
    overrides = ["model=lenet_300_100", check, *SHORT, "slots=1", "on_error=stop"]
    common = ["imc_table01@digits", *[word for word in REPRODUCE if word != "model=mlp"]]
    process = sweep(tmp_path, *overrides, program="scripts/reproduce.py", common=common)
    output = finish(process, tmp_path)
    assert process.returncode == 1, output
    assert "Accuracy with found sparsity by our IMC method" in output
    # the table has fourteen rows
    assert 1 <= sum(line.startswith("started: ") for line in output.splitlines()) < 14
    closing = output[output.index(" jobs failed; repeat the command to run only these") :]
    assert closing.count("\nfailed: ") == 1
    assert "needs PyHessian" in closing
    assert "  log:    " in closing
    assert "  repeat: python run.py " in closing

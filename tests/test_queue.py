"""The queue of one machine: real processes; what one job does to itself is no other's business."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SMALL, environment, records
from rich.console import Console

from runner.errors import ConfigError
from runner.launch import run_queue, summary
from runner.records import comparable
from runner.slots import Options, Slot, free_gb, gpu_ids, slots_of
from runner.sweep import queue_options

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
def test_cards_are_the_inherited_ones_or_all_with_parts_instead_of_a_cut_card(visible: str | None, listing: str, found: list[str]) -> None:
    assert gpu_ids(visible, listing) == found


def test_slots_share_cards_or_cores() -> None:
    two = slots_of(["3", "MIG-x"], 16, Options(jobs_per_gpu=2))
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in two] == ["3", "3", "MIG-x", "MIG-x"]
    assert [slot.words for slot in slots_of([], 4, Options())] == [("env.threads=1",)] * 4
    assert [slot.words for slot in slots_of([], 8, Options(slots=3))] == [("env.threads=2",)] * 3
    assert [slot.environment["OMP_NUM_THREADS"] for slot in slots_of([], 2, Options(slots=5))] == ["1"] * 5


def test_free_memory_is_read_by_index_or_identifier() -> None:
    listing = "0, GPU-aaaa-1, 2048\n1, GPU-bbbb-2, 40960\n2, GPU-cccc-3, [N/A]\n"
    assert [free_gb(listing, gpu) for gpu in ("0", "GPU-bbbb", "2", "MIG-x", "7")] == [2.0, 40.0, None, None, None]


def test_options_come_from_words_and_bad_ones_are_named() -> None:
    assert queue_options(["imc_table01", "slots=3", "on_error=stop", "seeds=0"]) == (Options(slots=3, on_error="stop"), ["imc_table01", "seeds=0"])
    for words, said in ((["slots=0"], "slots=0 must be at least 1"), (["slots=two"], "slots=two"), (["on_error=stopp"], "did you mean 'stop'")):
        with pytest.raises(ConfigError, match=said):
            queue_options(words)


# --- the engine, with small commands as jobs

BEHAVIOUR = {
    5: "raise RuntimeError('broken')",
    9: "sys.exit(3)",
    13: "os.kill(os.getpid(), signal.SIGKILL)",
    17: "resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28)); bytearray(1 << 30)",
}
SCRIPT = """
import os, pathlib, resource, signal, sys, time
folder, active = pathlib.Path({folder!r}), pathlib.Path({active!r})
(active / folder.name).touch()
seen = len(list(active.iterdir()))
time.sleep(0.05)
(active / folder.name).unlink()
{behaviour}
(folder / "done").write_text(str(seen))
"""


def small_jobs(tmp_path: Path, count: int, behaviour: dict[int, str]) -> list[Job]:
    (tmp_path / "active").mkdir(exist_ok=True)
    jobs = []
    for i in range(count):
        folder = tmp_path / f"job{i:02d}"
        code = SCRIPT.format(folder=str(folder), active=str(tmp_path / "active"), behaviour=behaviour.get(i, "pass"))
        jobs.append(Job(folder.name, (sys.executable, "-S", "-c", code), folder, (folder / "done").is_file))
    return jobs


def plain_slots(count: int) -> list[Slot]:
    return [Slot() for _ in range(count)]


def quiet() -> Console:
    return Console(file=io.StringIO())


def test_of_24_jobs_four_die_in_four_ways_and_twenty_finish(tmp_path: Path) -> None:
    jobs = small_jobs(tmp_path, 24, BEHAVIOUR)
    ended = run_queue(jobs, plain_slots(2), Options(), quiet())
    assert len(ended) == 24
    assert {outcome.job.name: outcome.code for outcome in ended if outcome.failed} == {"job05": 1, "job09": 3, "job13": -signal.SIGKILL, "job17": 1}
    assert {int((job.folder / "done").read_text()) for job in jobs if job.done()} == {1, 2}  # two at a time, never more
    assert sum(job.done() for job in jobs) == 20
    said = summary(ended, 24)
    assert said.startswith("4 of 24 jobs failed")
    for name, how in (("job05", "failed (exit 1)"), ("job09", "failed (exit 3)"), ("job13", "killed by SIGKILL"), ("job17", "failed (exit 1)")):
        assert f"failed: {name}: {how}\n  log:   {tmp_path / name / 'run.log'}\n  again: {sys.executable}" in said
    assert "RuntimeError: broken" in (tmp_path / "job05" / "run.log").read_text()
    assert "MemoryError" in (tmp_path / "job17" / "run.log").read_text()
    again = run_queue(small_jobs(tmp_path, 24, {9: "sys.exit(3)"}), plain_slots(2), Options(), quiet())
    assert sorted(outcome.job.name for outcome in again) == ["job05", "job09", "job13", "job17"]
    assert summary(again, 4).startswith("1 of 4 jobs failed")


def test_on_error_stop_begins_no_further_job(tmp_path: Path) -> None:
    jobs = small_jobs(tmp_path, 6, {1: "sys.exit(7)"})
    ended = run_queue(jobs, plain_slots(1), Options(on_error="stop"), quiet())
    assert [(outcome.job.name, outcome.code) for outcome in ended] == [("job00", 0), ("job01", 7)]
    assert "runs only these and 4 that did not begin" in summary(ended, 6)
    assert not (tmp_path / "job02").exists()


def test_jobs_that_claim_one_stage_do_not_run_side_by_side(tmp_path: Path) -> None:
    jobs = small_jobs(tmp_path, 6, {})
    claims = [{"a"}, {"a"}, {"a"}, {"a", "b"}, {"b"}, {"a"}]
    jobs = [Job(job.name, job.command, job.folder, job.done, claims=lambda c=c: c) for job, c in zip(jobs, claims, strict=True)]  # type: ignore[misc]
    ended = run_queue(jobs, plain_slots(3), Options(), quiet())
    seen = {job.name: int((job.folder / "done").read_text()) for job in jobs}
    assert len(ended) == 6 and max(seen.values()) <= 2  # of the five with a, one at a time; the one with b alone beside
    assert seen["job03"] == 1


def test_a_line_says_run_stage_epoch_accuracy_and_time_left() -> None:
    status = {"status": "running", "stage": "train", "epoch": 10, "epochs": 30, "accuracy": 97.5, "since": 100.0, "updated": 105.0}
    assert progress_line("imc-x", status, 42.4) == "imc-x  42 s  train  epoch 10/30  97.50 %  about 10 s left"
    assert progress_line("imc-x", {}, 3.0) == "imc-x  3 s"


# --- sweeps

SWEEP = ["-m", "hydra/launcher=gpu_queue", "hydra.launcher.slots=2", "method=magnitude", "density=0.3", "start=dense", "retrain=rewind,finetune", *SMALL]


def sweep(folder: Path, *words: str, name: str = "results") -> subprocess.Popen[str]:
    own = [f"env.results_dir={folder / name}", f"env.cache_dir={folder / (name + '-cache')}", "env.checkpoint_seconds=0"]
    line = [sys.executable, str(ROOT / "run.py"), *SWEEP, *own, *words]
    return subprocess.Popen(line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment())


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=300)
    return said


def children_at_work(folder: Path) -> list[int]:
    """Processes whose command line names the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def by_id(folder: Path, name: str) -> dict[str, Any]:
    return {path.parent.name: comparable(json.loads(path.read_text())) for path in (folder / name / "runs").glob("*/result.json")}


def test_a_sweep_names_the_job_that_fails_and_finishes_the_others(tmp_path: Path) -> None:
    short = ["method.spectrum.probes=1", "method.spectrum.steps=3"]
    imc = ["-m", "hydra/launcher=gpu_queue", "method=imc", "method.gap.rule=literal,smoothed_sign", *SMALL, *short]
    own = [f"env.results_dir={tmp_path / 'results'}", f"env.cache_dir={tmp_path / 'cache'}"]
    done = subprocess.run([sys.executable, str(ROOT / "run.py"), *imc, *own], cwd=tmp_path, capture_output=True, text=True, env=environment(), timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 of 2 jobs failed" in done.stdout and "again: python run.py" in done.stdout and "method.gap.rule=literal" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    (record,) = records(tmp_path)
    assert record["report"]["gap_rule"] == "smoothed_sign"
    assert "method.gap.rule=literal found no gap" in "".join(path.read_text() for path in tmp_path.glob("results/runs/*/run.log"))


def test_a_sweep_with_one_impossible_job_begins_none(tmp_path: Path) -> None:
    process = sweep(tmp_path, "density=0.5,2")
    said = finish(process)
    assert process.returncode == 2
    assert said.strip() == "error: density=2 must be in (0, 1]: it is kept / prunable, and sparsity = 1 - density"
    assert not list(tmp_path.glob("results/runs/*"))


def test_sigterm_stops_every_job_at_a_checkpoint_and_leaves_none_behind(tmp_path: Path) -> None:
    process = sweep(tmp_path, "train.scale=0.5", "seed=0,1")
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("results-cache/checkpoints/*.pt"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.terminate()
    said = finish(process)
    assert process.returncode == 143, said
    assert "the same command goes on from there" in said
    assert not children_at_work(tmp_path)
    states = [json.loads(path.read_text())["status"] for path in tmp_path.glob("results/runs/*/status.json")]
    assert states == ["stopped"] * 2


def killed_and_repeated(tmp_path: Path, kills: int) -> None:
    """Kill the queue itself that often, its jobs left alone; then the same command has to end as if nothing had been."""
    words = ["train.scale=0.05", "seed=0,1"]
    process = sweep(tmp_path, *words, name="alone")
    assert finish(process) and process.returncode == 0
    dice = random.Random(0)
    for _ in range(kills):
        process = sweep(tmp_path, *words)
        begun = time.time()
        while process.poll() is None and not any(path.stat().st_mtime > begun for path in tmp_path.glob("results/runs/*/run.log")):
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 3))
        process.kill()
        process.communicate()
    process = sweep(tmp_path, *words)
    said = finish(process)
    assert process.returncode == 0, said
    assert by_id(tmp_path, "results") == by_id(tmp_path, "alone") and len(by_id(tmp_path, "alone")) == 4


def test_a_queue_that_was_killed_goes_on_to_the_same_records(tmp_path: Path) -> None:
    killed_and_repeated(tmp_path, 2)


@pytest.mark.slow
def test_a_queue_that_was_killed_ten_times_goes_on_to_the_same_records(tmp_path: Path) -> None:
    killed_and_repeated(tmp_path, 10)


def test_two_sweeps_at_once_do_each_stage_once(tmp_path: Path) -> None:
    both = [sweep(tmp_path, "retrain=rewind,finetune,reinit") for _ in range(2)]
    for process in both:
        said = finish(process)
        assert process.returncode == 0, said
    computed = [stage["key"] for record in records(tmp_path) for stage in record["stages"] if not stage["cached"]]
    assert len(computed) == len(set(computed)) == 1 + 1 + 3  # one dense net, one mask, three retrainings

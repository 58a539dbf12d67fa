"""A killed or stopped run resumes to the same result; warm and cold caches give the same bits."""

import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, environment, last_of_each
from forked import start_forked
from safetensors.torch import load_file
from support import compose_run, machine, perform_run

from runner.engine.record import comparable, final_stage
from runner.launch.jobs import Process
from runner.paths import RUN_PY

RUN = [
    "method=imc",
    "density=0.3",
    "retrain=finetune",
    *SMALL,
    "train.scale=0.05",
    "method.spectrum.probes=2",
    "method.spectrum.steps=5",
]
# 32 epochs with a checkpoint after every step last longer than the attempts that are cut off
LONG = ["train.scale=0.2"]
ATTEMPT = 0.4  # seconds of work at most before a run is killed


def start(folder: Path, *overrides: str, name: str = "killed") -> Process:
    own = [
        f"env.results_dir={folder / name}",
        f"env.cache_dir={folder / (name + '-cache')}",
        "env.checkpoint_seconds=0",
    ]
    with (folder / "log").open("ab") as log:
        words = last_of_each(*RUN, *own, *overrides)
        return start_forked(RUN_PY, words, folder, environment(), log.fileno(), log.fileno())


def record(folder: Path, name: str) -> dict[str, Any]:
    (path,) = (folder / name / "runs").glob("*/result.json")
    return dict(json.loads(path.read_text()))


def tensors(folder: Path, name: str, found: dict[str, Any]) -> dict[str, torch.Tensor]:
    key = next(s["key"] for s in found["stages"] if s["name"] == final_stage(compose_run(*RUN)))
    stage = folder / f"{name}-cache" / "stages" / key
    return {
        f"{part}/{k}": v
        for part in ("weights", "masks", "optimizer")
        for k, v in load_file(stage / f"{part}.safetensors").items()
    }


def written_since(cache: Path, moment: float) -> bool:
    """Whether a checkpoint or artefact is newer; files may be renamed during the search."""
    for path in cache.rglob("*"):
        try:
            if path.suffix in (".pt", ".safetensors") and path.stat().st_mtime > moment:
                return True
        except FileNotFoundError:
            continue
    return False


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a long run that nothing has stopped, by the name `alone`."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert start(folder, *LONG, name="alone").wait(timeout=300) == 0, (folder / "log").read_text()
    return folder


def test_a_run_killed_ten_times_and_restarted_equals_an_undisturbed_run(
    undisturbed: Path, tmp_path: Path
) -> None:
    dice, kills, at_work = random.Random(0), 0, 0
    while kills < 10:
        process = start(tmp_path, *LONG)
        started = time.time()
        while (
            process.poll() is None
            and kills < 8
            and not written_since(tmp_path / "killed-cache", started)
        ):
            # wait for the imports and the data; two of the ten runs are killed during these
            time.sleep(0.01)
        time.sleep(dice.uniform(0, ATTEMPT))
        if process.poll() is not None:  # a fast machine finished: continue with an empty cache
            assert process.returncode == 0, (tmp_path / "log").read_text()
            for path in (tmp_path / "killed", tmp_path / "killed-cache"):
                path.rename(path.with_name(f"{path.name}-after-{kills}-{dice.random()}"))
            continue
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        at_work += written_since(tmp_path / "killed-cache", started)
    assert at_work >= 8
    assert start(tmp_path, *LONG).wait(timeout=300) == 0, (tmp_path / "log").read_text()
    a, b = record(undisturbed, "alone"), record(tmp_path, "killed")
    assert comparable(a) == comparable(b)
    left, right = tensors(undisturbed, "alone", a), tensors(tmp_path, "killed", b)
    assert left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)
    left_behind = [
        path
        for path in tmp_path.glob("killed*/**/*")
        if path.match("checkpoints/*") or path.match("tmp/*") or path.suffix == ".tmp"
    ]
    assert not left_behind  # neither checkpoints nor partial files


def test_sigterm_writes_a_checkpoint_and_the_same_command_resumes(
    undisturbed: Path, tmp_path: Path
) -> None:
    process = start(tmp_path, *LONG)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("killed-cache/checkpoints/*.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.terminate()
    assert process.wait(timeout=60) == 143
    status = json.loads(next(tmp_path.glob("killed/runs/*/status.json")).read_text())
    assert status["status"] == "stopped"
    assert start(tmp_path, *LONG).wait(timeout=300) == 0
    assert comparable(record(tmp_path, "killed")) == comparable(record(undisturbed, "alone"))


def test_sigterm_stops_a_long_measurement(tmp_path: Path) -> None:
    process = start(tmp_path, "method.spectrum.probes=1000000")
    deadline = time.monotonic() + 120
    while (
        not any(
            '"spectrum"' in path.read_text() for path in tmp_path.glob("killed/runs/*/status.json")
        )
        and time.monotonic() < deadline
    ):
        time.sleep(0.01)
    process.terminate()
    assert process.wait(timeout=60) == 143, (tmp_path / "log").read_text()


def test_sigterm_stops_the_whole_sweep(tmp_path: Path) -> None:
    process = start(tmp_path, "-m", "train.scale=0.5", "seed=0,1")
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("killed-cache/checkpoints/*.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.terminate()
    assert process.wait(timeout=60) == 143, (tmp_path / "log").read_text()
    # the second job was not started
    assert [
        path.parent.name.split("-")[4] for path in tmp_path.glob("killed/runs/*/status.json")
    ] == ["s0"]


def test_two_processes_on_one_run_write_one_result_without_error(tmp_path: Path) -> None:
    both = [start(tmp_path, name="shared") for _ in range(2)]
    assert [process.wait(timeout=300) for process in both] == [0, 0], (tmp_path / "log").read_text()
    found = record(tmp_path, "shared")
    assert found["status"] == "done"
    # The later one waits, or finds the run done, as the machine has it; tests/engine/test_store.py
    # makes it wait.
    assert start(tmp_path, name="alone").wait(timeout=300) == 0
    assert comparable(found) == comparable(record(tmp_path, "alone"))


def test_a_warm_cache_gives_the_same_bits_as_a_cold_cache(tmp_path: Path) -> None:
    run = compose_run(*RUN)
    cold, first = perform_run(run, machine(tmp_path, results="a", cache="one"))
    warm, again = perform_run(run, machine(tmp_path, results="b", cache="one"))
    fresh, recomputed = perform_run(run, machine(tmp_path, results="c", cache="two"))
    assert [s["cached"] for s in cold["stages"]] == [False] * len(run.stages)
    assert [s["cached"] for s in warm["stages"]] == [True] * len(run.stages)
    assert comparable(cold) == comparable(warm) == comparable(fresh)
    assert warm["runtime_s"] == cold["runtime_s"]  # the cost of the method alone, cached or not
    for name in first:
        for part in ("weights", "masks", "optimizer", "findings"):
            for tensor, value in getattr(first[name], part).items():
                assert torch.equal(value, getattr(again[name], part)[tensor])
                assert torch.equal(value, getattr(recomputed[name], part)[tensor])


def test_a_partly_warm_cache_gives_the_same_numbers(tmp_path: Path) -> None:
    other = compose_run(*RUN, "retrain=rewind")  # shares W*, its measurements and the mask
    run = compose_run(*RUN)
    cold, _ = perform_run(run, machine(tmp_path, cache="cold"))
    before, _ = perform_run(other, machine(tmp_path, results="other", cache="partly"))
    warm, _ = perform_run(run, machine(tmp_path, cache="partly"))
    assert [s["cached"] for s in warm["stages"]] == [True] * (len(run.stages) - 1) + [False]
    seconds = [s["seconds"] for s in warm["stages"]]
    # a cached stage counts with its original seconds
    assert seconds[:-1] == [s["seconds"] for s in before["stages"]][:-1] and min(seconds) > 0
    assert abs(warm["runtime_s"] - sum(seconds)) <= 0.001 * len(seconds)  # each value is rounded
    assert comparable(warm) == comparable(cold)

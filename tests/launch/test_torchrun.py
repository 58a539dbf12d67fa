"""Only torchrun's complete set of variables counts; GPUs have the numbers by which CUDA counts."""

import json
import os
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import SMALL
from hypothesis import given
from hypothesis import strategies as st

from runner.commands.run import run_config
from runner.config.compose import compose_config
from runner.engine.distributed import join
from runner.engine.machine import prepare
from runner.errors import ConfigError
from runner.launch.gpu_queue import GpuQueue
from runner.launch.jobs import QueueJob, start
from runner.launch.launcher import make_launcher
from runner.launch.slots import Slot, gpu_ids, machine_slots
from runner.spec.request import Environment
from runner.torchrun import NEEDED, ONE, Ranks, ignored, ranks, without_torchrun

COMPLETE = {
    "RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}
SMI = """#!/bin/sh
case "$*" in
  -L) echo "GPU 0: A (UUID: GPU-aaaa)"; echo "GPU 1: B (UUID: GPU-bbbb)";;
  *) echo "0, GPU-aaaa, 1024"; echo "1, GPU-bbbb, 40960";;
esac
"""


@given(st.sets(st.sampled_from(NEEDED)))
def test_only_the_complete_set_of_variables_counts(names: set[str]) -> None:
    environment = {name: COMPLETE[name] for name in names}
    complete = names == set(NEEDED)
    assert ranks(environment) == (Ranks(rank=1, local=0, size=4) if complete else ONE)
    noted = not complete and bool(names & {"RANK", "WORLD_SIZE"})
    assert bool(ignored(environment)) == noted
    for name in names & {"RANK", "WORLD_SIZE"} if noted else ():
        assert f"{name}={COMPLETE[name]}" in ignored(environment)


@pytest.mark.parametrize(
    "wrong", [{"RANK": "one"}, {"RANK": "4"}, {"LOCAL_RANK": "-1"}, {"WORLD_SIZE": ""}]
)
def test_values_that_torchrun_never_sets_are_ignored(wrong: dict[str, str]) -> None:
    assert ranks({**COMPLETE, **wrong}) == ONE
    assert ignored({**COMPLETE, **wrong})
    assert not ignored({"WORLD_SIZE": "1", "RANK": "0"})


@pytest.mark.parametrize(
    "variables", [{"WORLD_SIZE": "4"}, {"RANK": "1", "WORLD_SIZE": "2"}, {"RANK": "3"}, COMPLETE]
)
def test_a_plan_needs_no_other_process(
    variables: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    own = [f"env.{key}_dir={tmp_path / key}" for key in ("results", "cache", "data")]
    cfg = compose_config([*SMALL, "method=dense", "env.plan=true", *own])
    assert run_config(cfg) == 0
    output = capsys.readouterr().out
    assert ("runs: 1; done 0" in output) == (variables is not COMPLETE)  # rank 1 prints nothing


def test_a_process_with_an_incomplete_set_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    group = join(torch.device("cpu"))
    assert (group.rank, group.size, group.first) == (0, 1, True)


def test_a_job_gets_none_of_the_variables_of_torchrun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = {**COMPLETE, "LOCAL_WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "x", "ROLE_RANK": "1"}
    for name, value in added.items():
        monkeypatch.setenv(name, value)
    line = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))"
    path = tmp_path / "environment.json"
    job = QueueJob("job", (sys.executable, "-c", line, str(path)), tmp_path, path.is_file)
    item = start(job, [Slot({"CUDA_VISIBLE_DEVICES": "3"})])
    while item.process.poll() is None:
        time.sleep(0.01)
    item.finish()
    found = json.loads(path.read_text())
    assert not added.keys() & found.keys() and found["CUDA_VISIBLE_DEVICES"] == "3"
    assert without_torchrun(os.environ).keys() == os.environ.keys() - added.keys()


def test_a_launcher_under_torchrun_gives_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in COMPLETE.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="gpu_queue under torchrun: .* 4 processes"):
        make_launcher(GpuQueue, {})
    monkeypatch.delenv("MASTER_PORT")
    assert make_launcher(GpuQueue, {}) == GpuQueue()


# --- the numbers of GPUs


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An nvidia-smi that lists two GPUs, of which the first has little free memory."""
    path = tmp_path / "nvidia-smi"
    path.write_text(SMI)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)


def gpus(slots: list[Slot]) -> list[tuple[str, str]]:
    return [
        (slot.environment["CUDA_VISIBLE_DEVICES"], slot.environment["CUDA_DEVICE_ORDER"])
        for slot in slots
    ]


@pytest.mark.usefixtures("smi")
@pytest.mark.parametrize(
    ("visible", "order", "found"),
    [
        (None, None, [("0", "PCI_BUS_ID"), ("1", "PCI_BUS_ID")]),
        # the indices are nvidia-smi's, whatever the order of CUDA
        (None, "FASTEST_FIRST", [("0", "PCI_BUS_ID"), ("1", "PCI_BUS_ID")]),
        ("1", None, [("1", "PCI_BUS_ID")]),
        ("1", "FASTEST_FIRST", [("1", "FASTEST_FIRST")]),
        ("GPU-bbbb", "FASTEST_FIRST", [("GPU-bbbb", "FASTEST_FIRST")]),
    ],
)
def test_a_job_names_its_gpu_in_the_order_by_which_it_was_chosen(
    visible: str | None,
    order: str | None,
    found: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("CUDA_VISIBLE_DEVICES", visible), ("CUDA_DEVICE_ORDER", order)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert gpus(machine_slots(2)) == found


def test_indices_that_cuda_ignores_get_no_slot() -> None:
    assert gpu_ids("1,0,7", "", 2) == ["1", "0"]
    assert gpu_ids("MIG-a,MIG-b", "", 1) == ["MIG-a", "MIG-b"]  # CUDA shows one of them at a time


@pytest.mark.usefixtures("smi")
def test_free_memory_is_not_asked_for_under_another_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console
    from support import machine

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    where = machine(tmp_path)
    object.__setattr__(where, "device", torch.device("cuda"))
    queue = GpuQueue(min_free_gb=2)
    with pytest.raises(ConfigError, match=r"min_free_gb=2: .*CUDA_DEVICE_ORDER=PCI_BUS_ID"):
        queue.run([], where, None, Console())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-bbbb")
    assert queue.run([], where, None, Console()) == (0, "")


def test_a_run_numbers_gpus_as_nvidia_smi_unless_the_user_has_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = Environment(
        "cpu", 1, None, tmp_path, tmp_path, tmp_path, False, checkpoint_seconds=60, progress="none"
    )
    for chosen, expected in ((None, "PCI_BUS_ID"), ("FASTEST_FIRST", "FASTEST_FIRST")):
        monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
        if chosen:
            monkeypatch.setenv("CUDA_DEVICE_ORDER", chosen)
        prepare(env)
        assert os.environ["CUDA_DEVICE_ORDER"] == expected


def test_a_system_without_process_groups_gets_no_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console
    from support import machine

    monkeypatch.delattr(os, "killpg")
    with pytest.raises(ConfigError, match="runs on Linux and macOS"):
        GpuQueue().run([], machine(tmp_path), None, Console())

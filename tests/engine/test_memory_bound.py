"""env.memory_gb: found from what is free, stated in plan and record, without effect on results."""

from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
from support import compose_run, machine, perform_run

from runner.engine import memory
from runner.engine.memory import GIB, STEP, described, free_on_host, memory_bound
from runner.spec.identity import run_id

SMALL = ["dataset=digits", "model=vgg11_small", "model.width=4", "train.scale=0.01", "density=0.2"]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 40 GiB of available memory and no control groups, in files."""
    (tmp_path / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable:   {40 * 2**20} kB\n")
    monkeypatch.setattr(memory, "KERNEL", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "own")
    return tmp_path


def group(folder: Path, limit: str, used: int, droppable: int, old: bool = False) -> None:
    """The files of a control group; amounts in GiB."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("limit_in_bytes", "usage_in_bytes") if old else ("max", "current")
    value = limit if limit == "max" else str(int(limit) * GIB)
    (folder / f"memory.{names[0]}").write_text(value + "\n")
    (folder / f"memory.{names[1]}").write_text(f"{used * GIB}\n")
    prefix = "total_" if old else ""
    (folder / "memory.stat").write_text(f"anon 5\n{prefix}inactive_file {droppable * GIB}\n")


def test_half_of_the_available_memory_is_the_default(host: Path) -> None:
    assert free_on_host() == 40 * GIB
    found = memory_bound(machine(host))
    assert found == 20 * GIB and found % STEP == 0
    assert described(machine(host)) == (
        "memory: the graphs of derivatives take at most 20 GiB (half of what is free now); larger"
        " batches of scores and Hessians are computed in parts"
    )


def test_a_given_bound_is_taken_as_it_is(host: Path) -> None:
    given = replace(machine(host), memory_gb=1.5)
    assert memory_bound(given) == 1.5 * GIB and "1.5 GiB (env.memory_gb)" in described(given)


def test_the_tightest_control_group_counts_with_pages_that_can_be_dropped(host: Path) -> None:
    (host / "own").write_text("0::/slice/job\n")
    group(host / "cgroup/slice/job", "max", 9, 0)
    group(host / "cgroup/slice", "16", 10, 3)
    assert free_on_host() == 9 * GIB
    (host / "own").write_text("12:cpu:/job\n4:memory:/job\n")
    group(host / "cgroup/memory/job", "8", 6, 1, old=True)
    assert free_on_host() == 3 * GIB


def test_a_system_that_states_no_memory_sets_no_bound(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (host / "meminfo").unlink()
    monkeypatch.delattr("os.sysconf")
    assert memory_bound(machine(host)) == inf and "no bound" in described(machine(host))


@pytest.mark.parametrize("method", ["snip"])
def test_a_bound_changes_neither_the_run_id_nor_the_mask_and_is_recorded(
    method: str, tmp_path: Path
) -> None:
    plain = compose_run(*SMALL, f"method={method}")
    bounded = compose_run(*SMALL, f"method={method}", "env.memory_gb=0.01")
    assert run_id(plain) == run_id(bounded)
    free, whole = perform_run(plain, machine(tmp_path))
    cut, parts = perform_run(bounded, replace(machine(tmp_path, "b", "c"), memory_gb=0.002))
    assert cut["provenance"]["memory_gb"] == 0.002
    assert free["provenance"]["memory_gb"] > 0.05
    one, other = (found["prune"].masks for found in (whole, parts))
    assert one is not None and other is not None
    same = sum(int((one[name] == other[name]).sum()) for name in one)
    assert same >= 0.999 * sum(mask.numel() for mask in one.values())  # float32 rounding

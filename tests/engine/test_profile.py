"""env.profile=true: the seconds of each phase, with the numbers of a run without it."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from members import run_members
from support import compose_run, machine, perform_run

from pruners.base import Batch
from runner.engine.distributed import ALONE, ProcessGroup
from runner.engine.profile import PHASES, Profile, _Copies, read_together, shares, watched
from runner.engine.record import comparable

SMALL = ("dataset=digits", "model=mlp", "train.scale=0.0125")


def slow(batches: int, seconds: float) -> Iterator[Batch]:
    for _ in range(batches):
        time.sleep(seconds)
        yield torch.zeros(2), torch.zeros(2)


def test_each_second_of_a_stage_counts_in_one_phase() -> None:
    profile = Profile(ALONE)
    started = time.perf_counter()
    with profile.stage():
        time.sleep(0.05)
        for _ in profile.read(slow(4, 0.05), together=True):
            time.sleep(0.1)
    total = time.perf_counter() - started
    found = profile.total()
    assert found["reading"] >= 4 * 0.05 and found["computing"] >= 0.05 + 4 * 0.1
    assert found["copying"] < 0.05 and found["waiting"] == 0
    assert sum(found.values()) == pytest.approx(total, abs=0.02)


def test_only_copies_between_devices_count_as_copying() -> None:
    with _Copies() as copies:
        (torch.ones(50) * 2).sum()
    assert copies.seconds == 0
    with _Copies() as copies:
        torch.ones(50).to("meta")
    assert copies.seconds > 0


def test_shares_are_percentages_of_the_whole() -> None:
    seconds = dict(zip(PHASES, (1.0, 0.0, 2.5, 0.5), strict=True))
    assert shares(seconds) == (
        "profile: reading 25 %, copying 0 %, computing 62 %, waiting 12 % of 4.0 s"
    )
    assert "nothing was computed" in shares(dict.fromkeys(PHASES, 0.0))


@pytest.mark.parametrize("method", [("snip", "density=0.5"), ("dense",)])
def test_a_profiled_run_has_the_numbers_of_any_other(
    method: tuple[str, ...], tmp_path: Path
) -> None:
    run = compose_run(f"method={method[0]}", *method[1:], *SMALL)
    plain, _ = perform_run(run, machine(tmp_path / "plain"))
    where = machine(tmp_path / "profiled")
    record, _ = perform_run(run, replace(where, profile=Profile(where.group)))
    assert comparable(record) == comparable(plain)
    assert "profile" not in plain["provenance"]
    seconds = record["provenance"]["profile"]
    assert tuple(seconds) == PHASES and 0 < sum(seconds.values()) <= record["wall_s"] + 0.01
    assert seconds["reading"] > 0 and seconds["computing"] > 0
    assert seconds["copying"] < 0.1 * seconds["computing"] and seconds["waiting"] == 0


def test_without_a_profile_data_and_batches_are_those_of_the_run() -> None:
    from runner.engine.profile import measuring
    from runner.spec.rng import stream

    data = compose_run("method=dense", *SMALL).dataset.load(Path("data"), 0.1)
    assert watched(data, None) is data
    profiled = watched(data, Profile(ALONE))
    assert len(profiled.train) == len(data.train) and profiled.train.augments == data.train.augments
    drawn = [images.draws(3, stream(0, "a", "b")) for images in (profiled.train, data.train)]
    assert torch.equal(*drawn)
    with measuring(None):
        pass


def member(rank: int, size: int, folder: Path) -> None:
    profile = Profile(ProcessGroup(rank, size))
    with profile.stage():
        for _ in profile.read(slow(5, 0.2 * (rank == 0)), together=True):
            pass
    torch.save((profile.seconds, profile.total()), folder / f"{rank}.pt")


def test_a_process_waits_for_the_one_that_reads_more_slowly(tmp_path: Path) -> None:
    run_members(member, 2, tmp_path)
    (slow_one, total), (fast, same) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert slow_one["reading"] >= 1.0 and fast["waiting"] >= 0.8 and fast["reading"] < 0.5
    assert total == same
    for phase in PHASES:
        assert total[phase] == pytest.approx(slow_one[phase] + fast[phase])


def test_only_training_batches_wait_for_other_processes() -> None:
    from runner.data.batches import Batches

    loaded = compose_run("method=dense", *SMALL).dataset.load(Path("data"), 0.1)
    data = watched(loaded, Profile(ALONE))
    batches = Batches(data.train, data.mean, data.std, data.scale, 32, "none", 0, "train")
    assert not batches.split.together  # type: ignore[attr-defined]
    assert read_together(batches).split.together  # type: ignore[attr-defined]

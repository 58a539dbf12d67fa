"""Copies between host and device in a training step, counted on the emulated device."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch
from emulated import Transfer, count, device, recorded
from emulated_process import on_emulated_device
from rich.console import Console
from support import compose_run, machine
from torch import nn

from pruners.search.supermask import fresh_statistics
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.evaluate import evaluate
from runner.engine.stages import run_stage
from runner.engine.store import Store

# Three layers besides the classifier, which searches and rewiring leave out; seven steps an epoch.
SMALL = ("dataset=digits", "model=mlp", "model.hidden=[16,16,16]", "train_fraction=0.3")
SMALL += ("train.scale=0.00625", "train.batch_size=64")
L = 3
EVERY_OTHER = ("density=0.3", "method.rhythm.shortest=2")  # step rewires
SEARCH = ("density=0.3", "method.batch_size=64")


def transfers(folder: Path, stage: str, *overrides: str) -> dict[int, list[Transfer]]:
    """Step -> its transfers; the steps of the first epoch of `stage` without its first and last.

    The stages before run on the CPU.
    """
    run = compose_run(*SMALL, *overrides)
    here = machine(folder / "_".join(overrides).replace("/", "."))
    watcher = Watcher(here.results_dir / "runs" / "x", display("none", Console()), {})
    passed: list[int] = []  # number of transfers after each step
    with recorded() as found:
        for each in run.stages:
            there = each.name == stage
            if there:
                watcher.progress = lambda done, total, what: passed.append(len(found))
            place = replace(here, device=device()) if there else here
            run_stage(RunContext(run, place, Store(here.cache_dir), watcher), each)
            if there:
                break
    assert len(passed) >= 7
    return {step: found[passed[step - 2] : passed[step - 1]] for step in range(2, 7)}


@on_emulated_device
def test_a_training_step_of_a_fixed_mask_copies_nothing(tmp_path: Path) -> None:
    for overrides in (
        ("method=dense",),
        ("method=snip", "density=0.3"),
        ("method=snip", "density=0.3", "start=dense", "retrain=finetune"),
        ("method=snip", "density=0.3", "train.precision=bf16"),
        ("method=continuous_sparsification",),
    ):
        stage = "dense" if overrides == ("method=dense",) else "train"
        assert list(transfers(tmp_path, stage, *overrides).values()) == [[]] * 5, overrides


@on_emulated_device
def test_an_augmented_step_uploads_its_random_numbers_only(tmp_path: Path) -> None:
    overrides = ("method=dense", "dataset.augment=crop_flip")
    for found in transfers(tmp_path, "dense", *overrides).values():
        assert count(found, "read") == {}
        assert count(found, "upload") == {"runner/data/augment.py": 2}  # offsets and mirrorings


@on_emulated_device
def test_a_search_step_copies_a_stated_number(tmp_path: Path) -> None:
    def found(method: str, *more: str) -> list[Counter[str]]:
        steps = transfers(tmp_path, "search", f"method={method}", *SEARCH, *more).values()
        assert not any(count(step, "upload") for step in steps)
        return [count(step) for step in steps]

    assert found("zhou") == [{}] * 5
    steps = transfers(tmp_path, "search", "method=continuous_sparsification").values()
    assert list(steps) == [[]] * 5
    swap = "pruners/search/swap.py"
    # a layer's candidates: their positions, then those that enter and those that leave
    assert found("edge_popup") == [{swap: 3 * L}] * 5
    # and three selections more for each of the two, where the quota is smaller
    for step in found("sr_popup"):
        assert step[swap] in {3 * L + 6 * limited for limited in range(L + 1)}
        assert step.keys() == {swap}


@on_emulated_device
def test_a_rewiring_step_copies_a_stated_number(tmp_path: Path) -> None:
    base, rewire = "pruners/base.py", "pruners/dynamic/rewire.py"
    stated = {
        # active weights of all layers, new connections of all layers; two selections a layer
        "rigl": ({base: 2 + 4 * L}, {}),
        # new connections of all layers; a layer's signs select apart, and their counts are read
        "set": ({base: 1 + 4 * L, "pruners/dynamic/set.py": 4 * L, rewire: L}, {rewire: L}),
        # six counts of all layers; a layer that would lose all is looked for, and grows
        "dsr": ({base: 7, "pruners/dynamic/dsr.py": L, rewire: L}, {rewire: L}),
    }
    for method, (reads, uploads) in stated.items():
        steps = transfers(
            tmp_path, "train", f"method={method}", *EVERY_OTHER, "method.rhythm.period=100it"
        )
        rewiring = 1 if method == "rigl" else 0  # before or after the step's update
        for step, found in steps.items():
            if step % 2 == rewiring:
                assert (count(found), count(found, "upload")) == (reads, uploads), method
            else:
                assert not found, (method, step)
    # every step: noise for each layer, and growth where weights have crossed zero
    for found in transfers(tmp_path, "train", "method=deep_r", "density=0.3").values():
        reads, uploads = count(found), count(found, "upload")
        assert reads[base] == 2 and reads[rewire] <= L
        assert uploads == Counter({"pruners/dynamic/deep_r.py": L, rewire: reads[rewire]})


@on_emulated_device
def test_a_pruning_round_copies_a_stated_number(tmp_path: Path) -> None:
    rounds = transfers(tmp_path, "prune", "method=synflow", "density=0.3", "schedule.iterations=7")
    selections = 1 + (L + 1)  # the global one, and one for each layer with the classifier
    for found in rounds.values():
        # counts of all layers: finite scores, weights left, weights to keep
        assert count(found) == {"pruners/base.py": 3 + 2 * selections}
        # the image of ones and its label
        assert count(found, "upload") == {"pruners/selection/score_pruner.py": 2}


@on_emulated_device
def test_an_evaluation_waits_once(tmp_path: Path) -> None:
    model = nn.Linear(2, 3).to(device())
    batch = (torch.ones(4, 2, device=device()), torch.arange(4, device=device()) % 3)
    with recorded() as found:
        evaluate(model, [batch] * 5, {}, torch.autocast("emulated", enabled=False))
    assert count(found) == {"runner/engine/evaluate.py": 1}


@on_emulated_device
def test_recomputed_batchnorm_statistics_are_the_mean_over_batches_without_a_copy() -> None:
    model = nn.BatchNorm1d(1).to(device())
    batches = [torch.tensor([[0.0], [2.0 * n]], device=device()) for n in (1, 2, 3)]
    with recorded() as found, fresh_statistics(model) as weigh:
        for number, batch in enumerate(batches, start=1):
            weigh(number)
            model(batch)
    assert not found
    assert model.running_mean is not None and model.running_mean.item() == 2.0
    assert model.momentum == 0.1

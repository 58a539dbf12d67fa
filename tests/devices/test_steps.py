"""Copies between host and device in a training step, counted on the emulated device."""

from dataclasses import replace
from pathlib import Path

import torch
from emulated import Transfer, count, device, recorded
from emulated_process import on_emulated_device
from rich.console import Console
from support import compose_run, machine, perform_run
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

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
RANDOM = "method.search.pairs=random"
FIRST = ("method=sr_popup", "method.search.dense=[first]")


def transfers(folder: Path, *overrides: str) -> dict[str, list[list[Transfer]]]:
    """Stage -> the transfers of each step (or pruning round), without its first and last.

    Of the first epoch; stages of fewer than seven steps are left out. All run on the device.
    """
    run = compose_run(*SMALL, *overrides)
    there = replace(machine(folder / "_".join(overrides).replace("/", ".")), device=device())
    watcher = Watcher(there.results_dir / "runs" / "x", display("none", Console()), {})
    passed: list[int] = []  # number of transfers after each step
    watcher.progress = lambda done, total, what: passed.append(len(found))
    steps = {}
    with recorded() as found:
        for stage in run.stages:
            passed.clear()
            run_stage(RunContext(run, there, Store(there.cache_dir), watcher), stage)
            if len(passed) >= 7:
                steps[stage.name] = [found[passed[i] : passed[i + 1]] for i in range(5)]
    return steps


@on_emulated_device
def test_a_step_that_changes_no_mask_copies_nothing(tmp_path: Path) -> None:
    sparse = ("method=snip", "density=0.3", "start=dense", "retrain=finetune")
    for overrides, stages in (
        (sparse, {"dense", "train"}),
        (("method=snip", "density=0.3", "train.precision=bf16"), {"train"}),
        (("method=continuous_sparsification",), {"search", "train"}),
        (
            ("method=continuous_sparsification", "method.search.dense=[classifier]"),
            {"search", "train"},
        ),
        (("method=zhou", "start=init", *SEARCH), {"search"}),
        (("method=deep_r", "density=0.3", "method.rewire.stop=0"), {"train"}),
    ):
        found = transfers(tmp_path, *overrides)
        assert found == dict.fromkeys(stages, [[]] * 5), overrides
    # Noise, labels and the draws of a batch's crops are from the host, which does not wait.
    fresh = transfers(tmp_path, "method=imp", "source=normal", "source.fresh=true", "density=0.3")
    for step in fresh["dense"]:
        assert count(step, "queued") == {"runner/data/batches.py": 2} and len(step) == 2
    for step in transfers(tmp_path, "method=dense", "dataset.augment=crop_flip")["dense"]:
        assert (count(step, "queued"), len(step)) == ({"runner/data/augment.py": 1}, 1), [
            str(s) for s in step
        ]


@on_emulated_device
def test_bf16_convolves_channels_last_images_with_float32_weights(tmp_path: Path) -> None:
    seen = set()

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d) and output.device == device():
            both = (module.weight, output)
            layouts = (t.is_contiguous(memory_format=torch.channels_last) for t in both)
            seen.add((*(t.dtype for t in both), *layouts))

    net = ("model=resnet20", "model.depth=8", "model.width=2", "dataset.size=12", *SMALL[:1])
    small = ("train_fraction=0.1", "train.scale=0.00625", "train.precision=bf16")
    run = compose_run(*net, *small, "method=dense")
    with register_module_forward_hook(note):
        _, artefacts = perform_run(run, replace(machine(tmp_path), device=device()))
    assert seen == {(torch.float32, torch.bfloat16, True, True)}
    momentum = artefacts["dense"].optimizer.values()
    assert momentum and {t.dtype for t in momentum} == {torch.float32}


@on_emulated_device
def test_steps_and_rounds_that_change_masks_copy_to_the_host_once(tmp_path: Path) -> None:
    searches = ("method=edge_popup",), ("method=sr_popup",), ("method=sr_popup", RANDOM), FIRST
    for overrides in searches:
        for found in transfers(tmp_path, *overrides, "start=init", *SEARCH)["search"]:
            # the candidates of all layers
            assert count(found) == {"pruners/search/swap.py": 1}, overrides
            assert not count(found, "upload"), overrides
    # Deep R: the deaths of all layers; noise for each layer, and growth where a weight has died
    for found in transfers(tmp_path, "method=deep_r", "density=0.3")["train"]:
        assert count(found) == {"pruners/base.py": 1} and not count(found, "upload")
    synflow = ("method=synflow", "density=0.3", "schedule.iterations=7")
    for more in ((), ("schedule.counts=nearest",), ("method.pruner.dense=[first]",)):
        for found in transfers(tmp_path, *synflow, *more)["prune"]:
            # the threshold, and whether all scores are finite
            assert count(found) == {"pruners/selection/ranked.py": 1}, more
            # the image of ones and its label
            assert count(found, "queued") == {"pruners/selection/source.py": 2}
            assert not count(found, "upload")
    # counts of all layers for budgets by layer; the scores of all layers for a random pick
    base, ranked = "pruners/base.py", "pruners/selection/ranked.py"
    picks = {f"pick={pick}": ranked for pick in ("proportional", "uniform", "sketch")}
    budgets = {f"allocate={name}": base for name in ("layer", "erk", "smart_ratio")}
    authors = "allocate=smart_ratio allocate.counts=authors"
    for more, where in (
        picks | budgets | {authors: base, "allocate=erk pick=uniform": ranked}
    ).items():
        for found in transfers(tmp_path, *synflow, *more.split())["prune"]:
            assert count(found) == {where: 1}, more
            assert not count(found, "upload"), more


@on_emulated_device
def test_sparse_training_copies_nothing_between_updates(tmp_path: Path) -> None:
    base, rewire = "pruners/base.py", "pruners/dynamic/rewire.py"
    stated = {
        # active weights of all layers, new connections of all layers
        "rigl": {base: 2},
        # new connections of all layers; a layer's counts: free, of each sign, dropped; free
        "set": {base: 1, "pruners/dynamic/set.py": 4 * L, rewire: L},
        # active weights, means of the momentum and new connections of all layers
        "snfs": {base: 2, "pruners/dynamic/snfs.py": 1},
        # six counts of all layers; a layer that would lose all is looked for, and grows
        "dsr": {base: 6, "pruners/dynamic/dsr.py": L, rewire: L},
    }
    for method, reads in stated.items():
        found = transfers(tmp_path, f"method={method}", *EVERY_OTHER, "method.rhythm.period=100it")
        rewiring = 1 if method == "rigl" else 0  # before or after the step's update
        for number, step in enumerate(found["train"], start=2):
            if number % 2 == rewiring:
                assert count(step) == reads and not count(step, "upload"), method
            else:
                assert not step, (method, number)


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

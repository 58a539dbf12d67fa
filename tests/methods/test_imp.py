"""Iterative magnitude pruning (docs/methods/imp.md): masks, rewinding, durations."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from support import compose_run, machine, perform_run
from torch import Tensor
from torch.nn import functional as F

from pruners.base import count_kept, count_prunable
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.optim import learning_rate
from runner.engine.stages import run_stage
from runner.engine.store import Artefact, Store
from runner.engine.train_stage import ready_to_train
from runner.errors import Stopped
from runner.spec.identity import stage_keys
from runner.spec.run import Run, Stage

NET = ["dataset=digits", "model=resnet20", "model.depth=8", "model.width=4"]
# two epochs of six steps; rewinding goes back to the first
SMALL = [*NET, "train.scale=0.0125", "train_fraction=0.4"]
MLP = ["method=imp", "dataset=digits", "model=mlp", "model.hidden=[20]", "density=0.8"]
# sixteen epochs of twelve steps
ITERATIONS = [*MLP, "train.scale=0.1", "train.batch_size=128", "retrain.rewind=2000it"]
DENSITIES = (0.8, 0.64, 0.6)
VARIANTS = ("rewind", "reinit", "finetune")
Done = tuple[RunContext, dict[str, Any], dict[str, Artefact]]


def context(run: Run, folder: Path, stop: Callable[[], bool] = lambda: False) -> RunContext:
    where = machine(folder)
    return RunContext(
        run, where, Store(where.cache_dir), Watcher(folder / "run", display("none", None), {}), stop
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """Runs of three levels for each variant, in one cache; they share the dense net."""
    folder, found = tmp_path_factory.mktemp("imp"), {}
    for variant in VARIANTS:
        run = compose_run("method=imp", "density=0.6", f"retrain={variant}", *SMALL)
        found[variant] = (context(run, folder), *perform_run(run, machine(folder)))
    return found


def starts(where: RunContext, level: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state dict and the momentum at the start of a level's training."""
    model, _, momentum = ready_to_train(where, where.run.stage(f"train{level}"))
    return model.state_dict(), momentum


def masked(state: dict[str, Tensor], masks: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: torch.where(masks[name], t, torch.zeros_like(t)) if name in masks else t
        for name, t in state.items()
    }


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(t, other[name]) for name, t in one.items()
    )


def first_rate(stage: Stage, per_epoch: int = 6) -> float:
    assert stage.recipe is not None
    return learning_rate(stage.recipe, stage.recipe.first_epoch * per_epoch, per_epoch)


# --- masks


@pytest.mark.parametrize("variant", VARIANTS)
def test_masks_are_nested_and_each_level_has_its_exact_count(
    variant: str, runs: dict[str, Done]
) -> None:
    _, record, artefacts = runs[variant]
    masks = [artefacts[f"prune{level}"].masks for level in (1, 2, 3)]
    prunable = count_prunable(masks[0])
    assert [count_kept(m) for m in masks] == [round(d * prunable) for d in DENSITIES]
    assert record["kept"] == count_kept(masks[2])
    for before, after in pairwise(masks):
        assert all(torch.equal(after[name] & before[name], after[name]) for name in after)
    for level in (1, 2, 3):
        assert same(artefacts[f"train{level}"].masks, masks[level - 1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_level_prunes_the_smallest_remaining_trained_weights(
    variant: str, runs: dict[str, Done]
) -> None:
    _, _, artefacts = runs[variant]
    for level in (1, 2, 3):
        trained = artefacts["dense" if level == 1 else f"train{level - 1}"].weights
        kept = artefacts[f"prune{level}"].masks
        gone = {
            name: (artefacts[f"prune{level - 1}"].masks[name] if level > 1 else torch.ones_like(m))
            & ~m
            for name, m in kept.items()
        }
        smallest = min(float(trained[name][m].abs().min()) for name, m in kept.items() if m.any())
        assert smallest >= max(
            float(trained[name][m].abs().max()) for name, m in gone.items() if m.any()
        )
        assert sum(int(m.sum()) for m in gone.values()) > 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_pruned_weights_are_zero_after_the_last_step_of_every_level(
    variant: str, runs: dict[str, Done]
) -> None:
    _, _, artefacts = runs[variant]
    for level in (1, 2, 3):
        ticket = artefacts[f"train{level}"]
        for name, mask in ticket.masks.items():
            assert torch.count_nonzero(ticket.weights[name][~mask]) == 0
            assert torch.count_nonzero(ticket.optimizer[name][~mask]) == 0


# --- initial weights of a level


def test_rewinding_restores_the_early_state_under_each_levels_mask(runs: dict[str, Done]) -> None:
    where, _, artefacts = runs["rewind"]
    # 10 of 160 epochs, scaled to 0.125 epochs: at least one epoch
    early = where.store.snapshot(where.keys["dense"], 1)
    assert any("running_mean" in name for name in early)
    assert early["fc.bias"].any()
    assert not same(early, artefacts["dense"].weights)
    for level in (1, 2, 3):
        state, momentum = starts(where, level)
        assert same(state, masked(early, artefacts[f"prune{level}"].masks)) and momentum == {}
        assert first_rate(where.run.stage(f"train{level}")) == 0.1


def test_rewinding_to_epoch_0_is_the_original_lottery_ticket(tmp_path: Path) -> None:
    where = context(
        compose_run("method=imp", "density=0.8", "retrain.rewind=0ep", *SMALL), tmp_path
    )
    for stage in where.run.stages[:2]:
        run_stage(where, stage)
    state, _ = starts(where, 1)
    assert same(
        state,
        masked(where.fresh_model().state_dict(), where.store.load(where.keys["prune1"]).masks),
    )


def test_reinitialization_redraws_in_every_level(runs: dict[str, Done]) -> None:
    where, _, artefacts = runs["reinit"]
    initial, seen = where.fresh_model().state_dict(), list[tuple[Tensor, Tensor]]()
    for level in (1, 2, 3):
        state, momentum = starts(where, level)
        mask = artefacts[f"prune{level}"].masks["fc.weight"]
        assert torch.count_nonzero(state["fc.weight"][~mask]) == 0 and momentum == {}
        assert not (state["fc.weight"][mask] == initial["fc.weight"][mask]).any()
        for other, its in seen:
            assert not (state["fc.weight"] == other)[mask & its].any()
        seen.append((state["fc.weight"], mask))
        # no trained state is left
        assert not state["bn1.running_mean"].any() and not state["fc.bias"].any()
        assert same(state, starts(where, level)[0])  # the draw depends only on the level


def test_redrawn_weights_have_the_standard_deviation_of_the_initialiser(
    runs: dict[str, Done],
) -> None:
    where, _, artefacts = runs["reinit"]
    state, _ = starts(where, 3)
    for name, mask in artefacts["prune3"].masks.items():
        alive, fan_in = state[name][mask].double(), state[name][0].numel()
        wanted = math.sqrt(2 / fan_in)  # Kaiming normal, fan_in
        assert abs(float(alive.square().mean().sqrt()) - wanted) < 4 * wanted / math.sqrt(
            2 * len(alive)
        ), name


def test_fine_tuning_continues_from_the_pruned_net_at_a_tenth_of_the_rate(
    runs: dict[str, Done],
) -> None:
    where, _, artefacts = runs["finetune"]
    for level in (1, 2, 3):
        stage = where.run.stage(f"train{level}")
        state, momentum = starts(where, level)
        before = artefacts["dense" if level == 1 else f"train{level - 1}"].weights
        assert same(state, masked(before, artefacts[f"prune{level}"].masks)) and momentum == {}
        assert first_rate(stage) == pytest.approx(0.01, rel=1e-12)
        # the first batch's training loss equals that of the pruned net in the same mode
        x, y = next(iter(where.batches(stage).epoch(0)))
        pruned = where.fresh_model()
        pruned.load_state_dict(artefacts[f"prune{level}"].weights)
        model, _, _ = ready_to_train(where, stage)
        with torch.no_grad():
            assert float(F.cross_entropy(model.train()(x), y)) == float(
                F.cross_entropy(pruned.train()(x), y)
            )


def test_level_0_is_the_plain_dense_run(runs: dict[str, Done], tmp_path: Path) -> None:
    dense = compose_run("method=dense", *SMALL)
    for where, record, _ in runs.values():
        assert stage_keys(dense)["dense"] == where.keys["dense"]
        # the first run computes the dense net and its pruning for all
        shared = where.run.label != "LTH+Rewinding"
        assert [stage["cached"] for stage in record["stages"][:3]] == [shared, shared, False]
    _, plain = perform_run(dense, machine(tmp_path))
    assert same(plain["dense"].weights, runs["rewind"][2]["dense"].weights)


# --- durations


def test_the_papers_rows_are_seven_trainings_of_160_epochs() -> None:
    for variant in VARIANTS:
        # conf/table/imc_table01.yaml
        overrides = [
            "density=0.53",
            "method.keep=0.9",
            "method.last_level=nearest",
            f"retrain={variant}",
        ]
        run = compose_run(
            "method=imp", *overrides, "train=imc", "dataset=cifar10", "model=resnet20_w32"
        )
        trainings = [stage.recipe.trained_epochs for stage in run.stages if stage.recipe]
        assert trainings == [160] * 7 and len(run.stages) == 13
        assert run.epoch_column == ("dense", *(f"train{level}" for level in range(1, 7)))
        assert run.stage("prune6").density == pytest.approx(0.9**6, rel=1e-11)
    assert sum(trainings) == 1120


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_record_counts_the_epochs_of_every_training(variant: str, runs: dict[str, Done]) -> None:
    _, record, _ = runs[variant]
    # two epochs each for the dense net and three levels
    assert (record["epochs"], record["epochs_total"], record["epoch_kind"]) == (8, 8, "train")
    assert (
        record["label"]
        == {
            "rewind": "LTH+Rewinding",
            "reinit": "LTH+Reinitialization",
            "finetune": "LTH+FineTuning",
        }[variant]
    )


def test_a_resumed_schedule_continues_at_the_rewinding_point(tmp_path: Path) -> None:
    # eight epochs; rewinding to the fourth
    run = compose_run(
        *MLP, "train.scale=0.05", "retrain.rewind=80ep", "retrain.resume_schedule=true"
    )
    _, artefacts = perform_run(run, machine(tmp_path))
    stage = run.stage("train1")
    assert stage.recipe is not None
    assert (stage.recipe.first_epoch, stage.recipe.trained_epochs, stage.recipe.epochs) == (4, 4, 8)
    assert first_rate(stage) == pytest.approx(0.01, rel=1e-12)  # the second half of the schedule
    history = artefacts["train1"].meta["history"]
    assert [row["epoch"] for row in history] == [5, 6, 7, 8]
    assert [row["lr"] for row in history] == pytest.approx([0.01, 0.01, 0.001, 0.001], rel=1e-12)
    where = context(run, tmp_path)
    state, momentum = starts(where, 1)
    assert same(
        state, masked(where.store.snapshot(where.keys["dense"], 4), artefacts["prune1"].masks)
    )
    assert momentum == {}


@pytest.mark.parametrize(  # steps 20, 24 and 1 of 48
    ("point", "schedule"),
    [
        ("33333it", "cosine"),
        ("80ep", "cosine"),
        ("1it", "cosine"),
        ("33333it", "one_cycle"),
        ("80ep", "trapezoid"),
        ("1it", "warmup_cosine"),
    ],
)
def test_a_resumed_schedule_without_pruning_continues_the_dense_training_to_the_bit(
    point: str, schedule: str, tmp_path: Path
) -> None:
    # without momentum, as a snapshot has none: open_lth begins with a new optimizer
    run = compose_run(
        *("method=magnitude", "density=1.0", "start=dense", "retrain=rewind", *NET),
        *("dataset.augment=crop_flip", f"train.lr_schedule={schedule}", "train.warmup=80ep"),
        *("train.scale=0.05", "train_fraction=0.4", "train.batch_size=100", "train.momentum=0"),
        *(f"retrain.rewind={point}", "retrain.resume_schedule=true"),
    )
    _, artefacts = perform_run(run, machine(tmp_path))
    dense, train = artefacts["dense"], artefacts["train"]
    assert same(train.weights, dense.weights)
    recipe = run.stage("train").recipe
    assert recipe is not None
    steps = {"33333it": 20, "80ep": 24, "1it": 1}[point]
    assert recipe.first_step(6) == steps and run.stage("train").start.follow
    mine, theirs = train.meta["history"], dense.meta["history"][steps // 6 :]
    assert len(mine) == recipe.trained_epochs
    partly = steps % 6 != 0  # rates, losses and accuracies of every whole epoch are equal
    assert mine[partly:] == theirs[partly:] and mine[-1]["epoch"] == 8


# --- rewinding to iterations


@pytest.mark.parametrize(
    ("batch_size", "scale", "epochs"),
    [
        (128, 1.0, 2000 / 391),  # 50,000 images in batches of 128: 391 an epoch
        (100, 1.0, 4.0),  # 500 an epoch: exactly the rewinding point 4ep
        (128, 0.1, 200 / 391),
        (100, 0.1875, 1.0),  # scaled like 4ep: 0.75
    ],
)
def test_iterations_are_the_same_share_of_the_run_as_in_the_paper(
    batch_size: int, scale: float, epochs: float
) -> None:
    run = compose_run(
        *MLP,
        f"train.batch_size={batch_size}",
        f"train.scale={scale}",
        "train=imc",
        "retrain.rewind=2000it",
    )
    assert run.stage("train1").start.epoch == pytest.approx(epochs, abs=1e-6)
    if batch_size == 100:
        in_epochs = compose_run(
            *MLP,
            f"train.batch_size={batch_size}",
            f"train.scale={scale}",
            "train=imc",
            "retrain.rewind=4ep",
        )
        assert stage_keys(run) == stage_keys(in_epochs)


def after_steps(run: Run, folder: Path, count: int) -> dict[str, Tensor]:
    """The dense net after `count` steps of torch's own optimizer."""
    where = context(run, folder)
    model = where.fresh_model().train()
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for _, (x, y) in zip(range(count), where.batches(run.stage("dense")).epoch(0), strict=False):
        opt.zero_grad()
        F.cross_entropy(model(x), y).backward()
        opt.step()
    return model.state_dict()


@pytest.mark.parametrize("stops", [(), (3,), (6,), (8,), (3, 2, 4)], ids=str)
def test_the_snapshot_is_exact_although_the_training_is_stopped_around_it(
    stops: tuple[int, ...], tmp_path: Path
) -> None:
    run = compose_run(*ITERATIONS)
    for steps in stops:  # 2000 / 391 x 0.1 = 0.5115 epochs of twelve steps: after step 6
        calls = iter(range(1, 10_000))
        with pytest.raises(Stopped):
            run_stage(
                context(run, tmp_path, lambda calls=calls, steps=steps: next(calls) == steps),
                run.stages[0],
            )
    where = context(run, tmp_path)
    run_stage(where, run.stages[0])
    found = where.store.snapshot(where.keys["dense"], 0.511509)
    expected = after_steps(run, tmp_path, 6)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-7)
    other = after_steps(run, tmp_path, 7)
    assert not torch.allclose(found["fc1.weight"], other["fc1.weight"], rtol=1e-4, atol=0)


def test_a_rewinding_point_requested_after_the_training_is_recomputed(tmp_path: Path) -> None:
    first, second = compose_run(*ITERATIONS, "retrain.rewind=10ep"), compose_run(*ITERATIONS)
    for run in (first, second):
        where = context(run, tmp_path)
        run_stage(where, run.stages[0])
    for name, tensor in after_steps(second, tmp_path, 6).items():
        torch.testing.assert_close(
            where.store.snapshot(where.keys["dense"], 0.511509)[name], tensor, rtol=1e-6, atol=1e-7
        )


def test_a_rewinding_point_is_recomputed_after_resuming_a_checkpoint_without_it(
    tmp_path: Path,
) -> None:
    # the first run takes no snapshot
    first, second = compose_run(*ITERATIONS, "retrain.rewind=160ep"), compose_run(*ITERATIONS)
    calls = iter(range(1, 10_000))
    with pytest.raises(Stopped):
        run_stage(context(first, tmp_path, lambda: next(calls) == 30), first.stages[0])
    where = context(second, tmp_path)
    for stage in second.stages:
        run_stage(where, stage)
    for name, tensor in after_steps(second, tmp_path, 6).items():
        torch.testing.assert_close(
            where.store.snapshot(where.keys["dense"], 0.511509)[name], tensor, rtol=1e-6, atol=1e-7
        )
    assert len(where.store.meta(where.keys["dense"])["history"]) == 16

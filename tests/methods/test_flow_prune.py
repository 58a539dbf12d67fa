"""Flow&Prune (docs/methods/flow_prune.md): rounds of one epoch and one pruning in one schedule."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from support import compose_run, machine, perform_run
from torch import Tensor

from pruners.base import count_kept, count_prunable, full_masks
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.optim import learning_rate
from runner.engine.store import Store
from runner.engine.train_stage import ready_to_train
from runner.spec.identity import stage_keys
from runner.spec.run import Run

# five epochs
SMALL = [
    "method=flow_prune",
    "dataset=digits",
    "model=resnet20",
    "model.depth=8",
    "model.width=4",
    "train_fraction=0.4",
    "train.scale=0.03125",
]


def context(run: Run, folder: Path) -> RunContext:
    where = machine(folder)
    return RunContext(
        run, where, Store(where.cache_dir), Watcher(folder / "run", display("none", None), {})
    )


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[RunContext, dict[str, Any], dict[str, Any]]:
    """A run of five epochs; the first three end with pruning."""
    folder = tmp_path_factory.mktemp("flow")
    run = compose_run(*SMALL, "density=0.4", "method.rounds=96")  # x 0.03125: three
    return context(run, folder), *perform_run(run, machine(folder))


def remaining(density: float, rounds: int, k: int) -> float:
    """n (1 - p) / (n (1 - p) + k p), p the sparsity."""
    return rounds * density / (rounds * density + k * (1 - density))


# --- the schedule


@pytest.mark.parametrize("rounds", [1, 5, 25])
def test_epochs_are_160_and_follow_the_schedule_of_a_dense_training(rounds: int) -> None:
    run = compose_run(
        "method=flow_prune",
        "density=0.53",
        f"method.rounds={rounds}",
        "train=imc",
        "dataset=digits",
        "model=mlp",
    )
    dense = compose_run("method=dense", "train=imc", "dataset=digits", "model=mlp").stages[0].recipe
    assert [stage.name for stage in run.stages] == [
        name for k in range(1, rounds + 1) for name in (f"flow{k}", f"prune{k}")
    ] + ["train"]
    assert dense is not None
    rates, epochs = list[float](), list[int]()
    for stage in run.stages:
        if stage.recipe:
            epochs += range(stage.recipe.first_epoch, stage.recipe.end)
            rates += [
                learning_rate(stage.recipe, epoch * 15, 15)
                for epoch in range(stage.recipe.first_epoch, stage.recipe.end)
            ]
    assert epochs == list(range(160))
    assert rates == [learning_rate(dense, epoch * 15, 15) for epoch in range(160)]
    assert [rates[epoch] for epoch in (0, 79, 80, 119, 120, 159)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rel=1e-12
    )
    assert (
        sum(
            stage.recipe.epochs
            for stage in run.stages
            if stage.recipe and stage.name in run.epoch_column
        )
        == 160
    )


def test_densities_follow_the_closed_form_of_25_rounds() -> None:
    run = compose_run(
        "method=flow_prune", "density=0.53", "train=imc", "dataset=digits", "model=mlp"
    )
    found = [stage.density for stage in run.stages if stage.kind == "prune"]
    assert found == pytest.approx([remaining(0.53, 25, k) for k in range(1, 26)], rel=1e-12)
    assert found[-1] == 0.53


def test_runs_of_all_densities_share_the_epoch_before_pruning() -> None:
    first, second = (
        stage_keys(compose_run(*SMALL, f"density={density}")) for density in (0.5, 0.4)
    )
    assert first["flow1"] == second["flow1"] and first["prune1"] != second["prune1"]


# --- a run


def test_densities_after_each_round_follow_the_closed_form_and_masks_only_shrink(done: Any) -> None:
    _, record, artefacts = done
    masks = [artefacts[f"prune{k}"].masks for k in (1, 2, 3)]
    total = count_prunable(masks[0])
    assert [count_kept(m) for m in masks] == [
        round(total * remaining(0.4, 3, k)) for k in (1, 2, 3)
    ]
    assert count_kept(masks[2]) == round(0.4 * total) == record["kept"]
    for before, after in pairwise(masks):
        assert all(not (after[name] & ~before[name]).any() for name in after)
    for name, mask in masks[2].items():
        assert torch.equal(artefacts["train"].masks[name], mask)


def test_each_round_trains_under_the_previous_masks_and_prunes_the_smallest_weights(
    done: Any,
) -> None:
    where, _, artefacts = done
    for k in (1, 2, 3):
        flow, pruned = artefacts[f"flow{k}"], artefacts[f"prune{k}"].masks
        before = artefacts[f"prune{k - 1}"].masks if k > 1 else full_masks(where.fresh_model())
        for name, mask in before.items():
            assert torch.equal(flow.masks[name], mask)
            assert torch.count_nonzero(flow.weights[name][~mask]) == 0
        left = min(
            float(flow.weights[name][mask].abs().min())
            for name, mask in pruned.items()
            if mask.any()
        )
        gone = torch.cat(
            [flow.weights[name][before[name] & ~mask].abs() for name, mask in pruned.items()]
        )
        assert len(gone) and left >= float(gone.max())


def test_training_continues_after_pruning_from_the_pruned_weights_without_momentum(
    done: Any,
) -> None:
    where, _, artefacts = done
    for name, before, after in (
        ("flow2", "prune1", "flow1"),
        ("flow3", "prune2", "flow2"),
        ("train", "prune3", "flow3"),
    ):
        model, _, momentum = ready_to_train(where, where.run.stage(name))
        assert momentum == {} and artefacts[after].optimizer  # the previous stage had momentum
        for tensor, value in model.state_dict().items():
            mask = artefacts[before].masks.get(tensor)
            trained: Tensor = artefacts[after].weights[tensor]
            assert torch.equal(
                value,
                trained if mask is None else torch.where(mask, trained, torch.zeros_like(trained)),
            ), tensor


def test_a_record_counts_the_epochs_of_one_training(done: Any) -> None:
    _, record, artefacts = done
    assert (record["epochs"], record["epochs_total"], record["epoch_kind"]) == (5, 5, "train")
    rows = [
        row
        for name in ("flow1", "flow2", "flow3", "train")
        for row in artefacts[name].meta["history"]
    ]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    # six steps an epoch, thirty in total: /10 at step 15, in the third epoch, and at 22.5, in the
    # fourth
    assert [row["lr"] for row in rows] == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.001], rel=1e-12)


def test_one_round_is_one_shot_global_magnitude_pruning_after_an_epoch(tmp_path: Path) -> None:
    run = compose_run(*SMALL, "density=0.3", "method.rounds=1")
    _, artefacts = perform_run(run, machine(tmp_path))
    assert [stage.name for stage in run.stages] == ["flow1", "prune1", "train"]
    weights, masks = artefacts["flow1"].weights, artefacts["prune1"].masks
    flat = torch.cat([weights[name].flatten() for name in masks]).abs().tolist()
    largest = sorted(range(len(flat)), key=lambda i: (-flat[i], i))[: round(0.3 * len(flat))]
    assert torch.cat([m.flatten() for m in masks.values()]).nonzero().flatten().tolist() == sorted(
        largest
    )
    assert len(artefacts["flow1"].meta["history"]) == 1

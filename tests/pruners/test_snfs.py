"""SNFS (docs/methods/snfs.md): updates by hand and in numpy, exact totals, whole runs."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_nets import images, linear
from sparse_training import (
    copied,
    every,
    momentum,
    run_with_stops,
    same,
    sparse_mlp,
    train_steps,
    training,
)
from support import compose_run, machine, perform_run
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD

from pruners.base import FixedMasking, Masks, count_kept, count_prunable
from pruners.dynamic.snfs import SparseMomentum, mean_strength, regrowth

RUN = ["method=snfs", "method.pruner.classifier=pruned", "dataset=digits", "density=0.2"]
# four epochs of 15 steps
SMALL = [*RUN, "model=mlp", "model.hidden=[16]", "train.scale=0.025"]


# --- one update


def two_layers() -> tuple[nn.Sequential, Masks]:
    """Layers of 6 and 8 positions with four connections each."""
    model = nn.Sequential(nn.Linear(6, 1, bias=False), nn.Linear(1, 8, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.5, -0.1, 0.3, 0.2, 0, 0]]))
        model[1].weight.copy_(torch.tensor([[0.9], [-0.02], [0.03], [0.8], [0], [0], [0], [0]]))
    return model, {f"{i}.weight": model[i].weight.detach() != 0 for i in (0, 1)}


def test_an_update_equals_an_example_worked_by_hand() -> None:
    # Half of each layer's four weights goes: -0.1 and 0.2; -0.02 and 0.03. The means of |M| over
    # the connections are (1 + 1 + 1 + 1) / 4 = 1 and (2 + 2 + 4 + 4) / 4 = 3, so of the four that
    # were removed one grows in the first layer and three in the second, where |M| is largest among
    # what is missing: position 4 of the first; 6, 1 (removed just now, with its value) and 5 of the
    # second.
    model, masks = two_layers()
    masking = SparseMomentum(every(1), drop_fraction=0.5, decay="constant")(
        model, masks, training()
    )
    masking.smoothed["0.weight"].copy_(torch.tensor([[1.0, -1.0, 1.0, 1.0, -5.0, 4.0]]))
    masking.smoothed["1.weight"].copy_(
        torch.tensor([[2.0], [4.0], [2.0], [-4.0], [0.1], [3.0], [-9.0], [0.2]])
    )
    masking.after_step(model, 0)
    first, second = (mask.flatten().tolist() for mask in masking.masks.values())
    assert first == [True, False, True, False, True, False]
    assert second == [True, True, False, True, False, True, True, False]
    assert masking.report == {"updates": 1, "rewired": 3}
    assert model[0].weight.detach()[0].tolist() == pytest.approx([0.5, 0, 0.3, 0, 0, 0])
    assert model[1].weight.detach()[:, 0].tolist() == pytest.approx(
        [0.9, -0.02, 0, 0.8, 0, 0, 0, 0]
    )


def test_regrowth_is_proportional_to_the_means_within_the_room() -> None:
    gone = {"a": 4, "b": 4, "c": 4}
    assert regrowth({"a": 1.0, "b": 2.0, "c": 3.0}, gone, dict.fromkeys(gone, 50)) == {
        "a": 2,
        "b": 4,
        "c": 6,
    }
    # c is full after one: 11 are left for 1 : 2, which are 3.67 and 7.33
    assert regrowth({"a": 1.0, "b": 2.0, "c": 3.0}, gone, {"a": 50, "b": 50, "c": 1}) == {
        "a": 4,
        "b": 7,
        "c": 1,
    }
    # Only a has momentum, but no room for twelve: in proportion to the rooms, 3 : 6 : 3.
    assert regrowth({"a": 1.0, "b": 0.0, "c": 0.0}, gone, {"a": 5, "b": 10, "c": 5}) == {
        "a": 3,
        "b": 6,
        "c": 3,
    }
    assert regrowth({"a": 0.0, "b": 1.0, "c": 0.0}, dict.fromkeys(gone, 0), gone) == dict.fromkeys(
        gone, 0
    )


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1e6), st.integers(0, 40), st.integers(0, 60)
        ),  # mean, removed, missing before
        min_size=1,
        max_size=8,
    )
)
def test_as_many_grow_as_were_removed_and_no_layer_overflows(
    layers: list[tuple[float, int, int]],
) -> None:
    means = {str(i): mean for i, (mean, _, _) in enumerate(layers)}
    gone = {str(i): removed for i, (_, removed, _) in enumerate(layers)}
    room = {str(i): removed + missing for i, (_, removed, missing) in enumerate(layers)}
    found = regrowth(means, gone, room)
    assert sum(found.values()) == sum(gone.values())
    assert all(0 <= found[name] <= room[name] for name in room)


def test_means_are_over_connections_and_zero_without_any() -> None:
    strength = {"a": torch.tensor([1.0, 2.0, 9.0]), "b": torch.tensor([5.0, 5.0])}
    masks = {"a": torch.tensor([True, True, False]), "b": torch.tensor([False, False])}
    assert mean_strength(strength, masks, {"a": 2, "b": 0}) == {"a": 1.5, "b": 0.0}


# --- while the net trains


class Reference:
    """Sparse momentum in numpy, from the weights and gradients of each step."""

    def __init__(self, masks: Masks, last: float) -> None:
        self.masks = {n: m.numpy().copy() for n, m in masks.items()}
        self.m = {n: np.zeros(mask.shape, np.float32) for n, mask in self.masks.items()}
        self.last = last

    def gradients(self, model: nn.Module) -> None:
        for n, m in self.m.items():
            grad = model.get_parameter(n).grad
            assert grad is not None
            self.m[n] = np.float32(0.9) * m + np.float32(1 - 0.9) * grad.numpy()

    def update(self, weights: dict[str, np.ndarray], done: int) -> None:
        p = 0.5 / 2 * (1 + math.cos(math.pi * done / self.last))
        kept, removed = {}, 0
        means = {n: float(np.abs(self.m[n][mask]).mean()) for n, mask in self.masks.items()}
        for n, mask in self.masks.items():
            k = math.floor(p * mask.sum())
            order = np.argsort(np.where(mask, np.abs(weights[n]), np.inf).ravel(), kind="stable")
            kept[n] = mask.copy()
            kept[n].ravel()[order[:k]] = False
            removed += k
        shares = {n: removed * mean / sum(means.values()) for n, mean in means.items()}
        room = {n: int((~mask).sum()) for n, mask in kept.items()}
        assert all(share < room[n] for n, share in shares.items())  # no layer is full here
        counts = {n: math.floor(share) for n, share in shares.items()}
        by_rest = sorted(shares, key=lambda n: counts[n] - shares[n])
        for n in by_rest[: removed - sum(counts.values())]:
            counts[n] += 1
        for n, mask in kept.items():
            order = np.argsort(np.where(mask, np.inf, -np.abs(self.m[n])).ravel(), kind="stable")
            mask.ravel()[order[: counts[n]]] = True
        self.masks = kept


def test_masks_equal_those_of_an_independent_implementation_in_numpy() -> None:
    model, masks = sparse_mlp()
    masking = SparseMomentum(every(7))(model, copied(masks), training())
    theirs = Reference(masks, last=100)
    layers = set()

    def after(step: int, opt: SGD) -> None:
        done = step + 1
        if done % 7 == 0:
            theirs.update({n: weights[n] for n in masks}, done)
        for n, mask in masking.masks.items():
            assert np.array_equal(mask.numpy(), theirs.masks[n]), (n, done)
            assert not model.get_parameter(n).detach()[~mask].any()
        assert count_kept(masking.masks) == count_kept(masks)
        layers.add(tuple(int(m.sum()) for m in masking.masks.values()))

    # The optimizer's step in numpy, because the masking changes the weights right after it.
    weights: dict[str, np.ndarray] = {}

    def between(step: int, opt: SGD) -> None:
        for n, mask in masking.masks.items():
            w, g = model.get_parameter(n).detach(), model.get_parameter(n).grad
            assert g is not None and not g[~mask].any()
            past = momentum(opt, model, n)
            assert not past[~mask].any()
            moved = w - 0.1 * (0.9 * past + g + 5e-4 * w)
            weights[n] = (moved * mask).numpy().copy()

    train_steps(
        model,
        masking,
        60,
        before=lambda step, opt: theirs.gradients(model),
        between=between,
        after=after,
    )
    assert masking.report["updates"] == 8 and len(layers) > 3


def test_the_smoothed_gradients_are_those_of_the_dense_net() -> None:
    # One linear layer with loss = sum of outputs: each row of dL/dW is the input, for every mask.
    model = linear([[0.5, 0.0, 0.3, 0.0]])
    masks = {"weight": torch.tensor([[True, False, True, False]])}
    masking = SparseMomentum(every(100), smoothing=0.75)(model, masks, training())
    opt = SGD(model.parameters(), lr=0.0)
    for step, row in enumerate(([1.0, 2.0, 3.0, 7.0], [4.0, 0.0, -1.0, 5.0])):
        model.zero_grad()
        model(torch.tensor([row])).sum().backward()
        masking.before_step(model, opt, step)
        assert model.weight.grad is not None
        assert model.weight.grad[0].tolist() == [row[0], 0.0, row[2], 0.0]
    # 0.25 (0.75 x + y)
    assert masking.smoothed["weight"][0].tolist() == [1.1875, 0.375, 0.3125, 2.5625]


def test_a_drop_fraction_of_zero_is_static_training_bit_for_bit() -> None:
    model, masks = sparse_mlp()
    static, _ = sparse_mlp()
    masking = SparseMomentum(every(4), drop_fraction=0.0)(model, copied(masks), training())
    train_steps(model, masking, 20)
    train_steps(static, FixedMasking(copied(masks)), 20)
    assert all(
        torch.equal(p, q) for p, q in zip(model.parameters(), static.parameters(), strict=True)
    )
    assert masking.report["rewired"] == 0


def test_gradients_that_are_not_finite_leave_the_total_exact() -> None:
    model, masks = sparse_mlp()
    masking = SparseMomentum(every(1))(model, copied(masks), training())
    F.cross_entropy(model(images()[0]), images()[1]).backward()
    for number, parameter in enumerate(model.parameters()):
        assert parameter.grad is not None
        parameter.grad.flatten()[number::3] = (math.nan, math.inf)[number % 2]
    masking.before_step(model, SGD(model.parameters(), lr=0.1), 0)
    masking.after_step(model, 0)
    assert count_kept(masking.masks) == count_kept(masks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop_fraction": -0.1}, r"method.rewire.drop_fraction=-0.1 must be in \[0, 1\]"),
        ({"decay": "linear"}, "decay='linear' must be one of cosine, constant"),
        ({"smoothing": 1.0}, r"method.rewire.smoothing=1 must be in \[0, 1\)"),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SparseMomentum(every(5), **options)


# --- whole runs


def test_updates_follow_every_epoch_but_the_last() -> None:
    run = compose_run(*RUN[:1], "dataset=cifar10", "model=resnet20", "train=imc", "density=0.1")
    assert [stage.name for stage in run.stages] == ["prune", "train"]
    model, masks = sparse_mlp()
    about = replace(training(), epochs=160, steps=160 * 500)
    masking = run.stage("train").component(model, masks, about)
    assert (masking.period, masking.last) == (500, 160 * 500)


@pytest.mark.parametrize(
    "model",
    [["model=mlp", "model.hidden=[16]"], ["model=resnet20", "model.depth=8", "model.width=4"]],
)
def test_a_run_keeps_the_total_and_moves_connections_between_layers(
    model: list[str], tmp_path: Path
) -> None:
    run = compose_run(*RUN, *model, "train.scale=0.025")
    record, artefacts = perform_run(run, machine(tmp_path))
    first, last = artefacts["prune"].masks, artefacts["train"].masks
    assert [int(m.sum()) for m in first.values()] != [int(m.sum()) for m in last.values()]
    assert record["kept"] == count_kept(last) == round(0.2 * count_prunable(last))
    assert record["report"]["updates"] == 3 and record["report"]["rewired"] > 0
    assert record["label"] == "SNFS"
    for n, mask in last.items():
        assert not artefacts["train"].weights[n][~mask].any()
        assert not artefacts["train"].optimizer[n][~mask].any()


def test_a_run_stopped_at_and_between_updates_resumes_to_identical_bits(tmp_path: Path) -> None:
    whole, parts, stops = run_with_stops(SMALL, tmp_path, every=5)
    assert stops >= 11 and all(same(whole[name], parts[name]) for name in whole)

"""DSR (docs/methods/dsr.md): updates worked by hand, threshold, constant total, whole runs."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
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
from torch.optim import SGD

from pruners.base import FixedMasking, Masks, count_kept, count_prunable
from pruners.dynamic.dsr import Dsr, adapted, below, shares
from pruners.selection.allocate import Layer

SMALL = [
    "method=dsr",
    "method.pruner.classifier=pruned",
    "dataset=digits",
    "model=mlp",
    "model.hidden=[16]",
    "train.scale=0.025",
    "density=0.2",
]  # four epochs of 15 steps


def two_layers() -> tuple[nn.Sequential, Masks]:
    """Layers of 8 and 12 positions with 4 and 6 connections, of which one and four are below
    0.1."""
    model = nn.Sequential(nn.Linear(8, 1, bias=False), nn.Linear(1, 12, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.5, -0.3, 0.05, 0.2, 0, 0, 0, 0]]))
        model[1].weight.copy_(
            torch.tensor(
                [[0.01], [-0.02], [0.9], [0.03], [-0.8], [0.04], [0], [0], [0], [0], [0], [0]]
            )
        )
    return model, {f"{i}.weight": model[i].weight.detach() != 0 for i in (0, 1)}


# --- one update


def test_updates_equal_an_example_worked_by_hand() -> None:
    # H = 0.1 drops 1 of 4 and 4 of 6, in total 5; N_p = 0.2 * 10 = 2 < 5 / 1.1, so H is halved. 3
    # and 2 are left: of the 5 that grow, 3 grow in the first layer.
    model, masks = two_layers()
    masking = Dsr(every(1), drop_fraction=0.2, threshold=0.1)(model, masks, training())
    masking.after_step(model, 0)
    first, second = masking.masks.values()
    assert first[0, [0, 1, 3]].all() and not first[0, 2] and int(first.sum()) == 3 + 3
    assert second[[2, 4], 0].all()
    assert not second[[0, 1, 3, 5], 0].any()
    assert int(second.sum()) == 2 + 2
    assert masking.threshold == 0.05
    assert masking.report == {"updates": 1, "rewired": 5, "threshold": 0.05}
    assert model[0].weight.detach()[0].tolist() == pytest.approx([0.5, -0.3, 0.0, 0.2, 0, 0, 0, 0])
    assert float(model[1].weight.detach().abs().sum()) == pytest.approx(1.7)
    # The second update, at H = 0.05, drops exactly the five new connections, which are still zero;
    # 5 > 2.2 halves H again. 3 and 2 are left, but only two positions of the first layer are free
    # and were not just dropped: 2 grow there and 3 in the second.
    old = copied(masking.masks)
    masking.after_step(model, 1)
    assert [int(m.sum()) for m in masking.masks.values()] == [3 + 2, 2 + 3]
    assert masking.threshold == 0.025
    assert all(
        not (m & old[n] & (model.get_parameter(n) == 0)).any() for n, m in masking.masks.items()
    )


@pytest.mark.parametrize(
    ("gone", "goal", "expected"),
    [
        (12, 10.0, 0.5),
        (11, 10.0, 1.0),
        (10, 10.0, 1.0),
        (9, 10.0, 1.0),
        (8, 10.0, 2.0),
        (0, 10.0, 2.0),
        (1, 0.0, 0.5),
        (0, 0.0, 1.0),
    ],
)
def test_the_threshold_doubles_or_halves_beyond_a_tenth_of_the_goal(
    gone: int, goal: float, expected: float
) -> None:
    assert adapted(1.0, gone, goal) == expected


def test_every_layer_keeps_its_largest_weight() -> None:
    weights, mask = torch.tensor([[0.1, -0.4, 0.3, 0.0]]), torch.tensor([[True, True, True, False]])
    assert below(weights, mask, 1.0).tolist() == [[True, False, True, False]]
    assert below(weights, mask, 0.35).tolist() == [[True, False, True, False]]
    # a weight equal to the threshold is kept
    assert below(weights, mask, 0.3).tolist() == [[True, False, False, False]]
    assert not below(weights, torch.zeros_like(mask), 1.0).any()


def counts(kept: int, free: int, gone: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks of a layer before and after dropping."""
    before = torch.tensor([True] * (kept + gone) + [False] * free)
    return before, torch.tensor([True] * kept + [False] * (gone + free))


def test_growth_is_proportional_to_the_remaining_weights_within_the_free_room() -> None:
    layers = {"a": counts(30, 100, 4), "b": counts(10, 100, 8), "c": counts(20, 100, 0)}
    before, kept = {n: b for n, (b, _) in layers.items()}, {n: k for n, (_, k) in layers.items()}
    assert shares(before, kept) == {"a": 6, "b": 2, "c": 4}
    # one free position: five of its six go to the others, 1 : 2; 11 * (1/3, 2/3) = 3.67 and 7.33
    layers["a"] = counts(30, 1, 4)
    before, kept = {n: b for n, (b, _) in layers.items()}, {n: k for n, (_, k) in layers.items()}
    assert shares(before, kept) == {"a": 1, "b": 4, "c": 7}


def test_a_full_layer_grows_nothing_and_a_full_net_regrows_what_it_dropped() -> None:
    layers = {"a": counts(30, 0, 4), "b": counts(10, 20, 2)}
    before, kept = {n: b for n, (b, _) in layers.items()}, {n: k for n, (_, k) in layers.items()}
    assert shares(before, kept) == {"a": 0, "b": 6}
    # an empty layer has no remaining weights, so its share is 0
    layers = {"a": counts(30, 0, 4), "b": counts(10, 0, 2), "c": counts(0, 5, 0)}
    before, kept = {n: b for n, (b, _) in layers.items()}, {n: k for n, (_, k) in layers.items()}
    assert shares(before, kept) == {"a": 4, "b": 2, "c": 0}
    assert shares(before, copied(before)) == {"a": 0, "b": 0, "c": 0}


# --- while the net trains


def test_the_total_is_constant_while_layers_change_only_at_updates() -> None:
    model, masks = sparse_mlp()
    masking = Dsr(every(3), threshold=0.02)(model, masks, training())
    old = copied(masks)
    fresh: Masks = {n: torch.zeros_like(m) for n, m in masks.items()}
    threshold, layers, updates = masking.threshold, set(), 0

    def between(step: int, opt: SGD) -> None:
        for n, mask in masking.masks.items():
            past = momentum(opt, model, n)
            assert not past[~mask].any() and not past[fresh[n]].any()

    def after(step: int, opt: SGD) -> None:
        nonlocal threshold, updates
        changed = any(not torch.equal(m, old[n]) for n, m in masking.masks.items())
        due = (step + 1) % (
            3 if step + 1 < 12.5 else 6 if step + 1 < 40 else 12 if step + 1 < 70 else 24
        ) == 0 and step + 1 < 100
        assert changed <= due and count_kept(masking.masks) == count_kept(masks)
        if due:
            updates += 1
            for n, mask in masking.masks.items():
                stayed, gone, grown = mask & old[n], old[n] & ~mask, mask & ~old[n]
                value = model.get_parameter(n).detach()
                assert not value[grown].any()
                assert float(value[stayed].abs().min()) >= threshold
                assert not value[gone].any()
                fresh[n] = grown
            assert masking.threshold / threshold in (0.5, 1.0, 2.0)
            threshold = masking.threshold
        else:
            fresh.update({n: torch.zeros_like(m) for n, m in masks.items()})
        layers.add(tuple(int(m.sum()) for m in masking.masks.values()))
        old.update(copied(masking.masks))
        assert all(not model.get_parameter(n).detach()[~m].any() for n, m in masking.masks.items())

    train_steps(model, masking, 100, between=between, after=after)
    assert updates == masking.report["updates"] and updates > 10 and len(layers) > 3
    assert masking.report["threshold"] == threshold


def test_the_threshold_converges_to_the_drop_fraction() -> None:
    # Weights are redrawn from N(0, 1) for every update: a share erf(H / sqrt 2) has |w| < H, so a
    # share of 0.15 gives H = 0.189.
    model = nn.Linear(200, 100, bias=False)
    masks = {"weight": torch.rand(100, 200) < 0.5}
    masking = Dsr(every(1), drop_fraction=0.15)(model, masks, training())
    history, total = [], count_kept(masks)
    for step in range(60):
        with torch.no_grad():
            model.weight.copy_(torch.randn(100, 200, generator=torch.Generator().manual_seed(step)))
        before = masking.threshold
        masking.after_step(model, step)
        history.append(before)
        assert count_kept(masking.masks) == total
    assert history[0] == 1e-3 and 0.189 / 2 <= history[-1] <= 0.189 * 2
    settled = math.erf(masking.threshold / math.sqrt(2)) / 0.15
    assert 0.5 <= settled <= 2


def test_a_drop_fraction_of_zero_halves_the_threshold_until_the_masks_stay() -> None:
    model, masks = sparse_mlp()
    masking = Dsr(every(1), drop_fraction=0.0, threshold=0.1)(model, masks, training())
    with torch.no_grad():
        for n, mask in masks.items():
            model.get_parameter(n).copy_(torch.where(mask, 0.06, 0.0))
    masking.after_step(model, 0)
    assert masking.threshold == 0.05 and masking.report["rewired"] > 0
    with torch.no_grad():
        for n, mask in masking.masks.items():
            model.get_parameter(n).copy_(torch.where(mask, 0.06, 0.0))
    still = copied(masking.masks)
    masking.after_step(model, 1)
    assert all(torch.equal(masking.masks[n], still[n]) for n in still) and masking.threshold == 0.05


@pytest.mark.parametrize(("active", "share"), [(0.2, 0.07), (0.1, 0.14)])
def test_a_share_of_all_weights_is_the_same_number_at_every_density(
    active: float, share: float
) -> None:
    # the authors' WRN-28-2: 1.4 % of the weights are 7 % of the connections at density 0.2
    masks = {"weight": torch.arange(10_000) < round(10_000 * active)}
    model = nn.Linear(10_000, 1, bias=False)
    goal = Dsr(every(1), drop_fraction=0.014, drop_of="weights")(model, masks, training()).goal
    assert goal == pytest.approx(140) and goal / count_kept(masks) == pytest.approx(share)


def test_a_share_of_all_weights_above_the_connections_is_refused() -> None:
    model, masks = sparse_mlp(0.1)
    with pytest.raises(ValueError, match=r"drop_fraction=0.15 of all .*drop_of=connections"):
        Dsr(every(1), drop_of="weights")(model, masks, training())


def test_after_the_stop_training_is_plain_sparse_training() -> None:
    model, masks = sparse_mlp()
    static, _ = sparse_mlp()
    masking = Dsr(every(4, stop=0.0), threshold=10.0)(model, copied(masks), training())
    train_steps(model, masking, 15)
    train_steps(static, FixedMasking(copied(masks)), 15)
    assert masking.report["updates"] == 0
    assert all(
        torch.equal(p, q) for p, q in zip(model.parameters(), static.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop_fraction": 1.1}, r"method.rewire.drop_fraction=1.1 must be in \[0, 1\]"),
        ({"threshold": 0.0}, "method.rewire.threshold=0 must be positive"),
        ({"drop_of": "layers"}, "drop_of='layers' must be one of connections, weights"),
        ({"doublings": (0.5, 0.25)}, r"doublings=\[0.5, 0.25\] must ascend in \[0, 1\]"),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Dsr(every(5), **options)


# --- whole runs


@pytest.mark.parametrize(
    ("words", "epochs", "per_epoch", "periods", "doublings", "share"),
    [
        # the authors on CIFAR: epochs 25, 80 and 140 of 200; 20,000 of 1.45 million weights
        ("dataset=cifar10", 160, 500, [100, 200, 400, 800], (0.125, 0.4, 0.7), 0.07),
        # and on ImageNet: epochs 25, 50 and 75 of 100; 400,000 of 22.7 million weights
        ("dataset=imagenet", 100, 5005, [1000, 2000, 4000, 8000], (0.25, 0.5, 0.75), 0.088),
        ("dataset=imagenet_256", 100, 5005, [1000, 2000, 4000, 8000], (0.25, 0.5, 0.75), 0.088),
    ],
)
def test_the_periods_and_the_number_of_an_update_are_the_authors_on_each_data_set(
    words: str,
    epochs: int,
    per_epoch: int,
    periods: list[int],
    doublings: tuple[float, ...],
    share: float,
) -> None:
    batch = {500: 100, 5005: 256}[per_epoch]
    run = compose_run(
        *("method=dsr", words, "model=resnet20", "train=imc", "density=0.2"),
        *(f"train.epochs={epochs}", f"train.batch_size={batch}"),
    )
    rewire = run.stage("train").component
    assert (rewire.rhythm.stop, run.stage("prune").component.allocate) == (0.95, Layer())
    model, masks = sparse_mlp(0.2)
    about = replace(training(), epochs=epochs, steps=epochs * per_epoch)
    masking = rewire(model, masks, about)
    assert masking.periods == periods
    assert masking.doublings == [part * about.steps for part in doublings]
    assert masking.goal / count_kept(masks) == pytest.approx(share, abs=5e-4)
    assert masking.last == 0.95 * about.steps
    # before and after the first doubling: odd multiples of the first period count before alone
    first, begin = periods[0], int(doublings[0] * about.steps) // periods[1] * periods[1]
    steps = (begin - first, begin - first // 2, begin + 3 * first, begin + 4 * first)
    assert [masking.due(step) for step in steps] == [True, False, False, True]
    last = int(masking.last - 1) // periods[3] * periods[3]  # the last update
    assert masking.due(last) and not masking.due(last + periods[3])


def test_a_run_keeps_the_total_and_moves_connections_between_layers(tmp_path: Path) -> None:
    record, artefacts = perform_run(
        compose_run(*SMALL, "method.rewire.threshold=0.05"), machine(tmp_path)
    )
    first, last = artefacts["prune"].masks, artefacts["train"].masks
    assert (
        [int(m.sum()) for m in first.values()] == [205, 32] != [int(m.sum()) for m in last.values()]
    )
    assert record["kept"] == count_kept(last) == round(0.2 * count_prunable(last))
    assert record["label"] == "Dynamic Sparse"
    # after 10, 20, ... 50 of 60 steps
    assert record["report"]["updates"] == 5 and record["report"]["threshold"] > 0
    for n, mask in last.items():
        assert not artefacts["train"].weights[n][~mask].any()
        assert not artefacts["train"].optimizer[n][~mask].any()


def test_a_run_stopped_at_and_between_updates_resumes_to_identical_bits(tmp_path: Path) -> None:
    whole, parts, stops = run_with_stops(
        [*SMALL, "method.rewire.threshold=0.05"], tmp_path, every=5
    )
    assert stops >= 10 and all(same(whole[name], parts[name]) for name in whole)

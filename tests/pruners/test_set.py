"""SET (docs/methods/set.md): dropped and grown connections, their statistics, whole runs."""

import math
from pathlib import Path

import pytest
import torch
from small_nets import linear, seeded
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
from torch.optim import SGD

from pruners.base import FixedMasking, count_kept, count_prunable
from pruners.dynamic.set import SparseEvolution, dropped
from pruners.selection.allocate import Layer

SMALL = [
    "method=set",
    "method.pruner.classifier=pruned",
    "dataset=digits",
    "model=mlp",
    "model.hidden=[16]",
    "train.scale=0.025",
    "density=0.2",
]  # four epochs of 15 steps


# --- dropping


def test_the_share_of_each_sign_closest_to_zero_is_dropped() -> None:
    # Five positive weights: a share of 0.4 drops 0.1 and 0.2. Three negative weights: floor(1.2)
    # drops -0.3. By size alone, floor(3.2) drops 0.1, 0.2 and -0.3 as well ...
    weights = torch.tensor([0.5, 0.1, 0.9, 0.2, 0.7, -0.8, -0.3, -0.4, 0.0])
    mask = weights != 0
    gone = [False, True, False, True, False, False, True, False, False]
    assert dropped(weights, mask, 0.4, per_sign=True).tolist() == gone
    assert dropped(weights, mask, 0.4, per_sign=False).tolist() == gone
    # ... but not with smaller negative weights: the two rules differ if the signs are unbalanced.
    weights = torch.tensor([0.5, 0.1, 0.9, 0.2, 0.7, -0.08, -0.03, -0.04, 0.0])
    assert dropped(weights, mask, 0.4, per_sign=True).tolist() == gone
    smallest = [False, False, False, False, False, True, True, True, False]
    assert dropped(weights, mask, 0.4, per_sign=False).tolist() == smallest


def test_layers_of_one_sign_and_zero_connections_follow_the_same_rule() -> None:
    mask = torch.tensor([True, True, True, True, False])
    weights = torch.tensor([0.5, 0.2, 0.9, 0.7, 0.0])
    for signed in (weights, -weights):
        gone = dropped(signed, mask, 0.5, per_sign=True).tolist()
        assert gone == [True, True, False, False, False]
    weights = torch.tensor([0.5, 0.0, 0.0, 0.7, 0.0])
    gone = dropped(weights, mask, 0.5, per_sign=True).tolist()
    assert gone == [False, True, True, False, False]


@pytest.mark.parametrize("fraction", [0.07, 0.29, 0.3, 0.5])
def test_the_count_is_the_floor_of_the_share_despite_rounding(fraction: float) -> None:
    mask = torch.ones(101, dtype=torch.bool)
    mask[0] = False
    weights = torch.rand(101, generator=seeded(0)) + 0.1
    # all are positive; 0.29 * 100 is 28.999999999999996 in floating point
    assert int(dropped(weights, mask, fraction, per_sign=True).sum()) == int(100 * fraction + 0.5)


def test_a_full_layer_drops_nothing_and_drops_fit_the_free_room_without_regrowth() -> None:
    weights = torch.randn(10, generator=seeded(0))
    mask = torch.ones(10, dtype=torch.bool)
    assert not dropped(weights, mask, 0.5, per_sign=True).any()
    mask[9] = False
    assert int(dropped(weights, mask, 1.0, per_sign=True).sum()) == 9
    assert int(dropped(weights, mask, 1.0, per_sign=True, allow_regrow=False).sum()) == 1


# --- an update while the net trains


@pytest.mark.parametrize(
    "options", [{}, {"per_sign": False}, {"allow_regrow": False}, {"grow_std": 0.1}], ids=str
)
def test_an_update_keeps_counts_and_new_connections_start_at_zero_without_momentum(
    options: dict[str, object],
) -> None:
    model, masks = sparse_mlp()
    masking = SparseEvolution(every(4), **options)(model, masks, training())
    old = copied(masks)
    rewired = 0

    def between(step: int, opt: SGD) -> None:
        # the momentum of dropped and grown connections is zero in the optimizer's step
        for n, mask in masking.masks.items():
            assert not momentum(opt, model, n)[~mask].any()
            if step and step % 4 == 0:
                assert not momentum(opt, model, n)[mask & ~before[n]].any()

    def after(step: int, opt: SGD) -> None:
        nonlocal rewired
        for n, mask in masking.masks.items():
            value = model.get_parameter(n).detach()
            assert int(mask.sum()) == int(masks[n].sum())
            assert not value[~mask].any()
            if (step + 1) % 4:
                assert torch.equal(mask, old[n])
                continue
            gone, grown = old[n] & ~mask, mask & ~old[n]
            rewired += int(grown.sum())
            limit = math.floor(0.3 * int(mask.sum()))
            assert int(gone.sum()) == int(grown.sum()) <= limit
            if options.get("allow_regrow") is False:
                assert int(gone.sum()) >= limit - 1  # each sign rounds down
            if options.get("grow_std"):
                # six standard deviations
                assert value[grown].all() and float(value[grown].abs().max()) < 0.6
            else:
                assert not value[grown].any()
        if (step + 1) % 4 == 0:
            before.update(copied(old))
        old.update(copied(masking.masks))

    before = copied(masks)
    train_steps(model, masking, 22, between=between, after=after)
    assert masking.report == {"updates": 5, "rewired": rewired} and rewired > 100


def test_dropped_weights_are_the_smallest_of_each_sign() -> None:
    model = linear([[0.5, 0.1, 0.9, 0.2, -0.8, -0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    masks = {"weight": model.weight.detach() != 0}
    masking = SparseEvolution(every(1), drop_fraction=0.5, allow_regrow=False)(
        model, masks, training()
    )
    masking.after_step(model, 0)
    kept = model.weight.detach()[0]
    assert kept[:6].tolist() == pytest.approx([0.5, 0.0, 0.9, 0.0, -0.8, 0.0])
    assert not kept[6:].any()
    assert masking.masks["weight"][0, :6].tolist() == [True, False, True, False, True, False]
    assert int(masking.masks["weight"].sum()) == 6


def test_a_position_that_regrows_immediately_is_zero() -> None:
    # Two positions, one connection: with a share of 1 it is dropped, and one of the two grows.
    outcomes = set()
    for seed in range(20):
        model = linear([[0.7, 0.0]])
        masking = SparseEvolution(every(1), drop_fraction=1.0)(
            model, {"weight": torch.tensor([[True, False]])}, training(seed)
        )
        masking.after_step(model, 0)
        outcomes.add(tuple(masking.masks["weight"][0].tolist()))
        assert not model.weight.detach().any()
    assert outcomes == {(True, False), (False, True)}


def test_connections_grow_uniformly_among_all_free_positions() -> None:
    # 40 positions, 10 connections of which 5 are kept: 5 of the 35 others grow, each with
    # probability 1/7.
    weights = [[float(10 - i) if i < 10 else 0.0 for i in range(40)]]
    counts, draws = torch.zeros(40), 2000
    for seed in range(draws):
        model = linear(weights)
        masking = SparseEvolution(every(1), drop_fraction=0.5)(
            model, {"weight": torch.arange(40)[None] < 10}, training(seed)
        )
        masking.after_step(model, 0)
        counts += masking.masks["weight"][0]
    assert (counts[:5] == draws).all()
    p = 1 / 7
    assert float((counts[5:] - draws * p).abs().max()) < 4 * math.sqrt(draws * p * (1 - p))


def test_new_weights_have_the_standard_deviation_grow_std() -> None:
    model = linear([[1.0] * 4000 + [0.0] * 4000])
    masks = {"weight": model.weight.detach() != 0}
    masking = SparseEvolution(every(1), drop_fraction=1.0, grow_std=0.1, allow_regrow=False)(
        model, masks, training()
    )
    masking.after_step(model, 0)
    new = model.weight.detach()[0, 4000:]
    assert new.all() and not model.weight.detach()[0, :4000].any()
    assert abs(float(new.mean())) < 4 * 0.1 / math.sqrt(4000)
    assert abs(float(new.std()) - 0.1) < 4 * 0.1 / math.sqrt(8000)


def test_growth_depends_on_the_seed() -> None:
    ends = []
    for seed in (1, 1, 2):
        model, masks = sparse_mlp()
        masking = SparseEvolution(every(5))(model, masks, training(seed))
        train_steps(model, masking, 12)
        ends.append(masking.masks)
    assert all(torch.equal(ends[0][n], ends[1][n]) for n in masks)
    assert any(not torch.equal(ends[0][n], ends[2][n]) for n in masks)


def test_a_drop_fraction_of_zero_is_static_sparse_training() -> None:
    model, masks = sparse_mlp()
    static, _ = sparse_mlp()
    train_steps(
        model, SparseEvolution(every(3), drop_fraction=0.0)(model, copied(masks), training()), 10
    )
    train_steps(static, FixedMasking(copied(masks)), 10)
    assert all(
        torch.equal(p, q) for p, q in zip(model.parameters(), static.parameters(), strict=True)
    )


@pytest.mark.parametrize(("stop", "updates"), [(1.0, 9), (0.5, 4), (0.0, 0)])
def test_masks_change_neither_after_the_stop_nor_after_the_last_step(
    stop: float, updates: int
) -> None:
    model, masks = sparse_mlp()
    # after 10, 20, ... of 100 steps
    masking = SparseEvolution(every(10, stop))(model, masks, training())
    train_steps(model, masking, 100)
    assert masking.report["updates"] == updates


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop_fraction": -0.1}, r"method.rewire.drop_fraction=-0.1 must be in \[0, 1\]"),
        ({"grow_std": -1.0}, "method.rewire.grow_std=-1 must be 0 or more"),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SparseEvolution(every(5), **options)


# --- whole runs


def test_a_run_has_the_authors_settings_and_keeps_every_layers_count(tmp_path: Path) -> None:
    run = compose_run(*SMALL)
    rewire = run.stage("train").component
    assert (rewire.rhythm.period, rewire.rhythm.stop, rewire) == (
        "1ep",
        1.0,
        SparseEvolution(rewire.rhythm),
    )
    assert run.stage("prune").component.allocate == Layer()
    record, artefacts = perform_run(run, machine(tmp_path))
    first, last = artefacts["prune"].masks, artefacts["train"].masks
    # a fifth of 1,024 and of 160
    assert (
        [int(m.sum()) for m in last.values()] == [int(m.sum()) for m in first.values()] == [205, 32]
    )
    # after every epoch except the last
    assert record["report"]["updates"] == 3 and record["report"]["rewired"] > 100
    assert record["kept"] == count_kept(last) == round(0.2 * count_prunable(last))
    assert record["label"] == "SET"
    for n, mask in last.items():
        assert not artefacts["train"].weights[n][~mask].any()
        assert not artefacts["train"].optimizer[n][~mask].any()


def test_a_run_stopped_at_and_between_updates_resumes_to_identical_bits(tmp_path: Path) -> None:
    # 15 steps an epoch; some stops lie between an update and the reset of momentum
    whole, parts, stops = run_with_stops(SMALL, tmp_path, every=5)
    assert stops >= 10 and all(same(whole[name], parts[name]) for name in whole)

"""RigL (docs/methods/rigl.md): updates by hand and by sorting, their times, whole runs."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_nets import linear, resnet, seeded, task
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

from pruners.base import FixedMasking, count_kept, count_prunable, full_masks
from pruners.dynamic.rigl import RigL, rewired
from pruners.scores.magnitude import Random
from pruners.selection.allocate import Erk
from pruners.selection.pick import Top
from pruners.selection.schedule import Once
from pruners.selection.score_pruner import ScorePruner

# two epochs of 15 steps
RUN = [
    "method=rigl",
    "method.pruner.classifier=pruned",
    "dataset=digits",
    "train.scale=0.0125",
    "density=0.2",
]
SMALL = [*RUN, "model=mlp", "model.hidden=[16]"]


# --- one update


def test_an_update_drops_the_smallest_weight_and_grows_the_largest_gradient() -> None:
    # The first four are active; -0.1 is the smallest. Of the positions that are then free, the
    # fifth has the largest gradient.
    weights = torch.tensor([1.0, -0.1, 0.2, 0.3, 0.0, 0.0])
    gradients = torch.tensor([9.0, 0.5, 0.1, 9.0, -0.7, 0.6])
    mask = torch.tensor([True, True, True, True, False, False])
    assert rewired(weights, gradients, mask, 1).tolist() == [True, False, True, True, True, False]
    assert rewired(weights, gradients, mask, 2).tolist() == [True, False, False, True, True, True]


def test_a_dropped_position_with_the_largest_gradient_grows_again() -> None:
    weights = torch.tensor([1.0, -0.1, 0.0, 0.0])
    gradients = torch.tensor([0.0, -0.8, 0.7, 0.1])
    mask = torch.tensor([True, True, False, False])
    assert rewired(weights, gradients, mask, 1).equal(mask)


def test_a_full_layer_regrows_what_it_drops() -> None:
    mask = torch.ones(3, 4, dtype=torch.bool)
    assert rewired(
        torch.randn(3, 4, generator=seeded(0)), torch.randn(3, 4, generator=seeded(1)), mask, 5
    ).all()


@pytest.mark.parametrize("seed", range(5))
def test_an_update_equals_two_sorts(seed: int) -> None:
    rng = seeded(seed)
    weights, gradients = torch.randn(7, 9, generator=rng), torch.randn(7, 9, generator=rng)
    mask = torch.rand(7, 9, generator=rng) < 0.4
    n = int(mask.sum()) // 3
    w, g, m = weights.flatten().tolist(), gradients.flatten().tolist(), mask.flatten().tolist()
    active = sorted((i for i in range(63) if m[i]), key=lambda i: abs(w[i]))
    kept = set(active[n:])
    grown = sorted((i for i in range(63) if i not in kept), key=lambda i: -abs(g[i]))[:n]
    found = rewired(weights, gradients, mask, n).flatten().nonzero().flatten().tolist()
    assert set(found) == kept | set(grown)


def test_gradients_that_are_not_finite_leave_the_count_exact() -> None:
    mask = torch.tensor([True, True, False, False, False])
    found = rewired(
        torch.tensor([1.0, 2.0, 0.0, 0.0, 0.0]),
        torch.tensor([0.0, 0.0, math.nan, math.inf, 1.0]),
        mask,
        1,
    )
    assert found.tolist() == [False, True, False, True, False]


# --- an update while the net trains


def test_an_update_step_changes_masks_and_no_kept_weight() -> None:
    model, masks = sparse_mlp()
    masking = RigL(every(4))(model, masks, training())
    seen: dict[str, object] = {}

    def before(step: int, opt: SGD) -> None:
        seen["masks"] = copied(masking.masks)
        seen["grads"] = {n: p.grad.clone() for n, p in model.named_parameters()}
        seen["weights"] = {n: p.detach().clone() for n, p in model.named_parameters()}
        seen["momentum"] = {n: momentum(opt, model, n).clone() for n, _ in model.named_parameters()}

    def after(step: int, opt: SGD) -> None:
        old, grads, weights, past = (seen[key] for key in ("masks", "grads", "weights", "momentum"))
        if step % 4:
            assert all(torch.equal(m, old[n]) for n, m in masking.masks.items())
            assert any(not torch.equal(p.detach(), weights[n]) for n, p in model.named_parameters())
        else:
            fraction = 0.15 * (1 + math.cos(math.pi * step / 100))
            for n, p in model.named_parameters():
                if n not in masks:  # biases do not change in an update step
                    assert torch.equal(p.detach(), weights[n])
                    assert torch.equal(momentum(opt, model, n), past[n])
                    continue
                new, was = masking.masks[n], old[n]
                count = int(was.sum())
                assert int(new.sum()) == count
                stayed, grown, gone = new & was, new & ~was, was & ~new
                assert int(grown.sum()) == int(gone.sum()) <= math.floor(fraction * count)
                assert step == 0 or grown.any() or n == "fc3.weight"
                assert torch.equal(p.detach()[stayed], weights[n][stayed])
                assert torch.equal(momentum(opt, model, n)[stayed], past[n][stayed])
                assert not p.detach()[~stayed].any() and not momentum(opt, model, n)[~stayed].any()
                strength = grads[n].abs()
                if grown.any():
                    assert float(strength[grown].min()) >= float(strength[~new].max())
                    assert float(weights[n].abs()[gone].max()) <= float(
                        weights[n].abs()[stayed].median()
                    )
        for n, mask in masking.masks.items():
            assert not model.get_parameter(n).detach()[~mask].any()
            assert not momentum(opt, model, n)[~mask].any()

    train_steps(model, masking, 21, before=before, after=after)
    assert masking.report["updates"] == 6


def test_gradients_of_pruned_weights_are_those_of_the_dense_net() -> None:
    # One linear layer with loss = sum of outputs: each row of dL/dW is the input, for every mask.
    model = linear([[0.5, 0.0, 0.3, 0.0]])
    masks = {"weight": torch.tensor([[True, False, True, False]])}
    masking = RigL(every(1), drop_fraction=0.5, decay="constant")(model, masks, training())
    model(torch.tensor([[1.0, 2.0, 3.0, 7.0]])).sum().backward()
    masking.before_step(model, SGD(model.parameters(), lr=1.0), 1)
    # 0.3 is dropped, the position of input 7 grows
    assert masking.masks["weight"].tolist() == [[True, False, False, True]]
    assert model.weight.tolist() == [[0.5, 0.0, 0.0, 0.0]] and model.weight.grad is None


def test_the_drop_fraction_falls_by_a_cosine_to_zero_at_the_last_update() -> None:
    model, masks = sparse_mlp()
    masking = RigL(every(5, stop=0.75), drop_fraction=0.4)(model, masks, training())
    assert [masking.fraction(step) for step in (0, 25, 50, 75)] == pytest.approx(
        [0.4, 0.2 * (1 + math.cos(math.pi / 3)), 0.2 * (1 - 0.5), 0.0], abs=1e-12
    )
    shares = [masking.fraction(step) for step in range(76)]
    assert all(a > b for a, b in zip(shares, shares[1:], strict=False))
    constant = RigL(every(5, stop=0.75), drop_fraction=0.4, decay="constant")(
        model, masks, training()
    )
    assert {constant.fraction(step) for step in range(75)} == {0.4}


def test_no_update_happens_after_the_stop() -> None:
    model, masks = sparse_mlp()
    masking = RigL(every(5, stop=0.2), decay="constant")(model, masks, training())
    history: list[dict[str, torch.Tensor]] = []
    train_steps(model, masking, 40, after=lambda step, opt: history.append(copied(masking.masks)))
    assert masking.report["updates"] == 4  # at 0, 5, 10 and 15 of the 20 steps
    assert any(not torch.equal(history[14][n], history[15][n]) for n in masks)
    assert all(torch.equal(history[15][n], late[n]) for late in history[15:] for n in masks)


def test_a_drop_fraction_of_zero_is_static_training_without_the_update_steps() -> None:
    model, masks = sparse_mlp()
    static, _ = sparse_mlp()
    masking = RigL(every(7), drop_fraction=0.0)(model, masks, training())

    class SkippingUpdates(FixedMasking):
        def before_step(self, model, opt, step):
            super().before_step(model, opt, step)
            if step % 7 == 0:
                for p in model.parameters():
                    p.grad = None

    train_steps(model, masking, 20)
    train_steps(static, SkippingUpdates(copied(masks)), 20)
    assert all(
        torch.equal(p, q) for p, q in zip(model.parameters(), static.parameters(), strict=True)
    )
    assert all(torch.equal(masking.masks[n], masks[n]) for n in masks)
    assert masking.report["rewired"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop_fraction": 1.2}, r"method.rewire.drop_fraction=1.2 must be in \[0, 1\]"),
        ({"decay": "linear"}, "decay='linear' must be one of cosine, constant"),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RigL(every(5), **options)


@pytest.mark.parametrize(
    ("dataset", "batch", "per_epoch", "steps"),
    [
        ("cifar10", 128, 391, 100),
        # the paper's ImageNet run has batches of 4,096: 100 of its 313 steps an epoch
        ("imagenet", 256, 5005, 1599),
        ("imagenet_256", 256, 5005, 1599),
        ("tiny_imagenet", 128, 782, 100),
        ("imagenet_subset", 128, 782, 100),
    ],
)
def test_the_period_is_that_of_the_data_sets_source(
    dataset: str, batch: int, per_epoch: int, steps: int
) -> None:
    run = compose_run(
        *("method=rigl", f"dataset={dataset}", "model=resnet20", "train=jackpots", "density=0.1"),
        f"train.batch_size={batch}",
    )
    rhythm = run.stage("train").component.rhythm
    assert rhythm.steps(replace(training(), epochs=160, steps=160 * per_epoch)) == steps


# --- layer densities


def test_initial_masks_have_erk_counts() -> None:
    # Layers of 32,16: 64-16 has sum(shape) 80, 16-10 has 26. Density 0.2 of 1,184 keeps 237
    # weights: 237 * 80 / 106 = 178.9 and 58.1, both below the layer's size.
    run = compose_run(*SMALL)
    stage = run.stage("prune").component
    assert stage == ScorePruner(Random(), None, Erk(), Top(), Once())
    assert run.stage("train").component == RigL(run.stage("train").component.rhythm)
    model = run.model(1, 10, 8, seeded(0))
    masks = stage(model, full_masks(model), task(0.2)).masks
    assert [int(m.sum()) for m in masks.values()] == [179, 58]


def test_erk_gives_the_papers_densities_of_resnet20() -> None:
    # The paper's net (docs/methods/rigl.md) has shortcuts without weights. At s = 0.9 the solution
    # is eps = 18.3561, with conv1 and fc full.
    shapes = {
        "conv1": (16, 3, 3, 3),
        **{f"a{i}": (16, 16, 3, 3) for i in range(6)},
        "b0": (32, 16, 3, 3),
        **{f"b{i}": (32, 32, 3, 3) for i in range(1, 6)},
    }
    shapes |= {
        "c0": (64, 32, 3, 3),
        **{f"c{i}": (64, 64, 3, 3) for i in range(1, 6)},
        "fc": (10, 64),
    }
    masks = {name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()}
    counts = Erk()({}, masks, 0.1)
    found = {
        name: counts[name] / masks[name].numel()
        for name in ("conv1", "a0", "b0", "b1", "c0", "c1", "fc")
    }
    expected = {
        "conv1": 1.0,
        "a0": 0.3027,
        "b0": 0.2151,
        "b1": 0.1394,
        "c0": 0.1016,
        "c1": 0.0667,
        "fc": 1.0,
    }
    assert found == pytest.approx(expected, abs=4e-4)
    assert sum(counts.values()) == round(0.1 * sum(m.numel() for m in masks.values()))


# --- whole runs


def test_the_papers_run_updates_every_100_steps_until_three_quarters() -> None:
    run = compose_run(
        "method=rigl",
        "dataset=cifar10",
        "model=resnet20",
        "train=imc",
        "train.batch_size=128",
        "density=0.1",
    )
    stage = run.stage("train")
    assert [s.name for s in run.stages] == ["prune", "train"]
    assert stage.start.stage == "init"
    assert stage.masks == "prune"
    steps = 160 * 391
    model = resnet()
    masking = stage.component(
        model, full_masks(model), replace(training(), epochs=160, steps=steps)
    )
    assert (masking.period, masking.last) == (100, 0.75 * steps)
    assert len([t for t in range(steps) if t % masking.period == 0 and t < masking.last]) == 470


@pytest.mark.parametrize(
    "model",
    [["model=mlp", "model.hidden=[16]"], ["model=resnet20", "model.depth=8", "model.width=4"]],
)
def test_a_run_keeps_every_layers_count_and_ends_with_other_connections(
    model: list[str], tmp_path: Path
) -> None:
    record, artefacts = perform_run(compose_run(*RUN, *model), machine(tmp_path))
    first, last = artefacts["prune"].masks, artefacts["train"].masks
    assert [int(m.sum()) for m in last.values()] == [int(m.sum()) for m in first.values()]
    assert any(not torch.equal(last[n], first[n]) for n in first)
    assert record["kept"] == count_kept(last) == round(0.2 * count_prunable(last))
    assert record["report"]["updates"] == 3  # at 0, 10 and 20 of 30 steps, the last before 22.5
    assert record["report"]["rewired"] > 0
    for n, mask in last.items():
        assert not artefacts["train"].weights[n][~mask].any()
        assert not artefacts["train"].optimizer[n][~mask].any()
    assert record["epochs"] == record["epochs_total"] == 2 and record["label"] == "RigL"


def test_a_run_stopped_between_updates_resumes_to_identical_bits(tmp_path: Path) -> None:
    whole, parts, stops = run_with_stops(SMALL, tmp_path, every=4)
    assert stops >= 6 and all(same(whole[name], parts[name]) for name in whole)

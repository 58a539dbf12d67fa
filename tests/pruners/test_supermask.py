"""Supermasks (docs/methods/zhou.md): drawn masks, their gradient, the hard mask, its statistics."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_nets import images, mlp, resnet, task
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from pruners.base import Task, count_kept, full_masks
from pruners.search.supermask import Supermask, SupermaskMasking, logit
from pruners.selection.allocate import Global
from runner.engine.optim import make_optimizer
from runner.spec.recipe import Recipe

STEPS = 4
RECIPE = Recipe(
    epochs=1, lr=50.0, batch_size=32, momentum=0.9, weight_decay=5e-4, trainable_decay=0.0
)


def about(density: float = 0.3, seed: int = 0) -> Task:
    return replace(task(density, images(80), seed=seed), steps=STEPS, epochs=1)


def begin(
    model: nn.Module, density: float = 0.3, seed: int = 0, **options: Any
) -> SupermaskMasking:
    return Supermask(Global(), **options)(model, full_masks(model), about(density, seed))


def step_through(model: nn.Module, masking: SupermaskMasking, lr: float = 50.0) -> None:
    opt = make_optimizer(model, masking, replace(RECIPE, lr=lr))
    for step in range(STEPS):
        x, y = images(32, seed=step)
        F.cross_entropy(functional_call(model, masking.weights(model, step), (x,)), y).backward()
        opt.step()
        masking.after_step(model, step)
        model.zero_grad()
        opt.zero_grad()


def test_draws_follow_their_probabilities_and_repeat_under_a_seed() -> None:
    model, draws = mlp(), 400
    one, other = begin(model), begin(model)
    with torch.no_grad():
        for masking in (one, other):
            masking.trainable["fc1.weight"].copy_(torch.linspace(-3, 3, 1920).view(30, 64))
        p = 1 / (1 + torch.exp(-torch.linspace(-3, 3, 1920, dtype=torch.float64))).view(30, 64)
        seen = [one.weights(model, 0)["fc1.weight"] != 0 for _ in range(draws)]
        mean = torch.stack(seen).double().mean(0)
        assert all(
            torch.equal(other.weights(model, 0)["fc1.weight"] != 0, mask) for mask in seen[:3]
        )
    z = (mean - p) / (p * (1 - p) / draws).sqrt()
    assert float(z.abs().max()) < 5  # the expected maximum of 1,920 is about 3.5
    assert abs(float(z.mean())) < 4 / math.sqrt(1920)
    assert abs(float((z**2).mean()) - 1) < 4 * math.sqrt(2 / 1920)
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(begin(model, seed=1).weights(model, 0)["fc1.weight"] != 0, seen[0])


def test_the_first_draws_keep_each_layers_share() -> None:
    model = resnet().to(memory_format=torch.channels_last)
    masking = begin(model, density=0.3)
    for name, k in masking.keep.items():
        n, draws = masking.masks[name].numel(), 50
        p = torch.sigmoid(masking.trainable[name].double())
        torch.testing.assert_close(p, torch.full_like(p, k / n), rtol=1e-6, atol=0)
        kept = sum(int(torch.count_nonzero(masking.weights(model, 0)[name])) for _ in range(draws))
        assert abs(kept - draws * k) <= 4 * math.sqrt(draws * k * (1 - k / n)), name
    assert (
        sum(masking.keep.values())
        == count_kept(masking.masks)
        == round(0.3 * sum(m.numel() for m in masking.masks.values()))
    )


def test_the_gradient_treats_the_draw_as_its_probability() -> None:
    # dL/ds = dL/dw_eff * w * p (1 - p), with the drawn b in the forward pass: by hand through 64 -
    # 12 - 10 in float64.
    model, (x, y) = mlp((12,)).double(), images()
    masking = begin(model)
    with torch.no_grad():
        masking.trainable["fc1.weight"].copy_(
            torch.linspace(-2, 2, 768, dtype=torch.float64).view(12, 64)
        )
    effective = masking.weights(model, 0)
    F.cross_entropy(functional_call(model, effective, (x.double(),)), y).backward()
    w1, b1, w2, b2 = (
        model.get_parameter(name).detach()
        for name in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")
    )
    drawn = effective["fc1.weight"].detach()
    assert ((drawn == w1) | (drawn == 0)).all()
    inputs = x.double().flatten(1)
    hidden = inputs @ drawn.T + b1
    logits = hidden.clamp(min=0) @ w2.T + b2
    errors = (
        logits.exp() / logits.exp().sum(1, keepdim=True) - torch.eye(10, dtype=torch.float64)[y]
    ) / len(y)
    p = 1 / (1 + torch.exp(-torch.linspace(-2, 2, 768, dtype=torch.float64))).view(12, 64)
    found = masking.trainable["fc1.weight"].grad
    assert found is not None
    torch.testing.assert_close(
        found, ((errors @ w2) * (hidden > 0)).T @ inputs * w1 * p * (1 - p), rtol=1e-10, atol=1e-16
    )
    assert (found[drawn == 0] != 0).any()


def test_extreme_logits_give_the_dense_and_the_empty_net() -> None:
    model = mlp()
    masking = begin(model)
    with torch.no_grad():
        for s in masking.trainable.values():
            s.fill_(100.0)
        assert all(
            torch.equal(w, model.get_parameter(n)) for n, w in masking.weights(model, 0).items()
        )
        for s in masking.trainable.values():
            s.fill_(-100.0)
        assert not any(w.any() for w in masking.weights(model, 0).values())


def test_completed_steps_use_the_hard_mask_of_the_largest_logits() -> None:
    model = mlp()
    masking = begin(model, density=0.3)
    step_through(model, masking)
    assert sum(masking.keep.values()) == round(0.3 * 2520)
    for name, s in masking.trainable.items():
        logits = s.flatten().tolist()
        order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
        assert set(masking.masks[name].flatten().nonzero().flatten().tolist()) == set(
            order[: masking.keep[name]]
        )
        hard = masking.weights(model, STEPS - 1)[name]
        assert torch.equal(hard, torch.where(masking.masks[name], model.get_parameter(name), 0.0))
    p = torch.cat(
        [torch.sigmoid(s.detach().double()).flatten() for s in masking.trainable.values()]
    )
    assert (
        masking.report["expected_density"]
        == masking.series["expected_density"][-1]
        == pytest.approx(float(p.mean()), rel=1e-6)
    )
    same = sum(int((masking.masks[n] == masking.largest[n]).sum()) for n in masking.masks)
    assert masking.report["overlap_magnitude"] == pytest.approx(same / 2520)


def test_only_logits_are_trained_without_decay() -> None:
    model = resnet()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    masking = begin(model)
    first = {name: s.detach().clone() for name, s in masking.trainable.items()}
    opt = make_optimizer(model, masking, RECIPE)
    assert [id(p) for group in opt.param_groups for p in group["params"]] == [
        id(s) for s in masking.trainable.values()
    ]
    assert opt.param_groups[0]["weight_decay"] == 0
    step_through(model, masking)
    moved = {name for name, t in model.state_dict().items() if not torch.equal(t, before[name])}
    assert moved
    assert all(
        name.split(".")[-1] in ("running_mean", "running_var", "num_batches_tracked")
        for name in moved
    )
    assert all(not torch.equal(s, first[name]) for name, s in masking.trainable.items())


def test_statistics_after_an_epoch_are_means_over_batches_under_the_hard_mask() -> None:
    model = resnet()
    masking = begin(model, batch_size=32)  # 80 images: 32, 32 and 16, each with equal weight
    step_through(model, masking)
    hard = model.get_parameter("conv1.weight").detach() * masking.masks["conv1.weight"]
    outputs = [F.conv2d(x, hard, padding=1).double() for x, _ in about().batches(32)]
    bn = model.get_submodule("bn1")
    assert isinstance(bn, nn.BatchNorm2d)
    torch.testing.assert_close(
        bn.running_mean.double(),
        torch.stack([o.mean((0, 2, 3)) for o in outputs]).mean(0),
        rtol=1e-4,
        atol=1e-6,
    )
    torch.testing.assert_close(
        bn.running_var.double(),
        torch.stack([o.var((0, 2, 3)) for o in outputs]).mean(0),
        rtol=1e-4,
        atol=1e-6,
    )
    assert bn.momentum == 0.1 and bn.training and int(bn.num_batches_tracked) == STEPS


def test_the_option_statistics_limits_the_number_of_batches() -> None:
    model = resnet()
    masking = begin(model, statistics=1, batch_size=32)
    step_through(model, masking)
    hard = model.get_parameter("conv1.weight").detach() * masking.masks["conv1.weight"]
    bn = model.get_submodule("bn1")
    assert isinstance(bn, nn.BatchNorm2d)
    torch.testing.assert_close(
        bn.running_mean,
        F.conv2d(next(iter(about().batches(32)))[0], hard, padding=1).mean((0, 2, 3)),
        rtol=1e-4,
        atol=1e-6,
    )


def test_dynamic_scaling_multiplies_by_the_inverse_of_the_drawn_share() -> None:
    model = mlp()
    masking = begin(model, scaling="dynamic")
    effective = masking.weights(model, 0)["fc1.weight"]
    kept = effective != 0
    torch.testing.assert_close(
        effective[kept],
        (model.get_parameter("fc1.weight") * (1920 / int(kept.sum())))[kept],
        rtol=1e-6,
        atol=0,
    )
    effective.sum().backward()
    s, w = masking.trainable["fc1.weight"], model.get_parameter("fc1.weight").detach()
    p = torch.sigmoid(s.detach())
    torch.testing.assert_close(
        s.grad, w * (1920 / int(kept.sum())) * p * (1 - p), rtol=1e-5, atol=1e-9
    )


def test_logits_of_full_and_empty_layers_are_finite() -> None:
    assert logit(1, 10) == pytest.approx(-2.1972245773362196)  # log(1/9): a density of ten per cent
    assert logit(5, 10) == 0
    assert logit(10, 10) == pytest.approx(math.log(19))
    assert logit(0, 10) == pytest.approx(-math.log(19))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scaling": "static"}, "method.search.scaling='static' must be one of none, dynamic"),
        ({"statistics": 0}, "method.search.statistics=0 must be at least 1"),
        ({"batch_size": 1}, "method.search.batch_size=1 must be at least 2"),
    ],
)
def test_invalid_options_are_rejected(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Supermask(Global(), **options)

"""Magnitude pruning (docs/methods/magnitude.md): largest weights, nested masks, layer counts."""

import math

import pytest
import torch
from small_nets import (
    images,
    kept_by_layer,
    linear,
    masks_of,
    mlp,
    pruner,
    resnet,
    same_masks,
    seeded,
    state_check,
    task,
)
from torch import nn

from models.resnet_cifar import ResNetCifar
from pruners.base import Masks, count_kept, count_prunable, full_masks
from pruners.scores.magnitude import Magnitude
from pruners.selection.allocate import Layer


def resnet20(init: str = "fan_in") -> nn.Module:
    return ResNetCifar("resnet20", init=init)(3, 10, 32, seeded())


def weights(model: nn.Module, masks: Masks) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(model.get_parameter(name).detach().abs(), mask) for name, mask in masks.items()]


def expected_counts(threshold: float, sizes: list[int], sigmas: list[float]) -> list[float]:
    """Weights above `threshold` in layers of normal weights: n erfc(t / (sigma sqrt 2))."""
    return [
        n * math.erfc(threshold / (sigma * math.sqrt(2)))
        for n, sigma in zip(sizes, sigmas, strict=True)
    ]


def solve_threshold(kept: float, sizes: list[int], sigmas: list[float]) -> float:
    """The threshold at which `kept` weights are expected above it, by bisection."""
    low, high = 0.0, 10.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if sum(expected_counts(middle, sizes, sigmas)) > kept else (low, middle)
        )
    return low


def layers(model: nn.Module) -> tuple[list[int], list[float]]:
    """Sizes of the prunable layers and the standard deviations of Kaiming fan_in."""
    shapes = [mask.shape for mask in full_masks(model).values()]
    return [s.numel() for s in shapes], [math.sqrt(2 / s[1:].numel()) for s in shapes]


def test_magnitude_keeps_the_largest_absolute_values_over_all_layers() -> None:
    # |w| = 3, 1 | 2, 5: half of four keeps 3 and 5. So does an equal share per layer, so a third
    # layer makes the difference.
    model = nn.Sequential(linear([[-3.0, 1.0]]), linear([[2.0], [-5.0]]), linear([[0.5, 0.25]]))
    assert [m.flatten().tolist() for m in masks_of(Magnitude(), model, 0.5).values()] == [
        [True, False],
        [True, True],
        [False, False],
    ]
    assert [w.flatten().tolist() for w in model.parameters()] == [
        [-3.0, 0.0],
        [2.0, -5.0],
        [0.0, 0.0],
    ]


@pytest.mark.parametrize("density", [0.9, 0.5, 0.1, 0.02])
def test_every_kept_weight_is_at_least_as_large_as_every_pruned_one(density: float) -> None:
    model = resnet()
    before = resnet()  # the same draw, unpruned
    masks = masks_of(Magnitude(), model, density)
    assert count_kept(masks) == round(density * count_prunable(masks))
    pairs = weights(before, masks)
    assert min(w[m].min() for w, m in pairs if m.any()) >= max(
        w[~m].max() for w, m in pairs if not m.all()
    )


def test_allocate_layer_applies_the_rule_within_every_layer() -> None:
    masks = masks_of(Magnitude(), mlp(), 0.1, allocate=Layer())
    assert kept_by_layer(masks) == [192, 60, 20]
    assert all(w[m].min() >= w[~m].max() for w, m in weights(mlp(), masks))


def test_the_mask_does_not_depend_on_signs_scale_data_or_seed() -> None:
    one = masks_of(Magnitude(), resnet(), 0.3, seed=0)
    changed = resnet()
    with torch.no_grad():
        for i, parameter in enumerate(changed.parameters()):
            parameter.mul_(4.0 * (-1) ** i)  # a power of two: exact
    assert same_masks(
        one,
        pruner(Magnitude())(
            changed, full_masks(changed), task(0.3, data=images(seed=7), seed=8)
        ).masks,
    )


def test_masks_of_smaller_densities_are_subsets_of_masks_of_larger_ones() -> None:
    found = [masks_of(Magnitude(), resnet(), d) for d in (0.02, 0.1, 0.5, 0.9)]
    for small, large in zip(found, found[1:], strict=False):
        assert not any((small[name] & ~large[name]).any() for name in small)


@pytest.mark.parametrize("density", [0.5, 0.1, 0.02])
def test_layer_counts_at_init_follow_the_distribution_of_the_initialiser(density: float) -> None:
    model = resnet20()
    sizes, sigmas = layers(model)
    t = solve_threshold(density * sum(sizes), sizes, sigmas)
    for kept, n, expected in zip(
        kept_by_layer(masks_of(Magnitude(), model, density)),
        sizes,
        expected_counts(t, sizes, sigmas),
        strict=True,
    ):
        assert abs(kept - expected) <= 5 * math.sqrt(expected * (1 - expected / n))


def test_a_tenth_of_resnet20_keeps_288_of_the_432_weights_of_the_first_convolution() -> None:
    model = resnet20()
    sizes, sigmas = layers(model)
    t = solve_threshold(0.1 * sum(sizes), sizes, sigmas)
    assert round(t, 4) == 0.1172 and round(expected_counts(t, sizes, sigmas)[0]) == 288
    before = resnet20()
    masks = masks_of(Magnitude(), model, 0.1)
    # the empirical threshold
    assert abs(min(float(w[m].min()) for w, m in weights(before, masks)) - 0.1172) < 0.001
    assert abs(kept_by_layer(masks)[0] - 288) <= 5 * math.sqrt(288 * (1 - 288 / 432))


def test_fan_out_initialisation_empties_the_classifier_and_fan_in_does_not() -> None:
    # docs/methods/magnitude.md: with linear N(0, 0.01^2) the classifier is empty at densities below
    # 62 %.
    assert kept_by_layer(masks_of(Magnitude(), resnet20("fan_out"), 0.5))[-1] == 0
    assert kept_by_layer(masks_of(Magnitude(), resnet20("fan_in"), 0.02))[-1] > 0


def test_zero_weights_are_pruned_first_and_an_empty_layer_is_allowed() -> None:
    model = nn.Sequential(linear([[0.0, 0.0, 0.0]]), linear([[4.0], [0.0], [1e-30]]))
    assert [m.flatten().tolist() for m in masks_of(Magnitude(), model, 1 / 3).values()] == [
        [False] * 3,
        [True, False, True],
    ]
    all_zero = linear([[0.0, 0.0, 0.0, 0.0]])
    # ties by index; the count is exact
    assert masks_of(Magnitude(), all_zero, 0.5)["weight"].tolist() == [[True, True, False, False]]


def test_scoring_leaves_the_model_unchanged_and_returns_no_view_of_its_weights() -> None:
    model = resnet()
    unchanged = state_check(model)
    scores = Magnitude()(model, full_masks(model), (), nn.functional.cross_entropy, seeded())
    for score in scores.values():
        score.fill_(7.0)
    assert unchanged() and not any(score.requires_grad for score in scores.values())

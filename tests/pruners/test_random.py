"""Random pruning (docs/methods/random.md): a uniformly random subset of exactly K weights."""

import math

import pytest
import torch
from small_nets import (
    images,
    jaccard,
    kept_by_layer,
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
from pruners.base import count_kept, full_masks
from pruners.scores.magnitude import Random
from pruners.selection.allocate import Layer


@pytest.mark.parametrize("density", [1, 0.9, 0.5, 0.1, 0.02])
def test_the_kept_count_is_exact_for_a_prime_number_of_weights(
    density: float,
) -> None:
    # 77 + 33 + 3 = 113, a prime
    model = nn.Sequential(nn.Linear(7, 11), nn.Linear(11, 3), nn.Linear(3, 1))
    assert (
        count_kept(masks_of(Random(), model, density))
        == {1: 113, 0.9: 102, 0.5: 56, 0.1: 11, 0.02: 2}[density]
    )


def test_kept_counts_per_layer_are_hypergeometric_over_two_hundred_seeds() -> None:
    # N = 1920 + 600 + 200, K = 272: mean K n/N, variance K n/N (1 - n/N)(N - K)/(N - 1).
    model, sizes, total, kept = mlp(), torch.tensor([1920.0, 600.0, 200.0]), 2720, 272
    counts = torch.tensor(
        [
            kept_by_layer(pruner(Random())(model, full_masks(model), task(0.1, seed=s)).masks)
            for s in range(200)
        ]
    )
    mean = kept * sizes / total
    std = (mean * (1 - sizes / total) * (total - kept) / (total - 1)).sqrt()
    z = (counts - mean) / std
    # the standard deviations of these means and variances are 0.07 and 0.1
    assert (z.mean(dim=0).abs() < 0.3).all()
    assert ((z.var(dim=0) - 1).abs() < 0.5).all()
    assert (counts.sum(dim=1) == kept).all()


def test_every_weight_is_kept_equally_often() -> None:
    # 400 seeds, density 1/4: each of 60 positions is kept 100 +- 8.7 times; 5 standard deviations
    # for the maximum of 60.
    model = nn.Linear(20, 3)
    counts = sum(masks_of(Random(), model, 0.25, seed=s)["weight"].int() for s in range(400))
    assert (counts - 100).abs().max() < 5 * math.sqrt(400 * 0.25 * 0.75)


def test_the_mask_depends_only_on_shapes_density_and_seed() -> None:
    one = masks_of(Random(), resnet(seed=0), 0.3, seed=4)
    redrawn = resnet(seed=1)
    with torch.no_grad():
        for parameter in redrawn.parameters():
            parameter.mul_(-7)
    other_data = pruner(Random())(
        redrawn, full_masks(redrawn), task(0.3, data=images(seed=9), seed=4)
    ).masks
    assert same_masks(one, other_data)


@pytest.mark.parametrize("density", [0.1, 0.5])
def test_masks_of_two_seeds_overlap_as_independent_subsets(density: float) -> None:
    # |A and B| is hypergeometric with mean d K; the Jaccard index is d / (2 - d).
    one, other = (masks_of(Random(), mlp((300, 100)), density, seed=s) for s in (0, 1))
    assert abs(jaccard(one, other) - density / (2 - density)) < 0.02


def test_density_one_keeps_every_weight() -> None:
    model = mlp()
    before = model.fc1.weight.clone()
    assert all(mask.all() for mask in masks_of(Random(), model, 1.0).values())
    assert torch.equal(model.fc1.weight, before)


@pytest.mark.parametrize(
    ("density", "message"),
    [
        (0.0, r"density=0.0 must be in \(0, 1\]"),
        (1e-5, "density=1e-05 keeps none of 2,720"),
        (1.5, "must be in"),
    ],
)
def test_invalid_densities_are_rejected(density: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        masks_of(Random(), mlp(), density)


def test_allocate_layer_keeps_the_same_share_of_every_layer_at_random_places() -> None:
    one, other = (masks_of(Random(), mlp(), 0.1, seed=s, allocate=Layer()) for s in (0, 1))
    assert kept_by_layer(one) == kept_by_layer(other) == [192, 60, 20]
    assert not same_masks(one, other)


def test_scoring_advances_only_the_given_generator_and_leaves_the_model_unchanged() -> None:
    model, rng = resnet(), seeded(3)
    unchanged = state_check(model)
    first = Random()(model, full_masks(model), (), nn.functional.cross_entropy, rng)
    again = Random()(model, full_masks(model), (), nn.functional.cross_entropy, rng)
    assert unchanged()
    assert not torch.equal(first["fc.weight"], again["fc.weight"])


def test_float64_scores_have_no_ties_among_a_million_weights() -> None:
    # A million float32 draws from 2**24 values contain about 30,000 equal pairs; float64 has 2**53
    # values.
    scores = Random()(
        nn.Linear(1000, 1000),
        {"weight": torch.ones(1000, 1000, dtype=torch.bool)},
        (),
        nn.functional.cross_entropy,
        seeded(),
    )
    assert scores["weight"].unique().numel() == 1_000_000


def test_two_percent_of_resnet20_leaves_no_layer_empty() -> None:
    # Expected: 8.6 of the stem's 432, 10.2 of the smallest shortcut's 512, 12.8 of the classifier's
    # 640.
    model = ResNetCifar("resnet20")(3, 10, 32, seeded())
    counts = torch.tensor(
        [kept_by_layer(masks_of(Random(), model, 0.02, seed=s)) for s in range(10)],
        dtype=torch.float,
    )
    assert counts.min() > 0
    assert abs(float(counts[:, 0].mean()) - 8.64) < 4 * math.sqrt(8.64 / 10)

"""Initialisers: the distribution of every weight, and equal weights for equal seeds."""

import math

import pytest
import torch
from torch import Generator, Tensor, nn

from models.init import INITIALISERS, initialise
from models.resnet_cifar import ResNetCifar


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def small_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(64, 96, 3), nn.BatchNorm2d(96), nn.Flatten(), nn.Linear(400, 300)
    )


def assert_variance(weight: Tensor, variance: float) -> None:
    # The sample variance of n normal draws has the standard deviation variance * sqrt(2 / n); for a
    # truncated normal it is smaller.
    weight = weight.detach()
    n = weight.numel()
    assert abs(float(weight.mean())) < 5 * math.sqrt(variance / n)
    assert abs(float(weight.var()) - variance) < 5 * variance * math.sqrt(2 / n)


# Conv 64 -> 96, 3x3: fan_in 64 * 9 = 576, fan_out 96 * 9 = 864. Linear 400 -> 300: fan_in 400. A
# uniform distribution on +-b has the variance b^2 / 3.
@pytest.mark.parametrize(
    ("name", "conv", "linear"),
    [
        ("fan_in", 2 / 576, 2 / 400),
        ("fan_out", 2 / 864, 1e-4),
        ("open_lth", 2 / 576, 2 / 400),
        ("lenet_snip", 1 / 576, 1 / 400),
        ("synflow_tiny", 2 / 864, 1 / 1200),
    ],
)
def test_weights_have_the_variance_of_their_initialiser(
    name: str, conv: float, linear: float
) -> None:
    model = small_net()
    initialise(model, name, seeded(0))
    assert_variance(model[0].weight, conv)
    assert_variance(model[3].weight, linear)


# Conv 512 -> 1024, 3x3, in 64 groups of 8 -> 16: fan_in 8 * 9 = 72, fan_out 16 * 9 = 144. A
# depthwise layer has fan_in = fan_out = 9.
@pytest.mark.parametrize(
    ("name", "variance"), [("fan_in", 2 / 72), ("fan_out", 2 / 144), ("synflow_tiny", 2 / 144)]
)
def test_fans_of_a_grouped_convolution_are_those_of_one_group(name: str, variance: float) -> None:
    layer = nn.Conv2d(512, 1024, 3, groups=64)
    initialise(layer, name, seeded(0))
    assert_variance(layer.weight, variance)


@pytest.mark.parametrize("name", INITIALISERS)
def test_biases_and_shifts_are_zero_and_running_statistics_are_reset(name: str) -> None:
    model = small_net()
    model[1](torch.randn(8, 96, 2, 2) + 1)  # moves the running statistics
    initialise(model, name, seeded(0))
    for tensor in (
        model[0].bias,
        model[1].bias,
        model[3].bias,
        model[1].running_mean,
        model[1].num_batches_tracked,
    ):
        assert not tensor.any()
    assert torch.equal(model[1].running_var, torch.ones(96))


@pytest.mark.parametrize("name", ["fan_in", "fan_out", "lenet_snip", "synflow_tiny"])
def test_batchnorm_scales_are_one(name: str) -> None:
    model = small_net()
    nn.init.zeros_(model[1].weight)
    initialise(model, name, seeded(0))
    assert torch.equal(model[1].weight, torch.ones(96))


def test_open_lth_draws_batchnorm_scales_uniformly_from_zero_to_one() -> None:
    norm = nn.BatchNorm1d(10_000)
    initialise(norm, "open_lth", seeded(0))
    scale = norm.weight.detach()
    assert 0 <= float(scale.min()) < 0.001 and 0.999 < float(scale.max()) < 1
    assert_variance(scale - 0.5, 1 / 12)


def test_lenet_snip_truncates_at_two_standard_deviations_of_the_normal() -> None:
    # A standard normal truncated at +-2 has the standard deviation 0.8796, so the bound is 2 *
    # sqrt(1 / 400) / 0.8796 = 0.11368.
    linear = nn.Linear(400, 300)
    initialise(linear, "lenet_snip", seeded(0))
    assert 0.113 < float(linear.weight.detach().abs().max()) <= 0.11369


def test_synflow_tiny_draws_linear_weights_uniformly_within_one_over_root_fan_in() -> None:
    linear = nn.Linear(400, 300)
    initialise(linear, "synflow_tiny", seeded(0))
    weight = linear.weight.detach()
    assert 0.0499 < float(weight.max()) <= 0.05 and -0.05 <= float(weight.min()) < -0.0499
    # half of a uniform distribution lies in the inner half
    assert abs(float((weight.abs() < 0.025).double().mean()) - 0.5) < 4 * (0.25 / 120_000) ** 0.5


def test_draws_come_in_the_order_of_the_parameters() -> None:
    model = nn.Sequential(nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.Linear(50, 7))
    initialise(model, "open_lth", seeded(9))
    rng = seeded(9)
    conv = torch.empty(5, 1, 3, 3).normal_(0, math.sqrt(2 / 9), generator=rng)
    scale = torch.rand(5, generator=rng)
    linear = torch.empty(7, 50).normal_(0, math.sqrt(2 / 50), generator=rng)
    assert all(
        torch.equal(a, b)
        for a, b in ((model[0].weight, conv), (model[1].weight, scale), (model[2].weight, linear))
    )


@pytest.mark.parametrize("name", INITIALISERS)
def test_equal_seeds_give_equal_weights_and_other_seeds_do_not(name: str) -> None:
    build = ResNetCifar("small", depth=8, width=4, init=name)
    torch.manual_seed(1)
    one = build(1, 10, 8, seeded(5)).state_dict()
    torch.manual_seed(2)
    same, other = build(1, 10, 8, seeded(5)).state_dict(), build(1, 10, 8, seeded(6)).state_dict()
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["fc.weight"], other["fc.weight"])


def test_memory_format_precision_and_device_do_not_change_the_draws() -> None:
    plain = small_net()
    initialise(plain, "fan_in", seeded(5))
    others = [
        small_net().to(memory_format=torch.channels_last),
        small_net().double(),
        *([small_net().cuda()] if torch.cuda.is_available() else []),
    ]
    for other in others:
        initialise(other, "fan_in", seeded(5))
        assert all(
            torch.equal(a, b.cpu().float())
            for a, b in zip(plain.parameters(), other.parameters(), strict=True)
        )


def test_building_a_model_does_not_use_the_global_generator() -> None:
    before = torch.get_rng_state()
    ResNetCifar("small", depth=8, width=4)(1, 10, 8, seeded(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_initialiser_is_rejected_with_the_choices() -> None:
    for refuse in (
        lambda: initialise(nn.Linear(2, 2), "xavier", seeded(0)),
        lambda: ResNetCifar("r", init="xavier"),
    ):
        with pytest.raises(
            ValueError,
            match=(
                r"^model.init='xavier' must be one of fan_in, fan_out, open_lth, lenet_snip,"
                r" synflow_tiny$"
            ),
        ):
            refuse()


def test_a_layer_without_initialiser_is_rejected_by_name() -> None:
    with pytest.raises(TypeError, match=r"does not know what to draw for 1 \(GroupNorm\)"):
        initialise(nn.Sequential(nn.Linear(4, 4), nn.GroupNorm(2, 4)), "fan_in", seeded(0))

"""SynFlow (docs/methods/synflow.md): path sums, conservation of flow, inputs, schedule."""

import copy
import itertools
from typing import Any

import pytest
import torch
from small_nets import (
    images,
    masks_of,
    mlp,
    pruner,
    resnet,
    same_masks,
    seeded,
    state_check,
    task,
)
from torch import Tensor, nn
from torch.nn import functional as F

from models.connected import reached_outputs
from models.resnet_cifar import ResNetCifar
from pruners.base import (
    Masks,
    Scores,
    Task,
    apply_masks,
    count_kept,
    count_prunable,
    full_masks,
    prunable_names,
)
from pruners.scores.synflow import SynFlow
from pruners.selection.schedule import Exponential, Once
from pruners.selection.source import Ones, Train

ONES = (torch.ones(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64))


def flow(
    model: nn.Module, masks: Masks | None = None, inputs: Tensor = ONES[0], **options: Any
) -> Scores:
    batch = (inputs, torch.zeros(len(inputs), dtype=torch.int64))
    return SynFlow(**options)(
        model, full_masks(model) if masks is None else masks, [batch], F.cross_entropy, seeded()
    )


def total(model: nn.Module, inputs: Tensor = ONES[0]) -> float:
    """R by its definition: the output of a net of absolute values in evaluation mode."""
    net = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.abs_()
        return float(net(inputs.double()).sum())


def sums(found: Scores) -> dict[str, float]:
    return {name: float(s.sum()) for name, s in found.items()}


def synflow(
    model: nn.Module,
    density: float,
    iterations: int = 100,
    score: SynFlow | None = None,
    source: Any = None,
    image: tuple[int, int, int] = (1, 8, 8),
) -> Masks:
    method = pruner(score or SynFlow(), source=source or Ones(), schedule=Exponential(iterations))
    return method(model, full_masks(model), task(density, image=image)).masks


def resnet20(seed: int = 0) -> nn.Module:
    """270,896 prunable weights."""
    return ResNetCifar("resnet20")(3, 10, 32, seeded(seed))


# --- the score


def test_the_score_of_a_weight_is_the_sum_over_the_paths_through_it() -> None:
    # x -> 2 hidden -> 2 outputs, all absolute: |W1| = [1 2 / 3 0], |W2| = [1 4 / 2 1]. Path (i, h,
    # o) has the value |W1[h, i]| |W2[o, h]|.
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False)
    )
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[-1.0, 2.0], [3.0, 0.0]]))
        model[3].weight.copy_(torch.tensor([[1.0, -4.0], [-2.0, 1.0]]))
    first, second = flow(model, inputs=torch.ones(1, 1, 1, 2)).values()
    assert first.tolist() == [[3, 6], [15, 0]]  # |W1[h, i]| times the outgoing 1 + 2 and 4 + 1
    assert second.tolist() == [[3, 12], [6, 3]]  # |W2[o, h]| times the incoming 1 + 2 and 3 + 0
    assert first.dtype == torch.float64


def test_scores_equal_an_enumeration_of_all_paths_of_a_masked_net_with_biases() -> None:
    model, rng = mlp((3, 4)).double(), seeded(3)
    model.fc1 = nn.Linear(5, 3, dtype=torch.float64)
    x = torch.rand(1, 1, 1, 5, generator=rng) + 0.1
    masks = {
        name: torch.rand(model.get_parameter(name).shape, generator=rng) < 0.7
        for name in prunable_names(model)
    }
    layers = [
        (model.get_parameter(name).detach().abs() * mask).tolist() for name, mask in masks.items()
    ]
    expected = [[[0.0] * len(row) for row in layer] for layer in layers]
    with torch.no_grad():
        for layer in (model.fc1, model.fc2, model.fc3):
            layer.bias.uniform_(-1, 1)
    biases = [layer.bias.abs().tolist() for layer in (model.fc1, model.fc2, model.fc3)]
    starts = [((i,), float(x[0, 0, 0, i]), 0) for i in range(5)] + [
        ((h,), bias, depth + 1) for depth in (0, 1) for h, bias in enumerate(biases[depth])
    ]
    for start, value, depth in starts:  # a path starts at an input or at a hidden unit's bias
        for rest in itertools.product(*(range(len(layer)) for layer in layers[depth:])):
            edges = [
                (depth + i, b, a) for i, (a, b) in enumerate(itertools.pairwise((*start, *rest)))
            ]
            carried = value
            for layer, b, a in edges:
                carried *= layers[layer][b][a]
            for layer, b, a in edges:
                expected[layer][b][a] += carried
    for found, wanted in zip(flow(model, masks, x).values(), expected, strict=True):
        torch.testing.assert_close(
            found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=0
        )


def test_scores_equal_finite_differences_of_the_flow_with_respect_to_the_mask() -> None:
    model = resnet()
    base = total(model)
    for name in prunable_names(model):
        index = model.get_parameter(name).numel() // 2
        weight = model.get_parameter(name).data.view(-1)
        kept = float(weight[index])
        weight[index] = 0.0
        without = total(model)  # R is linear in one weight's magnitude
        weight[index] = kept
        assert abs(float(flow(model)[name].view(-1)[index]) - (base - without)) < 1e-9 * base


# --- conservation


def test_every_layer_of_a_sequential_net_has_the_total_flow() -> None:
    model = mlp((30, 20, 10))
    assert all(abs(s / total(model) - 1) < 1e-12 for s in sums(flow(model)).values())


def test_the_flow_into_a_hidden_unit_equals_the_flow_out_of_it() -> None:
    found = flow(mlp())
    torch.testing.assert_close(
        found["fc1.weight"].sum(dim=1), found["fc2.weight"].sum(dim=0), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(
        found["fc2.weight"].sum(dim=1), found["fc3.weight"].sum(dim=0), rtol=1e-12, atol=0
    )


def test_the_outer_layers_of_a_residual_net_have_the_total_flow_and_blocks_share_it() -> None:
    model = resnet()
    with torch.no_grad():
        model.bn1.weight.uniform_(-2, 2)
    flows, whole = sums(flow(model)), total(model)
    assert abs(flows["conv1.weight"] / whole - 1) < 1e-12
    assert abs(flows["fc.weight"] / whole - 1) < 1e-12
    for stage in (1, 2, 3):
        block = {
            part: flows.get(f"stage{stage}.0.{part}.weight", 0.0)
            for part in ("conv1", "conv2", "shortcut.conv")
        }
        assert abs(block["conv1"] / block["conv2"] - 1) < 1e-12
        assert (
            (block["conv2"] < whole)
            if stage == 1
            else abs((block["conv2"] + block["shortcut.conv"]) / whole - 1) < 1e-12
        )


def test_a_bias_adds_only_to_the_flow_behind_it() -> None:
    model = mlp()
    with torch.no_grad():
        model.fc3.bias.fill_(-0.5)
    assert abs(sums(flow(model))["fc3.weight"] / (total(model) - 5.0) - 1) < 1e-12


def test_running_means_do_not_affect_the_flow_of_a_trained_net() -> None:
    model = resnet()
    model.train()
    for _ in range(3):
        model(images()[0])  # moves the running mean and variance
    flows = sums(flow(model))
    assert model.bn1.running_mean.any()
    assert abs(flows["conv1.weight"] / flows["fc.weight"] - 1) < 1e-12


# --- invariances


def test_scores_do_not_depend_on_signs_and_scale_with_the_input() -> None:
    model, flipped = resnet(), resnet()
    with torch.no_grad():
        for parameter in flipped.parameters():
            parameter.mul_(torch.randint(0, 2, parameter.shape, generator=seeded(1)) * 2 - 1)
    one, other, triple = flow(model), flow(flipped), flow(model, inputs=4 * ONES[0])
    # a power of two is exact
    assert all(
        torch.equal(one[name], other[name]) and torch.equal(triple[name], 4 * one[name])
        for name in one
    )


def test_the_mask_does_not_depend_on_a_scale_that_the_next_layer_cancels() -> None:
    one, other = mlp(), mlp()
    with torch.no_grad():
        other.fc1.weight.mul_(8)
        other.fc2.weight.div_(8)
    assert same_masks(synflow(one, 0.2), synflow(other, 0.2))


def test_the_mask_does_not_depend_on_the_scale_of_the_input() -> None:
    scaled = lambda _: [(4 * ONES[0], ONES[1])]  # noqa: E731
    assert same_masks(synflow(resnet(), 0.1), synflow(resnet(), 0.1, source=scaled))


def test_scoring_leaves_the_model_bit_identical() -> None:
    model = resnet().to(memory_format=torch.channels_last)
    model.get_submodule("stage2").eval()
    model.fc.weight.requires_grad_(False)
    model.conv1.weight.grad = torch.ones_like(model.conv1.weight)
    unchanged = state_check(model)
    found = flow(model)
    assert unchanged() and all(s.any() and not s.requires_grad for s in found.values())
    synflow(model, 1.0, 3)  # density 1
    assert unchanged()


# --- inputs and types


def test_signed_inputs_are_summed_over_examples_and_batches() -> None:
    # One linear layer: R = sum over examples of |w| . x, so s_j = |w_j| |sum of x_j|.
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-2.0, 0.5]]))
    batches = [
        (torch.tensor([[1.0, -4.0], [2.0, 1.0]]), torch.zeros(2)),
        (torch.tensor([[-6.0, 1.0]]), torch.zeros(1)),
        (torch.tensor([[99.0, 99.0]]), torch.zeros(1)),
    ]
    masks = full_masks(model)
    for count, expected in ((1, [[6.0, 1.5]]), (2, [[6.0, 1.0]])):
        scores = SynFlow(batches=count)(model, masks, iter(batches), F.cross_entropy, seeded())
        assert scores["weight"].tolist() == expected


def test_training_images_and_noise_can_be_inputs() -> None:
    data = images(16)
    masking = pruner(SynFlow(), source=Train(8), schedule=Exponential(5))(
        resnet(), full_masks(resnet()), task(0.1, data)
    )
    assert count_kept(masking.masks) == round(0.1 * count_prunable(masking.masks))
    drawn: list[Tensor] = []

    def chi(task: Task) -> list[tuple[Tensor, Tensor]]:
        drawn.append(torch.randn(128, *task.image, generator=task.rng).norm(dim=0, keepdim=True))
        return [(drawn[-1], ONES[1])]

    assert count_kept(synflow(resnet(), 0.1, 5, source=chi)) == count_kept(masking.masks)
    # the source is called again in every round
    assert len(drawn) == 5 and not torch.equal(drawn[0], drawn[1])


def test_float32_scores_agree_with_float64_without_overflow() -> None:
    single, double = flow(resnet(), dtype="float32"), flow(resnet())
    for name in double:
        assert (single[name].dtype, double[name].dtype) == (torch.float32, torch.float64)
        torch.testing.assert_close(single[name].double(), double[name], rtol=1e-4, atol=0)


def test_float32_overflow_raises_an_error_that_names_the_layer() -> None:
    deep = ResNetCifar("deep", depth=44, width=16)(1, 10, 8, seeded())
    with pytest.raises(FloatingPointError, match=r"scores of conv1.weight are NaN or infinite"):
        synflow(deep, 0.1, 1, SynFlow(dtype="float32"))
    assert all(s.isfinite().all() for s in flow(deep).values())
    assert all(deep.get_parameter(name).all() for name in full_masks(deep))  # nothing was pruned


def test_differences_below_float32_resolution_decide_the_mask() -> None:
    # The weights have scores 1 and 1 + e with e = 1e-12: in float32 they would tie and the first
    # would be kept.
    model = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 1.0 + 1e-12]], dtype=torch.float64))
    masks = masks_of(SynFlow(), model, 0.5, source=lambda _: [(torch.ones(1, 2), ONES[1])])
    assert masks["weight"].tolist() == [[False, True]]


# --- pruning


@pytest.mark.parametrize(("density", "kept"), [(0.1, 27_090), (0.02, 5_418)])
def test_resnet20_keeps_the_exact_count_and_every_output(density: float, kept: int) -> None:
    model = resnet20()
    masks = synflow(model, density, image=(3, 32, 32))
    assert count_prunable(masks) == 270_896 and count_kept(masks) == kept
    trunk = {name: int(mask.sum()) for name, mask in masks.items() if "shortcut" not in name}
    assert min(trunk.values()) > 0 and reached_outputs(model, masks, (3, 32, 32)) == (10, 10)
    # docs/methods/synflow.md: about equal counts in all convolutions of the trunk
    if density == 0.1:
        assert all(1_150 <= count <= 1_850 for name, count in trunk.items() if "stage" in name)


def test_one_shot_empties_most_of_the_last_stage_of_resnet20() -> None:
    masks = synflow(resnet20(), 0.1, 1, image=(3, 32, 32))
    assert count_kept(masks) == 27_090
    # of 202,752
    assert (
        sum(
            int(mask.sum())
            for name, mask in masks.items()
            if "stage3" in name and "shortcut" not in name
        )
        < 1_000
    )


def test_masks_are_nested_and_the_flow_never_grows() -> None:
    model, densities = resnet(), Exponential(12)(0.02)
    masks, before = full_masks(model), total(model)
    for density in densities:
        smaller = pruner(SynFlow(), source=Ones(), schedule=Once())(
            model, masks, task(density, image=(1, 8, 8))
        ).masks
        assert count_kept(smaller) == round(density * count_prunable(masks))
        assert not any((smaller[name] & ~masks[name]).any() for name in masks)
        masks, after = smaller, total(model)
        assert 0 < after <= before
        before = after
    assert same_masks(masks, synflow(resnet(), 0.02, 12))


def test_pruned_weights_have_score_zero_even_before_they_are_set_to_zero() -> None:
    model = resnet()
    masks = {
        name: torch.rand(mask.shape, generator=seeded(2)) < 0.6
        for name, mask in full_masks(model).items()
    }
    found = flow(model, masks)
    assert all(not found[name][~mask].any() for name, mask in masks.items())
    apply_masks(model, masks)
    assert all(torch.equal(found[name], s) for name, s in flow(model).items())


# --- options


def test_the_exponential_schedule_keeps_equal_shares_and_ends_at_the_density() -> None:
    assert Exponential(2)(0.25) == [0.5, 0.25]
    for density in (0.1, 0.02, 0.53, 1.0):
        found = Exponential()(density)
        assert len(found) == 100 and found[-1] == density
        assert all(abs(b / a - density**0.01) < 1e-12 for a, b in itertools.pairwise([1.0, *found]))
    with pytest.raises(ValueError, match="schedule.iterations=0 must be at least 1"):
        Exponential(0)


def test_ones_are_one_image_of_the_data_sets_shape() -> None:
    ((x, y),) = Ones()(task(0.5, image=(3, 5, 5)))
    assert torch.equal(x, torch.ones(1, 3, 5, 5)) and y.tolist() == [0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": 0}, "batches=0 must be at least 1"),
        ({"dtype": "float16"}, "dtype='float16' must be one of float32, float64"),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SynFlow(**options)


def test_an_empty_pass_is_rejected() -> None:
    with pytest.raises(ValueError, match="at least one input"):
        SynFlow()(mlp(), full_masks(mlp()), [], F.cross_entropy, seeded())

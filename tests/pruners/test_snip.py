"""SNIP (docs/methods/snip.md): scores against closed formulas, finite differences, conservation."""

from typing import Any

import pytest
import torch
from small_nets import (
    images,
    l1_loss,
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
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from pruners.base import Batch, LossFn, Scores, count_kept, count_prunable, full_masks
from pruners.scores.gradients import mean_gradients
from pruners.scores.snip import Snip


def score(
    model: nn.Module, *batches: Batch, loss: LossFn = F.cross_entropy, **options: Any
) -> Scores:
    return Snip(**{"batches": len(batches), **options})(
        model, full_masks(model), iter(batches), loss, seeded()
    )


def relu_net(*modules: nn.Module) -> nn.Module:
    """A sequential bias-free ReLU net 64-30-20-10 in float64, with `modules` after the first
    layer."""
    torch.manual_seed(0)
    sizes = [
        nn.Linear(64, 30, bias=False),
        *modules,
        nn.ReLU(),
        nn.Linear(30, 20, bias=False),
        nn.ReLU(),
        nn.Linear(20, 10, bias=False),
    ]
    return nn.Sequential(nn.Flatten(), *sizes).double()


def signed_sums(model: nn.Module) -> list[float]:
    """The sum of w * dL/dw over each layer, in eval mode."""
    x, y = images()
    grads = mean_gradients(model, full_masks(model), [(x.double(), y)], F.cross_entropy, bn="eval")
    return [
        float((model.get_parameter(name).detach() * grad).sum()) for name, grad in grads.items()
    ]


def test_snip_keeps_the_weight_with_the_larger_gradient_product() -> None:
    # L = |w1 x1 + w2 x2 - y|, x = (1, 4), w = (3, 1), y = 0: dL/dw = (1, 4), so |w * dL/dw| = (3,
    # 4). Magnitude would keep the other weight.
    model, data = linear([[3.0, 1.0]]), (torch.tensor([[1.0, 4.0]]), torch.tensor([0.0]))
    assert score(model, data, loss=l1_loss)["weight"].tolist() == [[3.0, 4.0]]
    masking = pruner(Snip())(model, full_masks(model), task(0.5, data, l1_loss))
    assert masking.masks["weight"].tolist() == [[False, True]]
    assert model.weight.tolist() == [[0.0, 1.0]]


def test_scores_of_a_linear_model_on_one_hot_rows_are_weight_times_input_over_n() -> None:
    # f = w.x, l1 loss, each of n = 4 rows has one non-zero: s_j = |w_j| * |x_j| / n. w = (2, -1, 3,
    # 0.5), x = (1, 4, -2, 8): (2, 4, 6, 4) / 4.
    x = torch.diag(torch.tensor([1.0, 4.0, -2.0, 8.0]))
    found = score(linear([[2.0, -1.0, 3.0, 0.5]]), (x, torch.full((4,), -100.0)), loss=l1_loss)
    assert found["weight"].tolist() == [[0.5, 1.0, 1.5, 1.0]]


@pytest.mark.parametrize("bn", ["train", "eval"])
def test_scores_equal_the_gradient_with_respect_to_the_mask(bn: str) -> None:
    model, (x, y) = resnet().double(), images()
    masks = {
        name: torch.ones_like(model.get_parameter(name), requires_grad=True)
        for name in full_masks(model)
    }
    model.train(bn == "train")
    loss = F.cross_entropy(
        functional_call(
            model, {name: m * model.get_parameter(name) for name, m in masks.items()}, (x.double(),)
        ),
        y,
    )
    by_mask = dict(zip(masks, torch.autograd.grad(loss, list(masks.values())), strict=True))
    for name, found in score(model, (x.double(), y), bn=bn).items():
        torch.testing.assert_close(found, by_mask[name].abs(), rtol=1e-6, atol=1e-15)


def test_scores_equal_finite_differences_with_respect_to_the_mask() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    x, y = torch.randn(6, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    step = 1e-6
    for name, found in score(model, (x, y)).items():
        weight = model.get_parameter(name).detach().clone()
        for index in range(weight.numel()):
            losses = []
            for sign in (1, -1):
                mask = torch.ones_like(weight)
                mask.view(-1)[index] += sign * step
                losses.append(
                    float(
                        F.cross_entropy(
                            functional_call(model, {name: weight * mask}, (x,)), y
                        ).detach()
                    )
                )
            assert (
                abs(abs(losses[0] - losses[1]) / (2 * step) - float(found.view(-1)[index])) < 1e-8
            )


def test_scores_are_finite_nonnegative_and_zero_without_gradient() -> None:
    # Pixel 5 is always black and hidden unit 2 is never active: their weights, and the unit's
    # outgoing weights, have no gradient.
    model, (x, y) = mlp(), images()
    x.view(-1, 64)[:, 5] = 0
    with torch.no_grad():
        model.fc1.bias[2] = -1e6
    found = score(model, (x, y))
    assert all(s.isfinite().all() and (s >= 0).all() for s in found.values())
    assert not found["fc1.weight"][:, 5].any()
    assert not found["fc1.weight"][2].any()
    assert not found["fc2.weight"][:, 2].any()
    assert list(found) == ["fc1.weight", "fc2.weight", "fc3.weight"]  # biases are not scored
    total = sum(s.sum() for s in found.values())
    assert abs(float(sum((s / total).sum() for s in found.values())) - 1) < 1e-5


@pytest.mark.parametrize("density", [0.9, 0.5, 0.1, 0.02])
@pytest.mark.parametrize("bn", ["train", "eval"])
def test_the_kept_count_is_exact(bn: str, density: float) -> None:
    masks = masks_of(Snip(bn=bn), resnet(), density)
    assert count_kept(masks) == round(density * count_prunable(masks))


def test_the_mask_does_not_depend_on_the_scale_of_the_loss_or_the_order_of_the_batch() -> None:
    (x, y), found = images(), []
    order = torch.randperm(len(y), generator=seeded(1))
    for data, factor in (((x, y), 1.0), ((x, y), 8.0), ((x[order], y[order]), 1.0)):

        def loss(logits: Tensor, labels: Tensor, factor: float = factor) -> Tensor:
            return factor * F.cross_entropy(logits, labels)

        model = resnet().double()
        found.append(
            pruner(Snip(bn="eval"))(
                model, full_masks(model), task(0.3, (data[0].double(), data[1]), loss)
            ).masks
        )
    assert same_masks(found[0], found[1]) and same_masks(found[0], found[2])


def test_signed_sums_are_equal_in_all_layers_of_a_bias_free_relu_net() -> None:
    first, *others = signed_sums(relu_net())
    assert abs(first) > 1e-3 and all(abs(other - first) < 1e-12 for other in others)


def test_signed_sums_are_equal_with_eval_mode_batchnorm_of_zero_mean() -> None:
    norm = nn.BatchNorm1d(30)
    nn.init.uniform_(norm.weight, 0.5, 2.0)
    norm.running_var.uniform_(0.5, 2.0)
    first, *others = signed_sums(relu_net(norm))
    assert abs(first) > 1e-3 and all(abs(other - first) < 1e-12 for other in others)


def test_the_signed_sum_of_a_filter_before_batchnorm_vanishes_in_train_mode() -> None:
    # BatchNorm cancels the scale of each filter, up to its eps.
    model, (x, y) = resnet().double(), images()
    grads = mean_gradients(model, full_masks(model), [(x.double(), y)], F.cross_entropy, bn="train")
    product = {name: model.get_parameter(name).detach() * grad for name, grad in grads.items()}
    for name, values in product.items():
        signed, absolute = values.flatten(1).sum(dim=1).abs(), values.abs().flatten(1).sum(dim=1)
        if "conv" in name:
            assert (signed < 1e-3 * absolute + 1e-9).all()
        else:
            assert (signed > 1e-3 * absolute).any()  # no BatchNorm follows the classifier


@pytest.mark.parametrize("bn", ["train", "eval"])
def test_scoring_leaves_the_model_bit_identical(bn: str) -> None:
    model = resnet()
    model.get_submodule("stage2").eval()  # training flags differ between modules
    model.fc.bias.requires_grad_(False)
    model.fc.weight.requires_grad_(False)  # it must be scored nevertheless
    model.conv1.weight.grad = torch.ones_like(model.conv1.weight)
    unchanged = state_check(model)
    found = score(model, images(), bn=bn)
    assert unchanged()
    assert found["fc.weight"].any()
    assert not any(s.requires_grad for s in found.values())


def test_batchnorm_mode_changes_the_scores() -> None:
    train, evaluation = (
        score(resnet(), images(), bn=bn)["conv1.weight"] for bn in ("train", "eval")
    )
    assert not torch.allclose(train, evaluation)


def test_equal_seeds_give_equal_masks() -> None:
    assert same_masks(
        masks_of(Snip(), resnet(), 0.3, seed=1), masks_of(Snip(), resnet(), 0.3, seed=1)
    )


def test_batches_count_by_their_examples_and_no_further_ones_are_read() -> None:
    # y_hat = 2x, loss |2x - y|, y much smaller: dL/dw = mean x. Batches (1, 2, 3) and (10): mean 4,
    # score 8. The third batch would change it.
    model, labels = linear([[2.0]]), -100.0
    batches = [
        (torch.tensor(xs).view(-1, 1), torch.full((len(xs),), labels))
        for xs in ([1.0, 2.0, 3.0], [10.0], [999.0])
    ]
    assert score(model, *batches, loss=l1_loss, batches=1)["weight"].item() == 4.0
    assert score(model, *batches, loss=l1_loss, batches=2)["weight"].item() == 8.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": 0}, "batches=0 must be at least 1"),
        ({"bn": "batch"}, "bn='batch' must be one of train, eval"),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Snip(**options)

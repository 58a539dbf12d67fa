"""GraSP (docs/methods/grasp.md): scores against explicit Hessians, maps, balanced batches."""

from typing import Any

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
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from pruners.base import (
    Batch,
    LossFn,
    Masks,
    Scores,
    count_kept,
    count_prunable,
    full_masks,
    prunable_names,
)
from pruners.scores.gradients import mean_gradients
from pruners.scores.grasp import Grasp, hessian_gradient, mapped
from pruners.selection.source import Balanced, Train


def score(
    model: nn.Module,
    *batches: Batch,
    loss: LossFn = F.cross_entropy,
    masks: Masks | None = None,
    seed: int = 0,
    **options: Any,
) -> Scores:
    given = full_masks(model) if masks is None else masks
    return Grasp(**{"batches": len(batches), **options})(
        model, given, iter(batches), loss, seeded(seed)
    )


def doubled(batch: Batch) -> Batch:
    return batch[0].double(), batch[1]


def tanh_net() -> nn.Module:
    """5-4-3 in float64, smooth, with biases: 32 prunable weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()


def few() -> Batch:
    return torch.randn(6, 5, dtype=torch.float64, generator=seeded(1)), torch.tensor(
        [0, 1, 2, 0, 1, 2]
    )


def flat(scores: Scores) -> Tensor:
    return torch.cat([s.flatten() for s in scores.values()])


# --- the score


def test_the_score_on_a_quadratic_loss_is_w_times_a_squared_w() -> None:
    # L = (a1 w1^2 + a2 w2^2) / 2 through outputs w_i sqrt(a_i): g = A w, Hg = A^2 w, w * Hg = a^2
    # w^2. a = (1, 4), w = (3, -1): (9, 16). Magnitude would keep the other weight.
    model, x = linear([[3.0, -1.0]]), torch.diag(torch.tensor([1.0, 2.0]))
    half_squares = lambda outputs, labels: (outputs**2).sum() / 2  # noqa: E731
    data = (x, torch.zeros(2))
    scores = score(model, data, loss=half_squares, temperature=1.0)
    assert scores["weight"].tolist() == [[9.0, 16.0]]
    masking = pruner(Grasp(temperature=1.0))(
        model, full_masks(model), task(0.5, data, half_squares)
    )
    assert masking.masks["weight"].tolist() == [[False, True]]


def test_the_weights_with_the_smallest_signed_s_are_kept() -> None:
    # Two weights in a row, f = b a x, L = f^2 / 2, x = 1: with a = 1, b = 2, g = (a b^2, b a^2) =
    # (4, 2) and H = [[b^2, 2ab], [2ab, a^2]] = [[4, 4], [4, 1]]. Hg = (24, 18), w * Hg = (24, 36).
    # At a = 0 both vanish. A third weight c that the output subtracts, f = b a x - c with c = 1: f
    # = 1, g = (2, 1, -1), H = [[4, 3, -2], [3, 1, -1], [-2, -1, 1]] (d2f/dadb = 1 adds f): Hg =
    # (13, 8, -6), w * Hg = (13, 16, -6). S = (-13, -16, 6): c is pruned first, then a.
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (linear([[value]]) for value in (1.0, 2.0, 1.0))

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x)) - self.c(x)

    data = (torch.ones(1, 1), torch.zeros(1))
    half_square = lambda outputs, labels: (outputs**2).sum() / 2  # noqa: E731
    scores = score(Net(), data, loss=half_square, temperature=1.0)
    assert flat(scores).tolist() == [13.0, 16.0, -6.0]
    for density, kept in ((2 / 3, [1, 1, 0]), (1 / 3, [0, 1, 0])):
        model = Net()
        masks = pruner(Grasp(temperature=1.0))(
            model, full_masks(model), task(density, data, half_square)
        ).masks
        assert kept_by_layer(masks) == kept


@pytest.mark.parametrize("temperature", [1.0, 200.0])
def test_scores_equal_those_of_an_explicit_hessian(temperature: float) -> None:
    model, (x, y) = tanh_net(), few()
    names = prunable_names(model)
    shapes = [model.get_parameter(name).shape for name in names]
    start = torch.cat([model.get_parameter(name).detach().flatten() for name in names])

    def loss_at(theta: Tensor) -> Tensor:
        parts = theta.split([shape.numel() for shape in shapes])
        weights = {
            name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)
        }
        logits = functional_call(model, weights, (x,)) / temperature
        return -logits.log_softmax(dim=1)[range(6), y].mean()

    hessian = torch.autograd.functional.hessian(loss_at, start)  # (32, 32)
    gradient = torch.autograd.functional.jacobian(loss_at, start)
    torch.testing.assert_close(
        flat(score(model, (x, y), temperature=temperature)),
        start * (hessian @ gradient),
        rtol=1e-10,
        atol=0,
    )


def test_hg_equals_the_central_difference_of_the_gradient_along_g() -> None:
    model, data, step = tanh_net(), few(), 1e-4
    masks = full_masks(model)
    g = mean_gradients(model, masks, [data], F.cross_entropy)
    sides = []
    for sign in (1, -1):
        moved = tanh_net()
        with torch.no_grad():
            for name in masks:
                moved.get_parameter(name).add_(sign * step * g[name])
        sides.append(mean_gradients(moved, masks, [data], F.cross_entropy))
    for name, product in hessian_gradient(model, g, [data], F.cross_entropy, len(data[1])).items():
        torch.testing.assert_close(
            product, (sides[0][name] - sides[1][name]) / (2 * step), rtol=1e-4, atol=1e-9
        )


def test_scores_sum_to_the_quadratic_form_of_weights_and_gradient() -> None:
    model, data = tanh_net(), few()
    g = mean_gradients(model, full_masks(model), [data], F.cross_entropy)
    weights = {name: model.get_parameter(name).detach() for name in g}
    hw = hessian_gradient(
        model, weights, [data], F.cross_entropy, len(data[1])
    )  # H w, so that w' H g = g' H w
    assert (
        abs(float(flat(score(model, data, temperature=1.0)).sum()) - float(flat(g) @ flat(hw)))
        < 1e-12
    )


def test_weights_without_gradient_and_losses_without_curvature_score_zero() -> None:
    found = score(
        linear([[1.0, 2.0]]),
        (torch.tensor([[1.0, 4.0]]), torch.tensor([0.0])),
        loss=lambda outputs, labels: outputs.sum(),
    )
    assert found["weight"].tolist() == [[0.0, 0.0]]
    model, (x, y) = mlp(), images()
    x.view(-1, 64)[:, 5] = 0
    assert not score(model, (x, y))["fc1.weight"][:, 5].any()


# --- invariances


def test_the_mask_does_not_depend_on_the_scale_of_the_loss_or_the_order_of_the_images() -> None:
    x, y = doubled(images())
    order, found = torch.randperm(len(y), generator=seeded(1)), []
    for data, factor in (((x, y), 1.0), ((x, y), 8.0), ((x[order], y[order]), 1.0)):

        def loss(logits: Tensor, labels: Tensor, factor: float = factor) -> Tensor:
            return factor * F.cross_entropy(logits, labels)

        model = resnet().double()
        found.append(pruner(Grasp())(model, full_masks(model), task(0.3, data, loss)).masks)
    assert same_masks(found[0], found[1]) and same_masks(found[0], found[2])


def test_chunks_of_any_size_give_the_scores_of_one_batch_in_eval_mode() -> None:
    model, (x, y) = resnet().double(), doubled(images(12))
    whole = score(model, (x, y), bn="eval")
    for size in (4, 5):
        chunks = score(model, *zip(x.split(size), y.split(size), strict=True), bn="eval")
        for name in whole:
            torch.testing.assert_close(chunks[name], whole[name], rtol=1e-8, atol=1e-18)
    back = score(model, *reversed(list(zip(x.split(4), y.split(4), strict=True))), bn="eval")
    torch.testing.assert_close(flat(back), flat(whole), rtol=1e-8, atol=1e-18)


def test_a_high_temperature_scales_all_scores_alike() -> None:
    # At high temperatures the softmax is uniform and L = log 3 + (mean f - f_y) / T + O(1/T^2): g ~
    # 1/T, and H ~ 1/T through the curvature of f itself.
    model, data = tanh_net(), few()
    one, other = (flat(score(model, data, temperature=t)) for t in (1e6, 2e6))
    torch.testing.assert_close(one / 4, other, rtol=1e-3, atol=0)


# --- the model is unchanged


@pytest.mark.parametrize("options", [{"bn": "train"}, {"bn": "eval"}, {"linear": "xavier"}])
def test_scoring_leaves_the_model_bit_identical(options: dict[str, Any]) -> None:
    model = resnet().to(memory_format=torch.channels_last)
    model.get_submodule("stage2").eval()
    model.fc.bias.requires_grad_(False)
    model.fc.weight.requires_grad_(False)  # it must be scored nevertheless
    model.conv1.weight.grad = torch.ones_like(model.conv1.weight)
    unchanged = state_check(model)
    found = score(model, images(), **options)
    assert unchanged() and all(s.any() and not s.requires_grad for s in found.values())


def test_scores_before_train_mode_batchnorm_sum_to_minus_the_squared_gradient() -> None:
    # Batch statistics cancel the scale of filter w: L(c w) = L(w), so its gradient g_w is
    # homogeneous of degree -1 and all other gradients do not depend on c. Hence H (w, 0) = (-g_w,
    # 0), and the sum of w * Hg over the filter is g . H (w, 0) = -|g_w|^2. This does not hold for
    # running statistics.
    model, (x, y) = resnet().double(), doubled(images())
    for bn, holds in (("train", True), ("eval", False)):
        g = mean_gradients(model, full_masks(model), [(x, y)], F.cross_entropy, bn)["conv1.weight"]
        found = score(model, (x, y), bn=bn, temperature=1.0)["conv1.weight"].flatten(1).sum(dim=1)
        assert torch.allclose(found, -g.flatten(1).square().sum(dim=1), rtol=1e-2, atol=0) is holds


# --- the two passes


def test_both_passes_read_the_same_batches_and_no_further_ones() -> None:
    read = []

    def batches() -> Any:
        for i, batch in enumerate(zip(*(t.split(4) for t in images(16)), strict=True)):
            read.append(i)
            yield batch

    model = mlp()
    found = Grasp(batches=2)(model, full_masks(model), batches(), F.cross_entropy, seeded())
    x, y = images(16)
    again = score(model, (x[:4], y[:4]), (x[4:8], y[4:8]))
    assert read == [0, 1] and all(torch.equal(found[name], again[name]) for name in found)


def test_an_empty_pass_is_rejected() -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        score(mlp(), batches=1)


# --- pruning


@pytest.mark.parametrize("density", [0.9, 0.5, 0.1, 0.02])
@pytest.mark.parametrize("bn", ["train", "eval"])
def test_the_kept_count_is_exact_and_kept_weights_have_the_smallest_s(
    bn: str, density: float
) -> None:
    masks = masks_of(Grasp(bn=bn), resnet(), density, source=Train(256))
    assert count_kept(masks) == round(density * count_prunable(masks))
    s = -flat(score(resnet(), images(), bn=bn))
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    assert s[kept].max() <= s[~kept].min()


def test_equal_seeds_give_equal_masks() -> None:
    assert same_masks(
        masks_of(Grasp(linear="xavier"), resnet(), 0.3, seed=1),
        masks_of(Grasp(linear="xavier"), resnet(), 0.3, seed=1),
    )


def test_xavier_redraws_linear_layers_for_the_score_only_and_masks_the_redrawn_weights() -> None:
    model, data = resnet(), images()
    one = score(model, data, linear="xavier", seed=1)
    other = score(model, data, linear="xavier", seed=2)
    own = score(model, data)
    assert not torch.equal(one["fc.weight"], other["fc.weight"])
    assert not torch.equal(one["fc.weight"], own["fc.weight"])
    masks = full_masks(model)
    masks["fc.weight"][:, :3] = False
    assert not score(model, data, linear="xavier", masks=masks)["fc.weight"][:, :3].any()
    # the same draw, written into the model by hand, gives the same scores with linear=as_is
    with torch.no_grad():
        nn.init.xavier_normal_(model.fc.weight, generator=seeded(1))
    assert all(torch.equal(one[name], s) for name, s in score(model, data).items())


def test_overflowed_weights_raise_an_error_that_names_the_layer() -> None:
    model = mlp()
    with torch.no_grad():
        model.fc2.weight.mul_(1e38)
    with pytest.raises(FloatingPointError, match=r"scores of fc\d.weight are NaN or infinite"):
        masks_of(Grasp(), model, 0.3)
    assert all(model.get_parameter(name).any() for name in prunable_names(model))


# --- maps to non-negative scores


def test_maps_make_signed_scores_non_negative() -> None:
    values, mask = torch.tensor([-4.0, 3.0, 0.0, -1.0]), torch.tensor([True, True, False, True])
    assert mapped(values, mask, "signed").tolist() == [-4.0, 3.0, 0.0, -1.0]
    assert mapped(values, mask, "positive").tolist() == [0.0, 3.0, 0.0, 0.0]
    assert mapped(values, mask, "shifted").tolist() == [0.0, 7.0, 0.0, 3.0]
    assert mapped(values, mask, "absolute").tolist() == [4.0, 3.0, 0.0, 1.0]
    # no weight is left
    empty = mapped(torch.zeros(2), torch.zeros(2, dtype=torch.bool), "shifted")
    assert empty.tolist() == [0.0, 0.0]


def test_the_positive_map_gives_the_signed_mask_while_the_threshold_is_positive() -> None:
    signed, positive, absolute = (
        masks_of(Grasp(map=how), resnet(), 0.1) for how in ("signed", "positive", "absolute")
    )
    assert same_masks(signed, positive) and not same_masks(signed, absolute)


# --- the source


def test_balanced_batches_have_equal_class_counts_in_the_order_of_the_pass() -> None:
    #            0  1  2  3  4  5  6  7  8  9 10 11
    y = torch.tensor([0, 0, 1, 0, 2, 0, 2, 1, 2, 1, 1, 2])
    x = torch.arange(12.0).view(12, 1, 1, 1)
    for size in (1, 2):
        given = [
            places.flatten().tolist() for places, _ in Balanced(size)(task(0.5, (x, y), classes=3))
        ]
        assert (
            given
            == {
                1: [[0, 2, 4], [1, 6, 7], [3, 8, 9], [5, 10, 11]],
                2: [[0, 1, 2, 4, 6, 7], [3, 5, 8, 9, 10, 11]],
            }[size]
        )
    for places, labels in Balanced(2)(task(0.5, (x, y), classes=3)):
        assert torch.equal(labels, y[places.flatten().long()])
        assert torch.bincount(labels).tolist() == [2, 2, 2]


def test_a_class_with_too_few_images_is_named() -> None:
    with pytest.raises(
        ValueError,
        match=(
            "source.per_class=3: class 1 has 2 training images; take fewer per class, a larger"
            " train_fraction, or source=train"
        ),
    ):
        list(
            Balanced(3)(task(0.5, (torch.zeros(6, 1), torch.tensor([0, 0, 0, 1, 1, 0])), classes=2))
        )
    with pytest.raises(ValueError, match="source.per_class=0 must be at least 1"):
        Balanced(0)


def test_the_default_source_has_ten_images_of_each_class() -> None:
    x, y = images(400)
    seen: list[Tensor] = []

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        seen.append(labels)
        return F.cross_entropy(logits, labels)

    model = mlp()
    pruner(Grasp(), source=Balanced())(
        model, full_masks(model), task(0.3, (x, y), loss, classes=10)
    )
    # one pass for g, one for Hg
    assert len(seen) == 2
    assert torch.equal(seen[0], seen[1])
    assert torch.bincount(seen[0]).tolist() == [10] * 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": 0}, "batches=0 must be at least 1"),
        ({"bn": "batch"}, "bn='batch' must be one of train, eval"),
        ({"temperature": 0.0}, "temperature=0 must be positive"),
        ({"linear": "new"}, "linear='new' must be one of as_is, xavier"),
        ({"map": "square"}, "map='square' must be one of signed, positive, shifted, absolute"),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grasp(**options)

"""Mean gradients by parameter name, and the guard that restores a scored model."""

import pytest
import torch
from small_nets import images, l1_loss, linear, resnet, state_check
from torch import nn
from torch.nn import functional as F

from pruners.base import full_masks
from pruners.scores.gradients import mean_gradients, undisturbed


def test_the_gradient_is_that_of_the_mean_loss_over_all_examples() -> None:
    # L = mean |w x - y| with w x > y: dL/dw = mean x = (1 + 2 + 6) / 3 for every split of the three
    # examples into batches.
    model, x, y = linear([[1.0]]), torch.tensor([[1.0], [2.0], [6.0]]), torch.full((3,), -50.0)
    for cut in (3, 2, 1):
        assert (
            mean_gradients(
                model, full_masks(model), zip(x.split(cut), y.split(cut), strict=True), l1_loss
            )["weight"].item()
            == 3.0
        )


def test_unequal_chunks_give_the_result_of_one_batch_in_eval_mode() -> None:
    model, (x, y) = resnet().double(), images(11)
    whole = mean_gradients(model, full_masks(model), [(x.double(), y)], F.cross_entropy)
    chunks = mean_gradients(
        model, full_masks(model), zip(x.double().split(4), y.split(4), strict=True), F.cross_entropy
    )
    assert list(whole) == list(full_masks(model))
    for name in whole:
        torch.testing.assert_close(chunks[name], whole[name], rtol=1e-12, atol=1e-14)


def test_a_parameter_that_the_loss_does_not_use_has_gradient_zero() -> None:
    model = nn.ModuleDict({"used": nn.Linear(2, 2), "idle": nn.Linear(2, 2)})
    model.forward = model["used"].forward
    grads = mean_gradients(
        model, full_masks(model), [(torch.ones(1, 2), torch.tensor([0]))], F.cross_entropy
    )
    assert grads["used.weight"].any() and not grads["idle.weight"].any()


def test_an_empty_pass_is_rejected() -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        mean_gradients(linear([[1.0]]), {"weight": torch.ones(1, 1, dtype=torch.bool)}, [], l1_loss)


@pytest.mark.parametrize("bn", ["train", "eval"])
def test_the_guard_sets_the_mode_and_restores_the_model(bn: str) -> None:
    model = resnet()
    model.get_submodule("stage3").eval()
    model.fc.weight.requires_grad_(False)
    unchanged = state_check(model)
    with undisturbed(model, bn):
        assert all(m.training == (bn == "train") for m in model.modules())
        model.fc.weight.requires_grad_(True)
        F.cross_entropy(model(images()[0]), images()[1]).backward()
        assert model.fc.weight.grad is not None
    assert unchanged()


def test_the_guard_restores_gradients_that_backward_adds_to() -> None:
    model = linear([[1.0]])
    model.weight.grad = torch.tensor([[3.0]])
    with undisturbed(model):
        model(torch.tensor([[5.0]])).sum().backward()
    assert model.weight.grad.tolist() == [[3.0]]


def test_the_guard_restores_the_model_after_an_error() -> None:
    model = resnet()
    unchanged = state_check(model)
    with pytest.raises(RuntimeError, match="on purpose"), undisturbed(model, "train"):
        model(images()[0])
        raise RuntimeError("on purpose")
    assert unchanged()


def test_an_unknown_batchnorm_mode_is_rejected() -> None:
    with (
        pytest.raises(ValueError, match="bn='off' must be one of train, eval"),
        undisturbed(resnet(), "off"),
    ):
        pass

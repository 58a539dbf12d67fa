"""Mean gradients by name, and the guard that leaves a scored model as it was."""

import pytest
import torch
from small_nets import images, l1_loss, linear, photograph, resnet
from torch import nn
from torch.nn import functional as F

from pruners.base import full_masks
from pruners.scores.gradients import mean_gradients, undisturbed


def test_the_gradient_is_that_of_the_mean_loss_over_all_examples() -> None:
    # L = mean |w x - y| with w x > y: dL/dw = mean x = (1 + 2 + 6) / 3, however the three examples
    # are cut into batches.
    model, x, y = linear([[1.0]]), torch.tensor([[1.0], [2.0], [6.0]]), torch.full((3,), -50.0)
    for cut in (3, 2, 1):
        assert (
            mean_gradients(
                model, full_masks(model), zip(x.split(cut), y.split(cut), strict=True), l1_loss
            )["weight"].item()
            == 3.0
        )


def test_unequal_chunks_give_what_one_batch_gives_in_eval_mode() -> None:
    model, (x, y) = resnet().double(), images(11)
    whole = mean_gradients(model, full_masks(model), [(x.double(), y)], F.cross_entropy)
    chunks = mean_gradients(
        model, full_masks(model), zip(x.double().split(4), y.split(4), strict=True), F.cross_entropy
    )
    assert list(whole) == list(full_masks(model))
    for name in whole:
        torch.testing.assert_close(chunks[name], whole[name], rtol=1e-12, atol=1e-14)


def test_a_parameter_that_the_loss_does_not_reach_has_gradient_zero() -> None:
    model = nn.ModuleDict({"used": nn.Linear(2, 2), "idle": nn.Linear(2, 2)})
    model.forward = model["used"].forward  # type: ignore[method-assign]
    grads = mean_gradients(
        model, full_masks(model), [(torch.ones(1, 2), torch.tensor([0]))], F.cross_entropy
    )
    assert grads["used.weight"].any() and not grads["idle.weight"].any()


def test_no_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        mean_gradients(linear([[1.0]]), {"weight": torch.ones(1, 1, dtype=torch.bool)}, [], l1_loss)


@pytest.mark.parametrize("bn", ["train", "eval"])
def test_the_guard_sets_the_mode_and_restores_everything(bn: str) -> None:
    model = resnet()
    model.get_submodule("stage3").eval()
    model.fc.weight.requires_grad_(False)
    unchanged = photograph(model)
    with undisturbed(model, bn):
        assert all(m.training == (bn == "train") for m in model.modules())
        model.fc.weight.requires_grad_(True)
        F.cross_entropy(model(images()[0]), images()[1]).backward()
        assert model.fc.weight.grad is not None
    assert unchanged()


def test_the_guard_restores_gradients_that_backward_would_add_to() -> None:
    model = linear([[1.0]])
    model.weight.grad = torch.tensor([[3.0]])
    with undisturbed(model):
        model(torch.tensor([[5.0]])).sum().backward()
    assert model.weight.grad.tolist() == [[3.0]]


def test_the_guard_restores_after_an_error_too() -> None:
    model = resnet()
    unchanged = photograph(model)
    with pytest.raises(RuntimeError, match="on purpose"), undisturbed(model, "train"):
        model(images()[0])
        raise RuntimeError("on purpose")
    assert unchanged()


def test_an_unknown_batchnorm_mode_is_refused() -> None:
    with (
        pytest.raises(ValueError, match="bn='off' must be one of train, eval"),
        undisturbed(resnet(), "off"),
    ):
        pass

"""The optimizer and the learning rates of the training loop."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from pruners.base import Masking
from runner.spec.run import Recipe


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Learning rate of step `step`, counted from the start of the schedule (a resumed stage starts in the middle of one).

    The recipe's schedule, times the warm-up: (t + 1) / T in step t of its T steps.
    """
    warm = round(recipe.warmup * steps_per_epoch)
    scheduled = recipe.lr_schedule(recipe.lr, step, recipe.epochs * steps_per_epoch)
    return scheduled * (min(1.0, (step + 1) / warm) if warm else 1.0)


class Sgd(torch.optim.SGD):
    """PyTorch's SGD to the bit, without the two seconds in which its guards against compilation import PyTorch's compiler into every process.

    Nothing is compiled here. `__dynamo_disable` is where torch/_compile.py keeps a method that is guarded already; a release that names it otherwise, or guards
    the step otherwise, imports the compiler again.
    """

    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))  # the guard around it is the outer function; inside, gradients are off as here

    def __init__(self, groups: list[dict[str, object]], **settings: Any) -> None:
        for method in vars(torch.optim.Optimizer).values():
            if inspect.isfunction(method) and method is not inspect.unwrap(method):
                inspect.unwrap(method).__dict__.setdefault("__dynamo_disable", inspect.unwrap(method))
        super().__init__(groups, **settings)


def make_optimizer(model: nn.Module, masking: Masking, recipe: Recipe) -> torch.optim.SGD:
    """SGD with momentum: a group for the network's parameters if they train, one for the masking's own trainables."""
    groups: list[dict[str, object]] = []
    if masking.train_weights:
        groups.append({"params": list(model.parameters())})
    if masking.trainable:
        groups.append({"params": list(masking.trainable.values()), "weight_decay": recipe.decay_of_trainables})
    return Sgd(groups, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.nesterov)


def momentum_by_name(model: nn.Module, opt: torch.optim.SGD) -> dict[str, Tensor]:
    """The momentum buffers of the network's parameters, by parameter name."""
    return {name: opt.state[p]["momentum_buffer"] for name, p in model.named_parameters() if opt.state.get(p, {}).get("momentum_buffer") is not None}


def carry_momentum(model: nn.Module, opt: torch.optim.SGD, momentum: dict[str, Tensor]) -> None:
    """Put saved momentum buffers into a fresh optimizer, in place."""
    for name, p in model.named_parameters():
        if name in momentum:
            opt.state[p]["momentum_buffer"] = momentum[name].to(p.device).clone()

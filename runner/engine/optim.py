"""Optimizer and learning rates of the training loop."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from pruners.base import Masking
from runner.spec.run import Recipe


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Learning rate of step `step`, counted from the start of the schedule.

    A stage that continues a schedule starts in the middle of it. The rate is the recipe's schedule
    times the warm-up factor, (t + 1) / T in step t of the T warm-up steps.
    """
    warm = round(recipe.warmup * steps_per_epoch)
    scheduled = recipe.lr_schedule(recipe.lr, step, recipe.epochs * steps_per_epoch)
    return scheduled * (min(1.0, (step + 1) / warm) if warm else 1.0)


class Sgd(torch.optim.SGD):
    """PyTorch's SGD, bit-identical, without the import of PyTorch's compiler.

    torch wraps an optimizer's methods to exclude them from compilation. The wrappers import the
    compiler, which takes two seconds in every process, although nothing is compiled here.
    torch/_compile.py looks up an excluded method in the attribute `__dynamo_disable`, which is set
    here. With another attribute or wrapper of `step`, a torch release would import the compiler.
    """

    # The removed wrapper also disables gradients, hence no_grad.
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))

    def __init__(self, groups: list[dict[str, object]], **settings: Any) -> None:
        for method in vars(torch.optim.Optimizer).values():
            if inspect.isfunction(method) and method is not inspect.unwrap(method):
                inspect.unwrap(method).__dict__.setdefault(
                    "__dynamo_disable", inspect.unwrap(method)
                )
        super().__init__(groups, **settings)


def make_optimizer(model: nn.Module, masking: Masking, recipe: Recipe) -> torch.optim.SGD:
    """SGD with momentum.

    The network's parameters, if they train, and the masking's own trainables form one group each.
    """
    groups: list[dict[str, object]] = []
    if masking.train_weights:
        groups.append({"params": list(model.parameters())})
    if masking.trainable:
        groups.append(
            {"params": list(masking.trainable.values()), "weight_decay": recipe.decay_of_trainables}
        )
    return Sgd(
        groups,
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )


def momentum_by_name(model: nn.Module, opt: torch.optim.SGD) -> dict[str, Tensor]:
    """The momentum buffers of the network's parameters, by parameter name."""
    return {
        name: opt.state[p]["momentum_buffer"]
        for name, p in model.named_parameters()
        if opt.state.get(p, {}).get("momentum_buffer") is not None
    }


def carry_momentum(model: nn.Module, opt: torch.optim.SGD, momentum: dict[str, Tensor]) -> None:
    """Put copies of saved momentum buffers into a new optimizer."""
    for name, p in model.named_parameters():
        if name in momentum:
            opt.state[p]["momentum_buffer"] = momentum[name].to(p.device).clone()

"""Optimizer and learning rates of the training loop."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pruners.base import Masking
from runner.spec import optimizer as spec
from runner.spec.recipe import Recipe

(MOMENTUM,) = spec.Sgd.buffers


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Learning rate of step `step`, counted from the start of the schedule.

    A stage that continues a schedule starts in the middle of it. The rate is the recipe's schedule
    times the warm-up factor, (t + 1) / T in step t of the T warm-up steps.
    """
    warm = round(recipe.warmup * steps_per_epoch)
    scheduled = recipe.lr_schedule(recipe.lr, step, recipe.epochs * steps_per_epoch)
    return scheduled * (min(1.0, (step + 1) / warm) if warm else 1.0)


class WithoutCompiler(torch.optim.Optimizer):
    """An optimizer of PyTorch's, bit-identical, without the import of PyTorch's compiler.

    torch wraps an optimizer's methods to exclude them from compilation. The wrappers import the
    compiler, which takes two seconds in every process, although nothing is compiled here.
    torch/_compile.py looks up an excluded method in the attribute `__dynamo_disable`, which is set
    here. With another attribute or wrapper of `step`, a torch release would import the compiler.
    """

    def __init__(self, groups: list[dict[str, object]], **settings: Any) -> None:
        for method in vars(torch.optim.Optimizer).values():
            if inspect.isfunction(method) and method is not inspect.unwrap(method):
                inspect.unwrap(method).__dict__.setdefault(
                    "__dynamo_disable", inspect.unwrap(method)
                )
        super().__init__(groups, **settings)


class Sgd(WithoutCompiler, torch.optim.SGD):
    """PyTorch's SGD."""

    # The removed wrapper also disables gradients, hence no_grad.
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class AdamW(WithoutCompiler, torch.optim.AdamW):
    """PyTorch's AdamW."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def _sgd(optimizer: spec.Sgd, groups: list[dict[str, object]], recipe: Recipe) -> Sgd:
    return Sgd(
        groups,
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )


def _adamw(optimizer: spec.AdamW, groups: list[dict[str, object]], recipe: Recipe) -> AdamW:
    return AdamW(
        groups,
        lr=recipe.lr,
        betas=(recipe.momentum, optimizer.beta2),
        eps=optimizer.eps,
        weight_decay=recipe.weight_decay,
    )


MAKERS: Mapping[type, Callable[..., torch.optim.Optimizer]] = {
    spec.Sgd: _sgd,
    spec.AdamW: _adamw,
}


def make_optimizer(model: nn.Module, masking: Masking, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer.

    The network's parameters, if they train, and the masking's own trainables form one group each.
    """
    groups: list[dict[str, object]] = []
    if masking.train_weights:
        groups.append({"params": list(model.parameters())})
    if masking.trainable:
        groups.append(
            {"params": list(masking.trainable.values()), "weight_decay": recipe.decay_of_trainables}
        )
    return MAKERS[type(recipe.optimizer)](recipe.optimizer, groups, recipe)


def state_by_name(
    model: nn.Module, opt: torch.optim.Optimizer, optimizer: spec.Optimizer
) -> dict[str, Tensor]:
    """What the optimizer keeps of the network's parameters, under `key_of`."""
    return {
        key_of(name, buffer): opt.state[p][buffer]
        for name, p in model.named_parameters()
        for buffer in optimizer.buffers
        if opt.state.get(p, {}).get(buffer) is not None
    }


def carry_state(
    model: nn.Module,
    opt: torch.optim.Optimizer,
    optimizer: spec.Optimizer,
    state: dict[str, Tensor],
) -> None:
    """Put copies of a saved state into a new optimizer."""
    for name, p in model.named_parameters():
        for buffer in optimizer.buffers:
            if (saved := state.get(key_of(name, buffer))) is not None:
                # torch keeps the number of steps, a scalar, on the host
                device = p.device if saved.shape == p.shape else saved.device
                opt.state[p][buffer] = saved.to(device).clone()


def key_of(parameter: str, buffer: str) -> str:
    """The name under which a buffer of a parameter is saved; momentum has the parameter's own."""
    return parameter if buffer == MOMENTUM else f"{buffer}/{parameter}"


def parameter_of(key: str) -> str:
    """The parameter that a saved buffer belongs to: the inverse of `key_of`."""
    return key.rpartition("/")[2]

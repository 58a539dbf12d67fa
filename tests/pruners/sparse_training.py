"""A sparse net and an observed training for tests of rewiring methods."""

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from small_nets import images, masks_of, mlp, task
from support import run_with_stops as run_with_stops
from support import same as same
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from pruners.base import Masking, Masks, Task
from pruners.dynamic.rewire import UpdateSchedule
from pruners.scores.magnitude import Random

Watch = Callable[[int, SGD], None]  # step, optimizer


def every(steps: int, stop: float = 1.0) -> UpdateSchedule:
    """An update after every `steps` steps, in a task of `training`."""
    # `training` has 100 steps an epoch
    return UpdateSchedule(f"{steps}it", stop, epochs=1, batch_size=500, shortest=1)


def training(seed: int = 0) -> Task:
    """One epoch of 100 steps."""
    return replace(task(0.2, seed=seed), epochs=1, steps=100)


def sparse_mlp(density: float = 0.2, seed: int = 0) -> tuple[nn.Module, Masks]:
    """64-30-20-10 with random masks."""
    model = mlp(seed=seed)
    return model, masks_of(Random(), model, density, seed=seed)


def nothing(step: int, opt: SGD) -> None:
    """An observer that does nothing."""


def train_steps(
    model: nn.Module,
    masking: Masking,
    steps: int,
    before: Watch = nothing,
    between: Watch = nothing,
    after: Watch = nothing,
    *,
    lr: float = 0.1,
    decay: float = 5e-4,
) -> SGD:
    """Train as the runner's loop does. `before`, `between` and `after` are called once gradients
    exist, before the optimizer's step, and after the last hook."""
    opt = SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=decay)
    for step in range(steps):
        x, y = images(32, seed=step)
        F.cross_entropy(model(x), y).backward()
        before(step, opt)
        masking.before_step(model, opt, step)
        between(step, opt)
        opt.step()
        masking.after_step(model, step)
        after(step, opt)
        opt.zero_grad()
    return opt


def momentum(opt: SGD, model: nn.Module, name: str) -> Tensor:
    """The momentum of a parameter; zeros before the first step."""
    parameter = model.get_parameter(name)
    found = opt.state.get(parameter, {}).get("momentum_buffer")
    return torch.zeros_like(parameter) if found is None else found


def copied(masks: Masks) -> Masks:
    return copy.deepcopy(masks)

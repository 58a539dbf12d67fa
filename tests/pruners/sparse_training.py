"""A sparse net, an observed training and a repeatedly stopped run for tests of rewiring methods."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from small_nets import images, masks_of, mlp, task
from support import compose_run, machine, perform_run
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from pruners.base import Masking, Masks, Task
from pruners.dynamic.rewire import UpdateSchedule
from pruners.scores.magnitude import Random
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.stages import run_stage
from runner.engine.store import Artefact, Store
from runner.errors import Stopped

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


def run_with_stops(
    overrides: list[str], folder: Path, every: int
) -> tuple[dict[str, Artefact], dict[str, Artefact], int]:
    """The stages of an uninterrupted run and of one that is stopped after every `every` steps, and
    the number of stops."""
    run = compose_run(*overrides)
    _, whole = perform_run(run, machine(folder, cache="whole"))
    where = machine(folder, cache="parts")
    context = RunContext(
        run, where, Store(where.cache_dir), Watcher(folder / "run", display("none", None), {})
    )
    steps = iter(range(1, 100_000))
    context.stop = lambda: next(steps) % every == 0
    stops = 0
    for stage in run.stages:
        while True:
            try:
                run_stage(context, stage)
                break
            except Stopped:
                stops += 1
    return (
        whole,
        {stage.name: context.store.load(context.keys[stage.name]) for stage in run.stages},
        stops,
    )


def same(one: Artefact, other: Artefact) -> bool:
    """Whether two artefacts are equal to the bit: weights, masks, momentum, findings, history."""
    pairs = [
        (getattr(one, part), getattr(other, part)) for part in ("weights", "masks", "optimizer")
    ]
    equal = all(
        a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())
        for a, b in pairs
    )
    return equal and all(one.meta[key] == other.meta[key] for key in ("report", "history"))

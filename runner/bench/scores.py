"""Cost of pruning by scores, in training steps: rows of `make bench`.

There is a row for every method of conf/method that scores with data, found by its components.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from pruners.base import Task, full_masks, in_batches
from pruners.selection.score_pruner import ScorePruner
from pruners.selection.source import Train
from runner.bench.stages import DENSITY, stages_of
from runner.bench.timing import Comparison
from runner.config.compose import method_names

EXAMPLES = 256
Batch = tuple[Tensor, Tensor]


def score_comparisons(net: nn.Module, batch: Batch) -> Iterator[Comparison]:
    """Yield a comparison for every method composed of a score that needs data.

    The baseline is as many training steps as the pruning has rounds, on the same images.

    Args:
        net: an untrained ResNet-20; each comparison works on copies.
        batch: EXAMPLES images (N, C, H, W) and their labels on the device of the network.
    """
    for name in method_names():
        pruner = _score_pruner(name)
        if pruner is None or not pruner.score.needs_data:
            continue
        rounds = len(pruner.schedule(DENSITY))
        pruner = replace(pruner, source=Train(EXAMPLES)) if rounds == 1 else pruner
        task = _task(batch)
        assert pruner.source is not None
        seen = next(iter(pruner.source(task)))
        shape = "x".join(map(str, seen[0].shape))
        work = f"method={name}, ResNet-20{f', {rounds} rounds' if rounds > 1 else ''} on {shape}"
        limit = f"limit: {rounds} training step{'s' if rounds > 1 else ''} on the same images, fp32"
        yield Comparison(
            f"score_limit_{name}",
            work,
            limit,
            _pruning(pruner, net, task),
            _training(net, seen, rounds),
        )


def _score_pruner(name: str) -> ScorePruner | None:
    """Return the method's pruner if it prunes an untrained network by scores, else None."""
    for stage in stages_of(name):
        if isinstance(stage.component, ScorePruner) and stage.start.stage == "init":
            return stage.component
    return None


def _task(batch: Batch) -> Task:
    x, y = batch

    shape = (x.shape[1], x.shape[2], x.shape[3])
    return Task(
        F.cross_entropy,
        partial(in_batches, x, y),
        DENSITY,
        steps=0,
        rng=Generator().manual_seed(0),
        image=shape,
        classes=10,
    )


def _pruning(pruner: ScorePruner, net: nn.Module, task: Task) -> Callable[[], object]:
    """Return a function that runs the whole stage: scores, counts, selection and zeroing."""

    def work() -> None:
        model = copy.deepcopy(net)  # a thousandth of the work
        pruner(model, full_masks(model), task)

    return work


def _training(net: nn.Module, batch: Batch, steps: int) -> Callable[[], object]:
    """Return a function that runs `steps` times forward, backward and SGD step."""
    model, (x, y) = copy.deepcopy(net).train(), batch
    x, y = x.to(next(model.parameters()).device), y.to(next(model.parameters()).device)
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)

    def work() -> None:
        for _ in range(steps):
            torch.autograd.backward(F.cross_entropy(model(x), y))
            opt.step()
            opt.zero_grad()

    return work

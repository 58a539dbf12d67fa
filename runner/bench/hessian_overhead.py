"""Cost of all stages before the retraining of a method that measures the Hessian, on digits.

Nothing is extrapolated: the stages of the method's default command run whole. The training is timed
in epochs of the same images, without tests, and counts as often as the stages have epochs.
"""

import copy
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn

from pruners.base import Batch, Measurement, full_masks
from runner.bench.figures import Figure
from runner.bench.hessian_stages import Stages, methods, task_of
from runner.bench.training import epoch_of, images_of, net, normalised

SETTING = ["model=resnet20"]  # the rest is the default command's: digits, 30 epochs
IMAGES = 1437  # training images of digits


def overhead(device: torch.device, rounds: int) -> Iterator[Figure]:
    """Yield, for each such method, its stages before the retraining in dense trainings."""
    data = images_of(IMAGES, 1, 8)
    model, x = net(1, 8, device), normalised(data).to(device)
    for stages in methods(SETTING):
        epoch = epoch_of(data, "none", device)
        epoch()  # warm-up
        batch = (x, data.labels.to(device))
        pairs = [one_round(stages, model, batch, epoch) for _ in range(rounds)]
        before, dense = (statistics.median(values) for values in zip(*pairs, strict=True))
        yield Figure(
            f"{stages.method}_overhead",
            before,
            "s",
            f"dense training of {stages.epochs} epochs, ResNet-20 on digits,"
            f" {torch.get_num_threads()} thread(s)",
            dense,
            statistics.median(ours / theirs for ours, theirs in pairs),
        )


def one_round(
    stages: Stages, model: nn.Module, batch: Batch, epoch: Callable[[], object]
) -> tuple[float, float]:
    """Return the seconds of all stages before the retraining, and those of a dense training."""
    found = {"init": Measurement({name: p.detach() + 1 for name, p in model.named_parameters()})}
    masks, marks = full_masks(model), [time.perf_counter()]

    def lap() -> float:
        marks.append(time.perf_counter())
        return marks[-1] - marks[-2]

    epoch()
    unit = lap()
    found["lipschitz"] = stages.lipschitz(model, masks, task_of(batch, found))
    found["spectrum"] = stages.spectrum(model, masks, task_of(batch, found))
    stages.pruner(copy.deepcopy(model), masks, task_of(batch, found))
    return lap() + stages.epochs_before * unit, stages.epochs * unit

"""Cost of a mask search, in training steps of the same network: rows of `make bench`.

There is a row for every method of conf/method with a search stage, on every network.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.resnet_cifar import ResNetCifar
from models.vgg import Vgg
from pruners.base import FixedMasking, Masking, Task, full_masks
from runner.bench.stages import DENSITY, stages_of
from runner.bench.timing import Comparison
from runner.config.compose import method_names
from runner.data.base import Split
from runner.data.batches import Batches
from runner.engine.train import Loaders, LoopOptions, train
from runner.spec.rng import stream
from runner.spec.run import Stage

BATCH = 128
# Network, image size, channels, steps of the epoch. The end of the epoch, where a search may rank
# all scores, is part of the time.
NETS = (
    (ResNetCifar("resnet20", depth=20, width=16), 32, 3, 4),
    (Vgg("vgg11_small", depth=11, width=32, pools=3), 32, 3, 4),
    # Has the most weights for its work: after only 4 short steps, the end of the epoch would take a
    # large share.
    (Vgg("vgg11_small", depth=11, width=32, pools=3), 8, 1, 12),
)


def search_comparisons(
    device: torch.device, nets: tuple[tuple[ResNetCifar | Vgg, int, int, int], ...] = NETS
) -> Iterator[Comparison]:
    """Yield a comparison for every method that searches and every network.

    The baseline is a training of equally many steps, in the same loop on the same images.
    """
    stages = {name: stage for name in method_names() if (stage := _search_stage(name)) is not None}
    for make, size, channels, steps in nets:
        net = make(channels, 10, size, stream(0, "bench", "weights"))
        net = net.to(memory_format=torch.channels_last).to(device)
        rng = stream(0, "bench", "images")
        shape = (steps * BATCH, channels, size, size)
        images = torch.randint(256, shape, generator=rng, dtype=torch.uint8)
        data = Split(images, torch.randint(10, (steps * BATCH,), generator=rng))
        for name, stage in stages.items():
            yield Comparison(
                f"search_limit_{name}_{make.name}_{size}",
                f"{steps} steps of method={name}, {make.name}, {BATCH}x{channels}x{size}x{size}",
                "limit: as many training steps",
                _epoch(net, stage, data, searching=True),
                _epoch(net, stage, data, searching=False),
            )


def _search_stage(name: str) -> Stage | None:
    """Return the method's stage that searches for a mask, or None if it has none."""
    return next((stage for stage in stages_of(name) if stage.kind == "search"), None)


def _epoch(net: nn.Module, stage: Stage, data: Split, searching: bool) -> Callable[[], object]:
    """Return a function that runs an epoch of the search or of a training.

    Both run in the loop that every run uses. The stage's settings apply except for epochs, batch
    size, learning rate and warmup. One-time work of the search is done beforehand.
    """
    model, device = copy.deepcopy(net).train(), next(net.parameters()).device
    steps = len(data.labels) // BATCH
    mean, std = (torch.full((data.images.shape[1],), value, device=device) for value in (0.5, 0.25))
    batches = Batches(data.to(device), mean, std, 255.0, BATCH, "none", 0, "bench")
    # One image: evaluation is not part of a step.
    loaders = Loaders(batches, lambda: [(x[:1], y[:1]) for x, y in batches.epoch(0, steps - 1)])
    assert stage.recipe is not None
    recipe = replace(stage.recipe, epochs=1, batch_size=BATCH, lr=0.1, warmup=0.0)
    masking: Masking = FixedMasking(full_masks(model))
    if searching:
        task = Task(
            F.cross_entropy,
            lambda size: _no_pass(),
            DENSITY,
            steps=steps,
            epochs=1,
            rng=stream(0, "bench", "search"),
        )
        masking = stage.component(model, full_masks(model), task)
    return lambda: train(model, masking, recipe, loaders, F.cross_entropy, LoopOptions())


def _no_pass() -> Iterator[tuple[Tensor, Tensor]]:
    """Yield nothing: the search gets only the images of its steps."""
    yield from ()

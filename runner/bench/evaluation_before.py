"""Evaluation beside the plain loop that it replaced: eval mode, one batch after another."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from pruners.base import Batch
from runner.bench.timing import Comparison
from runner.bench.training import images_of, net, pairs
from runner.engine.evaluate import evaluate

IMAGES, CHANNELS, SIZE = 2048, 3, 32


def evaluation_comparison(name: str, device: torch.device) -> Comparison:
    """Compare the evaluation of ResNet-20 on CIFAR's shape with the plain loop."""
    model = net(CHANNELS, SIZE, device)
    batches = [
        (x.to(device, memory_format=torch.channels_last), y.to(device))
        for x, y in pairs(images_of(IMAGES, CHANNELS, SIZE))
    ]
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=False)
    return Comparison(
        name,
        f"evaluating ResNet-20 on {IMAGES:,} images {CHANNELS}x{SIZE}x{SIZE}",
        "the plain loop of version 0.1.0",
        lambda: evaluate(model, batches, {}, autocast),
        plain_loop(model, batches),
    )


def plain_loop(model: torch.nn.Module, batches: list[Batch]) -> Callable[[], object]:
    """Return a function that sums hits, hits among the five largest, and the loss."""

    @torch.no_grad()
    def work() -> list[float]:
        model.eval()
        sums = torch.zeros(3, dtype=torch.float64)
        for x, y in batches:
            logits = model(x).float()
            top = logits.topk(min(5, logits.shape[1]), dim=1).indices == y[:, None]
            loss = F.cross_entropy(logits, y, reduction="sum")
            found = (top[:, 0].sum(), top.any(dim=1).sum(), loss)
            sums = sums + torch.stack([value.double() for value in found])
        model.train()
        return sums.tolist()

    return work

"""Evaluation of held-out images against the plain way of version 0.1.0.

The allocator's setting is one of a process (runner/engine/allocator.py), so that each way has a
process of its own; they work in turn.
"""

import statistics
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.resnet_cifar import BasicBlock, CifarResNet
from pruners.base import Batch
from runner.bench.apart import Apart
from runner.bench.figures import Figure
from runner.bench.timing import seconds
from runner.bench.training import images_of, net, pairs
from runner.engine.allocator import keep_freed_memory
from runner.engine.evaluate import Evaluation, evaluate

IMAGES, CHANNELS, SIZE = 2048, 3, 32
CPU = torch.device("cpu")


def evaluation_figure(rounds: int, images: int = IMAGES) -> Figure:
    """Return eval_vs_before: the plain way's seconds / ours, the median over the rounds.

    ResNet-20 evaluates random images of 3x32x32 pixels in batches of 128.

    Raises:
        RuntimeError: the ways do not agree to the last bit.
    """
    ours, before = (Apart(partial(_timed, way, images)) for way in (_ours, _before))
    took: list[tuple[float, float]] = []
    for i in range(rounds + 1):  # the first one is a warm-up
        order = (ours, before) if i % 2 else (before, ours)
        found = {each: each() for each in order}
        if found[ours][1] != found[before][1]:
            raise RuntimeError(
                f"two ways to evaluate one net differ: {found[ours][1]}, {found[before][1]}"
            )
        took.append((found[ours][0], found[before][0]))
    ours.close()
    before.close()
    value, rival = (statistics.median(each) for each in zip(*took[1:], strict=True))
    ratio = statistics.median(old / new for new, old in took[1:])
    return Figure(
        "eval_vs_before",
        value,
        "s",
        f"the plain loop of version 0.1.0 on {images:,} images {CHANNELS}x{SIZE}x{SIZE}",
        rival,
        ratio,
    )


def _timed(
    work: Callable[[int], Callable[[], Evaluation]], images: int
) -> Callable[[], tuple[float, Evaluation]]:
    """Return work that returns its seconds and its result."""
    once = work(images)

    def timed() -> tuple[float, Evaluation]:
        found: list[Evaluation] = []
        return seconds(lambda: found.append(once())), found.pop()

    return timed


def _ours(images: int) -> Callable[[], Evaluation]:
    """Return the evaluation of every run, in a process set up as a run's."""
    keep_freed_memory()
    model, batches = net(CHANNELS, SIZE, CPU), _batches(images)
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=False)
    return lambda: evaluate(model, batches, {}, autocast)


def _before(images: int) -> Callable[[], Evaluation]:
    """Return an evaluation in eval mode without gradients, one batch after another."""
    model, batches = net(CHANNELS, SIZE, CPU), _batches(images)
    for module in model.modules():
        if isinstance(module, BasicBlock | CifarResNet):
            module.__class__ = PlainBlock if isinstance(module, BasicBlock) else PlainNet
    return lambda: plain_loop(model, batches)


def _batches(images: int) -> list[Batch]:
    return [
        (x.contiguous(memory_format=torch.channels_last), y)
        for x, y in pairs(images_of(images, CHANNELS, SIZE))
    ]


class PlainBlock(BasicBlock):
    """The block with a new tensor for every result, as in version 0.1.0."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, outputs, H / stride, W / stride)."""
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class PlainNet(CifarResNet):
    """The network with a new tensor for every result, as in version 0.1.0."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, classes)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        logits: Tensor = self.fc(self.stage3(self.stage2(self.stage1(x))).mean(dim=(2, 3)))
        return logits


@torch.no_grad()
def plain_loop(model: nn.Module, batches: list[Batch]) -> Evaluation:
    """Evaluate in eval mode; the model is in training mode afterwards."""
    model.eval()
    sums = torch.zeros(3, dtype=torch.float64)
    for x, y in batches:
        logits = model(x)
        top = logits.topk(5, dim=1).indices == y[:, None]
        loss = F.cross_entropy(logits, y, reduction="sum")
        found = (top[:, 0].sum(), top.any(dim=1).sum(), loss)
        sums += torch.stack([value.double() for value in found])
    model.train()
    (hits, hits5, total), count = sums.tolist(), sum(len(y) for _, y in batches)
    return Evaluation(100 * hits / count, 100 * hits5 / count, total / count)

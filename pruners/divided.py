"""Scores and products with the Hessian, divided among the processes of a run.

All processes call the same functions with the same arguments. Each computes its part of every
batch, and the parts are added up, so that all processes have equal sums to the bit. The sums differ
from those of one process by the order of additions only: BatchNorm in train mode normalises a part
with the statistics of the whole batch, and gradients of any order flow through these statistics to
the parts of all processes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pruners.base import Batch, LossFn
from pruners.team import Team

BATCHNORMS = nn.modules.batchnorm._BatchNorm


def share(team: Team, batch: Batch) -> Batch:
    """This process' part of a batch; some are empty if it has fewer images than processes."""
    x, y = batch
    return x.tensor_split(team.size)[team.rank], y.tensor_split(team.size)[team.rank]


def largest_share(team: Team, images: int) -> int:
    """Images in the largest part of a batch of so many."""
    return -(-images // team.size)


def summed(team: Team, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The sum of each tensor over the processes, by one message for all; they have one type."""
    if team.size == 1 or not tensors:
        return list(tensors)
    flat = team.total(torch.cat([t.detach().reshape(-1) for t in tensors]))
    parts = torch.split(flat, [t.numel() for t in tensors])
    return [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]


def joined(team: Team, part: Tensor, images: int) -> Tensor:
    """The rows (images, ...) of all processes, of which `part` are this one's (`share`)."""
    whole = part.new_zeros(images, *part.shape[1:])
    whole.tensor_split(team.size)[team.rank].copy_(part)
    return team.total(whole)


def share_of_loss(net: nn.Module, part: Batch, loss: LossFn, images: float) -> Tensor:
    """Loss of a part times its images / `images`, with its graph; the parts' sum is the whole's.

    The graph of an empty part has the same layers, as every process sends the same messages.
    """
    x, y = part
    logits: Tensor = net(x)
    return loss(logits, y) * (len(y) / images) if len(y) else logits.square().sum()


@contextmanager
def whole_batch(net: nn.Module, team: Team) -> Iterator[None]:
    """Let BatchNorm in train mode use the statistics of the parts of all processes together.

    Running statistics do not change. The block may differentiate several times.
    """
    layers = [
        layer
        for layer in net.modules()
        if isinstance(layer, BATCHNORMS) and (layer.training or layer.running_mean is None)
    ]
    if team.size == 1:
        layers = []
    for layer in layers:
        vars(layer)["forward"] = partial(_normalise, layer, team)
    try:
        yield
    finally:
        for layer in layers:
            del vars(layer)["forward"]


def _normalise(layer: Any, team: Team, x: Tensor) -> Tensor:
    """What a BatchNorm does to x (b, C, ...), whose other images are in other processes."""
    each = (1, -1, *[1] * (x.dim() - 2))  # shape of a number for each channel
    mean, variance = _statistics(team, x)
    factor = torch.rsqrt(variance + layer.eps)
    offset = -mean * factor
    if layer.affine:
        factor, offset = factor * layer.weight, offset * layer.weight + layer.bias
    return torch.addcmul(offset.view(each), x, factor.view(each))


def _statistics(team: Team, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C,) of the values of all processes, differentiable."""
    count = x.numel() // x.shape[1]
    if count:
        mean, variance = Moments.apply(x)
    else:
        mean = variance = x.sum([d for d in range(x.dim()) if d != 1])  # zeros that depend on x
    # Sums of values and of squares about zero, which cancel in float32, are in float64.
    mean, variance = mean.double(), variance.double()
    own = torch.stack([mean * count, (variance + mean**2) * count, torch.full_like(mean, count)])
    values, squares, counts = _Total.apply(own, team)
    mean = values / counts
    return mean.to(x.dtype), (squares / counts - mean**2).clamp(min=0).to(x.dtype)


class Moments(torch.autograd.Function):
    """Mean and biased variance (C,) of values (b, C, ...), differentiable any number of times.

    They come from the function that nn.BatchNorm uses. torch.var_mean takes ten times as long, and
    a fifth of a score of GraSP by two processes (measured).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
        ctx.save_for_backward(x, mean)
        return mean, variance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """Each value has the derivatives 1 / n of the mean and 2 (x - mean) / n of the variance."""
        (x, mean), (for_mean, for_variance) = ctx.saved_tensors, grads
        count, each = x.numel() // x.shape[1], (1, -1, *[1] * (x.dim() - 2))
        slope = for_variance * (2 / count)
        offset = for_mean / count - slope * mean
        return torch.addcmul(offset.view(each), x, slope.view(each))


class _Total(torch.autograd.Function):
    """The sum over processes; its gradient is the sum of the derivatives of all their losses."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, team: Team) -> Tensor:
        ctx.team = team
        return team.total(values.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Total.apply(grads[0], ctx.team), None

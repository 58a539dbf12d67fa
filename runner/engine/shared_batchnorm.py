"""BatchNorm with the statistics of the whole batch, of which each process computes a share.

torch synchronises BatchNorm on CUDA only (nn.SyncBatchNorm, which the engine uses there). This
layer does the same on every other device. A process sends the number of its values, their sum and
their sum of squares, which are added up in the order of the processes, so that all have equal
statistics to the bit. The gradient is that of Ioffe and Szegedy (arXiv:1502.03167, section 3), with
its two sums over the whole batch.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from runner.engine.messages import Messages, Numbers
from runner.engine.precision import full

BATCHNORMS = nn.modules.batchnorm._BatchNorm


class SharedBatchNorm(nn.BatchNorm2d):
    """BatchNorm over the last dimensions of inputs (N, C, ...), of which N may be 0.

    Attributes:
        messages: between the processes that have the parts of a batch.
    """

    messages: Messages

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected an input (N, C, ...), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise with the batch's statistics in training, else with the running ones."""
        if not self.training:
            return super().forward(input)
        batch = _statistics(self.messages, input.detach())
        self._track(batch)
        normalised: Tensor = _Normalise.apply(
            input, self.weight, self.bias, batch, self.eps, self.messages
        )
        return normalised

    @torch.no_grad()
    def _track(self, batch: "_Statistics") -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1 / int(self.num_batches_tracked)
        unbiased = batch.var * (batch.count / (batch.count - 1))
        mean, var = _vectors(self.running_mean, batch.mean, unbiased)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(var, share)


def share_statistics(module: nn.Module, messages: Messages) -> None:
    """Replace each BatchNorm inside `module` by a `SharedBatchNorm` with the same tensors."""
    for name, child in module.named_children():
        if isinstance(child, BATCHNORMS):
            own = SharedBatchNorm(
                child.num_features,
                child.eps,
                child.momentum,
                child.affine,
                child.track_running_stats,
                device="meta",
            )
            own._parameters.update(child._parameters)
            own._buffers.update(child._buffers)
            own.messages = messages
            setattr(module, name, own.train(child.training))
        else:
            share_statistics(child, messages)


@dataclass(frozen=True, eq=False)
class _Statistics:
    """Mean (C,), biased variance (C,) and number of values a channel, over all processes."""

    mean: Numbers
    var: Numbers
    count: int


def _statistics(messages: Messages, x: Tensor) -> _Statistics:
    """The statistics of the parts of all processes, of which `x` (N, C, ...) is one.

    Raises:
        ValueError: a channel has a single value.
    """
    count, channels = x.numel() // x.shape[1], x.shape[1]
    # Sums of values and of squares about zero, which cancel in float32, are in float64. They are 0
    # if this process has no example of a batch that is smaller than the number of processes.
    own = np.zeros(2 * channels + 1)
    if count:  # as nn.BatchNorm computes them; var_mean takes ten times as long (measured)
        mean, var = torch.batch_norm_update_stats(full(x), None, None, 0.0)
        values, squares = own[:channels], own[channels:-1]
        values[:] = mean.cpu().numpy()
        np.square(values, out=squares)
        squares += var.cpu().numpy()
        own[-1] = 1
        own *= count
    sums = messages.summed(own)
    total = int(sums[-1])
    if total < 2:
        raise ValueError("BatchNorm in training needs more than one value a channel")
    centre, square = sums[:-1].reshape(2, channels) / total
    return _Statistics(centre, np.maximum(square - centre * centre, 0), total)


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, where mean and var depend on all inputs."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        batch: _Statistics,
        eps: float,
        messages: Messages,
    ) -> Tensor:
        scale = 1 / np.sqrt(batch.var + eps)
        gain = scale if weight is None else scale * weight.detach().cpu().numpy()
        offset = -gain * batch.mean
        if bias is not None:
            offset += bias.detach().cpu().numpy()
        means, scales, gains, offsets = _vectors(full(x), batch.mean, scale, gain, offset)
        ctx.shape = 1, -1, *(1,) * (x.dim() - 2)  # of numbers that belong to a channel's values
        gains, offsets = gains.view(ctx.shape), offsets.view(ctx.shape)
        ctx.save_for_backward(x, means, scales, gains)
        ctx.count, ctx.messages, ctx.affine = batch.count, messages, weight is not None
        ctx.mean, ctx.scale, ctx.gain = batch.mean, scale, gain
        return torch.addcmul(offsets, gains, x, out=torch.empty_like(x))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of input, weight and bias; the latter two are sums over this process' share."""
        (grad,) = grads
        x, means, scales, gains = ctx.saved_tensors
        # Sums over this process' values of grad * normalised input and of grad, (C,).
        if len(x):
            _, *own = torch.ops.aten.native_batch_norm_backward(
                grad, x, None, None, None, means, scales, True, 0.0, [False, True, True]
            )
        else:
            own = [means * 0, means * 0]
        sums = ctx.messages.summed(np.array([each.cpu().numpy() for each in own], np.float64))
        by_normalised, by_one = sums / ctx.count  # means over the batch
        slope = ctx.gain * ctx.scale * by_normalised
        slopes, offsets = _vectors(scales, slope, slope * ctx.mean - ctx.gain * by_one)
        # gain * grad - slope * x + offset, in two passes over the values
        for_input = torch.addcmul(offsets.view(ctx.shape), slopes.view(ctx.shape), x, value=-1)
        for_input.addcmul_(gains, grad)
        affine = own if ctx.affine else (None, None)
        return for_input.to(x.dtype), *affine, None, None, None


def _vectors(like: Tensor, *numbers: Numbers) -> tuple[Tensor, ...]:
    """The numbers of the channels as tensors (C,) of the type and on the device of `like`."""
    return torch.from_numpy(np.stack(numbers)).to(like).unbind()

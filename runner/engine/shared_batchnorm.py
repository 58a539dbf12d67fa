"""BatchNorm with the statistics of the whole batch, of which each process computes a share.

torch synchronises BatchNorm on CUDA only (nn.SyncBatchNorm, which the engine uses there). This
layer does the same on every other device. A process sends the number of its values, their sum and
their sum of squares, which are added up in the order of the processes, so that all have equal
statistics to the bit. The gradient is that of Ioffe and Szegedy (arXiv:1502.03167, section 3), with
its two sums over the whole batch.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from runner.engine.precision import full

BATCHNORMS = nn.modules.batchnorm._BatchNorm


class SharedBatchNorm(nn.BatchNorm2d):
    """BatchNorm over the last dimensions of inputs (N, C, ...), of which N may be 0."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected an input (N, C, ...), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise with the batch's statistics in training, else with the running ones."""
        if not self.training:
            return super().forward(input)
        mean, var, count = _statistics(input.detach())
        if count < 2:
            raise ValueError("BatchNorm in training needs more than one value a channel")
        self._track(mean, var * (count / (count - 1)))
        normalised: Tensor = _Normalise.apply(
            input, self.weight, self.bias, mean, var, self.eps, count
        )
        return normalised

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1 / int(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(var, share)


def share_statistics(module: nn.Module) -> None:
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
            setattr(module, name, own.train(child.training))
        else:
            share_statistics(child)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean (C,), biased variance (C,) and number of values a channel, over all processes."""
    count, channels = x.numel() // x.shape[1], x.shape[1]
    x = full(x)
    if count:  # as nn.BatchNorm computes them; var_mean takes ten times as long (measured)
        mean, var = torch.batch_norm_update_stats(x, None, None, 0.0)
    else:  # this process has no example of a batch that is smaller than the number of processes
        mean, var = x.new_zeros(2, channels)
    # Sums of values and of squares about zero, which cancel in float32, are in float64.
    wide, own = mean.double().cpu(), torch.empty(2 * channels + 1, dtype=torch.float64)
    torch.mul(wide, count, out=own[:channels])
    torch.mul(wide.square().add_(var.cpu()), count, out=own[channels:-1])
    own[-1] = count
    sums = _summed(own)
    total = int(sums[-1])
    centre, square = sums[:-1].div_(total).view(2, channels)
    spread = square.sub_(centre.square()).clamp_(min=0)
    return centre.to(x), spread.to(x), total


def _summed(own: Tensor) -> Tensor:
    """The sum over processes, in their order: all have equal bits.

    On hosts, one message from each is faster than the two rounds of an all_reduce. The checks of
    dist.all_gather take three times as long as the call itself (measured).
    """
    group = dist.group.WORLD
    assert group is not None
    parts = own.new_empty(group.size(), *own.shape)
    group.allgather([list(parts.unbind(0))], [own]).wait()
    return parts.sum(0)


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, where mean and var depend on all inputs."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        eps: float,
        count: int,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps, ctx.count = eps, count
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of input, weight and bias; the latter two are sums over this process' share."""
        (grad,) = grads
        x, weight, mean, var = ctx.saved_tensors
        used = torch.ones_like(mean) if weight is None else weight
        if len(x):
            _, for_weight, for_bias = torch.ops.aten.native_batch_norm_backward(
                grad, x, used, mean, var, None, None, False, ctx.eps, [False, True, True]
            )
        else:
            for_weight, for_bias = mean * 0, mean * 0
        sums = _summed(torch.stack([for_weight, for_bias]).cpu())
        # Means over the batch of grad * normalised input and of grad, (C,).
        by_normalised, by_one = (sums / ctx.count).to(x.device)
        scale = (var + ctx.eps).rsqrt()
        gain = used * scale
        slope = -gain * scale * by_normalised
        offset = -gain * by_one - slope * mean
        shape = (1, -1, *(1,) * (x.dim() - 2))
        # gain * grad + slope * x + offset, in two passes over the values
        for_input = torch.addcmul(offset.view(shape), slope.view(shape), x)
        for_input.addcmul_(gain.view(shape), grad)
        affine = (None, None) if weight is None else (for_weight, for_bias)
        return for_input.to(x.dtype), *affine, None, None, None, None

"""Derivatives of the loss of a large batch, in chunks that bound the memory.

A batch of at most `PIXELS` pixels (images x height x width) is computed at once, as its formula
says. A larger one is computed in chunks of that size, and the result is that of the whole batch up
to rounding. Without BatchNorm in train mode, the images are independent and their derivatives add
up. Otherwise they depend on each other through the statistics, so every chunk is normalised with
the statistics of the whole batch, as variables of their own:

    L(w) = F(w, s) at s = phi(w, s),    F, phi: means over images,

where s are means and variances of all layers; those of a layer depend on the layers before it. With
multipliers t, the function F + t (phi - s) is a mean over images. It has the derivatives of L where
it is stationary, at s = phi and t = dF/ds + t dphi/ds. Each is found in as many passes over the
batch as there are layers of BatchNorm, and so are their derivatives along a direction, which give
H v. With n layers, a gradient takes 2 n + 1 passes and H v takes 4 n + 1.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from pruners.base import Batch, LossFn, in_batches

# Images in a chunk times their height and width: 1,024 images of 32x32, 256 of 64x64, 20 of
# 224x224 (GraSP's authors compute 20 at a time on ImageNet).
PIXELS = 2**20
BATCHNORMS = nn.modules.batchnorm._BatchNorm
Tensors = Sequence[Tensor]
# Value of a chunk, statistics and multipliers -> tensors, which are added up over the chunks.
Part = Callable[[Tensor, list[Tensor], list[Tensor]], Tensors]


def at_once(x: Tensor) -> int:
    """Images of the inputs (B, C, H, W) in a chunk, at least one."""
    return max(1, PIXELS // x[0, 0].numel())


def in_chunks(batches: Sequence[Batch]) -> list[Batch]:
    """The batches cut into chunks, for uses in which images are independent."""
    return [chunk for x, y in batches for chunk in in_batches(x, y, at_once(x))]


class LargeBatch:
    """Derivatives of the mean loss of one batch, computed in chunks.

    Args:
        net: in the mode to compute in.
        parameters: of the net, to differentiate by; each requires a gradient.
    """

    def __init__(self, net: nn.Module, parameters: Tensors, batch: Batch, loss: LossFn) -> None:
        self.net, self.loss, self.parameters = net, loss, list(parameters)
        self.chunks = list(in_batches(*batch, at_once(batch[0])))
        self.images = len(batch[1])
        self.layers = [
            module
            for module in net.modules()
            if isinstance(module, BATCHNORMS) and (module.training or module.running_mean is None)
        ]
        self.found: dict[int, Tensor] = {}  # layer -> (2, C), what the last chunk adds to phi
        self.statistics, self.centres = self._of_first_chunk()
        self.multipliers = [torch.zeros_like(s) for s in self.statistics]
        for _ in self.layers:
            self._improve_statistics()
        for _ in self.layers:
            self.multipliers = self._total(lambda value, s, t: _gradients(value, s))

    def gradient(self) -> list[Tensor]:
        """Gradient of the mean loss, by parameter."""
        return self._total(lambda value, s, t: _gradients(value, self.parameters))

    def product(self, direction: Tensors) -> list[Tensor]:
        """H v for the direction v, by parameter."""
        ds, dt = ([torch.zeros_like(s) for s in self.statistics] for _ in range(2))

        def along(value: Tensor, s: list[Tensor], t: list[Tensor], wanted: Tensors) -> Tensors:
            variables = [*self.parameters, *s, *t]
            grads = torch.autograd.grad(value, variables, create_graph=True, materialize_grads=True)
            pairs = zip([*direction, *ds, *dt], grads, strict=True)
            return _gradients(torch.stack([(d * g).sum() for d, g in pairs]).sum(), wanted)

        for _ in self.layers:
            ds = self._total(lambda value, s, t: along(value, s, t, t))
        for _ in self.layers:
            dt = self._total(lambda value, s, t: along(value, s, t, s))
        return self._total(lambda value, s, t: along(value, s, t, self.parameters))

    def _total(self, part: Part) -> list[Tensor]:
        """The sum of `part` over the chunks."""
        total: list[Tensor] | None = None
        with self._same_draws():
            for x, y in self.chunks:
                s, t = (
                    [v.clone().requires_grad_(True) for v in values]
                    for values in (self.statistics, self.multipliers)
                )
                found = [v.detach() for v in part(self._value(x, y, s, t), s, t)]
                pairs = zip(total or map(torch.zeros_like, found), found, strict=True)
                total = [so_far + v for so_far, v in pairs]
        return total or []

    def _value(self, x: Tensor, y: Tensor, s: list[Tensor], t: list[Tensor]) -> Tensor:
        """What a chunk adds to F + t phi."""
        with self._normalised_by(s):
            value = self.loss(self.net(x), y) * (len(y) / self.images)
        return value + sum((t[i] * phi).sum() for i, phi in self.found.items())

    def _of_first_chunk(self) -> tuple[list[Tensor], list[Tensor]]:
        """Statistics and centres from which the search for those of the batch begins."""
        with torch.no_grad(), self._same_draws(), self._normalised_by(None):
            self.net(self.chunks[0][0])
        self.layers = [layer for i, layer in enumerate(self.layers) if i in self.found]
        own = [self.found[i] for i in sorted(self.found)]
        return own, [s[0] for s in own]

    @torch.no_grad()
    def _improve_statistics(self) -> None:
        """One pass, after which the statistics of one more layer are those of the batch."""
        moments = self._total(lambda value, s, t: [self.found[i] for i in range(len(s))])
        pairs = list(zip(moments, self.centres, strict=True))
        self.statistics = [torch.stack([m[0], m[1] - (m[0] - c) ** 2]) for m, c in pairs]
        self.centres = [m[0] for m in moments]

    @contextmanager
    def _same_draws(self) -> Iterator[None]:
        """Let layers such as dropout draw the same numbers in every pass."""
        devices = [p.device for p in self.parameters[:1] if p.device.type != "cpu"]
        with torch.random.fork_rng(devices):
            torch.manual_seed(torch.initial_seed())
            yield

    @contextmanager
    def _normalised_by(self, statistics: list[Tensor] | None) -> Iterator[None]:
        """Let the layers use these statistics, or those of the chunk itself if None."""
        self.found = {}
        for i, layer in enumerate(self.layers):
            vars(layer)["forward"] = partial(self._normalise, i, statistics)
        try:
            yield
        finally:
            for layer in self.layers:
                del vars(layer)["forward"]

    def _normalise(self, i: int, statistics: list[Tensor] | None, x: Tensor) -> Tensor:
        """What layer i does to x (b, C, ...), which also adds to `found`."""
        layer, dims = self.layers[i], [d for d in range(x.dim()) if d != 1]
        each = (1, -1, *[1] * (x.dim() - 2))  # shape of a number for each channel
        if statistics is None:
            mean, variance = x.mean(dims), x.var(dims, correction=0)
            self.found[i] = torch.stack([mean, variance])
        else:
            # The second moment is about a constant near the mean: about zero it would cancel.
            centre, count = self.centres[i], x[:, 0].numel() / len(x) * self.images
            moments = [x.sum(dims), ((x - centre.view(each)) ** 2).sum(dims)]
            self.found[i] = torch.stack(moments) / count
            mean, variance = statistics[i][0], statistics[i][1] - (statistics[i][0] - centre) ** 2
        scaled = (x - mean.view(each)) * torch.rsqrt(variance + layer.eps).view(each)
        if layer.affine:
            return scaled * layer.weight.view(each) + layer.bias.view(each)
        return scaled


def _gradients(value: Tensor, wanted: Tensors) -> Tensors:
    """Gradients by the wanted tensors; zeros if the value depends on none of them."""
    if not value.requires_grad:
        return [torch.zeros_like(v) for v in wanted]
    return torch.autograd.grad(value, list(wanted), materialize_grads=True)

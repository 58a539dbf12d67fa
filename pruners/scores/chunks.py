"""Derivatives of the loss of a batch under a bound on the memory (pruners/memory.py).

A batch that fits is computed at once, as its formula says. Another one is computed in chunks that
fit, and the result is that of the whole batch up to rounding. Without BatchNorm in train mode, the
images are independent and their derivatives add up. Otherwise they depend on each other through the
statistics, so every chunk is normalised with the statistics of the whole batch, as variables of
their own:

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
from pruners.divided import share_of_loss, summed
from pruners.memory import PROBED, SavedBytes, at_once, same_draws, tensors_of
from pruners.team import ALONE, Team

BATCHNORMS = nn.modules.batchnorm._BatchNorm
Tensors = Sequence[Tensor]
# Value of a chunk, statistics and multipliers -> tensors, which are added up over the chunks.
Part = Callable[[Tensor, list[Tensor], list[Tensor]], Tensors]
# Statistics and multipliers -> the variables to differentiate by.
Variables = Callable[[list[Tensor], list[Tensor]], Tensors]


def loss_bytes(net: nn.Module, batch: Batch, loss: LossFn, images: int) -> int:
    """Bytes that the graph of the loss of the batch's first `images` images holds."""
    x, y = (t[:images] for t in batch)
    with same_draws(x.device), SavedBytes([*tensors_of(net), *batch]) as saved:
        loss(net(x), y)
    return saved.peak


def fitting(net: nn.Module, batches: list[Batch], loss: LossFn, memory: float) -> list[Batch]:
    """The batches, cut if the graph of the loss of the first one takes more than `memory` bytes.

    For uses in which images are independent.
    """
    size = at_once(len(batches[0][1]), memory, partial(loss_bytes, net, batches[0], loss))
    return [part for x, y in batches for part in in_batches(x, y, size)]


def along_gradient(
    net: nn.Module,
    parameters: Tensors,
    batch: Batch,
    loss: LossFn,
    direction: Tensors,
    images: float,
) -> Tensor:
    """<v, gradient of the batch's share of the loss of `images`> for the direction v.

    It has its graph: its gradient is H v.
    """
    value = share_of_loss(net, batch, loss, images)
    grads = torch.autograd.grad(value, list(parameters), create_graph=True, materialize_grads=True)
    pairs = zip(direction, grads, strict=True)
    return torch.stack([(v * grad).sum() for v, grad in pairs]).sum()


def product_bytes(
    net: nn.Module, parameters: Tensors, batch: Batch, loss: LossFn, images: int
) -> int:
    """Bytes of the graph from which a product with the Hessian on so many images is computed."""
    x, y = (t[:images] for t in batch)
    with same_draws(x.device), SavedBytes([*tensors_of(net), *batch]) as saved:
        along_gradient(net, parameters, (x, y), loss, parameters, images)
    return saved.peak


class LargeBatch:
    """Derivatives of the mean loss of one batch, computed in chunks.

    Args:
        net: in the mode to compute in.
        parameters: of the net, to differentiate by; each requires a gradient.
        memory: bytes that the graph of a chunk may take.
        products: whether `product` is called, which takes more memory than `gradient`.
        team: divides the chunks.

    Raises:
        ValueError: not even one image fits.
    """

    def __init__(
        self,
        net: nn.Module,
        parameters: Tensors,
        batch: Batch,
        loss: LossFn,
        memory: float,
        products: bool = False,
        team: Team = ALONE,
    ) -> None:
        self.team = team
        self.net, self.loss, self.parameters = net, loss, list(parameters)
        self.images = len(batch[1])
        self.layers = [
            module
            for module in net.modules()
            if isinstance(module, BATCHNORMS) and (module.training or module.running_mean is None)
        ]
        self.found: dict[int, Tensor] = {}  # layer -> (2, C), what the last chunk adds to phi
        self._start_with(batch, PROBED)
        size = at_once(self.images, memory, lambda n: self._bytes(batch, n, products))
        self._start_with(batch, size)
        for _ in self.layers:
            self._improve_statistics()
        for _ in self.layers:
            self.multipliers = self._total(lambda value, s, t: _gradients(value, s))

    def _start_with(self, batch: Batch, size: int) -> None:
        """Cut the batch into chunks; the search for its statistics begins at the first one's."""
        self.chunks = list(in_batches(*batch, size))
        self.statistics, self.centres = self._of_first_chunk()
        self.multipliers = [torch.zeros_like(s) for s in self.statistics]

    def _bytes(self, batch: Batch, images: int, products: bool) -> int:
        """Bytes that a chunk of so many images takes."""
        self.chunks = [(batch[0][:images], batch[1][:images])]
        with SavedBytes([*tensors_of(self.net), *batch]) as saved:
            if products:
                zeros = [torch.zeros_like(s) for s in self.statistics]
                self._total(
                    self._along(self.parameters, zeros, zeros, lambda s, t: self.parameters)
                )
            else:
                self.gradient()
        return saved.peak

    def gradient(self) -> list[Tensor]:
        """Gradient of the mean loss, by parameter."""
        return self._total(lambda value, s, t: _gradients(value, self.parameters))

    def product(self, direction: Tensors) -> list[Tensor]:
        """H v for the direction v, by parameter."""
        ds, dt = ([torch.zeros_like(s) for s in self.statistics] for _ in range(2))
        for _ in self.layers:
            ds = self._total(self._along(direction, ds, dt, lambda s, t: t))
        for _ in self.layers:
            dt = self._total(self._along(direction, ds, dt, lambda s, t: s))
        return self._total(self._along(direction, ds, dt, lambda s, t: self.parameters))

    def _along(self, direction: Tensors, ds: Tensors, dt: Tensors, wanted: Variables) -> Part:
        """Gradients of a chunk's derivative along (direction, ds, dt) by the `wanted` variables."""

        def part(value: Tensor, s: list[Tensor], t: list[Tensor]) -> Tensors:
            variables = [*self.parameters, *s, *t]
            grads = torch.autograd.grad(value, variables, create_graph=True, materialize_grads=True)
            pairs = zip([*direction, *ds, *dt], grads, strict=True)
            return _gradients(torch.stack([(d * g).sum() for d, g in pairs]).sum(), wanted(s, t))

        return part

    def _total(self, part: Part) -> list[Tensor]:
        """The sum of `part` over the chunks."""
        total: list[Tensor] | None = None
        own = self.chunks[self.team.rank :: self.team.size]
        with same_draws(self.chunks[0][0].device):
            for x, y in own or self.chunks[:1]:
                s, t = (
                    [v.clone().requires_grad_(True) for v in values]
                    for values in (self.statistics, self.multipliers)
                )
                found = [v.detach() for v in part(self._value(x, y, s, t), s, t)]
                pairs = zip(total or map(torch.zeros_like, found), found, strict=True)
                total = [so_far + v for so_far, v in pairs]
        self.found = {}  # holds a graph
        if not own:  # the first chunk has shown the shapes; another process adds it
            total = [torch.zeros_like(t) for t in total or []]
        return summed(self.team, total or [])

    def _value(self, x: Tensor, y: Tensor, s: list[Tensor], t: list[Tensor]) -> Tensor:
        """What a chunk adds to F + t phi."""
        with self._normalised_by(s):
            value = self.loss(self.net(x), y) * (len(y) / self.images)
        return value + sum((t[i] * phi).sum() for i, phi in self.found.items())

    def _of_first_chunk(self) -> tuple[list[Tensor], list[Tensor]]:
        """Statistics and centres from which the search for those of the batch begins."""
        with torch.no_grad(), same_draws(self.chunks[0][0].device), self._normalised_by(None):
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

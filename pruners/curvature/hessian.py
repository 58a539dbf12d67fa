"""Hessian-vector products of the training loss on fixed samples, matrix-free.

H (Eq. 15 of IMC, Zhang et al., NeurIPS 2021) is the Hessian of the mean loss over the first
`n_samples` images of the stage's seeded pass, without weight decay, at the current weights. The
paper leaves samples, parameters and BatchNorm mode open: they are options (docs/methods/imc.md,
section 5). A product is the gradient of a gradient (Pearlmutter's trick by double backward), exact
up to rounding. All work is done on a copy: the caller's model is never changed.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf

import torch
from torch import Tensor, nn

from pruners.base import Batch, LossFn, Masks, in_batches
from pruners.curvature.batchnorm import fold_batchnorm
from pruners.curvature.options import DTYPES, HessianOptions
from pruners.divided import share
from pruners.memory import GIB, SavedBytes, equal_parts, measured, same_draws, tensors_of
from pruners.team import ALONE, Team

CACHE_BYTES = 2 * GIB  # of double-backward graphs kept; affects only speed and memory


class HessianOperator:
    """Products H v with the Hessian of the mean loss over fixed samples, on a copy of the model.

    Args:
        masks: their names select the `prunable` parameters; their values are not used, as IMC
            measures the dense W*.
        batches: the fixed samples; mini-batches are weighted by their size.
        memory: bytes that the graphs and `vectors` may take. Mini-batches that need more are cut,
            which with running statistics changes H only by rounding.
        cache_bytes: keep double-backward graphs up to this size; rebuild the others.
        vectors: how many vectors (d,) the caller holds beside the graphs.
        team: divides every mini-batch, or the mini-batches where they share batch statistics.

    Raises:
        FloatingPointError: a weight is NaN or infinite.
        ValueError: a mini-batch does not fit in `memory` and shares batch statistics, or not even
            one image fits.
    """

    def __init__(
        self,
        model: nn.Module,
        masks: Masks,
        batches: list[Batch],
        loss: LossFn,
        options: HessianOptions,
        memory: float = inf,
        cache_bytes: int = CACHE_BYTES,
        vectors: int = 0,
        team: Team = ALONE,
    ) -> None:
        dtype = DTYPES[options.dtype]
        self.model = _own_copy(model, dtype, train=options.mode == "train")
        self.loss, self.options, self._team = loss, options, team
        self.given = [
            (x.to(dtype).contiguous() if x.is_floating_point() else x, y) for x, y in batches
        ]
        self.samples = sum(len(y) for _, y in batches)
        self.names = _require_grad(self.model, None if options.params == "all" else set(masks))
        self.parameters = [self.model.get_parameter(name) for name in self.names]
        self._sizes = [p.numel() for p in self.parameters]
        self.dimension = sum(self._sizes)
        self.point = self.flatten(self._named(p.detach() for p in self.parameters))  # (d,)
        if not self.point.isfinite().all():
            raise FloatingPointError(
                "the weights are NaN or infinite, so they have no Hessian: their training has"
                " diverged; take a smaller train.lr"
            )
        self.unfolded = copy.deepcopy(self.model)  # the same net with its BatchNorm layers
        self._scale = self._folded_scale()  # (d,)
        self._beside = vectors * self.point.nbytes
        self._memory, self._cache_bytes = memory - self._beside, cache_bytes
        self._need = measured(len(self.given[0][1]), self._graph_bytes)
        self.batches = self._fitting(self._own_share())
        self._workers = self._start_workers()
        self._gradient_here: Tensor | None = None  # at `point`
        self._graphs: dict[int, list[Tensor]] | None = None  # mini-batch -> gradients

    def _folded_scale(self) -> Tensor:
        """Fold BatchNorm where possible; return s (d,), the factor of each weight.

        W' = s W (s per output channel) and a bias replace eval-mode BatchNorm, and H = s H' s: a
        fifth faster (measured), equal up to rounding.
        """
        foldable = self.options.mode == "eval" and self.options.params == "prunable"
        scales = fold_batchnorm(self.model) if foldable else {}
        ones = self._named(torch.ones_like(p) for p in self.parameters)
        return self.flatten({name: one * scales.get(name, 1.0) for name, one in ones.items()})

    def _named(self, tensors: Iterable[Tensor]) -> dict[str, Tensor]:
        """Name -> tensor, for one tensor per parameter."""
        return dict(zip(self.names, tensors, strict=True))

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Concatenate this operator's parameters from `tensors` (d,), in its dtype and device."""
        pairs = zip(self.names, self.parameters, strict=True)
        return torch.cat([tensors[name].reshape(-1).to(p) for name, p in pairs])

    def split(self, v: Tensor) -> dict[str, Tensor]:
        """Split a vector (d,) into views by parameter name."""
        return self._named(self._pieces(v))

    def gradient(self, point: Tensor) -> Tensor:
        """Gradient (d,) of the mean loss at the weights `point` (d,)."""
        here = torch.equal(point, self.point)
        if here and self._gradient_here is not None:
            return self._gradient_here.clone()  # reused for each direction of Eq. 23
        self._graphs = None  # the graphs reference the weights
        self._move(point)
        total = self._scale * self._sum(
            lambda i: torch.autograd.grad(self.value(i), self.parameters, materialize_grads=True)
        )
        self._move(self.point)
        self._gradient_here = total.clone() if here else self._gradient_here
        return total

    def at(self, point: Tensor) -> "HessianOperator":
        """The same Hessian at the weights `point` (d,), on its own copy of the model."""
        other = HessianOperator(
            self.unfolded,
            dict.fromkeys(self.names, self.point),
            self.given,
            self.loss,
            self.options,
            self._memory,
            self._cache_bytes,
            team=self._team,
        )
        other.point, other._gradient_here = point.clone(), None
        other._move(point)
        return other

    def value(self, i: int) -> Tensor:
        """Mini-batch i's share of the mean loss, a scalar with its graph."""
        x, y = self.batches[i]
        return self.loss(self.model(x), y) * (len(y) / self.samples)

    def matvec(self, v: Tensor) -> Tensor:
        """H v, shape (d,)."""
        if self._graphs is None:
            self._graphs = self._cached_graphs()
        pieces = self._pieces(self._scale * v.detach())
        return self._scale * self._sum(lambda i: self._share(i, pieces))

    def _sum(self, part: Callable[[int], Sequence[Tensor]]) -> Tensor:
        """Sum (d,) of all mini-batches' shares, always added in the same order."""
        numbers = range(len(self.batches))
        total = torch.zeros_like(self.point)
        for each in self._workers.map(part, numbers) if self._workers else map(part, numbers):
            total += torch.cat([piece.reshape(-1) for piece in each])
        return self._team.total(total)

    def _share(self, i: int, pieces: list[Tensor]) -> Sequence[Tensor]:
        """Mini-batch i's part of H v, by parameter."""
        assert self._graphs is not None
        kept = i in self._graphs
        return self._product(self._graphs[i] if kept else self._gradients(i), pieces, kept)

    def _fitting(self, own: list[Batch]) -> list[Batch]:
        """The mini-batches if one for each worker fits in memory, else smaller ones that do.

        Raises:
            ValueError: they share batch statistics, or not even one image fits.
        """
        largest = max((len(y) for _, y in own), default=0)
        if self._need.of(largest) * self._most_workers(own) <= self._memory:
            return own
        fit = self._need.within(self._memory, self._beside)
        if self.options.mode == "train":
            raise ValueError(
                f"method.hessian.batch_size={largest}: the graph of a mini-batch takes"
                f" {self._need.of(largest) / GIB:.2g} GiB, more than is left of"
                f" env.memory_gb={(self._memory + self._beside) / GIB:.2g}, and"
                " method.hessian.mode=train lets its images share statistics, so that it cannot be"
                " cut: take"
                f" method.hessian.batch_size={max(2, fit)}, which is another Hessian, or"
                " method.hessian.mode=eval, or more memory"
            )
        workers = min(self._cores(), fit)
        size = self._need.within(self._memory / workers, self._beside)
        return [part for x, y in own for part in in_batches(x, y, equal_parts(len(y), size))]

    def _own_share(self) -> list[Batch]:
        """This process' mini-batches, or its part of each if images are independent."""
        team = self._team
        if self.options.mode == "train":
            return self.given[team.rank :: team.size]
        return [part for batch in self.given if len((part := share(team, batch))[1])]

    def _cores(self) -> int:
        """Threads among which mini-batches can be shared out.

        For small images this beats all threads on one convolution (measured). Not in train mode,
        which updates shared running statistics, nor on an accelerator, which has its own queue.
        """
        shared = self.point.device.type == "cpu" and self.options.mode == "eval"
        return torch.get_num_threads() if shared else 1

    def _most_workers(self, batches: list[Batch]) -> int:
        """Mini-batches that are processed at a time: as many as there are cores, if they fit."""
        need = self._need.of(max((len(y) for _, y in batches), default=0))
        fit = self._memory / need if need else inf
        return int(max(1, min(self._cores(), len(batches), fit)))

    def _start_workers(self) -> ThreadPoolExecutor | None:
        """A pool of one thread per mini-batch; None where it does not help."""
        cores, workers = torch.get_num_threads(), self._most_workers(self.batches)
        if workers < 2:
            return None
        # sets only the worker's number
        return ThreadPoolExecutor(
            workers, initializer=torch.set_num_threads, initargs=(cores // workers,)
        )

    def _cached_graphs(self) -> dict[int, list[Tensor]]:
        taken = [self._need.of(len(y)) for _, y in self.batches]
        room = min(self._cache_bytes, self._memory)
        if sum(taken) > room:  # the others are rebuilt, one for each worker at a time
            beside = self._most_workers(self.batches) * max(taken)
            room = min(self._cache_bytes, self._memory - beside)
        graphs = {}
        for i, size in enumerate(taken):
            if size <= room:
                graphs[i] = self._gradients(i)
                room -= size
        return graphs

    def _gradients(self, i: int) -> list[Tensor]:
        return list(
            torch.autograd.grad(
                self.value(i), self.parameters, create_graph=True, materialize_grads=True
            )
        )

    def _product(
        self, gradients: list[Tensor], pieces: list[Tensor], keep_graph: bool
    ) -> Sequence[Tensor]:
        # A gradient is constant where the loss is linear in the parameter.
        pairs = [(g, v) for g, v in zip(gradients, pieces, strict=True) if g.requires_grad]
        if not pairs:
            return [torch.zeros_like(p) for p in self.parameters]
        g, v = zip(*pairs, strict=True)
        return torch.autograd.grad(
            g, self.parameters, v, retain_graph=keep_graph, materialize_grads=True
        )

    def _graph_bytes(self, images: int) -> int:
        """Bytes that the gradient's graph for so many images of the first mini-batch holds."""
        batch = self.given[0]
        x, y = (t[:images] for t in batch)
        with same_draws(x.device), SavedBytes([*tensors_of(self.model), *batch]) as saved:
            value = self.loss(self.model(x), y)
            torch.autograd.grad(value, self.parameters, create_graph=True, materialize_grads=True)
        return saved.peak

    def _pieces(self, v: Tensor) -> list[Tensor]:
        parts = torch.split(v, self._sizes)
        return [part.view_as(p) for part, p in zip(parts, self.parameters, strict=True)]

    @torch.no_grad()
    def _move(self, point: Tensor) -> None:
        for p, piece in zip(self.parameters, self._pieces(self._scale * point), strict=True):
            p.copy_(piece)


def _own_copy(model: nn.Module, dtype: torch.dtype, train: bool) -> nn.Module:
    """A copy of the model in `dtype`, with contiguous parameters."""
    # Double backward of convolutions is a third slower in channels_last (docs/methods/imc.md).
    own = copy.deepcopy(model).to(dtype=dtype).to(memory_format=torch.contiguous_format)
    return own.train(train)


def _require_grad(model: nn.Module, names: set[str] | None) -> list[str]:
    """Enable gradients of the parameters in `names` alone (None: of all); return their names."""
    chosen = []
    for name, p in model.named_parameters():
        p.grad = None
        p.requires_grad_(names is None or name in names)
        chosen += [name] if p.requires_grad else []
    return chosen

"""Hessian-vector products of the training loss on fixed samples, matrix-free.

H (Eq. 15 of IMC, Zhang et al., NeurIPS 2021) is the Hessian of the mean loss over the first
`n_samples` images of the stage's seeded pass, without weight decay, at the current weights. The
paper leaves samples, parameters and BatchNorm mode open: they are options (docs/methods/imc.md,
section
5). A product is the gradient of a gradient (Pearlmutter's trick by double backward), exact up to
rounding. All work is done on a copy: the caller's model is never changed.
"""

import copy
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, fx, nn

from pruners.base import Batch, LossFn, Masks, Task

CACHE_BYTES = 2 * 1024**3  # of double-backward graphs kept; affects only speed and memory
GRAPH_FACTOR = 3  # graph size / bytes saved by forward: 2 to 3 (docs/methods/imc.md)
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def not_among(key: str, value: object, choices: tuple[str, ...]) -> list[str]:
    """Error message for a value that is not among `choices`, in a list; empty for a valid value."""
    return [] if value in choices else [f"{key}={value!r} must be one of {', '.join(choices)}"]


@dataclass(frozen=True)
class HessianOptions:
    """Which Hessian is measured: `method.hessian`.

    Args:
        params: `prunable` (conv and linear weights that have a mask) or `all` (also biases and
            BatchNorm, as in PyHessian).
        n_samples: training images in the mean; the whole training set if it is smaller. Default
            512: our measurements, absent from the paper.
        batch_size: images per pass; with `eval` only cost and rounding vary. Default 128: Table 16.
        mode: BatchNorm uses running (`eval`) or batch statistics (`train`: `batch_size` matters).
        dtype: of the products and of Lanczos.
    """

    tag: ClassVar[str] = "hessian_options"
    params: str = "prunable"
    n_samples: int = 512
    batch_size: int = 128
    mode: str = "eval"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        problems = not_among("method.hessian.params", self.params, ("prunable", "all"))
        problems += not_among("method.hessian.mode", self.mode, ("eval", "train"))
        problems += not_among("method.hessian.dtype", self.dtype, tuple(DTYPES))
        for name in ("n_samples", "batch_size"):
            if getattr(self, name) < 1:
                problems.append(f"method.hessian.{name}={getattr(self, name)} must be at least 1")
        if problems:
            raise ValueError("\n".join(problems))


def fixed_batches(task: Task, options: HessianOptions) -> list[Batch]:
    """The first n_samples of the task's pass, or all if there are fewer, in mini-batches.

    Raises:
        ValueError: the training set is empty.
    """
    first = next(iter(task.batches(options.n_samples)), None)
    if first is None:
        raise ValueError("there is no training image to take a Hessian of: the data set gave none")
    x, y = (t[: options.n_samples] for t in first)
    return list(zip(x.split(options.batch_size), y.split(options.batch_size), strict=True))


class HessianOperator:
    """Products H v with the Hessian of the mean loss over fixed samples, on a copy of the model.

    Args:
        masks: their names select the `prunable` parameters; their values are not used, as IMC
            measures the dense W*.
        batches: the fixed samples; mini-batches are weighted by their size.
        cache_bytes: keep double-backward graphs up to this estimated size; rebuild the others.

    Raises:
        FloatingPointError: a weight is NaN or infinite.
    """

    def __init__(
        self,
        model: nn.Module,
        masks: Masks,
        batches: list[Batch],
        loss: LossFn,
        options: HessianOptions,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        dtype = DTYPES[options.dtype]
        # Double backward of convolutions is a third slower in channels_last (docs/methods/imc.md).
        self.model = (
            copy.deepcopy(model)
            .to(dtype=dtype)
            .to(memory_format=torch.contiguous_format)
            .train(options.mode == "train")
        )
        self.loss, self.options = loss, options
        self.batches = [
            (x.to(dtype).contiguous() if x.is_floating_point() else x, y) for x, y in batches
        ]
        self.samples = sum(len(y) for _, y in batches)
        chosen = (
            set(masks)
            if options.params == "prunable"
            else {name for name, _ in self.model.named_parameters()}
        )
        for name, p in self.model.named_parameters():
            p.grad = None
            p.requires_grad_(name in chosen)
        self.names = [name for name, _ in self.model.named_parameters() if name in chosen]
        self.parameters = [self.model.get_parameter(name) for name in self.names]
        self._sizes = [p.numel() for p in self.parameters]
        self.dimension = sum(self._sizes)
        # (d,)
        self.point = self.flatten(
            {name: p.detach() for name, p in zip(self.names, self.parameters, strict=True)}
        )
        if not self.point.isfinite().all():
            raise FloatingPointError(
                "the weights are NaN or infinite, so they have no Hessian: their training has"
                " diverged; take a smaller train.lr"
            )
        self.unfolded = copy.deepcopy(self.model)  # the same net with its BatchNorm layers
        # W' = s W (s per output channel) and a bias replace eval-mode BatchNorm, and H = s H' s:
        # a fifth faster (measured), equal up to rounding.
        scales = (
            fold_batchnorm(self.model)
            if options.mode == "eval" and options.params == "prunable"
            else {}
        )
        ones = {
            name: torch.ones_like(p) for name, p in zip(self.names, self.parameters, strict=True)
        }
        # (d,)
        self._scale = self.flatten(
            ones | {name: ones[name] * s for name, s in scales.items() if name in ones}
        )
        self._cache_bytes = cache_bytes
        self._workers = self._start_workers()
        self._gradient_here: Tensor | None = None  # at `point`
        self._graphs: dict[int, list[Tensor]] | None = None  # mini-batch -> gradients

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Concatenate this operator's parameters from `tensors` (d,), in its dtype and device."""
        return torch.cat(
            [
                tensors[name].reshape(-1).to(p)
                for name, p in zip(self.names, self.parameters, strict=True)
            ]
        )

    def split(self, v: Tensor) -> dict[str, Tensor]:
        """Split a vector (d,) into views by parameter name."""
        return dict(zip(self.names, self._pieces(v), strict=True))

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
            self.batches,
            self.loss,
            self.options,
            self._cache_bytes,
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

    def _sum(self, share: Callable[[int], Sequence[Tensor]]) -> Tensor:
        """Sum (d,) of all mini-batches' shares, always added in the same order."""
        numbers = range(len(self.batches))
        total = torch.zeros_like(self.point)
        for part in self._workers.map(share, numbers) if self._workers else map(share, numbers):
            total += torch.cat([piece.reshape(-1) for piece in part])
        return total

    def _share(self, i: int, pieces: list[Tensor]) -> Sequence[Tensor]:
        """Mini-batch i's part of H v, by parameter."""
        assert self._graphs is not None
        kept = i in self._graphs
        return self._product(self._graphs[i] if kept else self._gradients(i), pieces, kept)

    def _start_workers(self) -> ThreadPoolExecutor | None:
        """A pool of one thread per mini-batch, at most one per core; None where it does not help.

        For small images this beats all threads on one convolution (measured). Not in train mode,
        which updates shared running statistics, nor on a GPU, which has its own queue.
        """
        cores = torch.get_num_threads()
        workers = min(cores, len(self.batches))
        if workers < 2 or self.point.is_cuda or self.options.mode == "train":
            return None
        # sets only the worker's number
        return ThreadPoolExecutor(
            workers, initializer=torch.set_num_threads, initargs=(cores // workers,)
        )

    def _cached_graphs(self) -> dict[int, list[Tensor]]:
        per_sample = GRAPH_FACTOR * self._saved_bytes() / len(self.batches[0][1])
        room = int(self._cache_bytes / max(per_sample, 1.0))  # samples whose graphs fit
        graphs = {}
        for i, (_, y) in enumerate(self.batches):
            if len(y) <= room:
                graphs[i] = self._gradients(i)
                room -= len(y)
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

    def _saved_bytes(self) -> int:
        """Bytes that the first mini-batch's forward pass saves, each storage counted once."""
        seen: dict[int, int] = {}

        def note(t: Tensor) -> Tensor:
            seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            self.value(0)
        return sum(seen.values())

    def _pieces(self, v: Tensor) -> list[Tensor]:
        return [
            piece.view_as(p) for piece, p in zip(v.split(self._sizes), self.parameters, strict=True)
        ]

    @torch.no_grad()
    def _move(self, point: Tensor) -> None:
        for p, piece in zip(self.parameters, self._pieces(self._scale * point), strict=True):
            p.copy_(piece)


@torch.no_grad()
def fold_batchnorm(model: nn.Module) -> dict[str, Tensor]:
    """Fold eval-mode BatchNorm into the preceding convolutions, in place; equal up to rounding.

    Only if the convolution's output has no other use; a net that cannot be traced is unchanged.

    Returns:
        Weight name -> factor (out, 1, 1, 1) of each convolution that was scaled.
    """
    try:
        graph = _LayerTracer().trace(model)
    except (fx.proxy.TraceError, RuntimeError, TypeError):  # data-dependent branches, len(x), ...
        return {}
    scales: dict[str, Tensor] = {}
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        bn, conv, name = _pair(model, node)
        if (
            bn is None
            or conv is None
            or calls[str(node.target)] > 1
            or calls[name.removesuffix(".weight")] > 1
        ):
            continue
        # (out,)
        gamma, beta = (
            (bn.weight, bn.bias)
            if bn.affine
            else (torch.ones_like(bn.running_mean), torch.zeros_like(bn.running_mean))
        )
        factor = gamma * (bn.running_var + bn.eps).rsqrt()
        before = 0.0 if conv.bias is None else conv.bias
        conv.weight.mul_(factor[:, None, None, None])
        conv.bias = nn.Parameter(beta + factor * (before - bn.running_mean), requires_grad=False)
        parent, _, last = node.target.rpartition(".")
        setattr(model.get_submodule(parent), last, nn.Identity())
        scales[name] = factor[:, None, None, None]
    return scales


class _LayerTracer(fx.Tracer):
    """Traces our convolutions (models/conv.py), which branch on the image size, as leaves."""

    def is_leaf_module(self, m: nn.Module, qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d) or super().is_leaf_module(m, qualified_name)


def _pair(model: nn.Module, node: fx.Node) -> tuple[Any, nn.Conv2d | None, str]:
    """`node`'s BatchNorm, the convolution feeding only it, its weight name; None if absent."""
    before = node.args[0] if node.args else None
    if (
        node.op != "call_module"
        or not isinstance(before, fx.Node)
        or before.op != "call_module"
        or len(before.users) > 1
    ):
        return None, None, ""
    bn, conv = model.get_submodule(str(node.target)), model.get_submodule(str(before.target))
    fits = (
        isinstance(bn, nn.BatchNorm2d)
        and bn.running_var is not None
        and isinstance(conv, nn.Conv2d)
    )
    return (bn, conv, f"{before.target}.weight") if fits else (None, None, "")  # type: ignore[return-value]


def pyhessian_check(operator: HessianOperator, rng: Generator) -> dict[str, float]:
    """Top eigenvalue and trace of the same H by PyHessian, the paper's own estimator.

    Its density() fails on current torch and is not called. PyHessian sets eval mode, leaves
    gradients with graphs and draws from the global generator, so it gets copies of both.

    Raises:
        ValueError: PyHessian is not installed.
    """
    try:
        from pyhessian import hessian  # optional and slow to import
    except ImportError as error:
        raise ValueError(
            "method.spectrum.check=pyhessian needs PyHessian: pip install pyhessian, or take"
            " method.spectrum.check=none"
        ) from error
    model = copy.deepcopy(operator.unfolded)
    data = tuple(torch.cat(parts) for parts in zip(*operator.batches, strict=True))
    on_gpu = operator.point.is_cuda
    seed = int(torch.randint(2**31, (1,), generator=rng))
    with (
        torch.random.fork_rng(devices=[operator.point.device] if on_gpu else []),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # about create_graph's reference cycle
        torch.manual_seed(seed)
        theirs = hessian(model, operator.loss, data=data, cuda=on_gpu)
        values, _ = theirs.eigenvalues(top_n=1)
        traces = theirs.trace()
    for p in model.parameters():
        p.grad = None  # breaks the reference cycle
    return {
        "pyhessian_lambda_max": float(values[0]),
        "pyhessian_trace": float(sum(traces) / len(traces)),
    }

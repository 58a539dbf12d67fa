"""Distortion error: the change of the loss under a joint swap beyond its first-order terms.

A swap replaces q kept weights by q pruned ones.

"Lottery Jackpots Exist in Pre-trained Models" (Zhang et al., arXiv:2104.08700), Sec. 3.4, Fig. 6.
With the effective weights v = mask * w, swapping kept i for pruned j promises the change (Eq. 22)

    dL/dv_j w_j - dL/dv_i w_i

The actual change of the loss is the sum of these promises over the q pairs plus epsilon (Eqs. 23,
24). The paper states that the variance of epsilon grows in proportion to q. To second order,
epsilon is d'Hd / 2 for the change d of v. Its diagonal part varies in proportion to q, its
off-diagonal part in proportion to q^2. The exponent of a power law therefore shows which of the two
dominates.

Left open by the paper, chosen here (docs/tables.md):
- Pairs are drawn over the net: q of all kept and q of all pruned weights, without repetition and
  with equal probability, because the paper's Phi and Psi are those of the net. The search itself
  swaps within layers, and not at random.
- The loss is that of a fixed batch of training images without augmentation, with BatchNorm's
  running statistics. Batch statistics would make it a different function of v.
- All computations use float64: the epsilon of one pair is around 1e-7 of the loss, which is the
  rounding error of float32.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from pruners.analysis.origin import unmasked
from pruners.analysis.subsets import draw_subsets
from pruners.base import GRADIENT, Batch, LossFn, Masks, Measurement, Task, Work, in_batches
from pruners.scores.chunks import fitting
from pruners.scores.gradients import mean_gradients

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
TOGETHER = 256  # images per forward pass: bounds memory; results differ only by rounding


@dataclass(frozen=True)
class Distortion:
    """Measure stage: epsilon of random swaps, for each q.

    It starts from the pruned net and needs the unpruned weights (`needs: [origin]`).

    Args:
        counts: values of q. Values above the number of kept or of pruned weights are skipped.
            The paper names none.
        draws: random swaps for each q.
        images: training images in the loss; all of them if there are fewer.
    """

    tag: ClassVar[str] = "distortion"
    counts: tuple[int, ...] = (1, 10, 100, 1_000, 10_000)
    draws: int = 200
    images: int = 1_024

    def __post_init__(self) -> None:
        sizes = {
            "counts": (min(self.counts, default=0), 1),
            "draws": (self.draws, 2),
            "images": (self.images, 1),
        }
        problems = [
            f"portrait.measure.{key}={getattr(self, key)} must be at least {least}"
            for key, (value, least) in sizes.items()
            if value < least
        ]
        if problems:
            raise ValueError("\n".join(problems))

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Measure epsilon for each q; return series over q and a report.

        Series: `distortion_q`; mean, std, variance and quantiles of epsilon (`distortion_q05` ...
        `_q95`); std of the promise; `distortion_broken`. The last one is the share, among the swaps
        that promise a smaller loss, of those that do not reduce it (Eq. 25). Report:
        `distortion_exponent`, the least-squares slope of log variance against log q, or None if it
        is undefined.

        Raises:
            ValueError: the masks keep everything, or nothing.
        """
        swaps = prepared(
            model, masks, unmasked(task), _batches(model, task, self.images), task.loss
        )
        counts = [q for q in self.counts if q <= min(len(swaps.kept), len(swaps.pruned))]
        if not counts:
            raise ValueError(
                f"portrait=distortion swaps kept for pruned weights, but {len(swaps.kept):,} are"
                f" kept and {len(swaps.pruned):,} pruned"
            )
        draws = []
        for i, q in enumerate(counts):
            before, total = i * self.draws, len(counts) * self.draws
            progress = partial(_report, task, before, total)
            draws.append(swaps.draw(q, self.draws, task.rng, progress))
        errors, promises = [d[:, 0] for d in draws], [d[:, 1] for d in draws]
        variances = [float(e.var()) for e in errors]
        return Measurement(
            report={"distortion_exponent": exponent(counts, variances)},
            series=_series(counts, errors, promises, variances),
        )

    def work(self, prunable: int, parameters: int, images: int) -> Work:
        """Count one test of the batch for each swap, one more test, and one gradient."""
        batch, tests = min(self.images, images), self.draws * len(self.counts) + 1
        return Work(images=batch * (tests + 1), passes=batch * (tests + GRADIENT))


def _report(task: Task, before: int, total: int, done: int) -> None:
    task.progress(before + done, total, "swaps")


def _series(
    counts: list[int], errors: list[Tensor], promises: list[Tensor], variances: list[float]
) -> dict[str, list[float]]:
    """Series over q; `errors` and `promises` are those of the draws, (draws,) for each q."""
    quantiles = {
        f"distortion_q{round(100 * share):02d}": [float(e.quantile(share)) for e in errors]
        for share in QUANTILES
    }
    return {
        "distortion_q": [float(q) for q in counts],
        "distortion_mean": [float(e.mean()) for e in errors],
        "distortion_std": [v**0.5 for v in variances],
        "distortion_variance": variances,
        **quantiles,
        "distortion_promise_std": [float(p.std()) for p in promises],
        "distortion_broken": [broken(e, p) for e, p in zip(errors, promises, strict=True)],
    }


@dataclass(frozen=True)
class Swaps:
    """A masked net and the effect of swaps on its loss.

    Vectors are float64 and cover all weights of the masked layers, in their order.

    Args:
        net: a copy in eval mode; only its masked parameters are written.
        weights: w (n,), unpruned. effective: mask * w (n,). gradient: dL/d(effective) (n,).
        kept, pruned: indices into these vectors.
        loss: returns the net's current loss on the batch.
        base: loss under the masks.
    """

    net: nn.Module
    names: tuple[str, ...]
    weights: Tensor
    effective: Tensor
    gradient: Tensor
    kept: Tensor
    pruned: Tensor
    loss: Callable[[], float]
    base: float

    def promise(self, enter: Tensor, leave: Tensor) -> float:
        """First-order change of the loss: the sum of Eq. 22 over the pairs.

        `enter` (q,) are indices of pruned weights, `leave` (q,) of kept ones.
        """
        return float(
            (self.gradient[enter] * self.weights[enter]).sum()
            - (self.gradient[leave] * self.weights[leave]).sum()
        )

    def change(self, enter: Tensor, leave: Tensor) -> float:
        """Actual change of the loss."""
        moved = self.effective.clone()
        moved[enter], moved[leave] = self.weights[enter], 0.0
        write(self.net, self.names, moved)
        return self.loss() - self.base

    def error(self, enter: Tensor, leave: Tensor) -> float:
        """epsilon (Eq. 24)."""
        return self.change(enter, leave) - self.promise(enter, leave)

    def draw(
        self,
        q: int,
        draws: int,
        rng: Generator,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Tensor:
        """Draw random swaps of q pairs; return epsilon and promise of each, (draws, 2)."""
        leave, enter = (
            places[_choose(len(places), q, draws, rng).to(places.device)]
            for places in (self.kept, self.pruned)
        )
        found = torch.zeros(draws, 2, dtype=torch.float64)
        for i in range(draws):
            promised = self.promise(enter[i], leave[i])
            found[i] = torch.tensor(
                [self.change(enter[i], leave[i]) - promised, promised], dtype=torch.float64
            )
            progress(i + 1)
        return found


def prepared(
    model: nn.Module, masks: Masks, weights: dict[str, Tensor], batches: list[Batch], loss: LossFn
) -> Swaps:
    """Put a copy of the net under its masks, with a loss on a fixed set of batches.

    Args:
        weights: unpruned, of the masked layers.
        batches: inputs in float64.

    Raises:
        ValueError: the kept weights differ from the unpruned ones: they were trained or scaled
            since, so a swap would not restore w.
    """
    net, names = copy.deepcopy(model).double().eval(), tuple(masks)
    device = next(net.parameters()).device

    def vector(tensors: dict[str, Tensor]) -> Tensor:
        return torch.cat([tensors[name].detach().to(device).flatten() for name in names])

    @torch.no_grad()
    def value() -> float:
        return sum(float(loss(net(x), y)) * len(y) for x, y in batches) / sum(
            len(y) for _, y in batches
        )

    w, kept = vector(weights).double(), vector(masks)
    effective = torch.where(kept, w, 0.0)
    if not torch.equal(vector({name: net.get_parameter(name) for name in names}), effective):
        raise ValueError(
            "the pruned net's weights are not those of the unpruned one: portrait=distortion is for"
            " masks that were found in one net, in one round"
        )
    write(net, names, effective)
    gradient = vector(mean_gradients(net, masks, batches, loss, "eval"))
    places = (kept.nonzero().flatten(), (~kept).nonzero().flatten())
    return Swaps(net, names, w, effective, gradient, *places, loss=value, base=value())


@torch.no_grad()
def write(net: nn.Module, names: tuple[str, ...], values: Tensor) -> None:
    """Copy a vector over these parameters into the net."""
    parameters = [net.get_parameter(name) for name in names]
    parts = torch.split(values, [p.numel() for p in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.copy_(part.view(parameter.shape))


def broken(errors: Tensor, promises: Tensor) -> float:
    """Share of the swaps with a negative promise whose error cancels it (Eq. 25).

    Returns 0 if no promise is negative.
    """
    promising = promises < 0
    return float((errors >= -promises)[promising].double().mean()) if promising.any() else 0.0


def exponent(counts: list[int], variances: list[float]) -> float | None:
    """Least-squares slope of log variance against log q.

    Returns None for fewer than two q, or for a variance of zero.
    """
    if len(counts) < 2 or min(variances) <= 0:
        return None
    x, y = (
        torch.tensor([math.log(v) for v in values], dtype=torch.float64)
        for values in (counts, variances)
    )
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (x * x).sum())


def _batches(model: nn.Module, task: Task, images: int) -> list[Batch]:
    """The first training images in the stage's own order, float64, on the model's device."""
    device = next(model.parameters()).device
    x, y = next(iter(task.batches(images)))
    batches = list(in_batches(x.to(device, torch.float64), y.to(device), TOGETHER))
    return fitting(copy.deepcopy(model).double().eval(), batches, task.loss, task.memory)


def _choose(total: int, q: int, draws: int, rng: Generator) -> Tensor:
    """Draw q of `total` indices without repetition, all sets equally likely: (draws, q)."""
    if 2 * q <= total:
        return draw_subsets(total, q, draws, rng)
    return torch.stack([torch.randperm(total, generator=rng)[:q] for _ in range(draws)])

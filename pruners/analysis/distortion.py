"""Distortion error: what a joint swap of q kept for q pruned weights does to the loss beyond the sum of its first-order terms.

"Lottery Jackpots Exist in Pre-trained Models" (Zhang et al., arXiv:2104.08700), Sec. 3.4 and Fig. 6. With the effective weights v = mask * w, a swap of kept i
for pruned j promises dL/dv_j w_j - dL/dv_i w_i (Eq. 22). The loss really changes by the sum of these promises over the q pairs plus epsilon (Eqs. 23, 24), of
which the paper says that its variance grows in proportion to q. To second order epsilon is d'Hd / 2 of the change d of v: its diagonal part varies in
proportion to q, what is off the diagonal in proportion to q^2, so that the exponent of a power law tells which of the two there is.

Left open by the paper, chosen here (methods/experiments.md):
- Pairs are drawn over the net: q of all kept and q of all pruned weights, without repetition and all equally likely, as Phi and Psi of the paper are the
  net's. The search itself swaps within layers, and not at random.
- The loss is that of a fixed batch of training images, not augmented, with BatchNorm's running statistics: a batch's own would be another function of v.
- All in float64: the epsilon of one pair is around 1e-7 of the loss, which is where float32 rounds.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from pruners.analysis.histograms import draw_subsets, unmasked
from pruners.base import GRADIENT, Batch, Finding, LossFn, Masks, Measurement, Task, Work
from pruners.scores.gradients import mean_gradients

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
TOGETHER = 256  # images at a time: bounds memory, and changes no number beyond rounding


@dataclass(frozen=True)
class Distortion:
    """Measure stage: epsilon of random swaps, for each q. It starts from the pruned net and needs the unpruned weights (`needs: [origin]`).

    Args:
        counts: values of q; those that are more than the net keeps, or more than it prunes, are left out. The paper names none.
        draws: random swaps for each.
        images: training images in the loss, all of them if there are fewer.
    """

    tag: ClassVar[str] = "distortion"
    counts: tuple[int, ...] = (1, 10, 100, 1_000, 10_000)
    draws: int = 200
    images: int = 1_024

    def __post_init__(self) -> None:
        sizes = {"counts": (min(self.counts, default=0), 1), "draws": (self.draws, 2), "images": (self.images, 1)}
        problems = [f"portrait.measure.{key}={getattr(self, key)} must be at least {least}" for key, (value, least) in sizes.items() if value < least]
        if problems:
            raise ValueError("\n".join(problems))

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Series over q: `distortion_q`; mean, std, variance and quantiles of epsilon (`distortion_q05` ... `_q95`); std of the promise; swaps that break it.

        `distortion_broken` is the share, of the swaps that promise a smaller loss, that raise it or leave it (Eq. 25). Report: `distortion_exponent`, the
        slope of log variance against log q by least squares, None if there is none.

        Raises:
            ValueError: the masks keep everything, or nothing.
        """
        swaps = prepared(model, masks, unmasked(task), _batches(model, task, self.images), task.loss)
        counts = [q for q in self.counts if q <= min(len(swaps.kept), len(swaps.pruned))]
        if not counts:
            raise ValueError(f"portrait=distortion swaps kept for pruned weights, but {len(swaps.kept):,} are kept and {len(swaps.pruned):,} pruned")
        errors, promises = [], []
        for i, q in enumerate(counts):
            found = swaps.draw(q, self.draws, task.rng, lambda done, i=i: task.tick(i * self.draws + done, len(counts) * self.draws, "swaps"))  # type: ignore[misc]
            errors.append(found[:, 0])
            promises.append(found[:, 1])
        variances = [float(e.var()) for e in errors]
        series = {"distortion_q": [float(q) for q in counts], "distortion_mean": [float(e.mean()) for e in errors]}
        series |= {"distortion_std": [v**0.5 for v in variances], "distortion_variance": variances}
        series |= {f"distortion_q{round(100 * share):02d}": [float(e.quantile(share)) for e in errors] for share in QUANTILES}
        series |= {"distortion_promise_std": [float(p.std()) for p in promises]}
        series |= {"distortion_broken": [broken(e, p) for e, p in zip(errors, promises, strict=True)]}
        report: dict[str, Finding] = {"distortion_exponent": exponent(counts, variances)}
        return Measurement(report=report, series=series)

    def work(self, prunable: int, parameters: int, images: int) -> Work:
        """A test of the batch for each swap and one more, and a gradient."""
        batch, tests = min(self.images, images), self.draws * len(self.counts) + 1
        return Work(images=batch * (tests + 1), passes=batch * (tests + GRADIENT))


@dataclass(frozen=True)
class Swaps:
    """A net under masks, and what swaps do to its loss. Vectors run over all weights of the masked layers, in their order; float64.

    Args:
        net: a copy in eval mode; only its masked parameters are written.
        weights: w (n,), unpruned. effective: mask * w (n,). gradient: dL/d(effective) (n,).
        kept, pruned: places in these.
        loss: of the net on the batch as it stands.
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
        """The change of the loss to first order: the sum of Eq. 22 over pairs of pruned places (q,) that enter and kept ones (q,) that leave."""
        return float((self.gradient[enter] * self.weights[enter]).sum() - (self.gradient[leave] * self.weights[leave]).sum())

    def change(self, enter: Tensor, leave: Tensor) -> float:
        """The change of the loss itself."""
        moved = self.effective.clone()
        moved[enter], moved[leave] = self.weights[enter], 0.0
        write(self.net, self.names, moved)
        return self.loss() - self.base

    def error(self, enter: Tensor, leave: Tensor) -> float:
        """epsilon (Eq. 24)."""
        return self.change(enter, leave) - self.promise(enter, leave)

    def draw(self, q: int, draws: int, rng: Generator, tick: Callable[[int], None] = lambda done: None) -> Tensor:
        """epsilon and promise of random swaps of q pairs: (draws, 2)."""
        leave, enter = (places[_choose(len(places), q, draws, rng).to(places.device)] for places in (self.kept, self.pruned))
        found = torch.zeros(draws, 2, dtype=torch.float64)
        for i in range(draws):
            promised = self.promise(enter[i], leave[i])
            found[i] = torch.tensor([self.change(enter[i], leave[i]) - promised, promised], dtype=torch.float64)
            tick(i + 1)
        return found


def prepared(model: nn.Module, masks: Masks, weights: dict[str, Tensor], batches: list[Batch], loss: LossFn) -> Swaps:
    """The net under its masks at a fixed set of batches; the model is not changed.

    Args:
        weights: unpruned, of the masked layers.
        batches: inputs in float64.

    Raises:
        ValueError: the kept weights are others: they were trained or scaled since, so that w is not what a swap would bring back.
    """
    net, names = copy.deepcopy(model).double().eval(), tuple(masks)
    device = next(net.parameters()).device

    def vector(tensors: dict[str, Tensor]) -> Tensor:
        return torch.cat([tensors[name].detach().to(device).flatten() for name in names])

    @torch.no_grad()
    def value() -> float:
        return sum(float(loss(net(x), y)) * len(y) for x, y in batches) / sum(len(y) for _, y in batches)

    w, kept = vector(weights).double(), vector(masks)
    effective = torch.where(kept, w, 0.0)
    if not torch.equal(vector({name: net.get_parameter(name) for name in names}), effective):
        raise ValueError(
            "the pruned net's weights are not those of the unpruned one: portrait=distortion is for masks that were found in one net, in one round"
        )
    write(net, names, effective)
    gradient = vector(mean_gradients(net, masks, batches, loss, "eval"))
    places = (kept.nonzero().flatten(), (~kept).nonzero().flatten())
    return Swaps(net, names, w, effective, gradient, *places, loss=value, base=value())


@torch.no_grad()
def write(net: nn.Module, names: tuple[str, ...], values: Tensor) -> None:
    """Put a vector over these parameters into the net."""
    parameters = [net.get_parameter(name) for name in names]
    for parameter, part in zip(parameters, values.split([p.numel() for p in parameters]), strict=True):
        parameter.copy_(part.view(parameter.shape))


def broken(errors: Tensor, promises: Tensor) -> float:
    """Of the swaps that promise a smaller loss, the share whose error takes that away (Eq. 25); 0 if none promises it."""
    promising = promises < 0
    return float((errors >= -promises)[promising].double().mean()) if promising.any() else 0.0


def exponent(counts: list[int], variances: list[float]) -> float | None:
    """Least-squares slope of log variance against log q; None for fewer than two q, or a variance of zero."""
    if len(counts) < 2 or min(variances) <= 0:
        return None
    x, y = (torch.tensor([math.log(v) for v in values], dtype=torch.float64) for values in (counts, variances))
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (x * x).sum())


def _batches(model: nn.Module, task: Task, images: int) -> list[Batch]:
    """The first training images of the stage's own order, in float64 on the model's device."""
    device = next(model.parameters()).device
    x, y = next(iter(task.batches(images)))
    return list(zip(x.to(device, torch.float64).split(TOGETHER), y.to(device).split(TOGETHER), strict=True))


def _choose(total: int, q: int, draws: int, rng: Generator) -> Tensor:
    """Places of q out of `total` without repetition, all sets equally likely: (draws, q)."""
    if 2 * q <= total:
        return draw_subsets(total, q, draws, rng)
    return torch.stack([torch.randperm(total, generator=rng)[:q] for _ in range(draws)])

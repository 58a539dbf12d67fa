"""Histograms and norms of the weights that a mask keeps, for figures.

Figures 1 and 2 of "Pruning at Initialization - A Sketching Perspective" (arXiv:2305.17559).

Three measurements of the finished masks. They use the unmasked weights in `task.measured`
(`needs: [init]`: the initial ones):
- `Weights`, Fig. 1a: histogram of the kept weights, as shares of all kept weights of the net.
- `ScoresBefore`, Fig. 1b: scores of randomly drawn weights before any pruning, and of those among
  them that the mask keeps.
- `Norms`, Fig. 2: Frobenius norm of each layer's kept weights, |W * M|_F, and the same norm under
  random masks with given counts.

Left open by the paper, chosen here:
- Weights and scores of all layers go into one histogram. Fig. 1a has two plots that the text does
  not distinguish.
- The axis of Fig. 1b ends at 0.05, but raw SynFlow scores are around 1e20. Each score is therefore
  divided by the sum over the weights drawn.
- The random masks of Fig. 2 keep as many weights of each layer as the ticket (counts=ticket). The
  axis of Fig. 2b (1 to 4) is consistent with that. With the same density in all layers
  (counts=uniform), the last layer of LeNet-300-100 at 1.2 % has about twelve weights and a norm of
  0.5.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from pruners.analysis.origin import unmasked, unpruned
from pruners.analysis.subsets import subset_sums
from pruners.base import (
    Batch,
    Finding,
    Masks,
    Measurement,
    Scores,
    Task,
    Work,
    count_kept,
    count_prunable,
    full_masks,
)
from pruners.selection.source import Examples

Counts = Literal["ticket", "uniform"]


@dataclass(frozen=True)
class Bins:
    """Equal bins of a histogram from `low` to `high`; bins=0 means no histogram.

    Values outside the range belong to no bin.
    """

    tag: ClassVar[str] = "bins"
    low: float
    high: float
    bins: int

    def __post_init__(self) -> None:
        if self.bins < 0 or not self.low < self.high:
            raise ValueError(
                f"portrait.measure: low={self.low:g}, high={self.high:g}, bins={self.bins} must be"
                " rising and 0 or more: a histogram's range"
            )

    @property
    def edges(self) -> Tensor:
        """Edges of the bins, (bins + 1,), float64."""
        return torch.linspace(self.low, self.high, self.bins + 1, dtype=torch.float64)

    def count(self, values: Tensor) -> Tensor:
        """Number of `values` (n,) in each bin, (bins,).

        A bin includes its lower edge; the last bin includes both edges.
        """
        return torch.histogram(values.double().cpu(), self.edges).hist


@dataclass(frozen=True)
class Weights:
    """Measure stage: histogram of the weights that the masks keep, over all layers.

    Args:
        low, high, bins: the histogram. Default +-0.3 in 60 bins: the wider plot of Fig. 1a.
    """

    tag: ClassVar[str] = "weights_histogram"
    low: float = -0.3
    high: float = 0.3
    bins: int = 60

    def __post_init__(self) -> None:
        Bins(self.low, self.high, self.bins)

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Return the histogram of the kept weights.

        Series: `weight_edges` (bins + 1) and `weight_share` (bins), shares of all kept weights.
        Report: the share outside the bins, and the mean of |w|.
        """
        origin, histogram = unmasked(task), Bins(self.low, self.high, self.bins)
        kept = torch.cat([origin[name].to(mask.device)[mask] for name, mask in masks.items()])
        share = histogram.count(kept) / max(len(kept), 1)
        report: dict[str, Finding] = {
            "weights_outside": 1 - float(share.sum()),
            "weights_mean_abs": float(kept.double().abs().mean()),
        }
        return Measurement(
            report=report,
            series={"weight_edges": histogram.edges.tolist(), "weight_share": share.tolist()},
        )

    def work(self, prunable: int, parameters: int, images: int) -> Work:
        """No pass through the net."""
        return Work(0, 0)


@dataclass(frozen=True)
class ScoresBefore:
    """Measure stage: scores before pruning of a random sample of weights.

    There are two histograms: of the whole sample and of the weights in it that the masks keep.

    Args:
        score: as in pruners/selection/score_pruner.py.
        source: (task) -> the batches for the score; None for a score without data.
        sample: weights drawn, all equally likely. Default 1000: the paper's.
        low, high, bins: the histogram of score / sum of the scores drawn. Default 0 to 0.05, the
            axis of Fig. 1b, in 50 bins.
    """

    tag: ClassVar[str] = "scores_before"
    score: Callable[..., Scores]
    source: Callable[[Task], Iterable[Batch]] | None = None
    sample: int = 1000
    low: float = 0.0
    high: float = 0.05
    bins: int = 50

    def __post_init__(self) -> None:
        Bins(self.low, self.high, self.bins)
        if self.sample < 1:
            raise ValueError(
                f"portrait.measure.sample={self.sample} must be at least 1:"
                " weights to draw, 1000 in the paper"
            )

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Return series of counts: `score_edges` (bins + 1), `score_all` and `score_kept` (bins).

        The same seed draws the same weights under every mask.
        """
        total, histogram = count_prunable(masks), Bins(self.low, self.high, self.bins)
        drawn = torch.randperm(total, generator=task.rng)[: self.sample]
        fresh = unpruned(model, task)
        examples = Examples(self.source, task, next(fresh.parameters()).device)
        everything = full_masks(fresh)
        scores = self.score(
            fresh, everything, examples, task.loss, task.rng, task.memory, task.team
        )
        chosen = torch.cat([scores[name].flatten().double().cpu() for name in masks])[drawn]
        kept = torch.cat([mask.flatten().cpu() for mask in masks.values()])[drawn]
        shares = chosen / chosen.sum()
        series = {
            "score_edges": histogram.edges,
            "score_all": histogram.count(shares),
            "score_kept": histogram.count(shares[kept]),
        }
        outside = len(drawn) - int(series["score_all"].sum())
        report: dict[str, Finding] = {
            "scores_drawn": len(drawn),
            "scores_kept": int(kept.sum()),
            "scores_outside": outside,
        }
        return Measurement(report=report, series={name: t.tolist() for name, t in series.items()})


@dataclass(frozen=True)
class Norms:
    """Measure stage: Frobenius norm of each layer's kept weights, and of its random masks.

    Args:
        masks: number of random masks. Default 100, for their mean; the paper's distribution
            (Fig. 2b) has 10,000.
        counts: weights that a random mask keeps of each layer: as many as the ticket (`ticket`), or
            the same share of each layer (`uniform`).
        low, high, bins: the histogram of the random masks' norms; bins=0, the default, makes none.
    """

    tag: ClassVar[str] = "norms"
    masks: int = 100
    counts: Counts = "ticket"
    low: float = 0.0
    high: float = 5.0
    bins: int = 0

    def __post_init__(self) -> None:
        Bins(self.low, self.high, self.bins)
        if self.masks < 2 or self.counts not in get_args(Counts):
            raise ValueError(
                f"portrait.measure: masks={self.masks} must be at least 2, counts={self.counts} one"
                f" of {', '.join(get_args(Counts))}"
            )

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Return series with one entry per layer, in the model's order.

        They are `ticket_norm`, `random_norm` (mean) and `random_norm_std`. With bins there are also
        `norm_edges` and, for layer i, `random_share_<i>`.
        """
        origin, histogram = unmasked(task), Bins(self.low, self.high, self.bins)
        density = count_kept(masks) / count_prunable(masks)
        series: dict[str, list[float]] = {
            "ticket_norm": [],
            "random_norm": [],
            "random_norm_std": [],
        }
        for layer, (name, mask) in enumerate(masks.items()):
            weight = origin[name].double().cpu()
            kept = int(mask.sum()) if self.counts == "ticket" else round(density * mask.numel())
            squares = weight.flatten() ** 2
            norms = subset_sums(squares, kept, self.masks, task.rng, task.progress).sqrt()
            series["ticket_norm"].append(float(weight[mask.cpu()].norm()))
            series["random_norm"].append(float(norms.mean()))
            series["random_norm_std"].append(float(norms.std()))
            if self.bins:
                series[f"random_share_{layer}"] = (histogram.count(norms) / self.masks).tolist()
        return Measurement(
            series={**series, **({"norm_edges": histogram.edges.tolist()} if self.bins else {})}
        )

    def work(self, prunable: int, parameters: int, images: int) -> Work:
        """No pass through the net."""
        return Work(0, 0)

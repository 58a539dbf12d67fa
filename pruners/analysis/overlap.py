"""Overlap of a mask with the magnitude mask, and the expected overlap of random masks.

The finished mask is compared with the mask of the largest |w| of the weights that were pruned
(`needs`: one stage that provides them), at equal counts, in two ways:
- over the whole net: the largest of all layers together, as many as the mask keeps. The random
  masks keep as many of the whole net, all sets equally likely.
- within layers (`layer_`): the largest of each layer, as many as the mask keeps of it. The random
  masks keep as many of each layer, as a mask that is shuffled within layers does ("Sanity-Checking
  Pruning Methods", arXiv:2009.11094). An overlap above that comes from the choice of positions, not
  from the layers' budgets.

There are two measures. One is the share of the kept weights that both keep, |A and B| / |A|. The
other is the share of mask entries that agree, 1 - |A xor B| / n ("Lottery Jackpots Exist in
Pre-trained Models", Eq. 7), which is high for any two sparse masks. If A keeps a and B keeps b of n
weights and one of them is drawn at random, |A and B| is hypergeometric with mean a b / n. The
expected overlap is computed from this mean, without sampling.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pruners.analysis.origin import unmasked
from pruners.base import Finding, Masks, Measurement, Task, Work, count_kept
from pruners.selection.ranks import largest


@dataclass(frozen=True)
class Counts:
    """Two masks of the same n weights: a and b weights kept by each, and those kept by both."""

    n: int
    a: int
    b: int
    both: float

    @property
    def kept(self) -> float:
        """Share of the first mask's kept weights that the other keeps too; 0 if it keeps none."""
        return self.both / self.a if self.a else 0.0

    @property
    def agree(self) -> float:
        """Share of the n entries that are equal."""
        return 1 - (self.a + self.b - 2 * self.both) / self.n

    @property
    def random(self) -> "Counts":
        """Expected counts if one of the masks is drawn at random with its count."""
        return Counts(self.n, self.a, self.b, self.a * self.b / self.n)


def compare(one: Tensor, other: Tensor) -> Counts:
    """Counts of two masks, bool of one shape with at least one entry."""
    return Counts(one.numel(), int(one.sum()), int(other.sum()), int((one & other).sum()))


def together(parts: list[Counts]) -> Counts:
    """Add up the counts of several layers to those of one net; also for expected counts."""
    return Counts(
        sum(c.n for c in parts),
        sum(c.a for c in parts),
        sum(c.b for c in parts),
        sum(c.both for c in parts),
    )


def magnitude_masks(weights: dict[str, Tensor], masks: Masks, within: bool) -> Masks:
    """Keep the largest |w|: as many as `masks` keep in total, or `within` each layer.

    Ties go to the lower index in the net's order.

    Raises:
        FloatingPointError: a weight is not a number.
    """
    sizes = {name: weights[name].detach().cpu().abs().flatten() for name in masks}
    if any(bool(size.isnan().any()) for size in sizes.values()):
        raise FloatingPointError(
            "weights that are not numbers have no magnitude mask: their training has diverged;"
            " take a smaller train.lr"
        )
    if within:
        chosen = [largest(size, int(masks[name].sum())) for name, size in sizes.items()]
    else:
        kept = largest(torch.cat([*sizes.values()]), count_kept(masks))
        chosen = list(torch.split(kept, [size.numel() for size in sizes.values()]))
    return {name: mask.view(masks[name].shape) for name, mask in zip(sizes, chosen, strict=True)}


@dataclass(frozen=True)
class Overlap:
    """Measure stage: compare the finished masks with the magnitude mask.

    The weights are those that the single stage in `needs` provides.
    """

    tag: ClassVar[str] = "overlap"

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Return a report over the net and series over the layers.

        Report: `overlap_kept`, `overlap_agree`, the same with `_random`, and all four with
        `overlap_layer_`. The series have the same names, one entry per layer in the model's order.
        The series `overlap_size` and `overlap_count` are each layer's weights, and those of them
        that the mask keeps.
        """
        weights, ours = unmasked(task), {name: mask.cpu() for name, mask in masks.items()}
        report: dict[str, Finding] = {}
        series = {
            "overlap_size": [float(m.numel()) for m in ours.values()],
            "overlap_count": [float(m.sum()) for m in ours.values()],
        }
        for prefix, within in (("overlap_", False), ("overlap_layer_", True)):
            theirs = magnitude_masks(weights, ours, within)
            layers = [compare(ours[name], theirs[name]) for name in ours]
            random = [layer.random for layer in layers]
            net = together(layers)
            chance = together(random) if within else net.random
            report |= {
                f"{prefix}kept": net.kept,
                f"{prefix}agree": net.agree,
                f"{prefix}kept_random": chance.kept,
                f"{prefix}agree_random": chance.agree,
            }
            series |= {
                f"{prefix}kept": [c.kept for c in layers],
                f"{prefix}agree": [c.agree for c in layers],
            }
            series |= {
                f"{prefix}kept_random": [c.kept for c in random],
                f"{prefix}agree_random": [c.agree for c in random],
            }
        return Measurement(report=report, series=series)

    def work(self, prunable: int, parameters: int, images: int) -> Work:
        """No pass through the net."""
        return Work(0, 0)

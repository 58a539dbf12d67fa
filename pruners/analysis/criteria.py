"""How much of a mask other criteria would have found: overlap with the masks by magnitude, SNIP, GraSP and chance on the same unpruned net.

"Lottery Jackpots Exist in Pre-trained Models" (Zhang et al., arXiv:2104.08700), Fig. 4. The overlap of two masks is the share of entries that agree (Eq. 7,
printed as 1 - |h1 - h2|_1 / k; its numbers, 0.82 of two random masks at 90 %, tell that k is the number of all weights). It is high for sparse masks whatever
they keep, so what independent random masks would have stands beside it: of n weights A keeps a and B keeps b, and |A and B| has the mean a b / n.

The paper does not say whether a criterion keeps as many weights of each layer as the jackpot does. Both are measured:
- in the mask's own budgets: the criterion chooses positions alone. Of a search that started from magnitude, overlap_magnitude is the finding of that name.
- in the criterion's own (`own_`): the largest of its scores over all layers that the mask covers, as many as the mask keeps in all.

Nor does it say from where its jackpot was searched. One that started from the magnitude mask has that mask's overlap partly by construction; one that started
from random scores (search.init.criterion=uniform) is the unbiased one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import nn

from pruners.analysis.histograms import unpruned
from pruners.analysis.overlap import Counts, compare, together
from pruners.base import Batch, Finding, Masks, Measurement, Scores, Task, density
from pruners.search.init import CRITERIA, SOURCES, Criterion, top
from pruners.selection.allocate import Global

COMPARED: tuple[Criterion, ...] = tuple(name for name in get_args(Criterion) if name != "uniform")  # a start of the scores, as a mask the same as random


@dataclass(frozen=True)
class CriteriaOverlap:
    """Measure stage: the finished masks against those of other criteria. It starts from the net that was pruned and needs its weights (`needs: [origin]`)."""

    tag: ClassVar[str] = "criteria_overlap"

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Report: `overlap_<criterion>` for magnitude, snip, grasp and random, `overlap_expected` of a random mask, and the same with `overlap_own_`."""
        net, ours = unpruned(model, task), {name: mask.cpu() for name, mask in masks.items()}
        budgets, everything = {name: int(mask.sum()) for name, mask in ours.items()}, {name: torch.ones_like(mask) for name, mask in ours.items()}
        report: dict[str, Finding] = {}
        for criterion in COMPARED:
            scores = scores_of(criterion, net, masks, task)
            own = Global()(scores, everything, density(ours))
            report[f"overlap_{criterion}"] = together(layers(ours, top(scores, budgets, scores))).agree
            report[f"overlap_own_{criterion}"] = together(layers(ours, top(scores, own, scores))).agree
        inside = [compare(mask, mask).random for mask in ours.values()]
        whole = together([compare(mask, mask) for mask in ours.values()])
        return Measurement(report={**report, "overlap_expected": together(inside).agree, "overlap_own_expected": whole.random.agree})


def scores_of(criterion: Criterion, net: nn.Module, masks: Masks, task: Task) -> Scores:
    """A criterion's scores of the layers in `masks`, on the CPU; on the images and with the settings of a search that starts from it."""
    device = next(net.parameters()).device
    source = SOURCES.get(criterion)
    batches: Iterable[Batch] = ((x.to(device), y.to(device)) for x, y in (source(task) if source else ()))
    everything = {name: torch.ones_like(mask) for name, mask in masks.items()}
    return {name: s.cpu().contiguous() for name, s in CRITERIA[criterion](net, everything, batches, task.loss, task.rng).items()}


def layers(ours: Masks, theirs: Masks) -> list[Counts]:
    """Counts of two masks, layer by layer."""
    return [compare(ours[name], theirs[name]) for name in ours]

"""Overlap of a mask with the masks of other criteria: magnitude, SNIP, GraSP and chance.

All criteria are evaluated on the same unpruned net.

"Lottery Jackpots Exist in Pre-trained Models" (Zhang et al., arXiv:2104.08700), Fig. 4. The overlap
of two masks is the share of entries that agree (Eq. 7, printed as 1 - |h1 - h2|_1 / k; its numbers,
0.82 for two random masks at 90 %, show that k is the number of all weights). The overlap of sparse
masks is always high. The overlap of independent random masks is therefore reported as
well: if A keeps a and B keeps b of n weights, |A and B| has the mean a b / n.

The paper does not specify whether a criterion keeps as many weights of each layer as the jackpot
does. Both cases are measured:
- with the mask's own budgets: the criterion only chooses positions. For a search that started from
  magnitude, `overlap_magnitude` equals the finding of that name.
- with the criterion's own budgets (`own_`): the largest of its scores over all layers that the mask
  covers, as many as the mask keeps in total.

Nor does it specify where the search for its jackpot started. A search that started from the
magnitude mask overlaps with that mask partly by construction. A search that started from random
scores (search.init.criterion=uniform) is unbiased.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor, nn

from pruners.analysis.origin import unpruned
from pruners.analysis.overlap import Counts, compare, together
from pruners.base import Batch, Finding, Masks, Measurement, Scores, Task, density
from pruners.search.init import CRITERIA, SOURCES, Criterion, check_criterion, top
from pruners.selection.allocate import Global

# `uniform` only initialises scores; as a mask it equals `random`.
COMPARED: tuple[Criterion, ...] = tuple(name for name in get_args(Criterion) if name != "uniform")


@dataclass(frozen=True)
class CriteriaOverlap:
    """Measure stage: compare the finished masks with those of other criteria.

    It starts from the net that was pruned and needs that net's weights (`needs: [origin]`).
    """

    tag: ClassVar[str] = "criteria_overlap"

    def check_images(self, counts: Tensor, accepts_one: Callable[[], bool]) -> None:
        """`pruners.base.ReadsImages`."""
        for criterion in COMPARED:
            check_criterion("portrait=criteria with criterion", criterion, counts)

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Return a report of overlaps; there are no series.

        The report has `overlap_<criterion>` for magnitude, snip, grasp and random,
        `overlap_expected` for a random mask, and the same findings with `overlap_own_`.
        """
        net, ours = unpruned(model, task), {name: mask.cpu() for name, mask in masks.items()}
        budgets = {name: int(mask.sum()) for name, mask in ours.items()}
        everything = {name: torch.ones_like(mask) for name, mask in ours.items()}
        report: dict[str, Finding] = {}
        for criterion in COMPARED:
            scores = scores_of(criterion, net, masks, task)
            own = Global()(scores, everything, density(ours))
            for prefix, keep in (("overlap_", budgets), ("overlap_own_", own)):
                counts = together(layers(ours, top(scores, keep, scores)))
                report[prefix + criterion] = counts.agree
        inside = [compare(mask, mask).random for mask in ours.values()]
        whole = together([compare(mask, mask) for mask in ours.values()])
        return Measurement(
            report={
                **report,
                "overlap_expected": together(inside).agree,
                "overlap_own_expected": whole.random.agree,
            }
        )


def scores_of(criterion: Criterion, net: nn.Module, masks: Masks, task: Task) -> Scores:
    """Return a criterion's scores of the layers in `masks`, on the CPU.

    The images and settings are those of a search that starts from this criterion.
    """
    device = next(net.parameters()).device
    source = SOURCES.get(criterion)
    batches: Iterable[Batch] = (
        (x.to(device), y.to(device)) for x, y in (source(task) if source else ())
    )
    everything = {name: torch.ones_like(mask) for name, mask in masks.items()}
    return {
        name: s.cpu().contiguous()
        for name, s in CRITERIA[criterion](net, everything, batches, task.loss, task.rng).items()
    }


def layers(ours: Masks, theirs: Masks) -> list[Counts]:
    """Counts of two masks for each layer."""
    return [compare(ours[name], theirs[name]) for name in ours]

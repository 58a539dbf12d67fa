"""Mask searches on frozen weights: lottery jackpots' SR-popup (short restriction), and edge-popup.

"Lottery Jackpots Exist in Pre-trained Models" (Zhang et al., arXiv:2104.08700), Alg. 1. Every
searched weight w has a relaxed mask m. The net computes with w on the kept set Phi and with 0
elsewhere (Eq. 27). The gradient passes straight through, dL/dm = dL/dw_eff * w, also for pruned
weights (Eq. 6). After each SGD step on m, some of the weights that are on the wrong side of the
layer's top k swap (pruners/search/swap.py). In that paper's reading, edge-popup (Ramanujan et al.,
2020, arXiv:1911.13299) is the search in which all of them swap: Phi is then the top k of m after
every step (Eq. 5).

Weights, biases and BatchNorm's gamma and beta stay bit-identical; BatchNorm's running statistics
change. Deviations and choices (docs/methods/sr_popup.md, docs/methods/edge_popup.md;
docs/decisions.md 26):
- Eq. 29's ceiling applies to the number of pairs and t counts iterations from 0, so that all
  candidates of the first step swap. The published code rounds the rate up, which restricts nothing:
  it runs quota=all.
- Zero epochs (epochs=0) give the first mask on the net as trained, with its BatchNorm statistics:
  row 0 of the paper's Table 6. quota=none with n epochs gives the same mask with new statistics.
- The learning rate falls every iteration (train's cosine), in the authors' code every epoch. Their
  code reports the best epoch, our tables the last.
- Edge-popup here has signed scores, pre-trained weights, layer budgets from magnitude and an affine
  BatchNorm that does not learn, as in the jackpots paper. Its authors use |score|, random weights,
  the same density in every layer and BatchNorm without gamma and beta.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from pruners.base import Finding, Masks, Passes, Task
from pruners.dense_layers import Layer, with_classifier
from pruners.search.init import Classifier, Init, Initial, begin, check, overlap, searched
from pruners.search.swap import Before, Pairs, Quota, Restriction, swaps
from pruners.selection.allocate import Allocation, check_counts


class StraightThrough(torch.autograd.Function):
    """Returns `effective`; the gradient is dL/dscores = dL/deffective * weight (Eq. 6).

    The forward pass does not depend on the scores.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, effective: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return effective.view_as(effective)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return grads[0] * weight, None, None


@dataclass
class PopupMasking:
    """Frozen weights under a mask that is updated from its scores.

    Args:
        masks: Phi of each searched layer, always up to date; the number of True entries is
            constant.
        trainable: parameter name -> m, of the parameter's shape and memory format.
        effective: the weights under the masks, with exact zeros.
        largest: the mask of the largest weights in the same budgets, for Eq. 7.
        rng: for random pairs.
        counts: (steps, 2): number of pairs that swapped in a step and of candidate pairs, over all
            layers.
        agreed: (epochs,): Eq. 7 between `masks` and `largest` after each epoch.
        quota, exponent, pairs: the restriction (pruners/search/swap.py).
    """

    masks: Masks
    trainable: dict[str, Tensor]
    effective: dict[str, Tensor]
    largest: Masks
    keep: dict[str, int]
    rng: Generator
    counts: Tensor
    agreed: Tensor
    quota: Quota
    exponent: int
    pairs: Pairs
    train_weights: bool = False
    report: dict[str, Finding] = field(default_factory=dict)

    def weights(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        """Weights under the masks, with a gradient to every score."""
        return {
            name: StraightThrough.apply(m, self.effective[name], model.get_parameter(name).detach())
            for name, m in self.trainable.items()
        }

    def passes(self, step: int) -> Passes:
        """`pruners.base.StatesPasses`: every score has a gradient, those of pruned weights too."""
        return Passes(kept=2, full=1)

    def before_step(self, model: nn.Module, opt: Optimizer, step: int) -> None:
        """Do nothing: the gradients are already those of the scores."""

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        """Swap the pairs that the restriction allows, and record their number and the overlap."""
        layers = {
            name: Before(self.masks[name], self.trainable[name], k)
            for name, k in self.keep.items()
            if 0 < k < self.masks[name].numel()
        }
        restriction = Restriction(self.quota, self.exponent, self.pairs)
        found = swaps(layers, restriction, step, len(self.counts), self.rng)
        for name in (name for name, each in found.items() if each.pairs):
            mask = self.masks[name]
            mask.logical_xor_(found[name].enter | found[name].leave)
            self.effective[name].copy_(torch.where(mask, model.get_parameter(name), 0.0))
        self.counts[step] = torch.tensor(
            [sum(s.pairs for s in found.values()), sum(s.candidates for s in found.values())]
        )
        per_epoch = len(self.counts) // len(self.agreed)
        if (step + 1) % per_epoch == 0:
            self.agreed[step // per_epoch] = overlap(self.masks, self.largest)
            self.report = {
                "overlap_magnitude": float(self.agreed[step // per_epoch]),
                "swaps": int(self.counts[:, 0].sum()),
            }

    @property
    def series(self) -> dict[str, list[float]]:
        """Swapped pairs and candidate pairs by step; overlap with the magnitude mask by epoch."""
        swaps, candidates = self.counts.double().T.tolist()
        return {"swaps": swaps, "candidates": candidates, "overlap_magnitude": self.agreed.tolist()}


@dataclass(frozen=True)
class SrPopup:
    """The search stage of SR-popup.

    Args:
        allocate: scores, masks, density -> weights to keep in each layer. The authors' default: one
            threshold for the net.
        init: the first mask.
        quota, exponent, pairs: how many pairs swap in a step, and which (pruners/search/swap.py).
        classifier: `dense`: the last linear layer is neither pruned nor counted, as in the authors'
            code; `searched`: it is treated as the other layers.
        dense: other layers that are neither pruned nor counted, as for ScorePruner.
    """

    tag: ClassVar[str] = "sr_popup"
    allocate: Allocation
    init: Init = Init()
    quota: Quota = "falling"
    exponent: int = 4
    pairs: Pairs = "largest"
    classifier: Classifier = "dense"
    dense: tuple[Layer, ...] = ()
    begins_with_mask: ClassVar[bool] = True  # so that a search of zero epochs has a result

    def __post_init__(self) -> None:
        problems = [*self.init.problems(), *self._restriction.problems()]
        check(self.allocate, self.classifier, self.dense, problems)

    @property
    def _dense(self) -> tuple[str, ...]:
        return with_classifier(self.dense, self.classifier)

    def check_budget(self, model: nn.Module, masks: Masks, density: float) -> None:
        """`pruners.base.Budgeted.check_budget`."""
        check_counts(self.allocate, searched(model, masks, self._dense), density)

    @property
    def _restriction(self) -> Restriction:
        return Restriction(self.quota, self.exponent, self.pairs)

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> PopupMasking:
        """Masks of exactly round(task.density * prunable) of the searched weights.

        The model is not changed.

        Raises:
            ValueError: no density, weights that are pruned already, or no layer to search.
        """
        initial = begin(model, masks, task, self.allocate, self.init, self._dense)
        return popup(model, initial, self._restriction, task)


@dataclass(frozen=True)
class EdgePopup:
    """The search stage of edge-popup: all candidates swap.

    Args:
        allocate, classifier, dense: as for SrPopup.
        init: the first mask. Default: m drawn from U(0, 1) (the paper's Sec. 3.2).
    """

    tag: ClassVar[str] = "edge_popup"
    allocate: Allocation
    init: Init = Init(criterion="uniform")
    classifier: Classifier = "dense"
    dense: tuple[Layer, ...] = ()
    begins_with_mask: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(self.allocate, self.classifier, self.dense, self.init.problems())

    @property
    def _dense(self) -> tuple[str, ...]:
        return with_classifier(self.dense, self.classifier)

    def check_budget(self, model: nn.Module, masks: Masks, density: float) -> None:
        """`pruners.base.Budgeted.check_budget`."""
        check_counts(self.allocate, searched(model, masks, self._dense), density)

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> PopupMasking:
        """Masks as in SrPopup, without a limit on the number of swaps."""
        initial = begin(model, masks, task, self.allocate, self.init, self._dense)
        return popup(model, initial, Restriction(quota="all"), task)


def popup(model: nn.Module, initial: Initial, restriction: Restriction, task: Task) -> PopupMasking:
    """The masking of a search from its start `initial`."""
    device = next(model.parameters()).device
    return PopupMasking(
        masks=initial.masks,
        trainable={name: m.requires_grad_() for name, m in initial.relaxed.items()},
        # clone keeps the memory format
        effective={
            name: model.get_parameter(name).detach().clone().masked_fill_(~mask, 0.0)
            for name, mask in initial.masks.items()
        },
        largest=initial.largest,
        keep=initial.keep,
        rng=task.rng,
        counts=torch.zeros(task.steps, 2, dtype=torch.int64),
        agreed=torch.zeros(task.epochs, dtype=torch.float64, device=device),
        quota=restriction.quota,
        exponent=restriction.exponent,
        pairs=restriction.pairs,
        report={"overlap_magnitude": float(overlap(initial.masks, initial.largest)), "swaps": 0},
    )

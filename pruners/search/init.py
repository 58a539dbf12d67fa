"""Start of a mask search: the layers to search, the weights to keep in each, and the first mask.

"Lottery Jackpots Exist in Pre-trained Models" (Zhang et al., arXiv:2104.08700), Sec. 3.3 and Eq. 8.
The paper describes one net-wide p. The authors' code has one net-wide threshold on |w|, which fixes
how many weights each layer keeps; all later steps work layer by layer. This module follows the code
(docs/decisions.md 26). The classifier is neither pruned nor counted: a density is that of all other
conv and linear layers.

Our choices where the paper specifies nothing: a first mask from SNIP, GraSP or chance (Fig. 5) has
by default the layer budgets of magnitude, so that searches differ only in their start. The authors'
code converts rates to counts with int(); here the total is exact (docs/decisions.md 4).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from pruners.base import (
    Batch,
    Masks,
    Scores,
    Task,
    count_kept,
    count_prunable,
    largest,
    without_classifier,
)
from pruners.scores.grasp import Grasp
from pruners.scores.magnitude import Magnitude, Random
from pruners.scores.snip import Snip
from pruners.selection.source import Balanced, Train

Allocate = Callable[[Scores, Masks, float], dict[str, int]]
Criterion = Literal["magnitude", "snip", "grasp", "random", "uniform"]
Budgets = Literal["magnitude", "criterion"]
Classifier = Literal["dense", "searched"]
CRITERIA: dict[str, Callable[..., Scores]] = {
    "magnitude": Magnitude(),
    "snip": Snip(),
    "grasp": Grasp(),
    "random": Random(),
    "uniform": Random(),
}
# Training images for the scores, as in the methods themselves.
SOURCES: dict[str, Callable[[Task], Iterable[Batch]]] = {"snip": Train(), "grasp": Balanced()}


def check_criterion(key: str, criterion: Criterion, counts: Tensor) -> None:
    """Refuse a criterion whose batches cannot be made from `counts` images of each class.

    Raises:
        ValueError: a class has too few images.
    """
    source, least = SOURCES.get(criterion), int(counts.min())
    if isinstance(source, Balanced) and least < source.per_class:
        raise ValueError(
            f"{key}={criterion} reads {source.per_class} training images of each class, but class"
            f" {int(counts.argmin())} has {least}; take another criterion, or a larger"
            " train_fraction"
        )


@dataclass(frozen=True)
class Init:
    """The first mask, and the relaxed masks m that produce it.

    Args:
        criterion: scores that decide the first mask: the largest are kept, with m = 1; the others
            have m = eta (Eq. 8). `random` gives a random mask. `uniform` is a different start: m is
            drawn from U(0, 1), and its largest entries are kept (Sec. 3.2; "w/o M" of Table 7).
        eta: m of pruned weights. Default 0.99: the paper's. The authors' first version had 0.95.
        budgets: scores that decide how many weights each layer keeps: the `magnitude`s, or those of
            the `criterion`.
    """

    tag: ClassVar[str] = "search_init"
    criterion: Criterion = "magnitude"
    eta: float = 0.99
    budgets: Budgets = "magnitude"

    def problems(self) -> list[str]:
        """Messages about invalid options, one line each."""
        chosen = {
            "criterion": (self.criterion, get_args(Criterion)),
            "budgets": (self.budgets, get_args(Budgets)),
        }
        found = [
            f"method.search.init.{key}={value!r} must be one of {', '.join(among)}"
            for key, (value, among) in chosen.items()
            if value not in among
        ]
        if not 0 <= self.eta < 1:
            found.append(
                f"method.search.init.eta={self.eta:g} must be in [0, 1): kept weights start at 1,"
                " pruned ones below; 0.99 in the paper"
            )
        if self.criterion == "uniform" and self.eta != Init.eta:
            found.append(
                f"method.search.init.eta={self.eta:g}: criterion=uniform draws all relaxed masks;"
                " leave eta out, or take criterion=random"
            )
        return found

    def check_images(self, counts: Tensor, accepts_one: Callable[[], bool]) -> None:
        """`pruners.base.ReadsImages`."""
        check_criterion("method.search.init.criterion", self.criterion, counts)

    def __call__(self, model: nn.Module, masks: Masks, task: Task, allocate: Allocate) -> "Initial":
        """Budgets and first mask of the layers in `masks`; the model is not changed."""
        size = Magnitude()(model, masks, (), task.loss, task.rng)
        scores = size if self.criterion == "magnitude" else self._scores(model, masks, task)
        assert task.density is not None
        keep = allocate(size if self.budgets == "magnitude" else scores, masks, task.density)
        if self.criterion == "uniform":
            relaxed = {name: torch.empty_like(s).copy_(scores[name]) for name, s in size.items()}
            first = top(relaxed, keep, size)  # not the float64 scores, as rounding makes ties
        else:
            first = top(scores, keep, size)
            relaxed = {
                name: torch.full_like(s, self.eta).masked_fill_(first[name], 1.0)
                for name, s in size.items()
            }
        return Initial(keep, first, relaxed, top(size, keep, size))

    def _scores(self, model: nn.Module, masks: Masks, task: Task) -> Scores:
        device = next(model.parameters()).device
        source = SOURCES.get(self.criterion)
        batches = ((x.to(device), y.to(device)) for x, y in (source(task) if source else ()))
        return CRITERIA[self.criterion](model, masks, batches, task.loss, task.rng)


@dataclass(frozen=True)
class Initial:
    """The start of a search.

    Args:
        keep: number of weights that each layer keeps throughout.
        masks: the first mask.
        relaxed: relaxed masks in the weights' memory format.
        largest: the mask of the largest weights in the same budgets.
    """

    keep: dict[str, int]
    masks: Masks
    relaxed: dict[str, Tensor]
    largest: Masks


def searched(model: nn.Module, masks: Masks, classifier: Classifier) -> Masks:
    """The layers that a search may prune: all, or all but the last linear one.

    Raises:
        ValueError: some weights are pruned already, or no layer is left.
    """
    if count_kept(masks) != count_prunable(masks):
        raise ValueError(
            "a mask search chooses among all weights of its start, but some are pruned already:"
            " start it from a dense net"
        )
    found = without_classifier(model, masks) if classifier == "dense" else masks
    if not found:
        raise ValueError(
            "method.search.classifier=dense leaves no layer to search: this net has one layer; take"
            " method.search.classifier=searched"
        )
    return found


def top(scores: Scores, keep: dict[str, int], like: Scores) -> Masks:
    """Masks of each layer's largest scores, in `like`'s memory format; ties to the lower index."""
    return {
        name: (
            torch.empty_like(like[name], dtype=torch.bool).copy_(
                largest(s.flatten(), keep[name]).view(s.shape)
            )
        )
        for name, s in scores.items()
    }


def overlap(one: Masks, other: Masks) -> Tensor:
    """Share of entries in which two masks agree (Eq. 7): a float64 tensor () on their device."""
    differ = torch.stack([(one[name] ^ other[name]).sum() for name in one]).sum()
    return 1 - differ.double() / count_prunable(one)

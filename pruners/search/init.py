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

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
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
)
from pruners.dense_layers import LAYERS, unknown_layers, without
from pruners.scores.gradients import BATCHNORM_MODES
from pruners.scores.grasp import Grasp
from pruners.scores.magnitude import Magnitude, Random
from pruners.scores.snip import Snip
from pruners.selection.allocate import Allocation
from pruners.selection.ranks import largest
from pruners.selection.score import Score, cost
from pruners.selection.source import Balanced, Counted, Examples, Train

Criterion = Literal["magnitude", "snip", "grasp", "random", "uniform"]
Budgets = Literal["magnitude", "criterion"]
Classifier = Literal["dense", "searched"]
BatchNormMode = Literal["train", "eval"]
Source = Callable[[Task], Iterable[Batch]]
# The options of `Init` that a criterion reads; the others read none.
OPTIONS = {
    "snip": ("batches", "bn", "batch_size"),
    "grasp": ("batches", "bn", "per_class", "temperature"),
}


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
        batches, bn: of snip and grasp, as in the methods of that name.
        batch_size: training images in a batch of snip (source=train). Default 256.
        per_class: training images of each class in a batch of grasp (source=balanced). Default 10.
        temperature: of grasp. Default 200.
    """

    tag: ClassVar[str] = "search_init"
    criterion: Criterion = "magnitude"
    eta: float = 0.99
    budgets: Budgets = "magnitude"
    batches: int = 1
    bn: BatchNormMode = "train"
    batch_size: int = 256
    per_class: int = 10
    temperature: float = 200.0

    def problems(self) -> list[str]:
        """Messages about invalid options, one line each."""
        chosen = {
            "criterion": (self.criterion, get_args(Criterion)),
            "budgets": (self.budgets, get_args(Budgets)),
            "bn": (self.bn, BATCHNORM_MODES),
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
        return found + self._problems_of_options()

    def _problems_of_options(self) -> list[str]:
        """Messages about options of a criterion: out of range, or of another criterion."""
        found = [
            f"method.search.init.{key}={getattr(self, key)} must be at least {least}"
            for key, least in (("batches", 1), ("batch_size", 2), ("per_class", 1))
            if getattr(self, key) < least
        ]
        if not 0 < self.temperature < float("inf"):
            found.append(
                f"method.search.init.temperature={self.temperature:g} must be positive: it divides"
                " the logits, 200 in GraSP's code"
            )
        default = {f.name: f.default for f in fields(self)}
        for key in dict.fromkeys(key for keys in OPTIONS.values() for key in keys):
            readers = [name for name, keys in OPTIONS.items() if key in keys]
            if getattr(self, key) != default[key] and self.criterion not in readers:
                found.append(
                    f"method.search.init.{key}={getattr(self, key)}: criterion={self.criterion}"
                    f" does not read it; leave it out, or take criterion={' or '.join(readers)}"
                )
        return found

    def check_images(self, counts: Tensor, accepts_one: Callable[[], bool]) -> None:
        """`pruners.base.ReadsImages`."""
        self.check_classes("method.search.init.criterion", counts)

    def check_classes(self, key: str, counts: Tensor) -> None:
        """Refuse a criterion whose batches cannot be made from `counts` images of each class.

        Args:
            key: of the criterion, for the message.

        Raises:
            ValueError: a class has too few images.
        """
        least = int(counts.min())
        if self.criterion == "grasp" and least < self.per_class:
            raise ValueError(
                f"{key}={self.criterion} reads {self.per_class} training images of each class, but"
                f" class {int(counts.argmin())} has {least}; take another criterion, or a larger"
                " train_fraction"
            )

    def __call__(
        self, model: nn.Module, masks: Masks, task: Task, allocate: Allocation
    ) -> "Initial":
        """Budgets and first mask of the layers in `masks`; the model is not changed."""
        size = Magnitude()(model, masks, (), task.loss, task.rng)
        scores = size if self.criterion == "magnitude" else self.scores(model, masks, task)
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

    def scores(self, model: nn.Module, masks: Masks, task: Task) -> Scores:
        """The criterion's scores of the layers in `masks`; the model is not changed."""
        device = next(model.parameters()).device
        criterion, source = self.ranked_by()
        examples = Counted(Examples(source, task, device))
        found = criterion(model, masks, examples, task.loss, task.rng, task.memory, task.team)
        task.spend(masks, cost(criterion, examples.images, task.classes), 1)
        return found

    def ranked_by(self) -> tuple[Score, Source | None]:
        """The score of the criterion, and its training images."""
        if self.criterion == "snip":
            return Snip(self.batches, self.bn), Train(self.batch_size)
        if self.criterion == "grasp":
            return Grasp(self.batches, self.temperature, self.bn), Balanced(self.per_class)
        return (Magnitude() if self.criterion == "magnitude" else Random()), None


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


def check(
    allocate: Allocation | None, classifier: str, dense: Sequence[str], problems: list[str]
) -> None:
    """Check the options of a search.

    Raises:
        ValueError: there are problems; the message has one line for each.
    """
    if allocate is None:
        problems = [
            *problems,
            (
                "allocate=none: a mask search fixes how many weights each layer keeps; leave"
                " allocate=... out, or take allocate=global"
            ),
        ]
    if classifier not in get_args(Classifier):
        problems = [
            *problems,
            f"method.search.classifier={classifier!r} must be one of dense, searched",
        ]
    problems = [*problems, *unknown_layers(dense, LAYERS[:2], "method.search.dense")]
    if problems:
        raise ValueError("\n".join(problems))


def begin(
    model: nn.Module,
    masks: Masks,
    task: Task,
    allocate: Allocation,
    init: Init,
    dense: Sequence[str],
) -> Initial:
    """Budgets and first mask of the layers to search.

    Raises:
        ValueError: as in SrPopup.
    """
    if task.density is None:
        raise ValueError(
            "density is missing: a mask search keeps the weights of each layer at the number that"
            " it starts with, e.g. density=0.1"
        )
    return init(model, searched(model, masks, dense), task, allocate)


def searched(model: nn.Module, masks: Masks, dense: Sequence[str]) -> Masks:
    """The layers that a search may prune: all but those in `dense` (pruners/dense_layers.py).

    Raises:
        ValueError: some weights are pruned already, or no layer is left.
    """
    if count_kept(masks) != count_prunable(masks):
        raise ValueError(
            "a mask search chooses among all weights of its start, but some are pruned already:"
            " start it from a dense net"
        )
    found = without(model, masks, dense, "method.search.dense")
    if not found:
        others = [layer for layer in dense if layer != "classifier"]
        named = [f"method.search.dense=[{','.join(others)}]"] if others else []
        named += ["method.search.classifier=dense"] if "classifier" in dense else []
        raise ValueError(
            f"{' with '.join(named)} leaves no layer to search: this net has too few; take"
            " method.search.classifier=searched or fewer dense layers"
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

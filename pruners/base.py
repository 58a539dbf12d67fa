"""Interfaces of pruning methods, and the functions that all methods share.

A pruning method is a callable `(model, masks, task) -> Masking`. It never trains and never accesses
files: it receives a network, the current masks and a `Task`, and returns a `Masking` that defines
how masks act from then on. The runner's single training loop calls the three hooks of the
`Masking`. A measurement (spectrum, Lipschitz constant) has the same signature and returns a
`Measurement`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from pruners.declared import CHANGE as CHANGE
from pruners.declared import CONVERGED as CONVERGED
from pruners.declared import GRADIENT as GRADIENT
from pruners.declared import HALF as HALF
from pruners.declared import LEAST as LEAST
from pruners.declared import OF as OF
from pruners.declared import PAPER_IMAGES as PAPER_IMAGES
from pruners.declared import PRODUCT as PRODUCT
from pruners.declared import STANDARD_ERROR as STANDARD_ERROR
from pruners.declared import AddsToGradients as AddsToGradients
from pruners.declared import Approximate as Approximate
from pruners.declared import Finding as Finding
from pruners.declared import Foreseen as Foreseen
from pruners.declared import Passes as Passes
from pruners.declared import Reads as Reads
from pruners.declared import Targeted as Targeted
from pruners.declared import Work as Work
from pruners.team import ALONE, Team

Batch = tuple[Tensor, Tensor]  # inputs (B, C, H, W), labels (B,)
Masks = dict[str, Tensor]  # parameter name -> bool tensor of that parameter's shape; True = kept
Scores = dict[str, Tensor]  # same keys and shapes, float; larger = more worth keeping
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes
LossFn = Callable[[Tensor, Tensor], Tensor]  # logits (B, C), labels (B,) -> scalar


def no_progress(done: int, total: int, what: str) -> None:
    """Do nothing: the default progress callback of a `Task`."""


# The masks under which a component computes outside of training steps, what an image costs (None:
# unknown), number of images
Spend = Callable[[Masks, Passes | None, int], None]


def no_spending(masks: Masks, passes: Passes | None, images: int) -> None:
    """Do nothing: the default of a `Task` whose cost is not counted."""


@dataclass(frozen=True)
class Measurement:
    """Result of a measure stage.

    `tensors` are for later stages, `report` is for the record, and `series` holds finite numbers
    for plots (series.json).
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    report: dict[str, Finding] = field(default_factory=dict)
    series: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """Everything a method may use besides the network. The runner builds one per stage."""

    loss: LossFn  # mean over the batch, without weight decay
    # batch size -> a seeded, shuffled pass over the unaugmented training set, always the same
    batches: Callable[[int], Iterable[Batch]]
    density: float | None  # kept / prunable to reach; None = the method determines it
    steps: int  # optimizer steps of this stage; 0 = one-shot
    rng: Generator  # this stage's own CPU stream, never the global one
    round: int = 0  # pruning rounds completed in this stage; each draws new noise
    measured: Mapping[str, Measurement] = field(default_factory=dict)  # earlier stages, by name
    epochs: int = 0  # that `steps` amount to
    # (done, total, what is counted): call it in anything that takes longer than two seconds
    progress: Callable[[int, int, str], None] = no_progress
    image: tuple[int, int, int] = (1, 1, 1)  # (C, H, W) of an input
    classes: int = 2
    memory: float = float("inf")  # bytes that graphs may take (pruners/memory.py)
    spend: Spend = no_spending  # call it for every image that passes the net, training steps apart
    team: Team = ALONE  # the processes that call the method, all of them with the same arguments


class Masking(Protocol):
    """How masks act while one stage trains.

    Implementations are dataclasses of tensors, numbers and generators, so that they can be saved
    and resumed.
    """

    masks: Masks  # always the current hard masks
    trainable: dict[str, Tensor]  # extra leaves to optimise (popup scores); {} for most
    train_weights: bool  # False: weights stay as they are (mask search)
    report: dict[str, Finding]  # what the method found, e.g. {"lipschitz": 39.2, "literal_k": None}

    # tensors that replace parameters in the forward pass
    def weights(self, model: nn.Module, step: int) -> dict[str, Tensor]: ...

    # called between the backward pass and the optimizer's step
    def before_step(self, model: nn.Module, opt: Optimizer, step: int) -> None: ...

    # called after the optimizer's step
    def after_step(self, model: nn.Module, step: int) -> None: ...


@runtime_checkable
class StatesPasses(Protocol):
    """A masking whose training steps cost something else than `Passes()`.

    It is asked after `Masking.weights` of the step.
    """

    def passes(self, step: int) -> Passes: ...


@runtime_checkable
class Observed(Protocol):
    """A masking that records numbers for plots; they become the run's series.json."""

    @property
    def series(self) -> dict[str, list[float]]: ...  # finite, e.g. one number per step


class Pruner(Protocol):
    """A pruning method.

    It may change weights (pruned ones become exact zeros), but nothing else of the model.
    """

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Masking: ...


@runtime_checkable
class Budgeted(Protocol):
    """A pruner that can check, before any work, that a net can be pruned to a density."""

    def check_budget(self, model: nn.Module, masks: Masks, density: float) -> None:
        """Raise `ValueError` if the density leaves a layer with an impossible number of weights."""


@runtime_checkable
class ReadsImages(Protocol):
    """A component that can check, before any work, the training images that it reads."""

    def check_images(self, counts: Tensor, accepts_one: Callable[[], bool]) -> None:
        """Raise `ValueError` unless `counts` (classes,) images of each class fill its batches.

        `accepts_one()`: whether the network can train on a batch of one image.
        """


@runtime_checkable
class Layered(Protocol):
    """A component that can check, before any work, that a net has the layers its options name."""

    def check_layers(self, model: nn.Module, masks: Masks) -> None:
        """Raise `ValueError` if the net lacks one of them, or no other layer is left."""
        ...


class Measure(Protocol):
    """A measurement.

    It leaves the model bit-identical: weights, gradients, BatchNorm statistics, training flag.
    """

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement: ...


@dataclass
class FixedMasking:
    """Masks that no longer change: the result of every before- and after-training method."""

    masks: Masks
    trainable: dict[str, Tensor] = field(default_factory=dict)
    train_weights: bool = True
    report: dict[str, Finding] = field(default_factory=dict)
    # the weights are multiplied by these once, when training under these masks begins
    factors: dict[str, Tensor] = field(default_factory=dict)

    def weights(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        """Return {}: pruned parameters are already exact zeros, so nothing is replaced."""
        return {}

    def before_step(self, model: nn.Module, opt: Optimizer, step: int) -> None:
        """Clear the gradients of pruned weights, so that momentum and clipping ignore them."""
        for name, mask in self.masks.items():
            grad = model.get_parameter(name).grad
            if grad is not None:
                clear_(grad, mask)

    def after_step(self, model: nn.Module, step: int) -> None:
        """Set pruned weights to zero: momentum from before pruning could still move them."""
        apply_masks(model, self.masks)


def in_batches(x: Tensor, y: Tensor, size: int) -> Iterator[Batch]:
    """Iterate over inputs and labels in batches of `size`, the last one possibly smaller."""
    return zip(torch.split(x, size), torch.split(y, size), strict=True)


def prunable_names(model: nn.Module) -> list[str]:
    """Names of the prunable parameters, in the model's order.

    These are the weights of conv and linear layers (docs/decisions.md 2), including first, last and
    shortcut layers. Biases and BatchNorm are never prunable.
    """
    prunable = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    return [
        f"{name}.weight" if name else "weight"
        for name, module in model.named_modules()
        if isinstance(module, prunable)
    ]


def full_masks(model: nn.Module) -> Masks:
    """Masks that keep every prunable weight, on the device of the model."""
    return {
        name: torch.ones_like(model.get_parameter(name), dtype=torch.bool)
        for name in prunable_names(model)
    }


@torch.no_grad()
def apply_masks(model: nn.Module, masks: Masks) -> None:
    """Set every pruned weight of `model` to exact zero, in place."""
    for name, mask in masks.items():
        clear_(model.get_parameter(name), mask)


def clear_(tensor: Tensor, mask: Tensor) -> None:
    """Set the entries of a float tensor where `mask` is False to exact zero, in place.

    Its bits are multiplied as an integer. A product of floats would leave -0.0, and NaN where a
    weight has overflowed; `masked_fill_` takes up to 16 times as long on a CPU, which does not
    foresee its branches (measured).
    """
    bits = tensor.detach().view(INTEGERS[tensor.element_size()])
    bits.mul_(torch.empty_like(bits).copy_(mask))


def counts_by_layer(*groups: Masks) -> list[dict[str, int]]:
    """Number of True entries of each mask in each group, by one copy to the host for all."""
    sums = [mask.sum() for group in groups for mask in group.values()]
    counts = iter(torch.stack(sums).tolist() if sums else [])
    return [{name: next(counts) for name in group} for group in groups]


def kept_by_layer(masks: Masks) -> dict[str, int]:
    """Number of True entries of each mask."""
    return counts_by_layer(masks)[0]


def count_kept(masks: Masks) -> int:
    """Number of True entries over all masks."""
    return sum(kept_by_layer(masks).values())


def count_prunable(masks: Masks) -> int:
    """Number of entries over all masks."""
    return sum(mask.numel() for mask in masks.values())


def density(masks: Masks) -> float:
    """Kept / prunable in [0, 1]."""
    return count_kept(masks) / count_prunable(masks)


def keep_count(density: float, prunable: int) -> int:
    """Number of weights that a density keeps: round(density * prunable) (docs/decisions.md 4).

    Raises:
        ValueError: the density is outside (0, 1] or keeps no weight at all.
    """
    if not 0 < density <= 1:
        raise ValueError(
            f"density={density} must be in (0, 1]: it is kept / prunable; sparsity = 1 - density"
        )
    kept = round(density * prunable)
    if kept < 1:
        raise ValueError(
            f"density={density} keeps none of {prunable:,} prunable weights; the smallest density"
            f" that keeps one is {1 / prunable:.2g}"
        )
    return kept

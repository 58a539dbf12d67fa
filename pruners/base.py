"""What a pruning method is: a callable `(model, masks, task) -> Masking`, and the few tools that all methods share.

A method never trains and never touches a file: it gets a network, the masks so far and a `Task`, and returns how masks act from now on. The runner's
single training loop calls the three hooks of the `Masking`. A measurement (spectrum, Lipschitz constant) is the same call with a `Measurement` as result.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

Batch = tuple[Tensor, Tensor]  # inputs (B, C, H, W), labels (B,)
Masks = dict[str, Tensor]  # parameter name -> bool tensor of that parameter's shape; True = kept
Scores = dict[str, Tensor]  # same keys and shapes, float; larger = more worth keeping
Finding = float | int | str | None
LossFn = Callable[[Tensor, Tensor], Tensor]  # logits (B, C), labels (B,) -> scalar


def no_progress(done: int, total: int, what: str) -> None:
    """The progress callback of a task that nobody watches."""


@dataclass(frozen=True)
class Measurement:
    """What a measure stage found: tensors for later stages, findings for the record, finite numbers for pictures (series.json)."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    report: dict[str, Finding] = field(default_factory=dict)
    series: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """What a method may use besides the network; the runner builds one per stage."""

    loss: LossFn  # mean over the batch, without weight decay
    batches: Callable[[int], Iterable[Batch]]  # batch size -> a seeded, shuffled pass over the unaugmented training set; every call gives the same pass
    density: float | None  # kept / prunable to reach; None = the method finds it
    steps: int  # optimizer steps of this stage; 0 = one-shot
    rng: Generator  # this stage's own CPU stream, never the global one
    round: int = 0  # pruning rounds that this stage has done: noise is drawn anew in each
    measured: Mapping[str, Measurement] = field(default_factory=dict)  # stage name -> what earlier measure stages found
    epochs: int = 0  # that `steps` make
    tick: Callable[[int, int, str], None] = no_progress  # (done, total, what is counted): call it in anything longer than two seconds
    image: tuple[int, int, int] = (1, 1, 1)  # (C, H, W) of an input
    classes: int = 2


class Masking(Protocol):
    """How masks act while one stage trains: a dataclass of tensors, numbers and generators, so it can be saved and resumed."""

    masks: Masks  # always the current hard masks
    trainable: dict[str, Tensor]  # extra leaves to optimise (popup scores); {} for most
    train_weights: bool  # False: weights stay as they are (mask search)
    report: dict[str, Finding]  # what the method found, e.g. {"lipschitz": 39.2, "literal_k": None}

    def weights(self, model: nn.Module, step: int) -> dict[str, Tensor]: ...  # replaces parameters in the forward pass

    def before_step(self, model: nn.Module, opt: Optimizer, step: int) -> None: ...  # gradients are there

    def after_step(self, model: nn.Module, step: int) -> None: ...  # tensors have moved


@runtime_checkable
class Observed(Protocol):
    """A masking that keeps numbers of its training for pictures; they become the run's series.json."""

    @property
    def series(self) -> dict[str, list[float]]: ...  # finite, e.g. a number for each step


class Pruner(Protocol):
    """A pruning method. It may change weights (pruned ones become exact zeros) but nothing else of the model."""

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Masking: ...


@runtime_checkable
class Approximate(Protocol):
    """A pruner that can tell whether its count is exact; of one that cannot, it has to be."""

    @property
    def exact(self) -> bool: ...  # False: the density is reached in expectation alone, and the runner does not insist


class Measure(Protocol):
    """A measurement. It leaves the model bit-identical: weights, gradients, BatchNorm statistics, training flag."""

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement: ...


GRADIENT, PRODUCT = 3, 6  # forward passes that a gradient costs (a backward pass is two), and a product with the Hessian, which is a gradient of a gradient
PAPER_IMAGES = 50_000  # training images behind a duration in iterations: the papers that give one train on CIFAR (decisions.md 9)


@dataclass(frozen=True)
class Work:
    """What a measurement will take, for plans. Nothing is decided by it."""

    images: int  # that pass through the net, counted each time
    passes: int  # forward passes of one image that all of it equals
    products: int = 0  # Hessian-vector products
    floats: int = 0  # float32 numbers that it leaves in the cache


@runtime_checkable
class Foreseen(Protocol):
    """A measurement that can tell beforehand what it will take; plans name the others as not counted."""

    def work(self, prunable: int, parameters: int, images: int) -> Work: ...  # sizes of the net, images of the training set


@dataclass
class FixedMasking:
    """Masks that no longer change: the result of every before- and after-training method."""

    masks: Masks
    trainable: dict[str, Tensor] = field(default_factory=dict)
    train_weights: bool = True
    report: dict[str, Finding] = field(default_factory=dict)
    factors: dict[str, Tensor] = field(default_factory=dict)  # by which the weights are multiplied once, where the training under these masks begins

    def weights(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        """Nothing to replace: the parameters already hold exact zeros."""
        return {}

    def before_step(self, model: nn.Module, opt: Optimizer, step: int) -> None:
        """Clear the gradients of pruned weights, else momentum and clipping would see them."""
        for name, mask in self.masks.items():
            grad = model.get_parameter(name).grad
            if grad is not None:
                grad.masked_fill_(~mask, 0.0)

    def after_step(self, model: nn.Module, step: int) -> None:
        """Momentum kept from before pruning could still move a pruned weight: set it back to zero."""
        apply_masks(model, self.masks)


def prunable_names(model: nn.Module) -> list[str]:
    """Names of the prunable parameters in the model's order: weights of conv and linear layers (decisions.md 2).

    First, last and shortcut layers are included; biases and BatchNorm never are.
    """
    prunable = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    return [f"{name}.weight" if name else "weight" for name, module in model.named_modules() if isinstance(module, prunable)]


def full_masks(model: nn.Module) -> Masks:
    """Masks that keep every prunable weight, on the device of the model."""
    return {name: torch.ones_like(model.get_parameter(name), dtype=torch.bool) for name in prunable_names(model)}


@torch.no_grad()
def apply_masks(model: nn.Module, masks: Masks) -> None:
    """Set every pruned weight of `model` to exact zero, in place: the one place that does."""
    for name, mask in masks.items():
        model.get_parameter(name).masked_fill_(~mask, 0.0)  # a product would leave -0.0, and NaN where a weight has overflowed


def count_kept(masks: Masks) -> int:
    """Number of True entries over all masks."""
    return int(sum(int(mask.sum()) for mask in masks.values()))


def without_classifier(model: nn.Module, masks: Masks) -> Masks:
    """Those of `masks` that are not the model's last linear layer's, which the jackpots paper leaves dense and does not count (decisions.md 2)."""
    last = next((name for name in reversed(prunable_names(model)) if model.get_parameter(name).dim() == 2), None)
    return {name: mask for name, mask in masks.items() if name != last}


def count_prunable(masks: Masks) -> int:
    """Number of entries over all masks."""
    return sum(mask.numel() for mask in masks.values())


def density(masks: Masks) -> float:
    """Kept / prunable in [0, 1]."""
    return count_kept(masks) / count_prunable(masks)


def keep_count(density: float, prunable: int) -> int:
    """How many weights a density keeps: round(density * prunable) (decisions.md 4).

    Raises:
        ValueError: the density is outside (0, 1] or keeps no weight at all.
    """
    if not 0 < density <= 1:
        raise ValueError(f"density={density} must be in (0, 1]: it is kept / prunable; sparsity = 1 - density")
    kept = round(density * prunable)
    if kept < 1:
        raise ValueError(f"density={density} keeps none of {prunable:,} prunable weights; the smallest density that keeps one is {1 / prunable:.2g}")
    return kept


def largest(scores: Tensor, k: int) -> Tensor:
    """Which k of `scores` (n,) are the largest: bool (n,) with exactly k True, ties to the lower index; k from 0 to n, no NaN."""
    if not k:
        return torch.zeros_like(scores, dtype=torch.bool)
    # The threshold without a sort, which takes ten times as long (measured); topk's own choice among ties is undefined.
    threshold = torch.topk(scores, k, sorted=False).values.min()
    kept = scores > threshold
    ties = (scores == threshold).nonzero().flatten()  # (t,), rising
    kept[ties[: k - int(kept.sum())]] = True
    return kept

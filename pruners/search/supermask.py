"""Supermasks by Bernoulli sampling: each step of the search computes with a random, learnable mask.

Zhou, Lan, Liu & Yosinski, 2019, arXiv:1905.01067. Every searched weight w has a logit s, p =
sigmoid(s). A step draws b ~ Bernoulli(p) and computes with w * b. The gradient passes as if b were
p: dL/ds = dL/dw_eff * w * p (1 - p). Weights, biases and BatchNorm's gamma and beta stay
bit-identical.

Deviations and choices (docs/methods/zhou.md; docs/decisions.md 29). The method has no parameter for
the density. "Lottery Jackpots Exist in Pre-trained Models" (arXiv:2104.08700, Table 5) reports it
at 10 % and does not describe how:
- Logits start at log(k / (1 - k)), where k is the share that their layer keeps under one threshold
  on |w|. At the end of each epoch the largest logits of each layer form the mask, in exactly that
  number. This mask is evaluated; the authors evaluate draws.
- BatchNorm's running statistics average over random masks in the search, so they are recomputed
  with the hard mask before each evaluation.
- The learning rate is the authors' 100 (conf/method/zhou.yaml), without weight decay, which would
  pull p to 1/2. With the paper's own 0.1 the logits do not move.
- Pre-trained weights. The authors' signed constants would replace them, and `round_mask` is not
  built. Dynamic scaling is `scaling=dynamic`.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import InitVar, dataclass, field
from itertools import islice
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from pruners.base import Batch, Finding, Masks, Passes, Spend, Task, count_prunable
from pruners.dense_layers import Layer, with_classifier
from pruners.search.init import Classifier, Init, begin, check, overlap, searched, top
from pruners.search.popup import StraightThrough
from pruners.selection.allocate import Allocation, check_counts

Scaling = Literal["none", "dynamic"]
BATCHNORMS = nn.modules.batchnorm._BatchNorm


@dataclass
class SupermaskMasking:
    """Frozen weights under masks that are drawn in each step.

    Args:
        masks: the largest logits of each layer at the end of the last epoch; the number of True
            entries is constant.
        trainable: parameter name -> s, of the parameter's shape and memory format.
        largest: the mask of the largest weights in the same budgets, for Eq. 7 of the jackpots
            paper.
        rng: generator that draws the masks, on the net's device.
        agreed, expected: (epochs,): Eq. 7, and the mean of p, after each epoch.
        done: number of completed steps. A step that is not completed draws a mask; a completed one
            uses the hard mask, as evaluation requires.
        batches: images for the BatchNorm statistics.
        spend: reports what their passes cost.
    """

    masks: Masks
    trainable: dict[str, Tensor]
    largest: Masks
    keep: dict[str, int]
    rng: Generator
    agreed: Tensor
    expected: Tensor
    epoch_steps: int
    scaling: Scaling
    batches: InitVar[Callable[[], Iterable[Batch]]]
    spend: InitVar[Spend]
    done: int = 0
    train_weights: bool = False
    report: dict[str, Finding] = field(default_factory=dict)

    def __post_init__(self, batches: Callable[[], Iterable[Batch]], spend: Spend) -> None:
        # not fields, because they are not state
        self._batches, self._spend = batches, spend
        self._used = self.masks  # in the forward pass of the current step

    def weights(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        """Weights under a drawn mask with a gradient to every logit, or under the hard mask.

        The hard mask is used for a step that is already completed.
        """
        if step < self.done:
            return {
                name: self._effective(model.get_parameter(name).detach(), mask)[0]
                for name, mask in self.masks.items()
            }
        self._used = {}
        return {
            name: self._drawn(name, model.get_parameter(name).detach(), torch.sigmoid(s))
            for name, s in self.trainable.items()
        }

    def passes(self, step: int) -> Passes:
        """`pruners.base.StatesPasses`: under the drawn masks; every logit has a gradient."""
        return Passes(kept=2, full=1, masks=self._used)

    def _drawn(self, name: str, weight: Tensor, p: Tensor) -> Tensor:
        numbers = torch.rand(p.numel(), generator=self.rng, device=p.device, dtype=p.dtype)
        noise = numbers.as_strided(p.shape, p.stride())  # in memory order
        self._used[name] = noise < p
        effective, scaled = self._effective(weight, self._used[name])
        drawn: Tensor = StraightThrough.apply(p, effective, scaled)
        return drawn

    def _effective(self, weight: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The weights with and without the mask, both scaled.

        With dynamic scaling the factor is n / ones, which preserves the layer's sum of |w| in
        expectation.
        """
        scaled = (
            weight * (mask.numel() / mask.sum().clamp(min=1))
            if self.scaling == "dynamic"
            else weight
        )
        return torch.where(mask, scaled, 0.0), scaled

    def before_step(self, model: nn.Module, opt: Optimizer, step: int) -> None:
        """Do nothing: the gradients are already those of the logits."""

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        """At the end of an epoch, harden the mask, recompute the statistics and record results."""
        self.done = step + 1
        if self.done % self.epoch_steps:
            return
        epoch = step // self.epoch_steps
        self.masks = top(self.trainable, self.keep, self.trainable)
        if any(isinstance(module, BATCHNORMS) for module in model.modules()):
            with fresh_statistics(model) as weigh:
                for number, (x, _) in enumerate(self._batches(), start=1):
                    weigh(number)
                    self._spend(self.masks, Passes(1), len(x))
                    functional_call(model, self.weights(model, step), (x,))
        self.agreed[epoch] = overlap(self.masks, self.largest)
        self.expected[epoch] = torch.stack(
            [torch.sigmoid(s).double().sum() for s in self.trainable.values()]
        ).sum() / count_prunable(self.masks)
        self.report = {
            "overlap_magnitude": float(self.agreed[epoch]),
            "expected_density": float(self.expected[epoch]),
        }

    @property
    def series(self) -> dict[str, list[float]]:
        """Overlap with the magnitude mask and mean of p, by epoch."""
        return {
            "overlap_magnitude": self.agreed.tolist(),
            "expected_density": self.expected.tolist(),
        }


@dataclass(frozen=True)
class Supermask:
    """The search stage.

    Args:
        allocate: scores, masks, density -> weights to keep in each layer, by the magnitudes.
            Default in YAML: one threshold for the net, as for other searches.
        scaling: `dynamic` multiplies a layer's weights by n / number of ones drawn, the authors'
            option. Default none.
        statistics: number of batches of training images, at most one pass, over which BatchNorm's
            statistics are recomputed with the hard mask. Default 100.
        batch_size: of these batches. Default 256: the jackpots paper's in training.
        classifier: `dense`: the last linear layer is neither pruned nor counted, as in other
            searches; `searched`: the authors' way.
        dense: other layers that are neither pruned nor counted, as for ScorePruner.
    """

    tag: ClassVar[str] = "supermask"
    allocate: Allocation
    scaling: Scaling = "none"
    statistics: int = 100
    batch_size: int = 256
    classifier: Classifier = "dense"
    dense: tuple[Layer, ...] = ()

    def __post_init__(self) -> None:
        sizes = {"statistics": (self.statistics, 1), "batch_size": (self.batch_size, 2)}
        problems = [
            f"method.search.{key}={value} must be at least {least}"
            for key, (value, least) in sizes.items()
            if value < least
        ]
        if self.scaling not in ("none", "dynamic"):
            problems.append(f"method.search.scaling={self.scaling!r} must be one of none, dynamic")
        check(self.allocate, self.classifier, self.dense, problems)

    @property
    def _dense(self) -> tuple[str, ...]:
        return with_classifier(self.dense, self.classifier)

    def check_budget(self, model: nn.Module, masks: Masks, density: float) -> None:
        """`pruners.base.Budgeted.check_budget`."""
        check_counts(self.allocate, searched(model, masks, self._dense), density)

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> SupermaskMasking:
        """Masks of exactly round(task.density * prunable) of the searched weights.

        The model is not changed.

        Raises:
            ValueError: no density, a stage that does not train, weights that are pruned already, or
                no layer to search.
        """
        if task.epochs < 1:
            raise ValueError(
                "a supermask is learned in a stage of kind search, of at least one epoch"
            )
        initial = begin(model, masks, task, self.allocate, Init(), self._dense)
        device = next(model.parameters()).device
        logits = {
            name: torch.full_like(m, logit(initial.keep[name], m.numel())).requires_grad_()
            for name, m in initial.relaxed.items()
        }

        def batches() -> Iterator[Batch]:
            return (
                (x.to(device), y.to(device))
                for x, y in islice(task.batches(self.batch_size), self.statistics)
            )

        return SupermaskMasking(
            masks=top(logits, initial.keep, logits),
            trainable=logits,
            largest=initial.largest,
            keep=initial.keep,
            rng=Generator(device).manual_seed(int(torch.randint(2**62, (), generator=task.rng))),
            agreed=torch.zeros(task.epochs, dtype=torch.float64, device=device),
            expected=torch.zeros(task.epochs, dtype=torch.float64, device=device),
            epoch_steps=task.steps // task.epochs,
            scaling=self.scaling,
            batches=batches,
            spend=task.spend,
        )


def logit(kept: int, size: int) -> float:
    """log(k / (1 - k)) of k = kept / size, always finite.

    A layer that is kept or pruned as a whole gets the logit of half a weight less or more.
    """
    k = min(max(kept, 0.5), size - 0.5) / size
    return math.log(k / (1 - k))


@contextmanager
def fresh_statistics(model: nn.Module) -> Iterator[Callable[[int], None]]:
    """Context in which forward passes recompute BatchNorm's running statistics.

    Each batch has the same weight, if the function that the context gives is called with the number
    of each batch, 1, 2, ..., before its pass. All other state is restored on exit.
    """
    flags = {module: module.training for module in model.modules()}
    layers = [module for module in model.modules() if isinstance(module, BATCHNORMS)]
    momentum = {layer: layer.momentum for layer in layers}
    counted = {
        layer: layer.num_batches_tracked.clone()
        for layer in layers
        if layer.num_batches_tracked is not None
    }
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.train()

    def weigh(number: int) -> None:
        # PyTorch's own mean (momentum=None) reads the number from the device in every layer.
        for layer in layers:
            layer.momentum = 1 / number

    try:
        yield weigh
    finally:
        for module, training in flags.items():
            module.training = training
        for layer in layers:
            layer.momentum = momentum[layer]
            if layer in counted and layer.num_batches_tracked is not None:
                layer.num_batches_tracked.copy_(counted[layer])

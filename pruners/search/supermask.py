"""Supermasks by Bernoulli sampling (Zhou, Lan, Liu & Yosinski, 2019, arXiv:1905.01067): in each step the net computes with a random mask that can be learned.

Every searched weight w has a logit s, p = sigmoid(s). A step draws b ~ Bernoulli(p) and computes with w * b; the gradient passes as if b were p:
dL/ds = dL/dw_eff * w * p (1 - p). Weights, biases and BatchNorm's gamma and beta stay bit-identical.

Deviations and choices (methods/supermask_zhou.md; decisions.md 29). The method has no knob for a density; "Lottery Jackpots Exist in Pre-trained Models"
(arXiv:2104.08700, Table 5) reports it at 10 % and does not say how:
- Logits start at log(k / (1 - k)) of the share k that their layer keeps under one threshold on |w|; at the end of each epoch the largest logits of each layer
  make the mask, exactly, and what is evaluated is that mask, where the authors evaluate draws.
- BatchNorm's running statistics average over random masks in the search, so they are taken anew with the hard mask before each evaluation.
- The learning rate is the authors' 100 (conf/method/zhou.yaml), without weight decay, which would pull p to 1/2. The paper's own 0.1 does not move a logit.
- Pre-trained weights; the authors' signed constants would replace them, and `round_mask` is not built. Dynamic scaling is `scaling=dynamic`.
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

from pruners.base import Batch, Finding, Masks, Task, count_prunable
from pruners.search.init import Allocate, Classifier, Init, overlap, top
from pruners.search.popup import StraightThrough, begin, check

Scaling = Literal["none", "dynamic"]
BATCHNORMS = nn.modules.batchnorm._BatchNorm


@dataclass
class SupermaskMasking:
    """Frozen weights under masks that are drawn anew in each step.

    Args:
        masks: the largest logits of each layer, as they were at the end of the last epoch; as many True as at the start.
        trainable: parameter name -> s, of the parameter's shape and memory format.
        largest: the mask of the largest weights in the same budgets, for Eq. 7 of the jackpots paper.
        rng: on the device of the net, of which the masks are drawn.
        agreed, expected: (epochs,): Eq. 7, and the mean of p, after each epoch.
        done: steps that are over. A step that is not draws; one that is gets the hard mask: that is what evaluation asks for.
        batches: what the statistics are taken over.
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
    done: int = 0
    train_weights: bool = False
    report: dict[str, Finding] = field(default_factory=dict)

    def __post_init__(self, batches: Callable[[], Iterable[Batch]]) -> None:
        self._batches = batches  # no field: it is no state

    def weights(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        """Weights under a draw, through which a gradient reaches every logit; under the hard mask once the step is over."""
        if step < self.done:
            return {name: self._effective(model.get_parameter(name).detach(), mask)[0] for name, mask in self.masks.items()}
        return {name: self._drawn(model.get_parameter(name).detach(), torch.sigmoid(s)) for name, s in self.trainable.items()}

    def _drawn(self, weight: Tensor, p: Tensor) -> Tensor:
        noise = torch.rand(p.numel(), generator=self.rng, device=p.device, dtype=p.dtype).as_strided(p.shape, p.stride())  # in the order of memory
        effective, scaled = self._effective(weight, noise < p)
        return StraightThrough.apply(p, effective, scaled)

    def _effective(self, weight: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The weights under a mask, and without it, both scaled: n / ones, if scaling is dynamic, keeps the layer's sum of |w| in expectation."""
        scaled = weight * (mask.numel() / mask.sum().clamp(min=1)) if self.scaling == "dynamic" else weight
        return torch.where(mask, scaled, 0.0), scaled

    def before_step(self, model: nn.Module, opt: Optimizer, step: int) -> None:
        """The gradients are the logits' already."""

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        """At the end of an epoch: harden the mask, take the statistics anew, note what was reached."""
        self.done = step + 1
        if self.done % self.epoch_steps:
            return
        epoch = step // self.epoch_steps
        self.masks = top(self.trainable, self.keep, self.trainable)
        if any(isinstance(module, BATCHNORMS) for module in model.modules()):
            with fresh_statistics(model):
                for x, _ in self._batches():
                    functional_call(model, self.weights(model, step), (x,))
        self.agreed[epoch] = overlap(self.masks, self.largest)
        self.expected[epoch] = torch.stack([torch.sigmoid(s).double().sum() for s in self.trainable.values()]).sum() / count_prunable(self.masks)
        self.report = {"overlap_magnitude": float(self.agreed[epoch]), "expected_density": float(self.expected[epoch])}

    @property
    def series(self) -> dict[str, list[float]]:
        """By epoch: overlap with the magnitude mask, mean of p."""
        return {"overlap_magnitude": self.agreed.tolist(), "expected_density": self.expected.tolist()}


@dataclass(frozen=True)
class Supermask:
    """The search stage.

    Args:
        allocate: scores, masks, density -> weights to keep in each layer, by the magnitudes. Default in YAML: one threshold for the net, as for other searches.
        scaling: `dynamic` multiplies a layer's weights by n / ones drawn, the authors' option. Default none.
        statistics: batches of training images, at most one pass, of which BatchNorm's statistics are taken with the hard mask. Default 100.
        batch_size: of these. Default 256: the jackpots paper's in training.
        classifier: `dense`: the last linear layer is neither pruned nor counted, as in other searches; `searched`: the authors' way.
    """

    tag: ClassVar[str] = "supermask"
    allocate: Allocate
    scaling: Scaling = "none"
    statistics: int = 100
    batch_size: int = 256
    classifier: Classifier = "dense"

    def __post_init__(self) -> None:
        sizes = {"statistics": (self.statistics, 1), "batch_size": (self.batch_size, 2)}
        problems = [f"method.search.{key}={value} must be at least {least}" for key, (value, least) in sizes.items() if value < least]
        if self.scaling not in ("none", "dynamic"):
            problems.append(f"method.search.scaling={self.scaling!r} must be one of none, dynamic")
        check(self.allocate, self.classifier, problems)

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> SupermaskMasking:
        """Masks of exactly round(task.density * prunable) of the searched weights; the model is not changed.

        Raises:
            ValueError: no density, a stage that does not train, weights that are pruned already, or no layer to search.
        """
        if task.epochs < 1:
            raise ValueError("a supermask learns logits while the net computes: its stage is of kind search, of at least one epoch")
        begun = begin(model, masks, task, self.allocate, Init(), self.classifier)
        device = next(model.parameters()).device
        logits = {name: torch.full_like(m, logit(begun.keep[name], m.numel())).requires_grad_() for name, m in begun.relaxed.items()}

        def batches() -> Iterator[Batch]:
            return ((x.to(device), y.to(device)) for x, y in islice(task.batches(self.batch_size), self.statistics))

        return SupermaskMasking(
            masks=top(logits, begun.keep, logits),
            trainable=logits,
            largest=begun.largest,
            keep=begun.keep,
            rng=Generator(device).manual_seed(int(torch.randint(2**62, (), generator=task.rng))),
            agreed=torch.zeros(task.epochs, dtype=torch.float64, device=device),
            expected=torch.zeros(task.epochs, dtype=torch.float64, device=device),
            epoch_steps=task.steps // task.epochs,
            scaling=self.scaling,
            batches=batches,
        )


def logit(kept: int, size: int) -> float:
    """log(k / (1 - k)) of k = kept / size; a layer kept or pruned as a whole gets the logit of half a weight less or more, which is finite."""
    k = min(max(kept, 0.5), size - 0.5) / size
    return math.log(k / (1 - k))


@contextmanager
def fresh_statistics(model: nn.Module) -> Iterator[None]:
    """A block whose forward passes make BatchNorm's running statistics, each batch counting alike; everything else is put back as it was."""
    flags = {module: module.training for module in model.modules()}
    layers = [module for module in model.modules() if isinstance(module, BATCHNORMS)]
    momentum = {layer: layer.momentum for layer in layers}
    counted = {layer: layer.num_batches_tracked.clone() for layer in layers if layer.num_batches_tracked is not None}
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over the batches
        layer.train()
    try:
        yield
    finally:
        for module, training in flags.items():
            module.training = training
        for layer in layers:
            layer.momentum = momentum[layer]
            if layer in counted and layer.num_batches_tracked is not None:
                layer.num_batches_tracked.copy_(counted[layer])

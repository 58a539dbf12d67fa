"""Continuous Sparsification: a soft mask learned with the weights by an annealed sigmoid, then cut.

Savarese, Silva & Maire, 2020, arXiv:1912.04427. Search: every prunable weight w has a score s,
initially s0, and the net computes with w * c * sigmoid(b s). c = 1 / sigmoid(s0) makes every mask 1
at the start. Loss: cross-entropy + penalty * sum of all masks. The temperature b is
final_temperature^(e / (E - 1)) in epoch e of E. Ticket: c * 1[s > 0] on the weights rewound to an
early epoch.

Deviations and choices (docs/methods/continuous_sparsification.md; docs/decisions.md 16):
- All prunable weights have a mask; the authors' code has none on 1x1 shortcuts and the classifier
  (dense=[shortcuts,classifier]).
- One round, which matches the IMC paper's 320 epochs (a search and a retraining of 160 each); the
  authors' default is three rounds of 85. A further round goes on with the weights of the round
  before; its scores begin at min(b s, s0), where b is the last temperature. The authors keep the
  momentum of both between rounds; here every round begins without.
- density=D selects the D * N largest scores, in place of s > 0; the density of s > 0 is reported
  beside it (`attained_density`). Without a density, s > 0 decides.
- The factor c stays on the kept weights, as in the authors' code: with s0 = 0 the retrained net
  computes with twice its weights.
- The net has our initialiser; the authors use Xavier's normal (docs/decisions.md 3).
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pruners.base import (
    Finding,
    FixedMasking,
    Masks,
    Passes,
    Task,
    apply_masks,
    count_kept,
    count_prunable,
    density,
)
from pruners.dense_layers import LAYERS, unknown_layers, without
from pruners.selection.allocate import Global
from pruners.selection.ranked import Ranked

AnyLayer = Literal["first", "shortcuts", "classifier"]


@dataclass
class SoftMasking:
    """Weights times an annealed sigmoid of their scores.

    Args:
        masks: s > 0, always up to date.
        trainable: parameter name -> s, of the parameter's shape.
        allowed: weights that were not pruned before.
        epoch_steps, epochs: steps per epoch and epochs of the search.
    """

    masks: Masks
    trainable: dict[str, Tensor]
    allowed: Masks
    epoch_steps: int
    epochs: int
    s0: float
    penalty: float
    final_temperature: float
    train_weights: bool = True
    report: dict[str, Finding] = field(default_factory=dict)

    def temperature(self, step: int) -> float:
        """b at a step: 1 in the first epoch, final_temperature in the last."""
        epoch = step // self.epoch_steps
        return self.final_temperature ** (epoch / (self.epochs - 1)) if self.epochs > 1 else 1.0

    def soft(self, name: str, step: int) -> Tensor:
        """The soft mask c * sigmoid(b s) of a parameter, differentiable in s."""
        return (
            factor(self.s0)
            * torch.sigmoid(self.temperature(step) * self.trainable[name])
            * self.allowed[name]
        )

    def weights(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        """Every prunable weight times its soft mask."""
        return {name: model.get_parameter(name) * self.soft(name, step) for name in self.trainable}

    def passes(self, step: int) -> Passes:
        """`pruners.base.StatesPasses`: a soft mask removes no weight."""
        return Passes(masks=self.allowed)

    @torch.no_grad()
    def before_step(self, model: nn.Module, opt: Optimizer, step: int) -> None:
        """Add the gradient of the penalty on the sum of all masks.

        It is penalty * c * b * sigmoid'(b s).
        """
        b = self.temperature(step)
        for s in self.trainable.values():
            gate = torch.sigmoid(b * s)
            if s.grad is not None:
                s.grad.add_(self.penalty * factor(self.s0) * b * gate * (1 - gate))

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        """Update the hard masks from the scores."""
        self.masks = {name: (s > 0) & self.allowed[name] for name, s in self.trainable.items()}


@dataclass(frozen=True)
class SoftSearch:
    """The search stage.

    Args:
        s0: initial value of all scores. A larger s0 gives denser nets. Default 0.0: authors' code.
        penalty: lambda of the L1 penalty. Default 1e-8: authors' code.
        final_temperature: b in the last epoch. Default 200: authors' code.
        dense: layers without a mask: `first`, `shortcuts`, `classifier` (pruners/dense_layers.py).
            Default none; the authors leave out shortcuts and classifier.
    """

    tag: ClassVar[str] = "soft_search"
    s0: float = 0.0
    penalty: float = 1e-8
    final_temperature: float = 200.0
    dense: tuple[AnyLayer, ...] = ()

    def __post_init__(self) -> None:
        problems = unknown_layers(self.dense, LAYERS, "method.search.dense")
        if self.penalty < 0:
            problems.append(
                f"method.search.penalty={self.penalty:g} must be 0 or more: it multiplies the sum"
                " of all masks in the loss"
            )
        if self.final_temperature < 1:
            problems.append(
                f"method.search.final_temperature={self.final_temperature:g} must be at least 1,"
                " the temperature of the first epoch"
            )
        if problems:
            raise ValueError("\n".join(problems))

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> SoftMasking:
        """Soft masks over the weights that `masks` keeps; the model is not changed.

        Scores begin at s0, or, if `task` has those of an earlier round, where that round left them.

        Raises:
            ValueError: the task does not train, or no layer is left.
        """
        if task.epochs < 1:
            raise ValueError(
                "Continuous Sparsification learns its masks while the net trains:"
                " its stage is of kind search"
            )
        masks = self._masked(model, masks)
        scores = {name: self._first_scores(name, mask, task) for name, mask in masks.items()}
        return SoftMasking(
            masks={name: (scores[name] > 0) & mask for name, mask in masks.items()},
            trainable={name: s.requires_grad_() for name, s in scores.items()},
            allowed=dict(masks),
            epoch_steps=task.steps // task.epochs,
            epochs=task.epochs,
            s0=self.s0,
            penalty=self.penalty,
            final_temperature=self.final_temperature,
        )

    def check_layers(self, model: nn.Module, masks: Masks) -> None:
        """`pruners.base.Layered.check_layers`."""
        self._masked(model, masks)

    def _masked(self, model: nn.Module, masks: Masks) -> Masks:
        """The masks of the layers that have soft ones.

        Raises:
            ValueError: the net lacks a layer of `dense`, or no layer is left.
        """
        found = without(model, masks, self.dense, "method.search.dense")
        if not found:
            raise ValueError(
                f"method.search.dense=[{','.join(self.dense)}] leaves no layer with a mask: take"
                " fewer dense layers"
            )
        return found

    def _first_scores(self, name: str, mask: Tensor, task: Task) -> Tensor:
        """s0, or min(b s, s0) for the scores s of an earlier round and its last temperature b."""
        for earlier in task.measured.values():  # at most one
            grown = self.final_temperature * earlier.tensors[name].to(mask.device)
            return grown.clamp(max=self.s0)
        return torch.full(mask.shape, self.s0, device=mask.device)


@dataclass(frozen=True)
class Ticket:
    """The cut: s > 0, or the largest scores if a density is given.

    Of several search stages that its stage needs, which are rounds, the last one's scores count.

    Args:
        stage: the first search stage.
    """

    tag: ClassVar[str] = "soft_ticket"
    stage: str = "search"

    @property
    def reads(self) -> tuple[str, ...]:
        """The stages whose findings it reads (pruners.base.Reads)."""
        return (self.stage,)

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> FixedMasking:
        """Masks of the round(task.density * prunable) largest scores, or of all positive scores.

        Raises:
            ValueError: no score is positive and no density was given.
        """
        *_, last = task.measured.values()
        scores = {name: s.to(masks[name].device) for name, s in last.tensors.items()}
        masks = {name: masks[name] for name in scores}
        attained = {name: s > 0 for name, s in scores.items()}
        report: dict[str, Finding] = {"attained_density": density(attained)}
        if task.density is None:
            if not count_kept(attained):
                raise ValueError(
                    f"the search ended with no positive score among {count_prunable(attained):,}:"
                    " raise method.search.s0, or give a density"
                )
            kept = attained
        else:
            ranked = Ranked.of(scores, masks)
            kept = ranked.split(Global().select(ranked, task.density))
            report["moved_by_density"] = sum(
                int((kept[name] ^ attained[name]).sum()) for name in kept
            ) / count_prunable(kept)
        apply_masks(model, kept)
        return FixedMasking(kept, report=report)


@dataclass
class FactorMasking:
    """Fixed masks on weights that the net multiplies by a constant."""

    masks: Masks
    factor: float
    trainable: dict[str, Tensor] = field(default_factory=dict)
    train_weights: bool = True
    report: dict[str, Finding] = field(default_factory=dict)

    def weights(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        """Every prunable weight times the factor."""
        return {name: model.get_parameter(name) * self.factor for name in self.masks}

    def before_step(self, model: nn.Module, opt: Optimizer, step: int) -> None:
        """Clear the gradients of pruned weights."""
        FixedMasking(self.masks).before_step(model, opt, step)

    def after_step(self, model: nn.Module, step: int) -> None:
        """Set pruned weights to zero."""
        apply_masks(model, self.masks)


@dataclass(frozen=True)
class Scaled:
    """Retraining of the ticket, with every prunable weight multiplied by the search's factor c.

    Args:
        s0: the search's s0.
    """

    tag: ClassVar[str] = "scaled"
    s0: float = 0.0

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> FactorMasking:
        """Fixed masks and the factor 1 / sigmoid(s0)."""
        return FactorMasking(dict(masks), factor(self.s0))


def factor(s0: float) -> float:
    """c = 1 / sigmoid(s0), which makes every mask 1 at the start."""
    return 1 / float(torch.sigmoid(torch.tensor(s0, dtype=torch.float64)))

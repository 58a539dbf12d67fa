"""Deep R, deep rewiring: at every step, connections that would change sign are replaced at random.

The net is sparse from the first step (Bellec et al., 2018, arXiv:1711.05136, Algorithm 1). Position
k has a fixed sign s_k. It is active while theta_k > 0, with the weight w_k = s_k theta_k. Active
positions are updated by theta <- theta - lr (dL/dtheta + alpha + noise). Those with theta <= 0
afterwards die. As many dormant positions, drawn uniformly, are born with theta = 1e-12. In terms of
weights: alpha sign(w) and noise are added to the gradient, and a weight dies when its sign is no
longer its position's.

Choices and deviations (docs/methods/deep_r.md; docs/decisions.md 29: the authors' settings):
- Noise and alpha are added to the gradient. With plain SGD this is the authors' code,
  lr * noise * N(0, 1). Their paper has sqrt(2 lr T) N(0, 1) on theta. Under the momentum of the
  tables' recipe, both act through it.
- Connections at the start have the signs of the initial weights; all other signs are drawn. Counts
  are exact at the start, where the authors draw with replacement.
- No weight decay on prunable weights: alpha is the prior (the authors; Intel's CIFAR settings too).
- Momentum of connections that die or are born is cleared. Every layer has its own count (`budget`).
- rule=flip is Intel's variant: positions have no fixed sign, and a weight dies when the step has
  flipped its sign. New weights begin at 0, so that their first step decides their sign. They never
  take the place of one that just died unless the layer has no other room. Its temperatures 1e-5,
  1e-8, 1e-12, 1e-15 are noise=sqrt(2 * 0.01 * 1e-5) with cooling=quarters.
- After `stop`, training is plain: no noise, no alpha, no deaths.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import ClassVar, Literal, get_args

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from pruners.base import (
    Finding,
    FixedMasking,
    Masks,
    Task,
    apply_masks,
    counts_by_layer,
    kept_by_layer,
)
from pruners.dynamic.rewire import grow, no_change, refused_stop, reset_momentum
from pruners.selection.allocate import apportion

BIRTH = 1e-12  # theta of a new connection: the authors' code
# Square roots of Intel's temperatures, relative to the first one.
COOLING = {"none": (1.0,), "quarters": (1.0, 10**-1.5, 10**-3.5, 10**-5)}
Rule = Literal["signed", "flip"]
Cooling = Literal["none", "quarters"]
Budget = Literal["layer", "global"]


@dataclass
class DeepRMasking:
    """Masks that change after every step before `last`.

    `signs` are -1, 0 or 1 by position (int8). `changed` marks positions whose momentum is to be
    reset.
    """

    masks: Masks
    signs: dict[str, Tensor]
    changed: Masks
    budgets: dict[str, int]  # connections of each layer at the start
    rng: Generator
    steps: int
    last: float
    rule: str
    l1: float
    noise: float
    cooling: str
    budget: str
    weight_decay: bool
    trainable: dict[str, Tensor] = field(default_factory=dict)
    train_weights: bool = True
    report: dict[str, Finding] = field(default_factory=lambda: {"rewired": 0})

    def weights(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        """Return {}: dormant weights are zeros, so nothing is replaced."""
        return {}

    def deviation(self, step: int) -> float:
        """Standard deviation of the noise on gradients at this step."""
        factors = COOLING[self.cooling]
        return self.noise * factors[len(factors) * step // self.steps]

    @torch.no_grad()
    def before_step(self, model: nn.Module, opt: Optimizer, step: int) -> None:
        """Add the pull to zero and the noise to the gradients of active connections.

        Dormant connections get no gradient and no momentum. The optimizer's weight decay is
        cancelled on prunable weights unless `weight_decay` is set.
        """
        FixedMasking(self.masks).before_step(model, opt, step)
        reset_momentum(model, opt, self.changed)
        self.changed = no_change(self.masks)
        decays = {
            id(p): group.get("weight_decay", 0.0)
            for group in opt.param_groups
            for p in group["params"]
        }
        active = self._active() if step < self.last else {}
        for name, mask in self.masks.items():
            weight = model.get_parameter(name)
            if weight.grad is None:
                continue
            if not self.weight_decay:
                weight.grad.sub_(weight, alpha=decays[id(weight)])  # the optimizer adds it again
            if step < self.last:
                weight.grad.add_(weight.sign(), alpha=self.l1)
                noise = self.deviation(step) * torch.randn(active[name], generator=self.rng)
                noise = noise.to(weight, non_blocking=True)
                # without the positions on the host, which `grad[mask] += noise` would wait for
                weight.grad.add_(torch.zeros_like(weight).masked_scatter_(mask, noise))
            if self.rule == "flip":
                self.signs[name] = weight.sign().to(torch.int8)

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        """Keep dormant weights at zero and replace active weights that have crossed zero.

        The number of new connections equals the number removed.
        """
        apply_masks(model, self.masks)
        if step >= self.last:
            return
        dead = {
            name: mask & crossed(model.get_parameter(name), self.signs[name], self.rule)
            for name, mask in self.masks.items()
        }
        deaths, active = counts_by_layer(dead, self.masks)
        room = {name: mask.numel() - active[name] for name, mask in self.masks.items()}
        births = self._births(deaths, room)
        for name, mask in self.masks.items():
            if not deaths[name] and not births[name]:
                continue
            kept, weight = mask & ~dead[name], model.get_parameter(name)
            if self.rule == "signed":
                born = grow(~kept, births[name], self.rng, there=room[name] + deaths[name])
            else:
                born = grow(~mask, births[name], self.rng, dead[name], room[name])
            weight.masked_fill_(~kept, 0.0)
            if self.rule == "signed":
                weight.copy_(torch.where(born, BIRTH * self.signs[name], weight))
            self.masks[name], self.changed[name] = kept | born, dead[name] | born
        self.report["rewired"] = int(self.report["rewired"] or 0) + sum(births.values())

    def _active(self) -> dict[str, int]:
        """Number of connections of each layer: with budget=layer, that of the start."""
        return self.budgets if self.budget == "layer" else kept_by_layer(self.masks)

    def _births(self, deaths: dict[str, int], free: dict[str, int]) -> dict[str, int]:
        """Number of new connections of each layer, which has `free` dormant positions.

        With budget=layer, this is the layer's number of deaths. With budget=global, it is a share
        of all deaths, in proportion to the layer's connections at the start.
        """
        if self.budget == "layer":
            return deaths
        total, whole = sum(deaths.values()), sum(self.budgets.values())
        able = {name: budget for name, budget in self.budgets.items() if budget}
        room = {name: free[name] + deaths[name] for name in able}
        fair = {name: Fraction(total * budget, whole) for name, budget in able.items()}
        shared = apportion(fair, room, total)
        return {name: shared.get(name, 0) for name in deaths}


def crossed(weights: Tensor, signs: Tensor, rule: str) -> Tensor:
    """Which weights have lost their sign: bool of their shape.

    With rule=signed, a weight of exactly zero has lost its sign. With rule=flip it has not, because
    it is a new connection.
    """
    product = weights * signs
    return product <= 0 if rule == "signed" else product < 0


@dataclass(frozen=True)
class DeepR:
    """Stochastic rewiring at every step, from the masks of an earlier stage.

    Args:
        rule: `signed`, the authors', or `flip`, Intel's.
        l1: alpha, the pull to zero. Default 1e-5: the authors' and Intel's.
        noise: initial standard deviation of the noise on gradients. Default 1e-5: the authors'
            code.
        cooling: decrease of the noise. Default none: the authors'.
        stop: share of the training after which rewiring ends. Default 1: the authors'.
        budget: `layer`: every layer keeps its count; `global`: only the total is constant, as in
            the authors' second script.
        weight_decay: whether the training's weight decay also applies to prunable weights.
    """

    tag: ClassVar[str] = "deep_r"
    adds_to_gradients: ClassVar[str] = "its pull to zero and its noise"
    rule: Rule = "signed"
    l1: float = 1e-5
    noise: float = 1e-5
    cooling: Cooling = "none"
    stop: float = 1.0
    budget: Budget = "layer"
    weight_decay: bool = False

    def __post_init__(self) -> None:
        problems = refused_stop("method.rewire.stop", self.stop)
        for key, choices in (("rule", Rule), ("cooling", Cooling), ("budget", Budget)):
            if getattr(self, key) not in get_args(choices):
                problems.append(
                    f"method.rewire.{key}={getattr(self, key)!r} must be one of"
                    f" {', '.join(get_args(choices))}"
                )
        for key in ("l1", "noise"):
            if getattr(self, key) < 0:
                problems.append(
                    f"method.rewire.{key}={getattr(self, key):g} must be 0 or more:"
                    " it is added to gradients"
                )
        if problems:
            raise ValueError("\n".join(problems))

    @torch.no_grad()
    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> DeepRMasking:
        """A masking that starts from `masks`.

        With rule=signed, an active weight of exactly zero becomes a new connection; no other weight
        changes.

        Raises:
            ValueError: the task does not train.
        """
        if task.steps < 1:
            raise ValueError(
                "Deep R rewires connections while the net trains: its stage is of kind train"
            )
        signs = self._first_signs(model, masks, task.rng)
        return DeepRMasking(
            masks=dict(masks),
            signs=signs,
            changed=no_change(masks),
            budgets=kept_by_layer(masks),
            rng=task.rng,
            steps=task.steps,
            last=self.stop * task.steps,
            rule=self.rule,
            l1=self.l1,
            noise=self.noise,
            cooling=self.cooling,
            budget=self.budget,
            weight_decay=self.weight_decay,
        )

    def _first_signs(self, model: nn.Module, masks: Masks, rng: Generator) -> dict[str, Tensor]:
        """Signs of the active weights; those of other positions are drawn.

        With rule=signed, active weights of exactly zero become new connections, in place.
        """
        signs = {
            name: (torch.randint(0, 2, mask.shape, generator=rng) * 2 - 1).to(
                mask.device, torch.int8
            )
            for name, mask in masks.items()
        }
        for name, mask in masks.items():
            weight, drawn = model.get_parameter(name), signs[name]
            signs[name] = torch.where(mask & (weight != 0), weight.sign(), drawn).to(torch.int8)
            if self.rule == "signed":
                weight.copy_(torch.where(mask & (weight == 0), BIRTH * signs[name], weight))
        return signs

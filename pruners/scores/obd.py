"""OBD, Optimal Brain Damage: prune the weights whose removal raises the loss least to second order.

It applies to a trained net (LeCun, Denker & Solla, NeurIPS 1989). score_k = h_kk w_k^2 / 2, with
h_kk the diagonal of a curvature of the mean training loss. The gradient is taken to be zero, and
the other entries of the curvature are dropped.

Choice of the diagonal (docs/methods/obd.md; docs/decisions.md 29): the generalised Gauss-Newton
matrix J' (diag(p) - p p') J, with p (C,) the net's softmax and J (C, d) the Jacobian of its outputs
for one image, mean over images. Its diagonal is never negative. Estimators:

- `ggn`: exact, the sum over all classes c of p_c (dL(c)/dw_k)^2, one backward pass a class.
- `ggn_rademacher` (the default of method=obd): ((J' F u)_k)^2 for random signs u (C,), where
  F = diag(sqrt p) - p sqrt(p)' is a factor of the middle matrix: F F' = diag(p) - p p'. E[u u'] =
  I, so the expectation is that of `ggn`. It is curvature propagation (Martens, Sutskever &
  Swersky, ICML 2012) at the outputs of the net.
- `mc_fisher`: (dL(y)/dw_k)^2 for a label y drawn from p, with the same expectation. On a
  well-trained net a few rare labels carry most of it, so the mean is heavy-tailed.
- `hutchinson`: of the Hessian itself, the mean of z * Hz over random signs z; negative entries
  count as zero.

The original's recursion back through the layers also drops the cross terms between units.

Choices: BatchNorm uses running statistics, because batch statistics couple the images. Images are
not augmented. Labels are drawn; with the true labels, gradients vanish with the training loss. The
curvature of weight decay is omitted, as is usual. Fisher and Gauss-Newton assume cross-entropy.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import ClassVar, Literal, get_args

import torch
from torch import Generator, Tensor, nn

from pruners.base import GRADIENT, PRODUCT, Batch, LossFn, Masks, Scores
from pruners.curvature.hessian import HessianOperator
from pruners.curvature.lanczos import signs
from pruners.curvature.options import HessianOptions
from pruners.divided import joined, share, summed
from pruners.memory import at_once
from pruners.scores.chunks import loss_bytes
from pruners.scores.gradients import undisturbed
from pruners.scores.squares import add_squares, along, factor_product
from pruners.team import ALONE, Team

Estimator = Literal["mc_fisher", "ggn", "ggn_rademacher", "hutchinson"]
# Numbers in the per-image gradients held at a time: 128 MiB of float32, if `memory` allows.
AT_ONCE = 2**25


@dataclass(frozen=True)
class Obd:
    """OBD score h_kk w_k^2 / 2.

    Args:
        estimator: of h: `mc_fisher`, `ggn`, `ggn_rademacher`, or `hutchinson` (the Hessian).
            conf/method/obd.yaml states `ggn_rademacher`. The default here, which run ids leave out,
            stays that of the runs from before.
        images: training images in the mean, all of them if there are fewer. Default 5,000
            (docs/methods/obd.md).
        draws: labels (mc_fisher) or sign vectors (ggn_rademacher) drawn per image. Default 1.
        probes: random sign vectors (hutchinson). Default 100; 50 to 300 are usual.
    """

    tag: ClassVar[str] = "obd"
    estimator: Estimator = "mc_fisher"
    images: int = 5000
    draws: int = 1
    probes: int = 100
    needs_data: ClassVar[bool] = True

    def __post_init__(self) -> None:
        problems = [
            f"method.score.{key}={getattr(self, key)} must be at least 1"
            for key in ("images", "draws", "probes")
            if getattr(self, key) < 1
        ]
        if self.estimator not in get_args(Estimator):
            problems.append(
                f"method.score.estimator={self.estimator!r} must be one of"
                f" {', '.join(get_args(Estimator))}"
            )
        if problems:
            raise ValueError("\n".join(problems))

    def __call__(
        self,
        model: nn.Module,
        masks: Masks,
        batches: Iterable[Batch],
        loss: LossFn,
        rng: Generator,
        memory: float = inf,
        team: Team = ALONE,
    ) -> Scores:
        """Score every prunable weight; same keys and shapes as `masks`, >= 0.

        The unit is that of the loss. The model is not changed. Labels or signs are drawn from
        `rng`. Images that need more than `memory` bytes together are processed in parts.
        """
        return self.signed(model, masks, batches, loss, rng, memory, team)

    def passes(self, images: int, classes: int) -> int:
        """`pruners.selection.score_pruner.StatesCost`: products, or outputs and gradients."""
        if self.estimator == "hutchinson":
            return PRODUCT * self.probes * min(images, self.images)
        gradients = classes if self.estimator == "ggn" else self.draws
        return (1 + GRADIENT * gradients) * min(images, self.images)

    @property
    def additive(self) -> bool | None:
        """`pruners.selection.parts.Sampled`; each part would need `probes` of its own."""
        return None if self.estimator == "hutchinson" else True

    @property
    def positive(self) -> bool:
        """`pruners.selection.parts.Sampled`: a mean of squares."""
        return True

    def read(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """`pruners.selection.parts.Sampled`."""
        return first(batches, self.images)

    def ranked(self, signed: Scores, masks: Masks) -> Scores:
        """`pruners.selection.parts.Sampled`: the scores themselves."""
        return signed

    def signed(
        self,
        model: nn.Module,
        masks: Masks,
        batches: Iterable[Batch],
        loss: LossFn,
        rng: Generator,
        memory: float = inf,
        team: Team = ALONE,
    ) -> Scores:
        """`pruners.selection.parts.Sampled`: the score."""
        diagonal = self.diagonal(model, masks, batches, loss, rng, memory, team)
        return {
            name: h * model.get_parameter(name).detach() ** 2 / 2 for name, h in diagonal.items()
        }

    def diagonal(
        self,
        model: nn.Module,
        masks: Masks,
        batches: Iterable[Batch],
        loss: LossFn,
        rng: Generator,
        memory: float = inf,
        team: Team = ALONE,
    ) -> Scores:
        """Diagonal h_kk of the curvature; keys and shapes of `masks`, >= 0.

        Raises:
            ValueError: there is no image.
        """
        chosen = list(self.read(batches))
        if not chosen:
            raise ValueError("a curvature needs at least one image: the source is empty")
        if self.estimator == "hutchinson":
            return self._hutchinson(model, masks, chosen, loss, rng, memory, team)
        total = {name: torch.zeros_like(model.get_parameter(name)) for name in masks}
        value = along if self.estimator == "ggn_rademacher" else loss
        with undisturbed(model, "eval"):
            for x, y in chosen:
                own, labels = share(team, (x, y))
                # Random numbers are drawn for the whole batch.
                p = joined(team, _probabilities(model, (own, labels), loss, memory), len(y))
                _check_finite(p)
                size = _images_at_once(model, (own, labels), loss, total, memory)
                for drawn in self._targets(p, rng):
                    add_squares(total, model, own, *share(team, drawn), value, size)
        count = sum(len(y) for _, y in chosen)
        sums = summed(team, list(total.values()))
        return {name: t / count for name, t in zip(total, sums, strict=True)}

    def _targets(self, p: Tensor, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """What each image of a batch is differentiated for, and its weight (B,).

        Labels (B,): draws from the net's softmax `p` (B, C), or every class weighted by its
        probability. Directions of the outputs (B, C): random signs through the factor of the
        softmax's Hessian.
        """
        if self.estimator == "ggn":
            for c, column in enumerate(p.unbind(1)):
                yield torch.full_like(column, c, dtype=torch.long), column
            return
        even = torch.full_like(p[:, 0], 1 / self.draws)
        if self.estimator == "ggn_rademacher":
            for _ in range(self.draws):
                yield factor_product(p, signs(p.numel(), rng, p).view_as(p)), even
            return
        drawn = torch.multinomial(p.cpu(), self.draws, replacement=True, generator=rng)
        for column in drawn.to(p.device).unbind(1):
            yield column, even

    def _hutchinson(
        self,
        model: nn.Module,
        masks: Masks,
        batches: list[Batch],
        loss: LossFn,
        rng: Generator,
        memory: float,
        team: Team,
    ) -> Scores:
        h = HessianOperator(model, masks, batches, loss, HessianOptions(), memory, team=team)
        total = torch.zeros_like(h.point)
        for _ in range(self.probes):
            z = signs(h.dimension, rng, h.point)
            total += z * h.matvec(z) / self.probes
        found = h.split(total.clamp(min=0))
        return {name: found[name] for name in masks}


def first(batches: Iterable[Batch], images: int) -> Iterator[Batch]:
    """Batches up to a total of `images` images; the last batch is cut to fit."""
    left = images
    for x, y in batches:
        yield x[:left], y[:left]
        left -= len(y[:left])
        if not left:
            return


def _probabilities(model: nn.Module, batch: Batch, loss: LossFn, memory: float) -> Tensor:
    """The net's softmax (B, C) for a batch."""
    x, y = batch
    # A forward pass alone takes less than the graph, which is the bound.
    size = at_once(len(y), memory, partial(loss_bytes, model, batch, loss))
    with torch.no_grad():
        parts = torch.split(x, size) if len(x) else (x,)
        return torch.cat([model(images).softmax(1) for images in parts])


def _check_finite(p: Tensor) -> None:
    """Raise `FloatingPointError` if outputs of the net are NaN or infinite."""
    if not p.isfinite().all():
        raise FloatingPointError(
            "the net's outputs are NaN or infinite, so they are no probabilities: its training has"
            " diverged; take a smaller train.lr"
        )


def _images_at_once(
    model: nn.Module, batch: Batch, loss: LossFn, weights: Scores, memory: float
) -> int:
    """Images of a batch whose squared gradients are computed at a time.

    They take the graph, which torch.func builds as autograd does, and each image's gradient and its
    square.
    """
    numbers = max(1, sum(w.numel() for w in weights.values()))
    own = sum(w.numel() * w.element_size() for w in weights.values())

    def taken(images: int) -> int:
        return loss_bytes(model, batch, loss, images) + 2 * images * own

    return at_once(min(len(batch[1]), max(1, AT_ONCE // numbers)), memory, taken)

"""What a component declares about itself in plain numbers and words.

Nothing here needs torch. Commands that compute nothing import this module and not pruners.base,
which offers the same names to components.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

Finding = float | int | str | None
# A finding NAME may have further ones: NAME_se, its standard error; NAME_half, its value with half
# of the work; NAME_change, the error of the iteration; NAME_converged, 1 or 0; NAME_least, its
# lower limit; NAME_of, the only source of error that it covers (docs/records.md).
STANDARD_ERROR, HALF, CHANGE, CONVERGED = "_se", "_half", "_change", "_converged"
LEAST, OF = "_least", "_of"


@runtime_checkable
class Approximate(Protocol):
    """A pruner that declares whether its count is exact. Any other pruner must be exact."""

    @property
    def exact(self) -> bool: ...  # False: reached nearly, or in expectation, so not checked


@runtime_checkable
class Reads(Protocol):
    """A component that reads the findings of certain stages; its stage's `needs` must list them."""

    @property
    def reads(self) -> tuple[str, ...]: ...


@runtime_checkable
class Targeted(Protocol):
    """A pruner that can check, before any work, the density to which a run prunes at last."""

    def check_target(self, density: float) -> None:
        """Raise `ValueError` unless its options allow this density after the last pruning."""


@runtime_checkable
class AddsToGradients(Protocol):
    """A training component that changes gradients in order to move weights.

    Its rule requires an optimizer whose step is linear in the gradient, such as SGD.
    """

    @property
    def adds_to_gradients(self) -> str: ...  # what it adds, for a message


@runtime_checkable
class Optional(Protocol):
    """A measurement beside a run that the run can do without, unless the user asked for it."""

    @property
    def optional(self) -> bool: ...  # a finished run without it is complete

    @property
    def applies(self) -> bool: ...  # False: there is nothing to measure, and its stage is left out


# Costs in forward passes: of a gradient (a backward pass costs two), and of a product with the
# Hessian (the gradient of a gradient).
GRADIENT, PRODUCT = 3, 6
# Training images in an epoch to which a duration in iterations refers, unless the data set or the
# source of the duration has another number: those of CIFAR (docs/decisions.md 9).
PAPER_IMAGES = 50_000


@dataclass(frozen=True)
class Passes:
    """What an image costs, in forward passes (Evci et al., 2020, arXiv:1911.11134, on FLOPs).

    The default is a training step under masks: a forward pass, and a backward pass that costs two.

    Args:
        kept: passes through the kept weights: a layer counts times its density.
        full: passes through all weights, for instance for gradients of pruned weights.
        masks: parameter name -> bool tensor, True = kept, if a masking computes with others than
            its `masks`.
    """

    kept: int = GRADIENT
    full: int = 0
    masks: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Work:
    """Cost of a measurement, for plans only."""

    images: int  # passed through the net, with repetitions
    passes: int  # total cost, in forward passes of one image
    products: int = 0  # Hessian-vector products
    floats: int = 0  # float32 numbers written to the cache


@runtime_checkable
class Foreseen(Protocol):
    """A measurement that can state its cost in advance. Plans list the others as not counted."""

    # sizes of the net, and the number of images in the training set
    def work(self, prunable: int, parameters: int, images: int) -> Work: ...

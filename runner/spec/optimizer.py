"""Optimizers: what changes the weights in a step, and the state that it keeps of each parameter.

An optimizer is a class in this module, a class of torch in runner/engine/optim.py, and a file in
conf/optimizer. Users select it by the name of the file: `train.optimizer=adamw`. Learning rate,
momentum and weight decay are the recipe's.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol


class Optimizer(Protocol):
    """Interface of an optimizer. Implementations are frozen dataclasses with a `tag`.

    `buffers` are the names of what torch keeps of each parameter; `nesterov` is whether it has
    Nesterov momentum; `follows_gradients` is whether a step is linear in the gradient, so that a
    term of a method in the gradient is a term of the step.
    """

    tag: ClassVar[str]
    label: ClassVar[str]  # as papers write it
    buffers: ClassVar[tuple[str, ...]]
    nesterov: ClassVar[bool]
    follows_gradients: ClassVar[bool]

    def tensors(self, momentum: float) -> int:
        """Number of tensors of a parameter's shape that it keeps of it."""
        ...


@dataclass(frozen=True)
class Sgd:
    """SGD with momentum: v = mu v + g + lambda w, w = w - lr v (torch.optim.SGD).

    mu is train.momentum, lambda train.weight_decay.
    """

    tag: ClassVar[str] = "sgd"
    label: ClassVar[str] = "SGD"
    buffers: ClassVar[tuple[str, ...]] = ("momentum_buffer",)
    nesterov: ClassVar[bool] = True
    follows_gradients: ClassVar[bool] = True

    def tensors(self, momentum: float) -> int:
        """`Optimizer.tensors`."""
        return 1 if momentum else 0


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (torch.optim.AdamW).

    Loshchilov and Hutter, arXiv 1711.05101, Algorithm 2: w = w - lr lambda w, then
    w = w - lr m / (sqrt(v) + eps), with m and v the running means of g and g^2 divided by
    1 - beta^t. beta1 is train.momentum, lambda train.weight_decay.

    Args:
        beta2: decay of the mean of g^2, in [0, 1).
        eps: above 0.
    """

    tag: ClassVar[str] = "adamw"
    label: ClassVar[str] = "AdamW"
    beta2: float = 0.999
    eps: float = 1e-8
    buffers: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq", "step")
    nesterov: ClassVar[bool] = False
    follows_gradients: ClassVar[bool] = False

    def __post_init__(self) -> None:
        problems = []
        if not 0 <= self.beta2 < 1:
            problems.append(f"beta2={self.beta2:g} must be in [0, 1): the decay of the mean of g^2")
        if not self.eps > 0:
            problems.append(f"eps={self.eps:g} must be above 0")
        if problems:
            raise ValueError("\n".join(problems))

    def tensors(self, momentum: float) -> int:
        """`Optimizer.tensors`."""
        return 2

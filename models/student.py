"""The student of "Why Lottery Ticket Wins?" (Zhang et al., Eq. 2).

One hidden layer of ReLU neurons without biases; the output is their mean. Records and counts use
this module. Theory experiments solve many masked copies of it at once, in float64 (pruners/theory).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Generator, Tensor, nn

from models.init import check_init, fresh


class _Student(nn.Module):
    def __init__(self, inputs: int, neurons: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, neurons, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.hidden(x.flatten(1))
        return hidden.relu().mean(1, keepdim=True)  # (B, 1)


@dataclass(frozen=True)
class Student:
    """One hidden layer.

    Args:
        name: the model's name in records and messages.
        neurons: K, as many as the teacher has.
        init: see models/init.py.
        resnet: whether sanity-check's ratios for ResNets apply (allocate=smart_ratio).
    """

    tag: ClassVar[str] = "student"
    name: str
    neurons: int = 5
    init: str = "fan_in"
    resnet: Literal[False] = False
    smallest: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.neurons < 1:
            raise ValueError(f"model.neurons={self.neurons} must be at least 1")
        check_init(self.init)

    def __call__(self, channels: int, classes: int, size: int, rng: Generator) -> nn.Module:
        """Build the network for `channels` x `size` x `size` inputs.

        It is on the CPU, in float32. All weights are drawn from `rng`. The output is one number, so
        `classes` must be 1.

        Raises:
            ValueError: `classes` is not 1.
        """
        if classes != 1:
            raise ValueError(
                f"model={self.name} has one output, not {classes} classes: it requires"
                " dataset=gaussian_teacher"
            )
        return fresh(lambda: _Student(channels * size * size, self.neurons), self.init, rng)

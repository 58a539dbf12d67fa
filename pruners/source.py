"""What data a score sees: the option group `source`. A source is `(task) -> batches`; every call gives the same batches."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from pruners.base import Batch, Task


@dataclass(frozen=True)
class Train:
    """Training images and their labels, shuffled once, not augmented.

    Args:
        batch_size: Default 256 (sketching paper, Sec. 8); snip-public has 100 on MNIST and 128 on CIFAR.
    """

    batch_size: int = 256

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ValueError(f"source.batch_size={self.batch_size} must be at least 2: BatchNorm needs two examples")

    def __call__(self, task: Task) -> Iterable[Batch]:
        """A pass over the training set."""
        return task.batches(self.batch_size)


@dataclass(frozen=True)
class Ones:
    """One image of ones, with label 0: what SynFlow sees."""

    def __call__(self, task: Task) -> Iterable[Batch]:
        """One batch: inputs (1, C, H, W), labels (1,)."""
        return [(torch.ones(1, *task.image), torch.zeros(1, dtype=torch.int64))]

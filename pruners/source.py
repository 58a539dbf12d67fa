"""What data a score sees: the option group `source`. A source is `(task) -> batches`; every call gives the same batches."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

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


@dataclass(frozen=True)
class Balanced:
    """Training images with as many of each class in every batch, in the order of the shuffled pass, not augmented.

    Args:
        per_class: images of each class in a batch. Default 10: GraSP's on CIFAR (5 on CIFAR-100 with ResNet-32, 1 on Tiny-ImageNet; methods/grasp.md).
    """

    per_class: int = 10

    def __post_init__(self) -> None:
        if self.per_class < 1:
            raise ValueError(f"source.per_class={self.per_class} must be at least 1: images of each class in a batch")

    def __call__(self, task: Task) -> Iterator[Batch]:
        """Batches of per_class * classes images until a class runs out.

        Raises:
            ValueError: the training set cannot fill one batch.
        """
        images, labels = None, torch.empty(0, dtype=torch.int64)
        given = 0
        for x, y in task.batches(self.per_class * task.classes):
            images, labels = (x, y) if images is None else (torch.cat([images, x]), torch.cat([labels, y]))
            while (chosen := self._first_of_each(labels, task.classes)) is not None:
                yield images[chosen], labels[chosen]
                given += 1
                images, labels = images[~chosen], labels[~chosen]
        if not given:
            counts = torch.bincount(labels, minlength=task.classes)
            rarest = int(counts.argmin())
            there = f"class {rarest} has {int(counts[rarest])} training images"
            raise ValueError(f"source.per_class={self.per_class}: {there}; take fewer per class, or source=train")

    def _first_of_each(self, labels: Tensor, classes: int) -> Tensor | None:
        """Bool (n,): the first per_class of every class among `labels` (n,); None where a class has fewer."""
        so_far = F.one_hot(labels, classes).cumsum(dim=0)  # (n, classes)
        if not len(labels) or int(so_far[-1].min()) < self.per_class:
            return None
        return so_far.gather(1, labels[:, None]).squeeze(1) <= self.per_class

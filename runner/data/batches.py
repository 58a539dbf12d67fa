"""Batches made on the device: seeded order, then augmentation and normalisation of each batch.

Iteration resumes at any step with bitwise identical batches. Random numbers come from streams named
after epoch and step, so these two numbers are the whole state. One of several readers yields its
part of every batch (runner/data/shard.py): order and augmentation are drawn for the whole batch,
and only the own part is read, decoded and augmented.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from runner.data.base import Images
from runner.data.shard import WHOLE, Shard
from runner.errors import one_of
from runner.spec.rng import stream

Batch = tuple[Tensor, Tensor]  # float32 channels_last (B, C, H, W), int64 (B,)


class TrainingBatches(Protocol):
    """The batches that a stage trains on."""

    @property
    def steps_per_epoch(self) -> int: ...

    def images(self, step: int) -> int: ...  # of the whole batch of a step, by all readers

    # the batches of one epoch from a step on, or this reader's part of each
    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]: ...


@dataclass(frozen=True, eq=False)
class Batches:
    """The training batches of one stage, from a set of images."""

    split: Images  # on the device of the batches
    mean: Tensor  # (C,), of pixels in [0, 1]; on that device
    std: Tensor  # (C,)
    scale: float
    batch_size: int
    augment: str  # one of the split's `augments`
    seed: int
    stage: str
    shard: Shard = WHOLE

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"train.batch_size={self.batch_size} must be at least 1")
        if self.augment not in self.split.augments:
            raise ValueError(one_of("dataset.augment", self.augment, self.split.augments))

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch; the last one may be smaller than the others."""
        return -(-len(self.split) // self.batch_size)

    def images(self, step: int) -> int:
        """Number of images in the whole batch of a step of the epoch."""
        return min(self.batch_size, len(self.split) - step * self.batch_size)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Return the batches of one epoch from `first_step` on.

        They equal those of a pass from the beginning of the epoch.
        """
        _check_step(first_step, self.steps_per_epoch)
        return self._epoch(epoch, first_step)

    def _epoch(self, epoch: int, first_step: int) -> Iterator[Batch]:
        order = shuffled(self.split, stream(self.seed, self.stage, f"order/{epoch}"))
        wanted = (
            (self.shard.of(indices), self._draws(epoch, step, len(indices)))
            for step, indices in enumerate(torch.split(order, self.batch_size))
            if step >= first_step
        )
        for images, labels in self.split.read(wanted, self.augment):
            yield normalised(images, self.mean, self.std, self.scale), labels

    def _draws(self, epoch: int, step: int, images: int) -> Tensor | None:
        """The random numbers that augment this reader's images of a step; None without any.

        Args:
            images: in the whole batch.
        """
        if self.augment == "none":
            return None
        rng = stream(self.seed, self.stage, f"augment/{epoch}/{step}")
        return self.shard.of(self.split.draws(images, rng))


@dataclass(frozen=True, eq=False)
class FreshBatches:
    """Training batches of one stage that are drawn anew in every step.

    They are as many and as large as those of a set of `total` images. Every reader draws the whole
    batch, since its random numbers belong together, and keeps its part.

    Args:
        draw: (number of images, generator) -> a batch of normalised images and their labels.
    """

    draw: Callable[[int, Generator], Batch]
    device: torch.device
    total: int
    batch_size: int
    seed: int
    stage: str
    shard: Shard = WHOLE

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch; the last one may be smaller than the others."""
        return -(-self.total // self.batch_size)

    def images(self, step: int) -> int:
        """Number of images in the whole batch of a step of the epoch."""
        return min(self.batch_size, self.total - step * self.batch_size)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Return the batches of one epoch from `first_step` on, as `Batches.epoch`."""
        _check_step(first_step, self.steps_per_epoch)
        return (self._batch(epoch, step) for step in range(first_step, self.steps_per_epoch))

    def _batch(self, epoch: int, step: int) -> Batch:
        rng = stream(self.seed, self.stage, f"noise/{epoch}/{step}")
        x, y = (self.shard.of(t) for t in self.draw(self.images(step), rng))
        # non_blocking: the host does not wait for the steps before this one
        x = x.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        return x, y.to(self.device, non_blocking=True)


def _check_step(first_step: int, steps: int) -> None:
    if not 0 <= first_step <= steps:
        raise ValueError(
            f"first_step={first_step} must be from 0 to {steps}, the steps of an epoch"
        )


def evaluation_batches(
    split: Images,
    mean: Tensor,
    std: Tensor,
    scale: float,
    batch_size: int,
    shard: Shard = WHOLE,
) -> Iterator[Batch]:
    """Yield the whole split in its own order, not augmented; of each batch, the shard's part."""
    order = torch.arange(len(split), device=split.labels.device)
    return _in_order(split, order, mean, std, scale, batch_size, shard)


def scoring_pass(
    split: Images, mean: Tensor, std: Tensor, scale: float, batch_size: int, seed: int, stage: str
) -> Iterator[Batch]:
    """Yield a shuffled pass without augmentation, for scores and measurements.

    Equal arguments give equal passes, whatever was drawn before.
    """
    order = shuffled(split, stream(seed, stage, "scoring"))
    return _in_order(split, order, mean, std, scale, batch_size)


def _in_order(
    split: Images,
    order: Tensor,
    mean: Tensor,
    std: Tensor,
    scale: float,
    batch_size: int,
    shard: Shard = WHOLE,
) -> Iterator[Batch]:
    """Yield the images at the indices `order` (M,), not augmented."""
    wanted = ((shard.of(indices), None) for indices in torch.split(order, batch_size))
    for images, labels in split.read(wanted, "none"):
        yield normalised(images, mean, std, scale), labels


def shuffled(split: Images, rng: Generator) -> Tensor:
    """Return a permutation (N,) on the device of the split's labels.

    It is drawn on the CPU, so that the order is the same for every device.
    """
    return torch.randperm(len(split), generator=rng).to(split.labels.device, non_blocking=True)


def normalised(images: Tensor, mean: Tensor, std: Tensor, scale: float) -> Tensor:
    """Return (images / scale - mean) / std per channel, float32, channels_last.

    Computed as one multiplication and one addition.
    """
    factor, offset = 1 / (scale * std), -mean / std  # (C,)
    x = images.to(torch.float32, memory_format=torch.channels_last)
    return x.mul_(factor[:, None, None]).add_(offset[:, None, None])

"""Batches made on the device: seeded order, then augmentation and normalisation of each batch.

Iteration resumes at any step with bitwise identical batches. Random numbers come from streams named
after epoch and step, so these two numbers are the whole state.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from runner.data.base import Images
from runner.errors import one_of
from runner.spec.rng import stream

Batch = tuple[Tensor, Tensor]  # float32 channels_last (B, C, H, W), int64 (B,)


@dataclass(frozen=True, eq=False)
class Batches:
    """The training batches of one stage."""

    split: Images  # on the device of the batches
    mean: Tensor  # (C,), of pixels in [0, 1]; on that device
    std: Tensor  # (C,)
    scale: float
    batch_size: int
    augment: str  # one of the split's `augments`
    seed: int
    stage: str

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"train.batch_size={self.batch_size} must be at least 1")
        if self.augment not in self.split.augments:
            raise ValueError(one_of("dataset.augment", self.augment, self.split.augments))

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch; the last one may be smaller than the others."""
        return -(-len(self.split) // self.batch_size)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Return the batches of one epoch from `first_step` on.

        They equal those of a pass from the beginning of the epoch.
        """
        if not 0 <= first_step <= self.steps_per_epoch:
            raise ValueError(
                f"first_step={first_step} must be from 0 to {self.steps_per_epoch}, the steps of an"
                " epoch"
            )
        return self._epoch(epoch, first_step)

    def _epoch(self, epoch: int, first_step: int) -> Iterator[Batch]:
        order = shuffled(self.split, stream(self.seed, self.stage, f"order/{epoch}"))
        wanted = (
            (order[step * self.batch_size : (step + 1) * self.batch_size], self._draws(epoch, step))
            for step in range(first_step, self.steps_per_epoch)
        )
        for images, labels in self.split.read(wanted, self.augment):
            yield normalised(images, self.mean, self.std, self.scale), labels

    def _draws(self, epoch: int, step: int) -> Generator | None:
        """The generator that augments the images of a step; None without augmentation."""
        if self.augment == "none":
            return None
        return stream(self.seed, self.stage, f"augment/{epoch}/{step}")


def evaluation_batches(
    split: Images, mean: Tensor, std: Tensor, scale: float, batch_size: int
) -> Iterator[Batch]:
    """Yield the whole split in its own order, not augmented."""
    order = torch.arange(len(split), device=split.labels.device)
    return _in_order(split, order, mean, std, scale, batch_size)


def scoring_pass(
    split: Images, mean: Tensor, std: Tensor, scale: float, batch_size: int, seed: int, stage: str
) -> Iterator[Batch]:
    """Yield a shuffled pass without augmentation, for scores and measurements.

    Equal arguments give equal passes, whatever was drawn before.
    """
    order = shuffled(split, stream(seed, stage, "scoring"))
    return _in_order(split, order, mean, std, scale, batch_size)


def _in_order(
    split: Images, order: Tensor, mean: Tensor, std: Tensor, scale: float, batch_size: int
) -> Iterator[Batch]:
    """Yield the images at the indices `order` (M,), not augmented."""
    wanted = ((indices, None) for indices in torch.split(order, batch_size))
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

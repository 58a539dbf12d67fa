"""Batches made on the device: seeded order, augmentation and normalisation by the batch, resumable at any step to the bit.

Whatever is random in a step comes from a stream of its own, named after epoch and step, so a position needs no state but its two numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from runner.data.base import Split
from runner.data.prepare import AUGMENTS
from runner.errors import one_of
from runner.rng import stream

Batch = tuple[Tensor, Tensor]  # float32 channels_last (B, C, H, W), int64 (B,)
MARGIN = 4  # zeros around an image before it is cropped


@dataclass(frozen=True, eq=False)
class Batches:
    """The training batches of one stage."""

    split: Split  # on the device where the batches are wanted
    mean: Tensor  # (C,), of pixels in [0, 1]; on that device
    std: Tensor  # (C,)
    scale: float
    batch_size: int
    augment: str  # none | crop_flip
    seed: int
    stage: str

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"train.batch_size={self.batch_size} must be at least 1")
        if self.augment not in AUGMENTS:
            raise ValueError(one_of("dataset.augment", self.augment, AUGMENTS))

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; the last may be smaller than the others."""
        return -(-len(self.split) // self.batch_size)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from `first_step` on: the same ones that a pass from its beginning reaches there."""
        if not 0 <= first_step <= self.steps_per_epoch:
            raise ValueError(f"first_step={first_step} must be from 0 to {self.steps_per_epoch}, the steps of an epoch")
        return self._epoch(epoch, first_step)

    def _epoch(self, epoch: int, first_step: int) -> Iterator[Batch]:
        order = shuffled(self.split, stream(self.seed, self.stage, f"order/{epoch}"))
        for step in range(first_step, self.steps_per_epoch):
            part = self.split.take(order[step * self.batch_size : (step + 1) * self.batch_size])
            images = part.images
            if self.augment == "crop_flip":
                images = crop_flip(images, stream(self.seed, self.stage, f"augment/{epoch}/{step}"))
            yield normalised(images, self.mean, self.std, self.scale), part.labels


def evaluation_batches(split: Split, mean: Tensor, std: Tensor, scale: float, batch_size: int) -> Iterator[Batch]:
    """The whole split in its own order, not augmented."""
    for start in range(0, len(split), batch_size):
        yield normalised(split.images[start : start + batch_size], mean, std, scale), split.labels[start : start + batch_size]


def scoring_pass(split: Split, mean: Tensor, std: Tensor, scale: float, batch_size: int, seed: int, stage: str) -> Iterator[Batch]:
    """A shuffled pass, not augmented, for scores and measurements: the same arguments give the same pass, whatever was drawn before."""
    return _in_order(split, shuffled(split, stream(seed, stage, "scoring")), mean, std, scale, batch_size)


def _in_order(split: Split, order: Tensor, mean: Tensor, std: Tensor, scale: float, batch_size: int) -> Iterator[Batch]:
    """The images at the places `order` (M,), not augmented."""
    for places in order.split(batch_size):
        part = split.take(places)
        yield normalised(part.images, mean, std, scale), part.labels


def shuffled(split: Split, rng: Generator) -> Tensor:
    """A permutation (N,) on the split's device. Drawn on the CPU, so that every device sees the same order."""
    return torch.randperm(len(split), generator=rng).to(split.labels.device)


def crop_flip(images: Tensor, rng: Generator) -> Tensor:
    """Each image (B, C, H, W), padded by 4 zeros, cropped back to H x W at one of 81 offsets, then mirrored with probability 1/2; channels_last."""
    count, channels, height, width = images.shape
    device = images.device
    top, left = torch.randint(2 * MARGIN + 1, (2, count, 1), generator=rng).to(device)  # (B, 1) each
    mirrored = torch.randint(2, (count, 1), generator=rng).bool().to(device)
    rows = top + torch.arange(height, device=device)  # (B, H), places in the padded image
    across = torch.arange(width, device=device)
    columns = left + torch.where(mirrored, across.flip(0), across)  # (B, W)
    padded = F.pad(images, (MARGIN,) * 4).permute(0, 2, 3, 1)  # (B, H + 8, W + 8, C)
    image = torch.arange(count, device=device)[:, None, None]
    places = (image * padded.shape[1] + rows[:, :, None]) * padded.shape[2] + columns[:, None, :]  # (B, H, W)
    # One index_select of whole pixels: faster than two gathers, and its result is channels_last already.
    return padded.reshape(-1, channels).index_select(0, places.flatten()).view(count, height, width, channels).permute(0, 3, 1, 2)


def normalised(images: Tensor, mean: Tensor, std: Tensor, scale: float) -> Tensor:
    """(images / scale - mean) / std per channel, float32, channels_last; as one multiplication and one addition."""
    factor, offset = 1 / (scale * std), -mean / std  # (C,)
    x = images.to(torch.float32, memory_format=torch.channels_last)
    return x.mul_(factor[:, None, None]).add_(offset[:, None, None])

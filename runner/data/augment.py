"""Augmentation as pure functions of images or image sizes and of random numbers passed in."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

# crop_flip: random crop of the image padded by 4 zeros on each side, then a horizontal flip with
# probability 1/2.
AUGMENTS = ("none", "crop_flip")
MARGIN = 4  # zeros around an image before it is cropped
ATTEMPTS = 10  # random boxes that `box` tries before it returns the central one
# Uniform numbers per image: area and ratio of each attempt, position of the box (2), flip (1).
DRAWS = 2 * ATTEMPTS + 3


def crop_draws(count: int, rng: Generator) -> Tensor:
    """Draw top, left (0 to 8) and mirror (0 or 1) for each of `count` images: int64 (count, 3)."""
    offsets = torch.randint(2 * MARGIN + 1, (2, count, 1), generator=rng)
    flips = torch.randint(2, (count, 1), generator=rng)
    return torch.cat([*offsets, flips], dim=1)


def crop_flip(images: Tensor, draws: Tensor) -> Tensor:
    """Return cropped and mirrored images (B, C, H, W), channels_last.

    Each image is padded by 4 zeros on each side, cropped back to H x W at one of 81 offsets, and
    mirrored or not.

    Args:
        draws: those of `crop_draws`, int64 (B, 3).
    """
    count, channels, height, width = images.shape
    device = images.device
    # non_blocking: the host does not wait for the steps before this one
    top, left, mirrored = torch.split(draws.to(device, non_blocking=True), 1, dim=1)  # (B, 1)
    rows = top + torch.arange(height, device=device)  # (B, H), rows of the padded image
    across = torch.arange(width, device=device)
    columns = left + torch.where(mirrored.bool(), across.flip(0), across)  # (B, W)
    padded = F.pad(images, (MARGIN,) * 4).permute(0, 2, 3, 1)  # (B, H + 8, W + 8, C)
    image = torch.arange(count, device=device)[:, None, None]
    # Flat pixel indices (B, H, W).
    places = (image * padded.shape[1] + rows[:, :, None]) * padded.shape[2] + columns[:, None, :]
    # One index_select of whole pixels is faster than two gathers and returns channels_last.
    return (
        padded.reshape(-1, channels)
        .index_select(0, places.flatten())
        .view(count, height, width, channels)
        .permute(0, 3, 1, 2)
    )


@dataclass(frozen=True)
class ResizedCrop:
    """A random box scaled to the network's input size, then a horizontal flip with probability 1/2.

    The box has random area and aspect ratio (Szegedy et al., 2015, section 6).

    Args:
        area: smallest and largest share of the image's area.
        ratio: smallest and largest width / height; its logarithm is uniform.
    """

    area: tuple[float, float]
    ratio: tuple[float, float]

    def box(self, width: int, height: int, draws: Tensor) -> tuple[int, int, int, int]:
        """Return left, top, width and height of the box.

        The box is the first of ten random ones that fits the image, otherwise the largest central
        one that `ratio` allows.

        Args:
            draws: uniform numbers in [0, 1), float64 (DRAWS,). The last one is for `flips`.
        """
        u: list[float] = draws.tolist()
        low, high = (math.log(r) for r in self.ratio)
        for i in range(ATTEMPTS):
            area = width * height * (self.area[0] + u[2 * i] * (self.area[1] - self.area[0]))
            ratio = math.exp(low + u[2 * i + 1] * (high - low))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return int(u[-3] * (width - w + 1)), int(u[-2] * (height - h + 1)), w, h
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
        return (width - w) // 2, (height - h) // 2, w, h

    def flips(self, draws: Tensor) -> bool:
        """Whether the image is mirrored."""
        return float(draws[-1]) < 0.5

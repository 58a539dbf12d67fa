"""Augmentation as pure functions of images or sizes and of random numbers that come in as arguments."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

AUGMENTS = ("none", "crop_flip")  # crop_flip: random crop of the image padded by 4 zeros on each side, then a horizontal flip with probability 1/2
MARGIN = 4  # zeros around an image before it is cropped
ATTEMPTS = 10  # random boxes that `box` tries before it takes the middle
DRAWS = 2 * ATTEMPTS + 3  # uniform numbers that one image takes: area and ratio of each attempt, the place of the box, and the flip


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


@dataclass(frozen=True)
class ResizedCrop:
    """A box of random area and aspect ratio, scaled to the net's size, then a horizontal flip with probability 1/2 (Szegedy et al., 2015, section 6).

    Args:
        area: smallest and largest share of the image.
        ratio: smallest and largest width / height; its logarithm is uniform.
    """

    area: tuple[float, float]
    ratio: tuple[float, float]

    def box(self, width: int, height: int, draws: Tensor) -> tuple[int, int, int, int]:
        """Left, top, width and height of the box: the first of ten random ones that fits the image, else the largest in the middle that the ratios allow.

        Args:
            draws: uniform numbers in [0, 1), float64 (DRAWS,). The last is not used here: it is the flip's.
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

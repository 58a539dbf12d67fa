"""Image files that worker processes decode, crop and scale when a batch needs them.

For data sets that do not fit in memory. Random numbers are drawn in the main process, one row of
uniform numbers per image, so results do not depend on the number of workers or on which one decodes
an image. Batches go to the workers in pieces. With whole batches, most workers would be idle before
the first step and decode images for nothing after the last.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from runner.data.augment import DRAWS, ResizedCrop
from runner.data.base import DataError, Device, Wanted
from runner.data.image_files import as_tensor, rgb

CROPS = {
    # Szegedy et al., torchvision's default, GraSP
    "resized_crop": ResizedCrop(area=(0.08, 1.0), ratio=(3 / 4, 4 / 3)),
    # facebookresearch/open_lth
    "resized_crop_open_lth": ResizedCrop(area=(0.1, 1.0), ratio=(0.8, 1.25)),
}
# Scaled size / crop size of an image that is not augmented; the crop is central.
MARGIN = 256 / 224
PIECE = 32  # images that a worker decodes at a time
Piece = tuple[Tensor, Tensor | None]  # indices (P,) and random numbers for augmentation (P, DRAWS)


@dataclass(frozen=True, eq=False)
class Files:
    """One part of a data set as image files."""

    folder: Path
    # bytes (N,): paths inside `folder`. One array, since workers would copy a million strings page
    # by page.
    names: np.ndarray
    labels: Tensor  # int64 (N,), always on the CPU
    size: int  # height and width of the decoded images
    device: Device = "cpu"
    workers: int = 0  # processes that decode; 0 = the main process
    augments: ClassVar[tuple[str, ...]] = ("none", *CROPS)

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: Device, workers: int = 0) -> "Files":
        """Return the same files, decoded by `workers` processes and delivered on `device`."""
        return replace(self, device=device, workers=workers)

    def take(self, indices: Tensor) -> "Files":
        """Return the files at the given indices, in the given order."""
        return replace(self, names=self.names[indices.numpy()], labels=self.labels[indices])

    def read(self, wanted: Wanted, augment: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the requested batches.

        With a generator, each image is augmented by the crop named `augment`; without one, it is
        scaled and cropped centrally.

        Raises:
            DataError: a file is missing or damaged.
        """
        ahead: deque[Tensor] = deque()  # indices of the batches that workers have started
        loader = DataLoader(
            _Decoder(self, augment),
            batch_size=None,
            sampler=_pieces(wanted, ahead),
            num_workers=self.workers,
            pin_memory=torch.device(self.device).type == "cuda",  # so that copies overlap with work
            generator=Generator(),  # else every pass would draw from torch's global generator
        )
        done: list[Tensor] = []
        for piece in loader:
            if isinstance(piece, str):
                raise DataError(piece)
            done.append(piece.to(self.device, non_blocking=True))
            if sum(map(len, done)) == len(ahead[0]):
                labels = self.labels[ahead.popleft()].to(self.device, non_blocking=True)
                yield torch.cat(done), labels
                done = []


def _pieces(wanted: Wanted, ahead: "deque[Tensor]") -> Iterator[Piece]:
    """Yield the pieces for the workers in order; append the indices of each batch to `ahead`."""
    for indices, rng in wanted:
        ahead.append(indices)
        parts = torch.split(indices, PIECE)
        if rng is None:
            yield from ((part, None) for part in parts)
        else:
            draws = torch.rand(len(indices), DRAWS, generator=rng, dtype=torch.float64)
            yield from zip(parts, torch.split(draws, PIECE), strict=True)


class _Decoder(Dataset[Tensor | str]):
    """Decodes a piece in a worker.

    A damaged file is returned as text: torch would wrap an exception in the worker's traceback.
    """

    def __init__(self, files: Files, augment: str) -> None:
        self.files, self.crop = files, CROPS.get(augment)

    def __getitem__(self, piece: Piece) -> Tensor | str:
        indices, draws = piece
        try:
            rows = [None] * len(indices) if draws is None else draws.unbind()
            images = [self._image(int(i), row) for i, row in zip(indices, rows, strict=True)]
            return torch.stack(images)
        except DataError as error:
            return error.problem

    def _image(self, index: int, draws: Tensor | None) -> Tensor:
        image = rgb(self.files.folder / self.files.names[index].decode())
        size = self.files.size
        if draws is None or self.crop is None:
            return as_tensor(middle(image, round(size * MARGIN), size))
        return as_tensor(randomly_cropped(image, size, self.crop, draws))


def randomly_cropped(
    image: Image.Image, size: int, crop: ResizedCrop, draws: Tensor
) -> Image.Image:
    """Crop a random box, scale it to `size` x `size` (bilinear), and mirror it or not.

    `draws` are uniform numbers (DRAWS,).
    """
    left, top, width, height = crop.box(image.width, image.height, draws)
    scaled = image.crop((left, top, left + width, top + height)).resize(
        (size, size), Image.Resampling.BILINEAR
    )
    return scaled.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if crop.flips(draws) else scaled


def middle(image: Image.Image, short: int, size: int) -> Image.Image:
    """Scale an image (bilinear) and return its central `size` x `size` pixels.

    The shorter side of the scaled image is `short`, which is at least `size`.
    """
    width, height = (short * side // min(image.size) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.resize((width, height), Image.Resampling.BILINEAR).crop(
        (left, top, left + size, top + size)
    )

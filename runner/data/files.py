"""Images that stay files, for data sets that do not fit in memory: decoded, cropped and scaled when a batch needs them, by worker processes.

What is random is drawn in the main process, a row of uniform numbers for every image, so that nothing depends on which worker decodes it or how many there are.
Batches go to the workers in pieces: whole ones would leave most workers idle before the first step, and be decoded for nothing after the last.
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
from runner.data.decoded import as_tensor, rgb

CROPS = {
    "resized_crop": ResizedCrop(area=(0.08, 1.0), ratio=(3 / 4, 4 / 3)),  # Szegedy et al., torchvision's default, GraSP
    "resized_crop_open_lth": ResizedCrop(area=(0.1, 1.0), ratio=(0.8, 1.25)),  # facebookresearch/open_lth
}
FORMATS = ("JPEG", "PNG")  # one training image of ILSVRC-2012 is a PNG under a JPEG's name
MARGIN = 256 / 224  # an image that is not augmented is scaled to this much more than the crop in its middle
PIECE = 32  # images that a worker decodes at a time
Piece = tuple[Tensor, Tensor | None]  # places (P,) and what augments them (P, DRAWS)


@dataclass(frozen=True, eq=False)
class Files:
    """One part of a data set as image files."""

    folder: Path
    names: np.ndarray  # bytes (N,): paths inside `folder`; one array, since workers would copy a million strings page by page
    labels: Tensor  # int64 (N,), on the CPU wherever the images go
    size: int  # height and width of the decoded images
    device: Device = "cpu"
    workers: int = 0  # processes that decode; 0 = this one
    augments: ClassVar[tuple[str, ...]] = ("none", *CROPS)

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: Device, workers: int = 0) -> "Files":
        """The same files, their images decoded by `workers` and delivered on another device."""
        return replace(self, device=device, workers=workers)

    def take(self, indices: Tensor) -> "Files":
        """The files at the given places, in the given order."""
        return replace(self, names=self.names[indices.numpy()], labels=self.labels[indices])

    def read(self, wanted: Wanted, augment: str) -> Iterator[tuple[Tensor, Tensor]]:
        """The wanted batches: with a generator each image by the crop named `augment`, without one by the crop in the middle.

        Raises:
            DataError: a file is missing or damaged.
        """
        ahead: deque[Tensor] = deque()  # places of the batches that workers have begun
        loader = DataLoader(
            _Decoder(self, augment),
            batch_size=None,
            sampler=_pieces(wanted, ahead),
            num_workers=self.workers,
            generator=Generator(),  # else torch's global generator would be drawn from, once for every pass
        )
        done: list[Tensor] = []
        for piece in loader:
            if isinstance(piece, str):
                raise DataError(piece)
            done.append(piece.to(self.device))
            if sum(map(len, done)) == len(ahead[0]):
                yield torch.cat(done), self.labels[ahead.popleft()].to(self.device)
                done = []


def _pieces(wanted: Wanted, ahead: "deque[Tensor]") -> Iterator[Piece]:
    """What workers are asked for, in order."""
    for places, rng in wanted:
        ahead.append(places)
        parts = places.split(PIECE)
        if rng is None:
            yield from ((part, None) for part in parts)
        else:
            yield from zip(parts, torch.rand(len(places), DRAWS, generator=rng, dtype=torch.float64).split(PIECE), strict=True)


class _Decoder(Dataset[Tensor | str]):
    """What a worker does with a piece. A damaged file comes back as text: torch would wrap an exception in the worker's traceback."""

    def __init__(self, files: Files, augment: str) -> None:
        self.files, self.crop = files, CROPS.get(augment)

    def __getitem__(self, piece: Piece) -> Tensor | str:
        places, draws = piece
        try:
            return torch.stack([self._image(int(place), None if draws is None else draws[i]) for i, place in enumerate(places)])
        except DataError as error:
            return error.problem

    def _image(self, place: int, draws: Tensor | None) -> Tensor:
        image = rgb(self.files.folder / self.files.names[place].decode(), FORMATS)
        size = self.files.size
        if draws is None or self.crop is None:
            return as_tensor(middle(image, round(size * MARGIN), size))
        return as_tensor(randomly_cropped(image, size, self.crop, draws))


def randomly_cropped(image: Image.Image, size: int, crop: ResizedCrop, draws: Tensor) -> Image.Image:
    """A random box of the image, scaled to `size` x `size` (bilinear), mirrored or not; `draws` are uniform numbers (DRAWS,)."""
    left, top, width, height = crop.box(image.width, image.height, draws)
    scaled = image.crop((left, top, left + width, top + height)).resize((size, size), Image.Resampling.BILINEAR)
    return scaled.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if crop.flips(draws) else scaled


def middle(image: Image.Image, short: int, size: int) -> Image.Image:
    """The image scaled (bilinear) until its shorter side is `short`, then `size` x `size` pixels (no more than `short`) from its middle."""
    width, height = (short * side // min(image.size) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))

"""Image files that threads decode, crop and scale when a batch needs them.

For data sets that do not fit in memory. Random numbers are drawn before, one row of uniform numbers
for each image, so results do not depend on the number of threads or on which one decodes an image.
Batches are decoded in pieces, a bounded number of them ahead of the batch that is asked for.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Generator, Tensor

from runner.data.augment import DRAWS, ResizedCrop
from runner.data.base import Device, Wanted
from runner.data.decoders import decoders
from runner.data.jpeg import central, decoded, randomly_cropped

CROPS = {
    # Szegedy et al., torchvision's default, GraSP
    "resized_crop": ResizedCrop(area=(0.08, 1.0), ratio=(3 / 4, 4 / 3)),
    # facebookresearch/open_lth
    "resized_crop_open_lth": ResizedCrop(area=(0.1, 1.0), ratio=(0.8, 1.25)),
}
# Scaled size / crop size of an image that is not augmented; the crop is central.
MARGIN = 256 / 224
PIECE = 8  # images that a thread decodes at a time
AHEAD = 2  # batches, and pieces for each thread, that are decoded before they are asked for


@dataclass(frozen=True, eq=False)
class Files:
    """One part of a data set as image files."""

    folder: Path
    # bytes (N,): paths inside `folder`. One array takes a tenth of the memory of a list.
    names: np.ndarray
    labels: Tensor  # int64 (N,), always on the CPU
    size: int  # height and width of the decoded images
    device: Device = "cpu"
    workers: int = 0  # threads that decode; 0 = the caller's
    augments: ClassVar[tuple[str, ...]] = ("none", *CROPS)

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: Device, workers: int = 0) -> "Files":
        """Return the same files, decoded by `workers` threads and delivered on `device`."""
        return replace(self, device=device, workers=workers)

    def take(self, indices: Tensor) -> "Files":
        """Return the files at the given indices, in the given order."""
        return replace(self, names=self.names[indices.numpy()], labels=self.labels[indices])

    def draws(self, count: int, rng: Generator) -> Tensor:
        """Draw the random numbers that augment `count` images: uniform, float64 (count, DRAWS)."""
        return torch.rand(count, DRAWS, generator=rng, dtype=torch.float64)

    def read(self, wanted: Wanted, augment: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the requested batches.

        With random numbers, each image is augmented by the crop named `augment`; without, it is
        scaled and cropped centrally.

        Raises:
            DataError: a file is missing or damaged.
        """
        started: deque[_Started] = deque()
        enough = AHEAD * PIECE * self.workers
        try:
            for indices, draws in wanted:
                started.append(self._start(indices, draws, CROPS.get(augment)))
                while self._ahead(started, enough):
                    yield self._delivered(started.popleft())
            while started:
                yield self._delivered(started.popleft())
        finally:
            for batch in started:
                for piece in batch.pieces:
                    piece.cancel()

    def _ahead(self, started: "deque[_Started]", enough: int) -> bool:
        """Whether enough batches are started after the first one."""
        if not self.workers:
            return bool(started)
        later = sum(len(batch.indices) for batch in started) - len(started[0].indices)
        return len(started) > AHEAD and later >= enough

    def _start(self, indices: Tensor, draws: Tensor | None, crop: ResizedCrop | None) -> "_Started":
        """Decode a batch, or have it decoded."""
        images = torch.empty(
            (len(indices), 3, self.size, self.size),
            dtype=torch.uint8,
            memory_format=torch.channels_last,
            pin_memory=self._on_cuda,
        )

        def decode(first: int) -> None:
            for i in range(first, min(first + PIECE, len(indices))):
                path = self.folder / self.names[places[i]].decode()
                images[i] = self._image(path, None if draws is None else draws[i], crop)

        places = indices.tolist()
        firsts = range(0, len(indices), PIECE)
        if self.workers:
            pieces = [decoders(self.workers).submit(decode, first) for first in firsts]
            return _Started(indices, images, pieces)
        for first in firsts:
            decode(first)
        return _Started(indices, images, [])

    def _image(self, path: Path, draws: Tensor | None, crop: ResizedCrop | None) -> Tensor:
        image = decoded(path)
        if draws is None or crop is None:
            return central(image, round(self.size * MARGIN), self.size)
        return randomly_cropped(image, self.size, crop, draws)

    @property
    def _on_cuda(self) -> bool:
        return torch.device(self.device).type == "cuda"

    def _delivered(self, batch: "_Started") -> tuple[Tensor, Tensor]:
        """The images and labels of a batch on the device, once all its pieces are decoded.

        On CUDA they are copied from pinned memory on a stream of its own, beside the computation.
        """
        for piece in batch.pieces:
            piece.result()
        labels = self.labels[batch.indices.cpu()]
        if not self._on_cuda:
            return batch.images.to(self.device), labels.to(self.device)
        copies, present = _copies(self.device), torch.cuda.current_stream(self.device)
        with torch.cuda.stream(copies):
            sent = [
                each.to(self.device, non_blocking=True)
                for each in (batch.images, labels.pin_memory())
            ]
        present.wait_stream(copies)
        for each in sent:
            each.record_stream(present)
        return sent[0], sent[1]


@dataclass(frozen=True, eq=False)
class _Started:
    """A batch whose images are being decoded, into pinned memory where it goes to a GPU."""

    indices: Tensor  # (B,)
    images: Tensor  # uint8 (B, 3, size, size), channels_last
    pieces: "list[Future[None]]"


@cache
def _copies(device: Device) -> "torch.cuda.Stream":
    """The stream on which images are copied to a GPU."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

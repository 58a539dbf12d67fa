"""What a data set is: two splits, each one tensor or files that are decoded when needed, and the one error that says what is missing and how to get it."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Protocol

import torch
from torch import Generator, Tensor

from runner.data.augment import AUGMENTS, crop_flip
from runner.data.sources import Source

Device = torch.device | str
Wanted = Iterable[tuple[Tensor, Generator | None]]  # for each batch: places of its images (B,), and what augments them, None for nothing


class Images(Protocol):
    """One part of a data set, unnormalised: all that batches are made of. Its pixels lie in memory (`Split`) or in files (runner/data/files.py)."""

    augments: ClassVar[tuple[str, ...]]  # the choices of `dataset.augment`

    @property
    def labels(self) -> Tensor: ...  # int64 (N,)
    def __len__(self) -> int: ...
    def to(self, device: Device, workers: int = 0) -> "Images": ...  # `workers`: processes that decode images, where any are decoded
    def take(self, indices: Tensor) -> "Images": ...  # the images at the given places, in the given order
    def read(self, wanted: Wanted, augment: str) -> Iterator[tuple[Tensor, Tensor]]: ...  # uint8 images (B, C, H, W) and labels (B,), on the device


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set in memory."""

    images: Tensor  # uint8 (N, C, H, W)
    labels: Tensor  # int64 (N,)
    augments: ClassVar[tuple[str, ...]] = AUGMENTS

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: Device, workers: int = 0) -> "Split":
        """The same split on another device. There is nothing to decode, so no worker is needed."""
        return Split(self.images.to(device), self.labels.to(device))

    def take(self, indices: Tensor) -> "Split":
        """The images at the given places, in the given order."""
        return Split(self.images[indices], self.labels[indices])

    def read(self, wanted: Wanted, augment: str) -> Iterator[tuple[Tensor, Tensor]]:
        """The wanted batches, cropped and mirrored where a generator comes with the places."""
        for places, rng in wanted:
            part = self.take(places)
            yield (part.images if rng is None else crop_flip(part.images, rng)), part.labels


@dataclass(frozen=True)
class Info:
    """What is known of a data set without reading a file."""

    channels: int
    size: int  # height and width after padding
    classes: int
    train: int  # images of the official training split; `train_fraction` and `dataset.validation` take theirs from it
    test: int
    images: bool = True  # False: there are none, a theory experiment draws its own numbers


@dataclass(frozen=True, eq=False)
class Data:
    """A data set as a run uses it: reduced, held out and padded, not yet normalised (that is done by the batch)."""

    name: str
    train: Images
    validation: Images | None  # None when nothing is held out
    test: Images
    mean: Tensor  # float32 (C,), of pixels in [0, 1]
    std: Tensor  # float32 (C,)
    scale: float  # pixel / scale is in [0, 1]: 255, or 16 for digits
    classes: int
    augment: str  # one of the splits' own
    checksum: str  # SHA-256 of the official arrays, whatever files they came from and whatever part is used; of names and sizes of files that stay files

    def to(self, device: Device, workers: int = 0) -> "Data":
        """The same data with every tensor on another device; `workers` processes decode the images that are files."""
        train, test = self.train.to(device, workers), self.test.to(device, workers)
        held_out = self.validation.to(device, workers) if self.validation is not None else None
        return replace(self, train=train, validation=held_out, test=test, mean=self.mean.to(device), std=self.std.to(device))


@dataclass(frozen=True, eq=False)
class Official:
    """The two official splits as their files hold them, before padding and subsets."""

    train: Split
    test: Split

    def checksum(self) -> str:
        """SHA-256 over both splits: images, then labels (int64)."""
        digest = hashlib.sha256()
        for part in (self.train.images, self.train.labels, self.test.images, self.test.labels):
            digest.update(part.contiguous().numpy().data)
        return digest.hexdigest()


class DataSet(Protocol):
    """A data set component: a frozen dataclass made from `conf/dataset/<name>.yaml`."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int | None: ...
    @property
    def validation(self) -> float: ...
    @property
    def augment(self) -> str: ...
    @property
    def normalise(self) -> str: ...
    @property
    def source(self) -> Source: ...  # where the files come from
    @property
    def stands_for(self) -> str | None: ...  # the papers' data set in whose place small experiments use this one

    def info(self) -> Info: ...
    def places(self, data_dir: Path) -> list[Path]: ...  # where the files are looked for, first place first
    def verify(self, data_dir: Path) -> None: ...  # like check, but the error names only the problem
    def check(self, data_dir: Path) -> None: ...  # raises DataError unless all files are there and intact
    def load(self, data_dir: Path, train_fraction: float) -> Data: ...


class DataError(ValueError):
    """Files of a data set are missing or damaged. A reader names the problem alone; `explained` (image_set.py) adds where, how, and what is ready."""

    def __init__(self, problem: str, name: str = "", places: Sequence[Path] = (), get: Sequence[str] = (), ready: Sequence[str] = ()) -> None:
        self.problem = problem
        lines = [f"dataset={name} cannot be used: {problem}" if name else problem]
        if places:
            lines.append(f"  looked in:  {', '.join(str(place) for place in places)}")
        if get:
            lines.append(f"  to get it:  {', or '.join(get)}")
        if name:
            lines.append(f"  ready now:  {', '.join(f'dataset={other}' for other in ready) or 'none'}")
        super().__init__("\n".join(lines))

"""Interfaces of data sets: splits in memory or in files, metadata, and the error for bad files."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Protocol

import torch
from torch import Generator, Tensor

from runner.data.augment import AUGMENTS, crop_draws, crop_flip
from runner.data.sources import Source

Device = torch.device | str
# For each batch: indices of its images (B,) and the random numbers that augment them (B, ...), as
# `Images.draws` gives them; None without augmentation.
Wanted = Iterable[tuple[Tensor, Tensor | None]]


class Images(Protocol):
    """One part of a data set, from which batches are made; not normalised.

    Its pixels lie in memory (`Split`) or in files (runner/data/files.py). `read` yields images
    (B, C, H, W) and labels (B,) on the device. Random numbers are drawn by `draws`, apart from
    reading, so that a process can read a part of a batch that was drawn as a whole.
    """

    augments: ClassVar[tuple[str, ...]]  # accepted values of `dataset.augment`

    @property
    def labels(self) -> Tensor: ...  # int64 (N,)
    def __len__(self) -> int: ...
    def to(self, device: Device, workers: int = 0) -> "Images": ...  # workers: decoding threads
    def take(self, indices: Tensor) -> "Images": ...  # the images at these indices, in order
    def draws(self, count: int, rng: Generator) -> Tensor: ...  # (count, ...), for `count` images
    def read(self, wanted: Wanted, augment: str) -> Iterator[tuple[Tensor, Tensor]]: ...


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set in memory."""

    images: Tensor  # (N, C, H, W): uint8, or float32 for the user's own deeper images
    labels: Tensor  # int64 (N,)
    augments: ClassVar[tuple[str, ...]] = AUGMENTS

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: Device, workers: int = 0) -> "Split":
        """Return the split on another device; `workers` is ignored, since nothing is decoded."""
        return Split(self.images.to(device), self.labels.to(device))

    def take(self, indices: Tensor) -> "Split":
        """Return the images at the given indices, in the given order."""
        return Split(self.images[indices], self.labels[indices])

    def draws(self, count: int, rng: Generator) -> Tensor:
        """Draw the random numbers that augment `count` images."""
        return crop_draws(count, rng)

    def read(self, wanted: Wanted, augment: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the requested batches, cropped and mirrored where random numbers are given."""
        for indices, draws in wanted:
            part = self.take(indices)
            yield (part.images if draws is None else crop_flip(part.images, draws)), part.labels


def checksum(splits: Iterable[Split]) -> str:
    """SHA-256 over splits, one after another: images, then labels (int64)."""
    digest = hashlib.sha256()
    for split in splits:
        for values in (split.images, split.labels):
            digest.update(values.contiguous().numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Info:
    """Metadata of a data set, available without reading a file."""

    channels: int
    size: int  # height and width after padding
    classes: int
    train: int  # images of the official training split, before `train_fraction` and `validation`
    test: int
    images: bool = True  # False: no images; a theory experiment draws its own numbers


@dataclass(frozen=True, eq=False)
class Data:
    """The data of a run: reduced, held out and padded.

    Pixels are not normalised yet; this happens batch by batch.
    """

    name: str
    train: Images
    validation: Images | None  # None when nothing is held out
    test: Images
    mean: Tensor  # float32 (C,), of pixels in [0, 1]
    std: Tensor  # float32 (C,)
    scale: float  # pixel / scale is in [0, 1]: 255, or 16 for digits
    classes: int
    augment: str  # one of the splits' `augments`
    # SHA-256 of the official arrays, regardless of the source files and of the part in use. For
    # images that stay files: of their names, labels and sizes.
    checksum: str

    def to(self, device: Device, workers: int = 0) -> "Data":
        """Return the data with every tensor on another device.

        `workers` threads decode images that are files.
        """
        train, test = self.train.to(device, workers), self.test.to(device, workers)
        held_out = self.validation.to(device, workers) if self.validation is not None else None
        return replace(
            self,
            train=train,
            validation=held_out,
            test=test,
            mean=self.mean.to(device),
            std=self.std.to(device),
        )


@dataclass(frozen=True, eq=False)
class Official:
    """The two official splits as stored in their files, before padding and subsets."""

    train: Split
    test: Split

    def checksum(self) -> str:
        """SHA-256 over both splits."""
        return checksum((self.train, self.test))


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
    def stands_for(self) -> str | None: ...  # the papers' data set that it replaces in small runs
    @property
    def paper_images(self) -> int: ...  # images an epoch to which durations in iterations refer

    def info(self) -> Info: ...
    def places(self, data_dir: Path) -> list[Path]: ...  # folders searched for the files, in order
    def verify(self, data_dir: Path) -> None: ...  # like check; the error states only the problem
    def check(self, data_dir: Path) -> None: ...  # DataError unless all files exist and are intact
    def load(self, data_dir: Path, train_fraction: float) -> Data: ...


class DataError(ValueError):
    """Files of a data set are missing or damaged.

    A reader states only the problem; `explained` (image_set.py) adds where the files belong, how to
    get them, and which data sets are ready.
    """

    def __init__(
        self,
        problem: str,
        name: str = "",
        places: Sequence[Path] = (),
        get: Sequence[str] = (),
        ready: Sequence[str] = (),
    ) -> None:
        self.problem = problem
        lines = [f"dataset={name} cannot be used: {problem}" if name else problem]
        if places:
            lines.append(f"  looked in:  {', '.join(str(place) for place in places)}")
        if get:
            lines.append(f"  to get it:  {', or '.join(get)}")
        if name:
            names = ", ".join(f"dataset={other}" for other in ready)
            lines.append(f"  ready now:  {names or 'none'}")
        super().__init__("\n".join(lines))

"""The base class of image data sets: options, checks, messages, padding and normalisation."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from pruners.base import PAPER_IMAGES
from runner.data.augment import AUGMENTS
from runner.data.base import Data, DataError, DataSet, Info, Official
from runner.data.catalog import ready
from runner.data.constants import Constants
from runner.data.prepare import check_size, check_split, pad, parts, statistics
from runner.data.sources import Included, Source
from runner.data.split import check_held_out
from runner.errors import one_of

COMPUTED = "computed"  # as a value of dataset.normalise: mean and std of the training images


@dataclass(frozen=True)
class ImageSet(ABC):
    """Options of a data set, checked on construction, and methods based on its class constants.

    A data set is a frozen dataclass that adds its `tag`, a default for `name`, the class constants
    that differ from those below, and `read` and `verify`.

    Args:
        name: its name in records; must be the class's default.
        size: height and width of the images; None = their own.
        validation: share of the training images that is held out.
        augment: one of `augments`.
        normalise: "computed", or one of `normalisations`.
    """

    name: str
    size: int | None = None
    validation: float = 0.0
    augment: str = "none"
    normalise: str = COMPUTED

    native: ClassVar[Info]  # the data set as stored in its files
    # Of the files, inside the folder of all data sets; None = no files in that folder.
    folder: ClassVar[str | None] = None
    source: ClassVar[Source] = Included()
    scale: ClassVar[float] = 255.0  # pixel / scale is in [0, 1]
    # Smallest size that images can be scaled to; None = they are padded, never scaled.
    smallest: ClassVar[int | None] = None
    augments: ClassVar[tuple[str, ...]] = AUGMENTS
    computes: ClassVar[bool] = True  # mean and std can be computed
    # Published constants, keyed by the choice that names their source.
    normalisations: ClassVar[Mapping[str, Constants]] = {}
    quick: ClassVar[bool] = True  # read in seconds, so that plans read it where few images are used
    # The papers' data set that this one replaces in small experiments.
    stands_for: ClassVar[str | None] = None
    # Training images in an epoch to which a duration in iterations refers (docs/decisions.md 9):
    # those of CIFAR, for which small data sets stand, or the set's own if the papers use it.
    paper_images: ClassVar[int] = PAPER_IMAGES

    def __post_init__(self) -> None:
        """Raise `ValueError` if an option is invalid."""
        (name,) = (f.default for f in fields(self) if f.name == "name")
        if self.smallest is None:
            check_size(self.size, self.native, self.native.size, "images are padded, never cut")
        else:
            check_size(self.size, self.native, self.smallest, "images are scaled to it")
        if self.name != name:
            raise ValueError(
                f"dataset.name={self.name} must stay {name}: it is the data set's name in records;"
                " dataset=NAME chooses another data set"
            )
        check_held_out(self.validation)
        if self.augment not in self.augments:
            raise ValueError(one_of("dataset.augment", self.augment, self.augments))
        normalisations = (*([COMPUTED] if self.computes else []), *self.normalisations)
        if self.normalise not in normalisations:
            raise ValueError(one_of("dataset.normalise", self.normalise, normalisations))

    def info(self) -> Info:
        """Shape and counts at the requested size."""
        return replace(self.native, size=self.size or self.native.size)

    def places(self, data_dir: Path) -> list[Path]:
        """Folders that are searched for the files, in order."""
        return [data_dir / self.folder] if self.folder else []

    @abstractmethod
    def verify(self, data_dir: Path) -> None:
        """Check that all files are present and intact, as far as a quick check can tell.

        Raises:
            DataError: states only the problem.
        """

    def check(self, data_dir: Path) -> None:
        """Run `verify`, but the error also states where the files belong and how to get them."""
        with explained(self, data_dir):
            self.verify(data_dir)

    def read(self, data_dir: Path) -> Official:
        """Return the official splits from the files, not padded.

        Of all options, only `size` can change them.

        Raises:
            DataError: states only the problem.
        """
        raise NotImplementedError(
            f"{type(self).__name__} reads no images into memory; it must implement read or load"
        )

    def load(self, data_dir: Path, train_fraction: float) -> Data:
        """Return the data of a run, with `train_fraction` of the training images."""
        with explained(self, data_dir):
            official = self.read(data_dir)
            size = self.native.size if self.smallest is None else self.info().size
            for part, split in (("training", official.train), ("test", official.test)):
                check_split(part, split, self.info(), size)
            return self.prepare(official, train_fraction)

    def prepare(self, official: Official, train_fraction: float) -> Data:
        """Return the data of a run: padded, reduced, with held-out part, mean and std.

        Computed statistics are those of the whole official training split, so that no subset
        changes a test input.
        """
        train, test = pad(official.train, self.size), pad(official.test, self.size)
        mean, std = (
            statistics(train.images, self.scale) if self.normalise == COMPUTED else self.constants()
        )
        used, held_out = parts(train, train_fraction, self.validation)
        return Data(
            name=self.name,
            train=used,
            validation=held_out,
            test=test,
            mean=mean,
            std=std,
            scale=self.scale,
            classes=self.info().classes,
            augment=self.augment,
            checksum=official.checksum(),
        )

    def constants(self) -> tuple[Tensor, Tensor]:
        """Return the published mean and std (C,) that `normalise` names."""
        mean, std = self.normalisations[self.normalise]
        return torch.tensor(mean), torch.tensor(std)


@contextmanager
def explained(component: DataSet, data_dir: Path) -> Iterator[None]:
    """Add to a `DataError` where the files belong, how to get them, and what is ready."""
    try:
        yield
    except DataError as error:
        ways = component.source.ways(component.name, data_dir)
        raise DataError(
            error.problem, component.name, component.places(data_dir), ways, ready(data_dir)
        ) from error

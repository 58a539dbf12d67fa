"""Data sets of the user's own files: shape, classes and counts are found in the files.

The files are read when a run is built, because its identity contains their content. Notes on them
(runner/data/notes.py) and decoded images are kept in <data_dir>/own/.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from pruners.base import PAPER_IMAGES
from runner.data.augment import AUGMENTS
from runner.data.base import Data, DataError, Info, Split, checksum
from runner.data.constants import IMAGENET
from runner.data.image_set import COMPUTED, explained
from runner.data.prepare import parts, statistics
from runner.data.sources import OwnFiles
from runner.data.split import TEST, check_held_out, is_number, stratified_order
from runner.errors import one_of
from runner.paths import user_path
from runner.spec.found import Found

FOLDER = "own"  # inside the folder of all data sets
SHARE = 0.2  # of the images that are test images where the files have no such part
NOTHING = Info(channels=0, size=0, classes=0, train=0, test=0, images=False)
CONSTANTS = {"imagenet": IMAGENET}  # for weights that were trained with them


@dataclass(frozen=True)
class OwnData(ABC):
    """Options of a data set of own files.

    Args:
        path: of the files; not part of the identity.
        name: its name in records.
        test: share of the images of each class that are test images, drawn by `split_seed`, where
            the files have no such part; None = 0.2.
        split_seed: of that draw; the same split for every seed of a run.
        size: height and width of the images; None = their own.
        validation: share of the training images that is held out.
        augment: none or crop_flip.
        normalise: computed, or imagenet for colour images.
        found: what is in the files; `survey` sets it.
    """

    path: str | None = field(default=None, compare=False)
    name: str = ""
    test: float | None = None
    split_seed: int = 0
    size: int | None = None
    validation: float = 0.0
    augment: str = "none"
    normalise: str = COMPUTED
    found: Found | None = None

    kind: ClassVar[str]  # what `path` is, for messages
    quick: ClassVar[bool] = False
    stands_for: ClassVar[str | None] = None
    paper_images: ClassVar[int] = PAPER_IMAGES

    def __post_init__(self) -> None:
        """Raise `ValueError` if an option is invalid."""
        check_held_out(self.validation)
        if self.augment not in AUGMENTS:
            raise ValueError(one_of("dataset.augment", self.augment, AUGMENTS))
        if self.normalise not in (COMPUTED, *CONSTANTS):
            raise ValueError(one_of("dataset.normalise", self.normalise, (COMPUTED, *CONSTANTS)))
        if self.size is not None and self.size < 1:
            raise ValueError(f"dataset.size={self.size} must be null or a whole number from 1 up")
        if self.test is not None and not (is_number(self.test) and 0 < self.test < 1):
            raise ValueError(
                f"dataset.test={self.test} must be in (0, 1): the share of the images of each class"
                " that are test images; null = 0.2, or the files' own test images"
            )
        if self.split_seed < 0:
            raise ValueError(f"dataset.split_seed={self.split_seed} must be 0 or more")
        if not self.name or not self.name.isprintable() or set(self.name) & set("/\\ "):
            raise ValueError(
                f"dataset.name={self.name} must be one word without / and spaces: it is the data"
                " set's name in records and run ids"
            )

    @property
    def source(self) -> OwnFiles:
        """How to name the files."""
        return OwnFiles(self.kind)

    def info(self) -> Info:
        """Shape and counts of what was found; no images before `survey`."""
        found = self.found
        if found is None:
            return NOTHING
        size = self.size or found.width
        return Info(found.channels, size, len(found.classes), train=found.train, test=found.test)

    def places(self, data_dir: Path) -> list[Path]:
        """The files themselves."""
        return [user_path(self.path)] if self.path else []

    def survey(self, data_dir: Path | None) -> "OwnData":
        """Return the data set with what is in its files, of which nothing is decoded.

        Args:
            data_dir: folder of all data sets, where notes are kept; None = none are.

        Raises:
            ValueError: no path, or the files are not as this data set needs them.
        """
        if not self.path:
            raise ValueError(
                f"dataset.path is missing: give {self.kind}, dataset={self._choice} dataset.path="
                "PATH"
            )
        try:
            found = self.look(user_path(self.path), self._notes(data_dir))
        except DataError as error:
            raise ValueError(f"dataset.path={self.path}: {error.problem}") from error
        if self.normalise != COMPUTED and found.channels != len(CONSTANTS[self.normalise][0]):
            raise ValueError(
                f"dataset.normalise={self.normalise} has constants of 3 channels, but the images"
                f" have {found.channels}; take dataset.normalise={COMPUTED}"
            )
        return replace(self, found=found)

    @property
    def _choice(self) -> str:
        return str(vars(type(self))["tag"])

    def _notes(self, data_dir: Path | None) -> Path | None:
        """The file of the notes on the files at `path`."""
        if data_dir is None or self.path is None:
            return None
        key = hashlib.sha256(str(user_path(self.path).absolute()).encode(errors="replace"))
        return data_dir / FOLDER / f"{self._choice}-{key.hexdigest()[:16]}.json"

    @abstractmethod
    def look(self, path: Path, notes: Path | None) -> Found:
        """Return what is in the files.

        Raises:
            DataError: states only the problem.
        """

    @abstractmethod
    def read(self, data_dir: Path) -> dict[str, Split]:
        """Return the images by part, train, test and possibly validation, at the requested size.

        Raises:
            DataError: states only the problem.
        """

    def verify(self, data_dir: Path) -> None:
        """Check that the content of the files is that of the run."""
        if not self.path:
            raise DataError("it has no path")
        found = self.look(user_path(self.path), self._notes(data_dir))
        if self.found and found.content != self.found.content:
            raise DataError(
                f"{self.path} has changed: its content is {found.content[:12]}, that of the run"
                f" {self.found.content[:12]}; start a new run with the present files"
            )

    def check(self, data_dir: Path) -> None:
        """Run `verify`, but the error also states how to name the files, and what is ready."""
        with explained(self, data_dir):
            self.verify(data_dir)

    def load(self, data_dir: Path, train_fraction: float) -> Data:
        """Return the data of a run, with `train_fraction` of the training images.

        Computed mean and deviation are those of all training images, so that no subset changes a
        test input.
        """
        if self.found is None:
            return self.survey(data_dir).load(data_dir, train_fraction)
        with explained(self, data_dir):
            self.verify(data_dir)
            splits, scale = self.read(data_dir), self.found.scale
            mean, std = (
                statistics(splits["train"].images, scale)
                if self.normalise == COMPUTED
                else map(torch.tensor, CONSTANTS[self.normalise])
            )
            used, held_out = parts(splits["train"], train_fraction, self.validation)
        return Data(
            name=self.name,
            train=used,
            validation=held_out or splits.get("validation"),
            test=splits["test"],
            mean=mean,
            std=std,
            scale=scale,
            classes=len(self.found.classes),
            augment=self.augment,
            checksum=checksum(splits.values()),
        )

    def check_parts(self, labels: dict[str, Tensor], classes: tuple[str, ...]) -> None:
        """Raise `DataError` unless each part has images and each class training images."""
        for part, found in labels.items():
            if not len(found):
                raise DataError(f"the {part} split has no images{self._hint(part)}")
        counts = torch.bincount(labels["train"], minlength=len(classes))
        if missing := [name for name, n in zip(classes, counts.tolist(), strict=True) if not n]:
            raise DataError(
                f"class {missing[0]} has no training images{self._hint('train')}; remove the class"
                " or add images"
            )
        if "validation" in labels and self.validation:
            raise DataError(
                f"dataset.validation={self.validation}: the files have validation images; leave"
                " dataset.validation out"
            )

    def _hint(self, part: str) -> str:
        share = self.test if self.test is not None else SHARE
        return f" with dataset.test={share:g}" if part in ("train", "test") else ""

    def divided(self, labels: Tensor) -> dict[str, Tensor]:
        """Return sorted indices of the training and the test images, drawn by `split_seed`.

        round(test * N) images are test images, stratified (runner/data/split.py).
        """
        share = SHARE if self.test is None else self.test
        order = stratified_order(labels, (TEST, self.split_seed))
        count = round(share * len(labels))
        return {"train": order[count:].sort().values, "test": order[:count].sort().values}

    def refuse_share(self, parts: Iterable[str]) -> None:
        """Raise `DataError` if a share of test images is set and the files have their own."""
        if self.test is not None or self.split_seed:
            key = f"dataset.test={self.test}" if self.test is not None else "dataset.split_seed"
            raise DataError(
                f"{key} has no effect: the files have the parts {', '.join(parts)}; leave"
                f" {key.partition('=')[0]} out"
            )

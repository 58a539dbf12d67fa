"""digit_pairs: two of scikit-learn's digits side by side in one image, with 2 to 100 classes.

A small set with many classes that needs no network; from no paper. The numbers 00 to 99 are equally
frequent. Training images are made of training digits only, test images of test digits
(runner/data/digits.py). Images of one number share digits: 8,000 images are made of 1,437 digits.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from runner.data.base import DataError, Info, Official, Split
from runner.data.digits import Digits
from runner.data.image_set import ImageSet

NUMBERS = 100
TRAIN, TEST = 80, 20  # images of each number
SEED = 0  # of the pairs
# SHA-256 of the images with the numbers 0 to 99 as labels.
CHECKSUM = "c8c97a204987b3e9fbd55f002ff0661fc7de80bbefa92fc1d79fff0096627a28"


@dataclass(frozen=True)
class DigitPairs(ImageSet):
    """Fields: conf/dataset/digit_pairs.yaml.

    Args:
        classes: the label is the number modulo this; a divisor of 100 from 2 up, so that classes
            have equally many images.
    """

    tag: ClassVar[str] = "digit_pairs"
    name: str = "digit_pairs"
    classes: int = NUMBERS
    native: ClassVar[Info] = Info(
        channels=1, size=16, classes=NUMBERS, train=TRAIN * NUMBERS, test=TEST * NUMBERS
    )
    scale: ClassVar[float] = Digits.scale
    stands_for: ClassVar[str] = "cifar100"

    def __post_init__(self) -> None:
        super().__post_init__()
        divisors = [n for n in range(2, NUMBERS + 1) if NUMBERS % n == 0]
        if isinstance(self.classes, bool) or self.classes not in divisors:
            raise ValueError(
                f"dataset.classes={self.classes} must be one of {', '.join(map(str, divisors))}:"
                f" the label is the number (0 to 99) modulo it"
            )

    def info(self) -> Info:
        """Shape and counts at the requested size, with the requested classes."""
        return replace(super().info(), classes=self.classes)

    def verify(self, data_dir: Path) -> None:
        """Check only that scikit-learn is installed; `read` compares the checksum."""
        Digits().verify(data_dir)

    def read(self, data_dir: Path) -> Official:
        """Return the pairs in our fixed split."""
        pairs = read_pairs(Digits().read(data_dir))
        if pairs.checksum() != CHECKSUM:
            raise DataError(
                f"numpy draws other pairs: SHA-256 is {pairs.checksum()}, expected {CHECKSUM}"
            )
        return Official(*(self._classed(split) for split in (pairs.train, pairs.test)))

    def _classed(self, split: Split) -> Split:
        return Split(split.images, split.labels % self.classes)


def read_pairs(digits: Official) -> Official:
    """Return images (N, 1, 16, 16) of two digits, with their numbers, 0 to 99, as labels.

    The digits lie side by side in the middle rows; the rows above and below are black.
    """
    draws = np.random.RandomState(SEED)
    return Official(train=_pairs(digits.train, TRAIN, draws), test=_pairs(digits.test, TEST, draws))


def _pairs(digits: Split, each: int, draws: np.random.RandomState) -> Split:
    """Return `each` images of every number, ordered by number; digits are drawn with repetition."""
    numbers = np.repeat(np.arange(NUMBERS), each)  # (N,)
    labels = digits.labels.numpy()
    members = [np.flatnonzero(labels == digit) for digit in range(10)]
    halves = [
        digits.images[torch.from_numpy(_draw(members, wanted, draws))]  # (N, 1, 8, 8)
        for wanted in (numbers // 10, numbers % 10)
    ]
    images = torch.zeros(len(numbers), 1, 16, 16, dtype=torch.uint8)
    images[:, :, 4:12] = torch.cat(halves, dim=3)
    return Split(images, torch.from_numpy(numbers))


def _draw(
    members: "list[np.ndarray[tuple[int], np.dtype[np.int64]]]",
    wanted: "np.ndarray[tuple[int], np.dtype[np.int64]]",
    draws: np.random.RandomState,
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """For each digit in `wanted` (N,), the index of a random image of it."""
    found = np.empty_like(wanted)
    for digit, indices in enumerate(members):
        places = np.flatnonzero(wanted == digit)
        found[places] = indices[draws.randint(len(indices), size=len(places))]
    return found

"""digits: the 1,797 images of handwritten digits that scikit-learn ships.

They have 8x8 pixels with levels 0 to 16 (UCI Optical Recognition of Handwritten Digits, its test
part). There is no official split: ours is fixed, stratified, 1,437 / 360 (docs/decisions.md 5).
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from runner.data.base import DataError, Info, Official, Split
from runner.data.image_set import ImageSet
from runner.data.split import TEST, stratified_order

FILE = "datasets/data/digits.csv.gz"  # in scikit-learn's package
TEST_IMAGES = 360
# SHA-256 of the split arrays, made with scikit-learn 1.x.
CHECKSUM = "c69effc4f783e5a283aad5df68589e22363891b23f32621021ae20865aef41bf"


@dataclass(frozen=True)
class Digits(ImageSet):
    """Fields: conf/dataset/digits.yaml."""

    tag: ClassVar[str] = "digits"
    name: str = "digits"
    native: ClassVar[Info] = Info(channels=1, size=8, classes=10, train=1437, test=TEST_IMAGES)
    scale: ClassVar[float] = 16.0
    stands_for: ClassVar[str] = "cifar10"

    def verify(self, data_dir: Path) -> None:
        """Check only that scikit-learn is installed; `read` compares the checksum."""
        if importlib.util.find_spec("sklearn") is None:
            raise DataError(
                "scikit-learn, which ships these images, is not installed; pip install scikit-learn"
            )

    def read(self, data_dir: Path) -> Official:
        """Return scikit-learn's images in our fixed split."""
        self.verify(data_dir)
        official = read_digits()
        if official.checksum() != CHECKSUM:
            raise DataError(
                f"scikit-learn's digits have changed: SHA-256 is {official.checksum()}, expected"
                f" {CHECKSUM}"
            )
        return official


def read_digits() -> Official:
    """Return scikit-learn's images in our fixed split, without comparing the checksum.

    The first 360 images of one stratified order are the test images.
    """
    levels, labels = np.split(_rows(), [64], axis=1)
    whole = Split(
        torch.from_numpy(levels.astype(np.uint8)).reshape(-1, 1, 8, 8),
        torch.from_numpy(labels[:, 0]),
    )
    order = stratified_order(whole.labels, TEST)
    return Official(
        train=whole.take(order[TEST_IMAGES:].sort().values),
        test=whole.take(order[:TEST_IMAGES].sort().values),
    )


def _rows() -> "np.ndarray[tuple[int, int], np.dtype[np.int64]]":
    """Return an array (1797, 65): the 64 levels of each image and its label.

    It is read from scikit-learn's file, since importing scikit-learn would take seconds in every
    run.
    """
    spec = importlib.util.find_spec("sklearn")
    for folder in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder) / FILE).is_file():
            return np.loadtxt(path, delimiter=",", dtype=np.int64)  # floats take ten times as long
    from sklearn.datasets import load_digits  # for a release that keeps the file elsewhere

    return np.column_stack(load_digits(return_X_y=True)).astype(np.int64)

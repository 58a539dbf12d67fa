"""A subset of ImageNet: the second reading of the IMC paper's "ImageNet".

That data set has 100,000 / 10,000 images. The paper states neither classes nor size nor how images
were drawn (docs/decisions.md 11). Of every class we take 100 training images and 10 of its 50
validation images: the first in numpy's RandomState permutation, seeded with (2012, 0 for train or 1
for val, class), of the names in alphabetical order. Draws of different classes are independent.
Images are scaled like Tiny-ImageNet's, 64 x 64, from the middle.

<data_dir>/imagenet/                           ImageNet's own folder (runner/data/imagenet.py)
<data_dir>/imagenet_subset-<size>.safetensors  the subset, decoded once (runner/data/decoded.py)
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor

from runner.data.base import DataError, Info, Official
from runner.data.constants import IMAGENET, Constants
from runner.data.decoded import decoded_once
from runner.data.folder import PARTS, Listing, classes, listed_once
from runner.data.image_files import as_tensor, middle, rgb
from runner.data.image_set import ImageSet
from runner.data.imagenet import FOLDER, NATIVE, SMALLEST, SOURCE
from runner.data.sources import ByHand

SEED = 2012


@dataclass(frozen=True)
class ImagenetSubset(ImageSet):
    """Fields: conf/dataset/imagenet_subset.yaml."""

    tag: ClassVar[str] = "imagenet_subset"
    name: str = "imagenet_subset"
    augment: str = "crop_flip"
    native: ClassVar[Info] = Info(channels=3, size=64, classes=1000, train=100_000, test=10_000)
    paper_images: ClassVar[int] = 100_000
    whole: ClassVar[Info] = NATIVE
    folder: ClassVar[str] = FOLDER
    quick: ClassVar[bool] = False
    source: ClassVar[ByHand] = SOURCE
    smallest: ClassVar[int] = SMALLEST
    normalisations: ClassVar[Mapping[str, Constants]] = {"imagenet": IMAGENET}

    def verify(self, data_dir: Path) -> None:
        """Check that the folders of all classes exist, as for the whole of ImageNet."""
        classes(data_dir / self.folder, self.whole)

    def read(self, data_dir: Path) -> Official:
        """Return both splits of the subset; the images are decoded the first time."""
        folder, info = data_dir / self.folder, self.info()
        found = listed_once(folder, data_dir / f"{self.folder}.index", self.whole)
        chosen = {
            part: drawn(found[part], n // info.classes, i)
            for i, (part, n) in enumerate(zip(PARTS, (info.train, info.test), strict=True))
        }
        digests = "".join(chosen[part].digest() for part in PARTS)
        source = hashlib.sha256(digests.encode()).hexdigest()
        train, test = (_labelled(folder, listing) for listing in chosen.values())
        kept = data_dir / f"{self.name}-{info.size}.safetensors"
        return decoded_once(kept, source, train, test, info.size, scaled)


def _labelled(folder: Path, listing: Listing) -> list[tuple[Path, int]]:
    pairs = zip(listing.names, listing.labels, strict=True)
    return [(folder / name.decode(), int(label)) for name, label in pairs]


def drawn(found: Listing, each: int, part: int) -> Listing:
    """Draw `each` images of every class, in the order of their names.

    Raises:
        DataError: a class has fewer images.
    """
    chosen = []
    for label in np.unique(found.labels):
        members = np.flatnonzero(found.labels == label)
        if len(members) < each:
            raise DataError(
                f"the class of {found.names[members[0]].decode()} has {len(members)} images,"
                f" but {each} are required"
            )
        order = np.random.RandomState((SEED, part, int(label))).permutation(len(members))
        chosen.append(members[np.sort(order[:each])])
    return found.take(np.concatenate(chosen))


def scaled(path: Path, size: int) -> Tensor:
    """Return one image as uint8 (3, size, size).

    Its shorter side is scaled to `size`, and the longer one is cropped centrally.
    """
    return as_tensor(middle(rgb(path), size, size))

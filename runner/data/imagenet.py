"""ImageNet (ILSVRC-2012; Russakovsky et al., 2015): 1,281,167 training and 50,000 validation images of 1,000 classes, which are the test set.

<data_dir>/imagenet/train/<class>/*.JPEG, <data_dir>/imagenet/val/<class>/*.JPEG    as torchvision's ImageNet unpacks the official archives
<data_dir>/imagenet.index                      the list of all images (runner/data/folder.py)
<data_dir>/imagenet_subset-<size>.safetensors  the subset, decoded once (runner/data/decoded.py)

`imagenet` decodes its images when a batch needs them (runner/data/files.py). Statistics of 1.3 million images would take hours: the constants that all code
uses are the default, against decisions.md 5. Synaptic-Flow's grey and coloured augmentation is not offered.

`imagenet_subset` is the second reading of the IMC paper's "ImageNet" of 100,000 / 10,000 images (decisions.md 11; it names neither classes nor size nor how
they were drawn): of every class 100 training images and 10 of its 50 validation images. They are the first in numpy's RandomState permutation, seeded with
(2012, 0 for train or 1 for val, class), of the names in alphabetical order; classes do not depend on each other. Scaled like Tiny-ImageNet, 64 x 64, from the
middle.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from runner.data.augment import AUGMENTS
from runner.data.base import Data, DataError, Info, explained
from runner.data.decoded import as_tensor, decoded_once, rgb
from runner.data.files import FORMATS, Files, middle
from runner.data.folder import PARTS, Listing, classes, listed_once
from runner.data.prepare import NORMALISATIONS, assemble, check_choices, check_size, padded_info, parts

NATIVE = Info(channels=3, size=224, classes=1000, train=1_281_167, test=50_000)
SUBSET = Info(channels=3, size=64, classes=1000, train=100_000, test=10_000)
SEED = 2012  # of the subset
SMALLEST = 16  # pixels; smaller images have lost what they show
FOLDER, INDEX = "imagenet", "imagenet.index"


@dataclass(frozen=True)
class Imagenet:
    """Fields: conf/dataset/imagenet.yaml."""

    tag: ClassVar[str] = "imagenet"
    name: str = "imagenet"
    size: int | None = None
    validation: float = 0.0
    augment: str = "resized_crop"
    normalise: str = "imagenet"
    native: ClassVar[Info] = NATIVE

    def __post_init__(self) -> None:
        check_size(self.size, self.native, SMALLEST, "images are scaled to it")
        check_choices(self, "imagenet", Files.augments, tuple(NORMALISATIONS["imagenet"]))

    def info(self) -> Info:
        """Shape and counts at the size asked for."""
        return padded_info(self, self.native)

    def places(self, data_dir: Path) -> list[Path]:
        """The folder that holds train and val."""
        return [data_dir / FOLDER]

    def verify(self, data_dir: Path) -> None:
        """Only the folders of the classes: listing the images takes longer than a look should, and `load` does it."""
        classes(self.places(data_dir)[0], self.native)

    def check(self, data_dir: Path) -> None:
        """Raise a `DataError` unless the folders of all classes are there."""
        with explained(self, data_dir, *by_hand(data_dir), fetched=False):
            self.verify(data_dir)

    def load(self, data_dir: Path, train_fraction: float) -> Data:
        """List the files; the first time, that takes a while. Nothing is decoded."""
        folder, size = self.places(data_dir)[0], self.info().size
        with explained(self, data_dir, *by_hand(data_dir), fetched=False):
            found = listed_once(folder, data_dir / INDEX, self.native)
        train, test = (Files(folder, found[part].names, torch.from_numpy(found[part].labels), size) for part in PARTS)
        used, held_out = parts(self, train, train_fraction)
        mean, std = (torch.tensor(values) for values in NORMALISATIONS[self.name][self.normalise])
        checksum = hashlib.sha256("".join(found[part].digest() for part in PARTS).encode()).hexdigest()
        return Data(self.name, used, held_out, test, mean, std, 255.0, self.native.classes, self.augment, checksum)


@dataclass(frozen=True)
class ImagenetSubset:
    """Fields: conf/dataset/imagenet_subset.yaml."""

    tag: ClassVar[str] = "imagenet_subset"
    name: str = "imagenet_subset"
    size: int | None = None
    validation: float = 0.0
    augment: str = "crop_flip"
    normalise: str = "computed"
    native: ClassVar[Info] = SUBSET
    whole: ClassVar[Info] = NATIVE

    def __post_init__(self) -> None:
        check_size(self.size, self.native, SMALLEST, "images are scaled to it")
        check_choices(self, "imagenet_subset", AUGMENTS, ("computed", *NORMALISATIONS["imagenet_subset"]))

    def info(self) -> Info:
        """Shape and counts at the size asked for."""
        return padded_info(self, self.native)

    def places(self, data_dir: Path) -> list[Path]:
        """ImageNet's own folder."""
        return [data_dir / FOLDER]

    def verify(self, data_dir: Path) -> None:
        """As for the whole of it."""
        classes(self.places(data_dir)[0], self.whole)

    def check(self, data_dir: Path) -> None:
        """Raise a `DataError` unless the folders of all classes are there."""
        with explained(self, data_dir, *by_hand(data_dir), fetched=False):
            self.verify(data_dir)

    def load(self, data_dir: Path, train_fraction: float) -> Data:
        """Draw the images, read and prepare them; the first time, decode them."""
        folder, info = self.places(data_dir)[0], self.info()
        with explained(self, data_dir, *by_hand(data_dir), fetched=False):
            found = listed_once(folder, data_dir / INDEX, self.whole)
            chosen = {part: drawn(found[part], n // info.classes, i) for i, (part, n) in enumerate(zip(PARTS, (info.train, info.test), strict=True))}
            source = hashlib.sha256("".join(chosen[part].digest() for part in PARTS).encode()).hexdigest()
            train, test = ([(folder / name.decode(), int(label)) for name, label in zip(c.names, c.labels, strict=True)] for c in chosen.values())
            official = decoded_once(data_dir / f"{self.name}-{info.size}.safetensors", source, train, test, info.size, scaled)
        return assemble(self, official, scale=255.0, classes=info.classes, train_fraction=train_fraction)


def drawn(found: Listing, each: int, part: int) -> Listing:
    """`each` images of every class, in the order of their names.

    Raises:
        DataError: a class has fewer.
    """
    places = []
    for label in np.unique(found.labels):
        members = np.flatnonzero(found.labels == label)
        if len(members) < each:
            raise DataError(f"the class of {found.names[members[0]].decode()} has {len(members)} images, of which {each} are to be drawn")
        order = np.random.RandomState((SEED, part, int(label))).permutation(len(members))
        places.append(members[np.sort(order[:each])])
    return found.take(np.concatenate(places))


def scaled(path: Path, size: int) -> Tensor:
    """One image as uint8 (3, size, size): its shorter side scaled to `size`, the middle of the longer one."""
    return as_tensor(middle(rgb(path, FORMATS), size, size))


def by_hand(data_dir: Path) -> list[str]:
    """How the files get there: nobody may hand them on."""
    folder = data_dir / FOLDER
    unpack = f"python -c \"from torchvision.datasets import ImageNet; [ImageNet('{folder}', part) for part in ('train', 'val')]\""
    archives = "ILSVRC2012_devkit_t12.tar.gz, ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar"
    return [
        f"link a folder that has train/<class>/*.JPEG and val/<class>/*.JPEG:  ln -s /where/it/is {folder}",
        f"with an account at https://image-net.org put {archives} into {folder}/ and unpack them:  {unpack}",
    ]

"""ImageNet (ILSVRC-2012; Russakovsky et al., 2015), 1,000 classes.

There are 1,281,167 training images; the 50,000 validation images are the test set.

<data_dir>/imagenet/train/<class>/*.JPEG and <data_dir>/imagenet/val/<class>/*.JPEG
                            as torchvision's ImageNet unpacks the official archives
<data_dir>/imagenet.index   the list of all images (runner/data/folder.py)

Images are decoded when a batch needs them (runner/data/files.py). Statistics of 1.3 million images
would take hours. So the default is the constants that all code uses, a deviation from
docs/decisions.md 5. Synaptic-Flow's grey and coloured augmentation is not available.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from runner.data.base import Data, Info
from runner.data.constants import IMAGENET, Constants
from runner.data.files import Files
from runner.data.folder import PARTS, Listing, classes, listed_once
from runner.data.image_set import ImageSet, explained
from runner.data.prepare import parts
from runner.data.sources import ByHand

NATIVE = Info(channels=3, size=224, classes=1000, train=1_281_167, test=50_000)
SMALLEST = 16  # pixels; smaller images are no longer recognisable
FOLDER = "imagenet"
SOURCE = ByHand(
    FOLDER,
    lines=(
        (
            "link a folder that has train/<class>/*.JPEG and val/<class>/*.JPEG:  ln -s"
            " /where/it/is {folder}"
        ),
        (
            "with an account at https://image-net.org put ILSVRC2012_devkit_t12.tar.gz,"
            " ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar into {folder}/ and unpack them: "
            " python -c \"from torchvision.datasets import ImageNet; [ImageNet('{folder}', part)"
            " for part in ('train', 'val')]\""
        ),
    ),
)


@dataclass(frozen=True)
class Imagenet(ImageSet):
    """Fields: conf/dataset/imagenet.yaml."""

    tag: ClassVar[str] = "imagenet"
    name: str = "imagenet"
    augment: str = "resized_crop"
    normalise: str = "imagenet"
    native: ClassVar[Info] = NATIVE
    paper_images: ClassVar[int] = NATIVE.train
    folder: ClassVar[str] = FOLDER
    quick: ClassVar[bool] = False
    source: ClassVar[ByHand] = SOURCE
    smallest: ClassVar[int] = SMALLEST
    augments: ClassVar[tuple[str, ...]] = Files.augments
    computes: ClassVar[bool] = False
    normalisations: ClassVar[Mapping[str, Constants]] = {"imagenet": IMAGENET}

    def verify(self, data_dir: Path) -> None:
        """Check that the folders of all classes exist; `load` lists the images (slower)."""
        classes(data_dir / self.folder, self.native)

    @classmethod
    def listed(cls, data_dir: Path) -> dict[str, Listing]:
        """List every image by part, once: the list is kept beside the folder.

        Raises:
            DataError: images are missing or too many.
        """
        return listed_once(data_dir / cls.folder, data_dir / f"{cls.folder}.index", cls.native)

    def load(self, data_dir: Path, train_fraction: float) -> Data:
        """List the files, which takes a while the first time. Nothing is decoded."""
        folder, size = data_dir / self.folder, self.info().size
        with explained(self, data_dir):
            found = self.listed(data_dir)
        train, test = (
            Files(folder, found[part].names, torch.from_numpy(found[part].labels), size)
            for part in PARTS
        )
        used, held_out = parts(train, train_fraction, self.validation)
        mean, std = self.constants()
        digests = "".join(found[part].digest() for part in PARTS)
        return Data(
            name=self.name,
            train=used,
            validation=held_out,
            test=test,
            mean=mean,
            std=std,
            scale=self.scale,
            classes=self.native.classes,
            augment=self.augment,
            checksum=hashlib.sha256(digests.encode()).hexdigest(),
        )

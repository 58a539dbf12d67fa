"""Tiny-ImageNet (Stanford CS231n, 2015): 200 classes of ImageNet at 64x64, as JPEG files.

There are 500 training and 50 validation images of each class, in the official layout:

<data_dir>/tiny-imagenet-200/    wnids.txt, train/<class>/images/<class>_<i>.JPEG,
                                 val/images/val_<i>.JPEG,
                                 val/val_annotations.txt (file, class, box)
<data_dir>/tiny-imagenet-200.safetensors    all images, decoded once (runner/data/decoded.py)

The official validation images are the test set; the unlabelled test images are never used. Classes
are numbered in alphabetical order for both splits, as in torchvision's ImageFolder. No checksums of
the single files are published, so `verify` checks names, counts and labels; decoding finds damaged
images.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from runner.data.base import DataError, Info, Official
from runner.data.checksums import read_bytes
from runner.data.constants import Constants
from runner.data.decoded import decoded_once
from runner.data.image_files import image_files, is_image
from runner.data.image_set import ImageSet
from runner.data.sources import Archive

FOLDER = "tiny-imagenet-200"
SHOWN = 3  # names of a long list that a message shows


@dataclass(frozen=True)
class TinyImagenet(ImageSet):
    """Fields: conf/dataset/tiny_imagenet.yaml."""

    tag: ClassVar[str] = "tiny_imagenet"
    name: str = "tiny_imagenet"
    augment: str = "crop_flip"
    native: ClassVar[Info] = Info(channels=3, size=64, classes=200, train=100_000, test=10_000)
    folder: ClassVar[str] = FOLDER
    quick: ClassVar[bool] = False
    source: ClassVar[Archive] = Archive(  # 248,100,043 bytes; MD5 as in many independent loaders
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip", md5="90528d7ca1a48142e341f4ef8d21d0de"
    )
    normalisations: ClassVar[Mapping[str, Constants]] = {
        "grasp": (  # also JingtongSu (sanity-check)
            (0.48024578664982126, 0.44807218089384643, 0.3975477478649648),
            (0.2769864069088257, 0.26906448510256, 0.282081906210584),
        ),
        "synflow": ((0.480, 0.448, 0.397), (0.276, 0.269, 0.282)),
    }

    def verify(self, data_dir: Path) -> None:
        """Check names, counts and labels. Damaged images are found when they are decoded."""
        list_files(data_dir / self.folder, self.native)

    def read(self, data_dir: Path) -> Official:
        """Return both splits; the images are decoded the first time."""
        folder = data_dir / self.folder
        listing = list_files(folder, self.native)
        train, test = (
            [(folder / image.path, image.label) for image in part]
            for part in (listing.train, listing.test)
        )
        kept = folder.with_name(f"{self.folder}.safetensors")
        return decoded_once(kept, listing.digest(), train, test, self.native.size)


@dataclass(frozen=True)
class Listed:
    """One image: its path inside the folder, class index, and size and time to detect changes."""

    path: str
    label: int
    bytes: int
    changed: int  # modification time in seconds since 1970; archives keep no fractions


@dataclass(frozen=True)
class Listing:
    """All images: training images by class and name, test images in annotation order."""

    train: list[Listed]
    test: list[Listed]

    def digest(self) -> str:
        """SHA-256 over paths, labels, sizes and times: changes when an image or a label does."""
        lines = (
            f"{part} {image}\n"
            for part, images in (("train", self.train), ("test", self.test))
            for image in images
        )
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def list_files(folder: Path, expected: Info) -> Listing:
    """List every image with its class index.

    Raises:
        DataError: files are missing, too many or empty, or do not match the lists of classes and
            labels.
    """
    required = ("wnids.txt", "train", "val/images", "val/val_annotations.txt")
    _require([name for name in required if not (folder / name).exists()])
    classes = _classes(folder / "wnids.txt", expected.classes)
    return Listing(
        _train(folder, classes, expected.train // expected.classes),
        _test(folder, classes, expected.test // expected.classes),
    )


def _classes(path: Path, count: int) -> dict[str, int]:
    """Map class names (WordNet ids), sorted alphabetically unlike in the file, to their indices."""
    names = read_bytes(path).decode(errors="replace").split()
    strange = [name for name in names if not re.fullmatch(r"n\d{8}", name)]
    if strange:
        raise DataError(f"{path} lists {_some(strange)}: not WordNet ids such as n01443537")
    if len(names) != count or len(set(names)) != count:
        raise DataError(
            f"{path} lists {len(set(names))} different classes in {len(names)} lines, expected"
            f" {count}"
        )
    return {name: index for index, name in enumerate(sorted(names))}


def _train(folder: Path, classes: dict[str, int], each: int) -> list[Listed]:
    folders = [f"train/{name}/images" for name in classes]
    _require([inside for inside in folders if not (folder / inside).is_dir()])
    found = {name: _images(folder, f"train/{name}/images") for name in classes}
    wrong = [
        f"train/{name}/images holds {len(images)}"
        for name, images in found.items()
        if len(images) != each
    ]
    if wrong:
        raise DataError(f"{_some(wrong)} images, expected {each} in each class")
    return [
        Listed(path, classes[name], *stamp)
        for name, images in found.items()
        for path, stamp in images.items()
    ]


def _test(folder: Path, classes: dict[str, int], each: int) -> list[Listed]:
    labels = _annotations(folder / "val" / "val_annotations.txt", classes)
    found = _images(folder, "val/images")
    missing = [path for path in labels if path not in found]
    moved = any((folder / "val" / name).is_dir() for name in classes)
    hint = "; other code has moved them into folders of classes: unpack the archive again"
    _require(missing, hint if moved else "")
    if unlabelled := [path for path in found if path not in labels]:
        raise DataError(f"val/val_annotations.txt gives no class for {_some(unlabelled)}")
    counts = Counter(labels.values())
    wrong = [f"{name} has {counts[i]}" for name, i in classes.items() if counts[i] != each]
    if wrong:
        raise DataError(
            f"val/val_annotations.txt: class {_some(wrong)} images, expected {each} of each class"
        )
    return [Listed(path, label, *found[path]) for path, label in labels.items()]


def _annotations(path: Path, classes: dict[str, int]) -> dict[str, int]:
    """Map paths inside the folder to class indices, in the order of the lines.

    A line contains file name, class and box, separated by tabs.
    """
    labels: dict[str, int] = {}
    for number, line in enumerate(read_bytes(path).decode(errors="replace").splitlines(), start=1):
        name, *rest = line.split("\t")
        image = f"val/images/{name}"
        if not rest or not (re.fullmatch(r"[\w.-]+", name) and is_image(name)):
            raise DataError(
                f"{path}, line {number}: {line[:60]!r} is not an image, its class and its box,"
                " separated by tabs"
            )
        if rest[0] not in classes:
            raise DataError(f"{path}, line {number}: class {rest[0]!r} is not in wnids.txt")
        if image in labels:
            raise DataError(f"{path}, line {number}: {name} already has a class")
        labels[image] = classes[rest[0]]
    return labels


def _images(folder: Path, inside: str) -> dict[str, tuple[int, int]]:
    """Map the path of each image in a sub-folder, sorted by name, to (bytes, seconds).

    No file is opened.
    """
    found = image_files(folder, inside)
    empty = [path for path, status in found.items() if status.st_size == 0]
    if empty:
        raise DataError(
            f"{_some(empty)} {'is' if len(empty) == 1 else 'are'} empty; unpack the archive again"
        )
    return {path: (status.st_size, int(status.st_mtime)) for path, status in found.items()}


def _require(missing: Sequence[str], hint: str = "") -> None:
    if missing:
        raise DataError(f"missing {_some(missing)}{hint}")


def _some(names: Sequence[str]) -> str:
    """Return the first few names and the number of the others."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more

"""Lists the user's own images: a sub-folder for each class, in parts or not.

Every file with an ending that Pillow reads is an image; others, and hidden ones, are ignored.
Classes are numbered in alphabetical order of the training folders.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

from runner.data.base import DataError
from runner.data.image_files import entries

PARTS = {  # names of folders, in lower case
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
SHOWN = 3  # names of a long list that a message shows


@dataclass(frozen=True)
class Listed:
    """One image: its path inside the folder, and its class."""

    path: str
    label: int


Listing = dict[str, list[Listed]]  # by part; `all` where the folder has no parts


def list_images(folder: Path) -> tuple[tuple[str, ...], Listing]:
    """Return the names of the classes and the images by part, by class and path.

    Raises:
        DataError: there are no classes, or one has no images.
    """
    if not folder.is_dir():
        what = "it is a file; dataset=arrays reads files" if folder.exists() else "no such folder"
        raise DataError(f"there is no folder of images: {what}")
    parts = _parts(folder)
    classes = tuple(_folders(folder / parts.get("train", ".")))
    if len(classes) < 2:
        raise DataError(_no_classes(folder / parts.get("train", "."), classes))
    numbers = {name: label for label, name in enumerate(classes)}
    found: Listing = {}
    for part, inside in (parts or {"all": ""}).items():
        if strange := [name for name in _folders(folder / inside) if name not in numbers]:
            raise DataError(
                f"{folder / inside} has the class {_some(strange)}, but {folder / parts['train']}"
                " does not"
            )
        found[part] = [
            Listed(path, numbers[name])
            for name in _folders(folder / inside)
            for path in _images(folder, os.path.join(inside, name))  # noqa: PTH118
        ]
    return classes, found


def _folders(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted; hidden ones are left out."""
    return sorted(e.name for e in entries(folder) if e.is_dir() and not e.name.startswith("."))


def _parts(folder: Path) -> dict[str, str]:
    """Map train, validation and test to the names of their folders; {} without such folders.

    Raises:
        DataError: there is a training folder of classes, but no images to test on.
    """
    names = {name.lower(): name for name in _folders(folder)}
    found = {part: names[word] for part, words in PARTS.items() for word in words if word in names}
    if "train" not in found or not _folders(folder / found["train"]):
        return {}
    if "test" not in found:
        if "validation" not in found:
            raise DataError(
                f"{folder} has {found['train']}/ with folders of classes, but no test/ or val/: add"
                f" one, or give dataset.path={folder / found['train']}, of which a share are test"
                " images"
            )
        found["test"] = found.pop("validation")
    return found


def _no_classes(folder: Path, classes: Sequence[str]) -> str:
    """What is wrong with a folder of fewer than two classes."""
    if classes:
        return f"{folder} has one class, {classes[0]}/: at least two are needed"
    loose = [entry.name for entry in entries(folder) if _is_image(entry.name)]
    hint = f"; {_some(loose)} belong in folders of their classes" if loose else ""
    return f"there are no classes: {folder} has no sub-folders{hint}"


def _images(folder: Path, inside: str) -> list[str]:
    """The paths inside `folder` of the images of one class, sorted, at any depth.

    Raises:
        DataError: there are none.
    """
    found, others = list[str](), list[str]()
    for place, below, names in os.walk(folder / inside, followlinks=True):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                path = (Path(place) / name).relative_to(folder).as_posix()
                (found if _is_image(name) else others).append(path)
    if not found:
        hint = f"; not counted: {_some(sorted(others))}" if others else ""
        raise DataError(f"the class {inside}/ has no images{hint}; remove it or add images")
    return sorted(found)


@cache
def _endings() -> frozenset[str]:
    """The endings of the image files that Pillow reads, in lower case."""
    known = Image.registered_extensions()
    return frozenset(ending for ending, kind in known.items() if kind in Image.OPEN)


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in _endings()


def _some(names: Sequence[str]) -> str:
    """Return the first few names and the number of the others."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more

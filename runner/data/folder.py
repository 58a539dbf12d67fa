"""Lists a folder of classes, <part>/<class>/<image>.JPEG as in torchvision's ImageFolder.

Images are the files whose names end in .JPEG, .jpg or .png, in any case; other files are ignored.

The list is kept, since ImageNet has 1.3 million files. It contains the modification times of all
class folders, which change when a file is added or removed; then the folders are listed again. A
file overwritten in place keeps its entry. No checksums of the single files are published, so names,
sizes and counts are checked; decoding finds the other damage.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from runner.data.base import DataError, Info
from runner.data.image_files import PATTERN, entries, image_files, is_image
from runner.data.progress import counted
from runner.files import atomically
from runner.streams import say

PARTS = ("train", "val")
WNID = re.compile(r"n\d{8}")
SHOWN = 3  # names of a long list that a message shows


@dataclass(frozen=True, eq=False)
class Listing:
    """The images of one part, by class and name."""

    names: np.ndarray  # bytes (N,): paths inside the folder
    labels: np.ndarray  # int64 (N,): class indices in alphabetical order
    bytes: np.ndarray  # int64 (N,)

    def digest(self) -> str:
        """SHA-256 over names, labels and sizes."""
        found = hashlib.sha256()
        for values in (self.names, self.labels, self.bytes):
            found.update(np.ascontiguousarray(values).data)
        return found.hexdigest()

    def take(self, places: np.ndarray) -> "Listing":
        """Return the images at the given indices."""
        return Listing(*(getattr(self, f.name)[places] for f in fields(self)))


def classes(folder: Path, expected: Info) -> list[str]:
    """Return the names of all classes (WordNet ids) in alphabetical order; images are not checked.

    Raises:
        DataError: a part is missing, the number of classes is wrong, or the parts' classes differ.
    """
    if missing := [part for part in PARTS if not (folder / part).is_dir()]:
        raise DataError(f"there is no {' and no '.join(f'{folder / part}/' for part in missing)}")
    found = {
        part: {
            entry.name
            for entry in entries(folder / part)
            if WNID.fullmatch(entry.name) and _is_folder(entry)
        }
        for part in PARTS
    }
    for part, names in found.items():
        if len(names) != expected.classes:
            hint = "" if names else _loose_images(folder, part)
            raise DataError(
                f"{folder / part} holds {len(names):,} folders named as WordNet ids (n01440764),"
                f" expected {expected.classes:,}{hint}"
            )
    if strange := sorted(found["train"] ^ found["val"]):
        raise DataError(f"train and val have different classes: {_some(strange)}")
    return sorted(found["train"])


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry is a folder, or a link to one; raise `DataError` if the link is dangling."""
    if entry.is_symlink() and not Path(entry).exists():
        raise DataError(f"{entry.path} is a link to {Path(entry).readlink()}, which does not exist")
    return entry.is_dir()


def _loose_images(folder: Path, part: str) -> str:
    """A hint if the images of `part` are not in folders of classes; else empty."""
    if not any(is_image(entry.name) for entry in entries(folder / part)):
        return ""
    return f": the images are in {part}/ itself; move them into folders of their classes"


def listed_once(folder: Path, kept: Path, expected: Info) -> dict[str, Listing]:
    """Return every image of both parts, from the kept list if no folder has changed since.

    Otherwise the folders are listed, with progress on stderr, and the list is kept.

    Raises:
        DataError: the layout is wrong, or images are missing, too many or empty.
    """
    names = classes(folder, expected)
    stamps = {
        part: np.array([(folder / part / name).stat().st_mtime_ns for name in names])
        for part in PARTS
    }
    found = _read(kept, names, stamps)
    if found is None or _problem(folder, found, expected):
        found = _list(folder, names)
        if problem := _problem(folder, found, expected):
            raise DataError(problem)
        _write(kept, names, stamps, found)
    return found


def _list(folder: Path, names: list[str]) -> dict[str, Listing]:
    total = len(PARTS) * len(names)
    scanned = (_scan(folder, f"{part}/{name}") for part in PARTS for name in names)
    title = f"listing the images of {total:,} folders in {folder}, once"
    images = counted(scanned, total, title, "folders")
    return {part: _listing([next(images) for _ in names]) for part in PARTS}


def _scan(folder: Path, inside: str) -> list[tuple[str, int]]:
    """Return (path inside the folder, bytes) of each image of one class, sorted by name."""
    return [(path, status.st_size) for path, status in image_files(folder, inside).items()]


def _listing(by_class: list[list[tuple[str, int]]]) -> Listing:
    """Join the images of all classes of one part."""
    names = [path.encode() for images in by_class for path, _ in images]
    labels = [label for label, images in enumerate(by_class) for _ in images]
    sizes = [size for images in by_class for _, size in images]
    return Listing(
        np.array(names, dtype="S"),
        np.array(labels, dtype=np.int64),
        np.array(sizes, dtype=np.int64),
    )


def _problem(folder: Path, found: Mapping[str, Listing], expected: Info) -> str:
    """What is wrong with the lists: empty images or wrong counts; else empty."""
    for part, count in zip(PARTS, (expected.train, expected.test), strict=True):
        listing = found[part]
        if empty := [name.decode() for name in listing.names[listing.bytes == 0]]:
            are = "is" if len(empty) == 1 else "are"
            return f"{_some(empty)} {are} empty; unpack the archive again"
        if len(listing.names) != count:
            return (
                f"{folder / part} holds {len(listing.names):,} images ({PATTERN} in folders of"
                f" classes), expected {count:,}{_strangers(folder, part)}; unpack the archive again"
            )
    return ""


def _strangers(folder: Path, part: str) -> str:
    """The files in folders of classes that are not counted as images, as text; else empty."""
    names = sorted(
        f"{part}/{group.name}/{entry.name}"
        for group in entries(folder / part)
        if WNID.fullmatch(group.name) and group.is_dir()
        for entry in entries(folder / part / group.name)
        if not is_image(entry.name)
    )
    return f"; not counted: {_some(names)}" if names else ""


def _read(
    kept: Path, names: list[str], stamps: Mapping[str, np.ndarray]
) -> dict[str, Listing] | None:
    """Return the kept list, or None unless it is intact and matches these folders and times."""
    try:
        with np.load(kept, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        same = arrays["classes"].tolist() == names and all(
            np.array_equal(arrays[f"{part}.times"], stamps[part]) for part in PARTS
        )
        if not same:
            return None
        return {
            part: Listing(*(arrays[f"{part}.{f.name}"] for f in fields(Listing))) for part in PARTS
        }
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def _write(
    kept: Path, names: list[str], stamps: Mapping[str, np.ndarray], found: Mapping[str, Listing]
) -> None:
    arrays = {
        f"{part}.{f.name}": getattr(found[part], f.name) for part in PARTS for f in fields(Listing)
    }
    arrays |= {f"{part}.times": times for part, times in stamps.items()}
    arrays["classes"] = np.array(names)

    def write(path: Path) -> None:
        with path.open("wb") as file:  # np.savez would append .npz to a name
            np.savez(file, **arrays)

    try:
        atomically(kept, write)
    except OSError as error:
        say(f"{kept} cannot be written ({error}): the next run lists the images again")


def _some(names: list[str]) -> str:
    """Return the first few names and the number of the others."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more

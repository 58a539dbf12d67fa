"""ImageNet's images with 256 pixels on the short side: small copies for few cores or slow disks.

<data_dir>/imagenet_256/{train,val}/<class>/<image>   copies under the names of dataset=imagenet
<data_dir>/imagenet_256/checksums.txt                 SHA-256 of each, as sha256sum writes it
<data_dir>/imagenet_256.index                         the list of all copies (runner/data/folder.py)

`make data DATASET=imagenet_256` writes JPEGs of quality 90, scaled as test images are (bilinear
with antialias). Images that are not larger are copied as they are. A class is complete when its
checksums are in .parts/; after a stop, the other classes are written.
"""

import hashlib
import io
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from runner.data.base import DataError
from runner.data.checksums import read_bytes
from runner.data.decoders import decoders
from runner.data.folder import PARTS, Listing, classes
from runner.data.imagenet import Imagenet
from runner.data.jpeg import decoded, scaled
from runner.data.progress import counted
from runner.data.sources import Copies, data_command
from runner.files import write_bytes
from runner.locks import held
from runner.processes import cores
from runner.streams import say

SHORT = 256  # pixels
QUALITY = 90
FOLDER, CHECKSUMS, COMPLETE = "imagenet_256", "checksums.txt", ".parts"


@dataclass(frozen=True)
class Imagenet256(Imagenet):
    """Fields: conf/dataset/imagenet_256.yaml."""

    tag: ClassVar[str] = "imagenet_256"
    name: str = "imagenet_256"
    folder: ClassVar[str] = FOLDER
    whole: ClassVar[type[Imagenet]] = Imagenet  # the data set that is copied

    @property
    def source(self) -> Copies:  # type: ignore[override]
        """Copies of ImageNet."""
        return Copies(self.whole().name, self.copy)

    def verify(self, data_dir: Path) -> None:
        """Check that all copies were written; `load` lists them (slower)."""
        folder = data_dir / self.folder
        if not (folder / CHECKSUMS).is_file():
            what = "is not complete" if folder.is_dir() else "does not exist"
            raise DataError(f"{folder} {what}: {data_command(self.name)} writes the copies")
        classes(folder, self.native)

    def copy(self, data_dir: Path) -> None:
        """Write the copies that are missing, in as many threads as there are cores.

        Raises:
            DataError: the originals are missing, one is damaged, or a copy cannot be written.
        """
        self.whole().check(data_dir)
        folder = data_dir / self.folder
        try:
            with held(
                data_dir / f".{self.folder}.lock",
                lambda holder: say(f"waiting for {folder}, which {holder} makes"),
            ):
                write_copies(data_dir / self.whole.folder, folder, self.whole.listed(data_dir))
        except OSError as error:
            raise DataError(f"a copy cannot be written: {error}; repeat the command") from error


def write_copies(originals: Path, folder: Path, listed: Mapping[str, Listing]) -> None:
    """Write the copies of the classes that are not complete, then the list of all checksums.

    Raises:
        DataError: an image is damaged.
    """
    groups = {inside: names for part in PARTS for inside, names in _by_class(listed[part])}
    complete = {inside: folder / COMPLETE / f"{inside.replace('/', '_')}.txt" for inside in groups}
    missing = [inside for inside in groups if not complete[inside].is_file()]
    total = sum(len(groups[inside]) for inside in missing)
    title = f"writing {total:,} images with {SHORT} pixels on the short side into {folder}"
    for inside in missing:
        (folder / inside).mkdir(parents=True, exist_ok=True)
    write = partial(_write, originals, folder)
    lines = counted(_written(missing, groups, write), total, title, "images")
    for inside in missing:
        of_class = [next(lines) for _ in groups[inside]]
        write_bytes(complete[inside], "".join(of_class).encode())
    write_bytes(folder / CHECKSUMS, b"".join(map(read_bytes, complete.values())))
    shutil.rmtree(folder / COMPLETE)


def _by_class(listing: Listing) -> Iterator[tuple[str, list[str]]]:
    """The folder of each class, and the paths of its images."""
    for label in np.unique(listing.labels):
        names = [name.decode() for name in listing.names[listing.labels == label]]
        yield str(Path(names[0]).parent), names


def _written(
    missing: Sequence[str], groups: Mapping[str, list[str]], write: Callable[[str], str]
) -> Iterator[str]:
    """What `write` returns for each image, computed one class ahead by as many threads as cores."""
    pool = decoders(cores())
    started: deque[Iterator[str]] = deque()
    for inside in missing:
        started.append(pool.map(write, groups[inside]))
        if len(started) > 1:
            yield from started.popleft()
    for each in started:
        yield from each


def _write(originals: Path, folder: Path, name: str) -> str:
    """Write the copy of one image; its line in the list of checksums."""
    content, path = copied(originals / name), folder / name
    temporary = path.with_name(f".{path.name}.tmp")  # hidden, so it is no image
    temporary.write_bytes(content)
    temporary.replace(path)
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n"


def copied(path: Path) -> bytes:
    """The file of a small copy of one image.

    Raises:
        DataError: the image is damaged.
    """
    image = decoded(path)
    shortest = min(image.shape[1:])
    if shortest <= SHORT:
        return read_bytes(path)
    height, width = (SHORT * side // shortest for side in image.shape[1:])
    pixels = scaled(image, height, width).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(
        buffer, "JPEG", quality=QUALITY
    )
    return buffer.getvalue()

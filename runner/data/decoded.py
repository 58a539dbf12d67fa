"""Data sets of many JPEG files: decoded once to uint8 and kept as one safetensors file, so that a run reads one file instead of a hundred thousand.

The kept file names its source, a digest over names, sizes and times of the files, and holds the checksum of its arrays. Where either does not fit (files have
changed, the kept file is damaged), or where it cannot be read, the images are decoded again. It is written under a temporary name and renamed. A lock lets one
process decode while the others wait; correctness does not rest on it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from runner.data.base import DataError, Official, Split
from runner.data.progress import counted, say
from runner.files import atomically, clear_leftovers, held

Labelled = Sequence[tuple[Path, int]]  # image files with their class indices
Decode = Callable[[Path, int], Tensor]  # file and size -> uint8 (3, size, size)


def decoded_once(kept: Path, source: str, train: Labelled, test: Labelled, size: int, decode: Decode | None = None) -> Official:
    """The images of the kept file if it was made from `source`; otherwise decoded, with progress on stderr, and kept.

    Args:
        kept: the file that holds the decoded images, here or later.
        source: a digest that changes when the images do.
        size: height and width of the decoded images.
        decode: how a file becomes pixels; by default it must have that size (`pixels`).

    Raises:
        DataError: an image is damaged or has another size.
    """
    if (official := _read(kept, source)) is not None:
        return official
    try:
        with held(kept.with_name(f".{kept.stem}.lock"), lambda holder: say(f"waiting for {kept}, which {holder} makes")):
            official = _read(kept, source)  # whoever held the lock before may have made it
            if official is None:
                official = _decode(kept, train, test, size, decode or pixels)
                clear_leftovers(kept.parent, kept.name)
                _write(kept, source, official)
    except (OSError, SafetensorError) as error:
        say(f"{kept} cannot be written ({error}): the next run decodes the images again")
    return official if official is not None else _decode(kept, train, test, size, decode or pixels)


def _read(kept: Path, source: str) -> Official | None:
    """What the file holds, or None unless it was made from `source` and is whole."""
    try:
        with safe_open(kept, "pt") as file:
            about = file.metadata() or {}
            if about.get("source") != source:
                return None
            parts = [Split(file.get_tensor(f"{part}.images"), file.get_tensor(f"{part}.labels")) for part in ("train", "test")]
    except (OSError, SafetensorError):
        return None
    official = Official(*parts)
    return official if official.checksum() == about.get("checksum") else None


def _write(kept: Path, source: str, official: Official) -> None:
    parts = {"train": official.train, "test": official.test}
    tensors = {f"{name}.{what}": getattr(part, what) for name, part in parts.items() for what in ("images", "labels")}
    about = {"source": source, "checksum": official.checksum()}

    def write(path: Path) -> None:
        save_file(tensors, path, about)
        path.chmod(0o644)  # safetensors lets only the owner read; folders of data are shared

    atomically(kept, write)


def _decode(kept: Path, train: Labelled, test: Labelled, size: int, decode: Decode) -> Official:
    """Both splits, (N, 3, size, size) each, in the given order."""
    total = len(train) + len(test)
    decoded = counted((decode(path, size) for path, _ in (*train, *test)), total, f"decoding {total:,} images, once, into {kept}", "images")

    def split(part: Labelled) -> Split:
        images = torch.empty((len(part), 3, size, size), dtype=torch.uint8)
        for i in range(len(part)):
            images[i] = next(decoded)
        return Split(images, torch.tensor([label for _, label in part]))

    return Official(split(train), split(test))


def pixels(path: Path, size: int) -> Tensor:
    """One JPEG as uint8 (3, size, size); grey images become red, green and blue alike.

    Raises:
        DataError: the file is damaged, no JPEG, or of another size.
    """
    image = rgb(path)
    if image.size != (size, size):
        raise DataError(f"{path} has {image.width}x{image.height} pixels, expected {size}x{size}")
    return as_tensor(image)


def rgb(path: Path, formats: tuple[str, ...] = ("JPEG",)) -> Image.Image:
    """One image file, decoded, in red, green and blue.

    Raises:
        DataError: the file is damaged or of another format.
    """
    try:
        with Image.open(path, formats=formats) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises for damaged files
        raise DataError(f"{path} is no intact JPEG ({error}); delete it and unpack the archive again") from error


def as_tensor(image: Image.Image) -> Tensor:
    """An RGB image as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)

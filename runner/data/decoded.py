"""Decodes data sets of many image files once to uint8 and keeps them as one safetensors file.

A run then reads one file instead of a hundred thousand. The kept file holds a digest over names,
sizes and times of its source files, and the checksum of its arrays. If either differs (files have
changed, the kept file is damaged), or if the file cannot be read, the images are decoded again. It
is written under a temporary name and renamed. A lock lets one process decode while the others wait;
correctness does not depend on it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from runner.data.base import DataError, Official, Split
from runner.data.image_files import as_tensor, rgb
from runner.data.progress import counted
from runner.files import atomically, clear_leftovers
from runner.locks import held
from runner.streams import say

Labelled = Sequence[tuple[Path, int]]  # image files with their class indices
Decode = Callable[[Path, int], Tensor]  # file and size -> uint8 (3, size, size)


def decoded_once(
    kept: Path,
    source: str,
    train: Labelled,
    test: Labelled,
    size: int,
    decode: Decode | None = None,
) -> Official:
    """Return the images of the kept file if it was made from `source`; else decode and keep them.

    Decoding prints progress on stderr.

    Args:
        kept: the file of decoded images, created if necessary.
        source: a digest that changes when the images do.
        size: height and width of the decoded images.
        decode: reads a file as pixels; the default (`pixels`) requires images of that size.

    Raises:
        DataError: an image is damaged or has another size.
    """
    if (official := _read(kept, source)) is not None:
        return official
    try:
        lock = kept.with_name(f".{kept.stem}.lock")
        with held(lock, lambda holder: say(f"waiting for {kept}, which {holder} makes")):
            official = _read(kept, source)  # the previous holder may have made it
            if official is None:
                official = _decode(kept, train, test, size, decode or pixels)
                clear_leftovers(kept.parent, kept.name)
                _write(kept, source, official)
    except (OSError, SafetensorError) as error:
        say(f"{kept} cannot be written ({error}): the next run decodes the images again")
    return official if official is not None else _decode(kept, train, test, size, decode or pixels)


def _read(kept: Path, source: str) -> Official | None:
    """Return the contents of the file, or None unless it is intact and was made from `source`."""
    try:
        with safe_open(kept, "pt") as file:
            about = file.metadata() or {}
            if about.get("source") != source:
                return None
            parts = [
                Split(file.get_tensor(f"{part}.images"), file.get_tensor(f"{part}.labels"))
                for part in ("train", "test")
            ]
    except (OSError, SafetensorError):
        return None
    official = Official(*parts)
    return official if official.checksum() == about.get("checksum") else None


def _write(kept: Path, source: str, official: Official) -> None:
    parts = {"train": official.train, "test": official.test}
    tensors = {
        f"{name}.{what}": getattr(part, what)
        for name, part in parts.items()
        for what in ("images", "labels")
    }
    about = {"source": source, "checksum": official.checksum()}

    atomically(kept, lambda path: save_file(tensors, path, about))


def _decode(kept: Path, train: Labelled, test: Labelled, size: int, decode: Decode) -> Official:
    """Return both splits, images (N, 3, size, size) each, in the given order."""
    total = len(train) + len(test)
    images = (decode(path, size) for path, _ in (*train, *test))
    decoded = counted(images, total, f"decoding {total:,} images, once, into {kept}", "images")

    def split(part: Labelled) -> Split:
        images = torch.empty((len(part), 3, size, size), dtype=torch.uint8)
        for i in range(len(part)):
            images[i] = next(decoded)
        return Split(images, torch.tensor([label for _, label in part]))

    return Official(split(train), split(test))


def pixels(path: Path, size: int) -> Tensor:
    """Return one JPEG as uint8 (3, size, size); grey images get three equal channels.

    Raises:
        DataError: the file is damaged, not a JPEG, or of another size.
    """
    image = rgb(path, ("JPEG",))
    if image.size != (size, size):
        raise DataError(f"{path} has {image.width}x{image.height} pixels, expected {size}x{size}")
    return as_tensor(image)

"""Decodes data sets of many image files once and keeps them as one safetensors file.

A run then reads one file instead of a hundred thousand. The kept file holds a digest over names,
sizes and times of its source files, and the checksum of its arrays. If either differs (files have
changed, the kept file is damaged), or if the file cannot be read, the images are decoded again. It
is written under a temporary name and renamed. A lock lets one process decode while the others wait;
correctness does not depend on it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from runner.data.base import DataError, Official, Split, checksum
from runner.data.image_files import as_tensor, rgb
from runner.data.progress import counted
from runner.files import atomically, clear_leftovers
from runner.locks import held
from runner.streams import say

Labelled = Sequence[tuple[Path, int]]  # image files with their class indices
Decode = Callable[[Path], Tensor]  # file -> pixels (C, H, W)


def decoded_once(
    kept: Path,
    source: str,
    train: Labelled,
    test: Labelled,
    size: int,
    decode: Callable[[Path, int], Tensor] | None = None,
) -> Official:
    """Return both splits of a data set of colour images (`decoded_parts`).

    Args:
        size: height and width of the decoded images.
        decode: reads a file as pixels, uint8 (3, size, size); the default (`pixels`) requires
            images of that size.
    """
    like = torch.empty((3, size, size), dtype=torch.uint8)
    parts, read = {"train": train, "test": test}, decode or pixels
    return Official(**decoded_parts(kept, source, parts, like, lambda path: read(path, size)))


def decoded_parts(
    kept: Path, source: str, parts: Mapping[str, Labelled], like: Tensor, decode: Decode
) -> dict[str, Split]:
    """Return the images of the kept file if it was made from `source`; else decode and keep them.

    Decoding prints progress on stderr.

    Args:
        kept: the file of decoded images, created if necessary.
        source: a digest that changes when the images do.
        parts: the image files of each part.
        like: a tensor of the shape and the type of a decoded image.
        decode: reads a file as pixels.

    Raises:
        DataError: an image is damaged or has another size.
    """
    if (splits := _read(kept, source, parts)) is not None:
        return splits
    try:
        lock = kept.with_name(f".{kept.stem}.lock")
        with held(lock, lambda holder: say(f"waiting for {kept}, which {holder} makes")):
            splits = _read(kept, source, parts)  # the previous holder may have made it
            if splits is None:
                splits = _decode(kept, parts, like, decode)
                clear_leftovers(kept.parent, kept.name)
                _write(kept, source, splits)
    except (OSError, SafetensorError) as error:
        say(f"{kept} cannot be written ({error}): the next run decodes the images again")
    return splits if splits is not None else _decode(kept, parts, like, decode)


def _read(kept: Path, source: str, names: Iterable[str]) -> dict[str, Split] | None:
    """Return the contents of the file, or None unless it is intact and was made from `source`."""
    try:
        with safe_open(kept, "pt") as file:
            about = file.metadata() or {}
            if about.get("source") != source:
                return None
            splits = {
                part: Split(file.get_tensor(f"{part}.images"), file.get_tensor(f"{part}.labels"))
                for part in names
            }
    except (OSError, SafetensorError):
        return None
    return splits if checksum(splits.values()) == about.get("checksum") else None


def _write(kept: Path, source: str, splits: Mapping[str, Split]) -> None:
    tensors = {
        f"{name}.{what}": getattr(part, what)
        for name, part in splits.items()
        for what in ("images", "labels")
    }
    about = {"source": source, "checksum": checksum(splits.values())}
    atomically(kept, lambda path: save_file(tensors, path, about))


def _decode(
    kept: Path, parts: Mapping[str, Labelled], like: Tensor, decode: Decode
) -> dict[str, Split]:
    """Return each part, images (N, C, H, W), in the given order."""
    files = [path for part in parts.values() for path, _ in part]
    title = f"decoding {len(files):,} images, once, into {kept}"
    decoded = counted(map(decode, files), len(files), title, "images")

    def split(part: Labelled) -> Split:
        images = torch.empty((len(part), *like.shape), dtype=like.dtype)
        for i in range(len(part)):
            images[i] = next(decoded)
        return Split(images, torch.tensor([label for _, label in part]))

    return {name: split(part) for name, part in parts.items()}


def pixels(path: Path, size: int) -> Tensor:
    """Return one JPEG as uint8 (3, size, size); grey images get three equal channels.

    Raises:
        DataError: the file is damaged, not a JPEG, or of another size.
    """
    image = rgb(path, ("JPEG",))
    if image.size != (size, size):
        raise DataError(f"{path} has {image.width}x{image.height} pixels, expected {size}x{size}")
    return as_tensor(image)

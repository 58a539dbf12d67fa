"""MNIST's file format: four IDX files (LeCun et al., 1998), gzipped or not, with known checksums.

A file compressed again has another MD5 than the published one. So a gzipped file whose MD5 is not
the published one is checked by its contents.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from runner.data.base import DataError, Official, Split
from runner.data.checksums import damaged, digest, read_bytes

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
CLASSES = 10


def read_official(folders: Sequence[Path], checksums: Mapping[str, str]) -> Official:
    """Return both splits, each file from the first folder that has it.

    `checksums`: see `unpacked`.
    """
    images, labels, test_images, test_labels = (
        parse_idx(path, unpacked(path, checksums)) for path in find_files(folders)
    )
    return Official(_split(images, labels, "train"), _split(test_images, test_labels, "t10k"))


def verify_files(folders: Sequence[Path], checksums: Mapping[str, str]) -> None:
    """Raise a `DataError` unless all four files are present and intact."""
    for path in find_files(folders):
        unpacked(path, checksums)


def find_files(folders: Sequence[Path]) -> list[Path]:
    """Return the paths of the four files in the order of FILES.

    In each folder, the gzipped file takes precedence over the unpacked one.
    """
    found = {
        name: [
            path
            for folder in folders
            for path in (folder / f"{name}.gz", folder / name)
            if path.is_file()
        ]
        for name in FILES
    }
    missing = [f"{name}.gz" for name, paths in found.items() if not paths]
    if missing:
        raise DataError(f"missing {', '.join(missing)}")
    return [paths[0] for paths in found.values()]


def unpacked(path: Path, checksums: Mapping[str, str]) -> bytes:
    """Return the unpacked contents of a file; raise `DataError` unless it is intact.

    A file is intact if it, or the file inside it, has the checksum listed under its name.
    """
    raw = read_bytes(path)
    packed = path.suffix == ".gz"
    intact = digest(raw, like=checksums[path.name]) == checksums[path.name]
    if not packed and intact:
        return raw
    if packed:
        try:
            content = gzip.decompress(raw)
        except (EOFError, OSError, zlib.error) as error:
            raise damaged(path, raw, checksums[path.name]) from error
        if intact or digest(content, like=checksums[path.stem]) == checksums[path.stem]:
            return content
    raise damaged(path, raw, checksums[path.name])


def parse_idx(path: Path, content: bytes) -> Tensor:
    """Return the uint8 array of an IDX file.

    The header is two zero bytes, type 8, the number of dimensions, and each dimension as a
    big-endian 32-bit number.
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * content[3]:
        raise DataError(
            f"{path} is not an IDX file of bytes: it starts with {content[:4].hex() or 'nothing'},"
            " expected 000008 and the number of dimensions"
        )
    start = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{path} holds {len(content) - start:,} values, but its header states"
            f" {' x '.join(map(str, shape))}"
        )
    return torch.from_numpy(
        np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape).copy()
    )


def _split(images: Tensor, labels: Tensor, part: str) -> Split:
    """One split from images (N, H, H) and labels (N,) in 0 ... 9."""
    square = images.dim() == 3 and images.shape[1] == images.shape[2]
    if (
        not square
        or labels.shape != images.shape[:1]
        or len(labels) == 0
        or int(labels.max()) >= CLASSES
    ):
        raise DataError(
            f"the {part} files do not fit together: images {tuple(images.shape)}, labels"
            f" {tuple(labels.shape)}, expected (N, H, H), (N,) and classes 0 to {CLASSES - 1}"
        )
    return Split(images.unsqueeze(1), labels.long())

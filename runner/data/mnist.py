"""MNIST and Fashion-MNIST in the IDX format (LeCun et al., 1998; Xiao et al., 2017, arXiv:1708.07747).

Files are looked for in torchvision's layout, packed or unpacked, and for Fashion-MNIST also where Debian's package dataset-fashion-mnist puts them. Debian
packs the same bytes anew (without name and date in the gzip header), so a packed file whose MD5 is not the published one is judged by its contents.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from runner.data.base import Data, DataError, Info, Official, Split, damaged, digest, explained, read_bytes
from runner.data.prepare import assemble, check_options, padded_info

NATIVE = Info(channels=1, size=28, classes=10, train=60_000, test=10_000)
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
# SHA-256 of the unpacked files, in the order of FILES. torchvision publishes only the MD5 of the packed ones.
MNIST_SHA256 = (  # as several independent public repositories list them, all alike
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)
FASHION_SHA256 = (  # of Debian's files; with name and date put back into their gzip headers these have the MD5 that torchvision publishes
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)


@dataclass(frozen=True)
class Mnist:
    """Fields: conf/dataset/mnist.yaml."""

    tag: ClassVar[str] = "mnist"
    name: str = "mnist"
    size: int | None = None
    validation: float = 0.0
    augment: str = "none"
    normalise: str = "computed"

    def __post_init__(self) -> None:
        check_options(self, "mnist", NATIVE)

    def info(self) -> Info:
        """Shape and counts after padding."""
        return padded_info(self, NATIVE)

    def places(self, data_dir: Path) -> list[Path]:
        """torchvision's folder."""
        return [data_dir / "MNIST" / "raw"]

    def verify(self, data_dir: Path) -> None:
        """Like `check`, but the error names only the problem."""
        verify_files(self.places(data_dir), published("MNIST", MNIST_SHA256))

    def check(self, data_dir: Path) -> None:
        """Raise a `DataError` unless all four files are there and intact."""
        with explained(self, data_dir):
            self.verify(data_dir)

    def load(self, data_dir: Path, train_fraction: float) -> Data:
        """Read, check and prepare the images."""
        with explained(self, data_dir):
            official = read_official(self.places(data_dir), published("MNIST", MNIST_SHA256))
        return assemble(self, official, scale=255.0, classes=10, train_fraction=train_fraction)


@dataclass(frozen=True)
class FashionMnist:
    """Fields: conf/dataset/fashion_mnist.yaml."""

    tag: ClassVar[str] = "fashion_mnist"
    name: str = "fashion_mnist"
    size: int | None = None
    validation: float = 0.0
    augment: str = "none"
    normalise: str = "computed"

    def __post_init__(self) -> None:
        check_options(self, "fashion_mnist", NATIVE)

    def info(self) -> Info:
        """Shape and counts after padding."""
        return padded_info(self, NATIVE)

    def places(self, data_dir: Path) -> list[Path]:
        """torchvision's folder, then Debian's."""
        return [data_dir / "FashionMNIST" / "raw", DEBIAN]

    def verify(self, data_dir: Path) -> None:
        """Like `check`, but the error names only the problem."""
        verify_files(self.places(data_dir), published("FashionMNIST", FASHION_SHA256))

    def check(self, data_dir: Path) -> None:
        """Raise a `DataError` unless all four files are there and intact."""
        with explained(self, data_dir, "apt-get install dataset-fashion-mnist"):
            self.verify(data_dir)

    def load(self, data_dir: Path, train_fraction: float) -> Data:
        """Read, check and prepare the images."""
        with explained(self, data_dir, "apt-get install dataset-fashion-mnist"):
            official = read_official(self.places(data_dir), published("FashionMNIST", FASHION_SHA256))
        return assemble(self, official, scale=255.0, classes=10, train_fraction=train_fraction)


def published(torchvision_name: str, sha256: Sequence[str]) -> dict[str, str]:
    """File name -> checksum: torchvision's MD5 of the packed files, and `sha256` of the unpacked ones."""
    import torchvision.datasets  # here: importing torchvision takes seconds

    return dict(getattr(torchvision.datasets, torchvision_name).resources) | dict(zip(FILES, sha256, strict=True))


def read_official(folders: Sequence[Path], checksums: Mapping[str, str]) -> Official:
    """Both splits from the first folder that has each file. `checksums`: see `unpacked`."""
    images, labels, test_images, test_labels = (parse_idx(path, unpacked(path, checksums)) for path in find_files(folders))
    return Official(_split(images, labels, "train"), _split(test_images, test_labels, "t10k"))


def verify_files(folders: Sequence[Path], checksums: Mapping[str, str]) -> None:
    """Raise a `DataError` unless all four files are there and intact."""
    for path in find_files(folders):
        unpacked(path, checksums)


def find_files(folders: Sequence[Path]) -> list[Path]:
    """Paths of the four files in the order of FILES; in each folder the packed file comes before the unpacked one."""
    found = {name: [path for folder in folders for path in (folder / f"{name}.gz", folder / name) if path.is_file()] for name in FILES}
    missing = [f"{name}.gz" for name, paths in found.items() if not paths]
    if missing:
        raise DataError(f"missing {', '.join(missing)}")
    return [paths[0] for paths in found.values()]


def unpacked(path: Path, checksums: Mapping[str, str]) -> bytes:
    """Unpacked contents of a file that is intact: itself, or what is packed in it, has the checksum listed under the name."""
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
    """The uint8 array of an IDX file: two zero bytes, type 8, the number of dimensions, then each as a big-endian 32-bit number."""
    if len(content) < 4 or content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * content[3]:
        raise DataError(f"{path} is not an IDX file of bytes: it starts with {content[:4].hex() or 'nothing'}, expected 000008 and the number of dimensions")
    start = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise DataError(f"{path} holds {len(content) - start:,} values, but its header says {' x '.join(map(str, shape))}")
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape).copy())


def _split(images: Tensor, labels: Tensor, part: str) -> Split:
    """One split from images (N, H, H) and labels (N,) in 0 ... 9."""
    square = images.dim() == 3 and images.shape[1] == images.shape[2]
    if not square or labels.shape != images.shape[:1] or len(labels) == 0 or int(labels.max()) >= NATIVE.classes:
        raise DataError(
            f"the {part} files do not fit together: images {tuple(images.shape)}, labels {tuple(labels.shape)}, "
            f"expected (N, H, H), (N,) and classes 0 to {NATIVE.classes - 1}"
        )
    return Split(images.unsqueeze(1), labels.long())

"""MNIST and Fashion-MNIST (LeCun et al., 1998; Xiao et al., 2017, arXiv:1708.07747).

Files are searched in torchvision's layout, gzipped or not; for Fashion-MNIST also in the folder of
Debian's package dataset-fashion-mnist. Debian compresses the same bytes again, without name and
date in the gzip header (runner/data/idx.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from runner.data.base import Info, Official
from runner.data.constants import MNIST, Constants
from runner.data.idx import CLASSES, FILES, read_official, verify_files
from runner.data.image_set import ImageSet
from runner.data.sources import TorchvisionFiles, torchvision_class

NATIVE = Info(channels=1, size=28, classes=CLASSES, train=60_000, test=10_000)
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
# SHA-256 of the unpacked files, in the order of FILES. torchvision publishes only the MD5 of the
# gzipped ones.
MNIST_SHA256 = (  # as several independent public repositories list them, all alike
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)
# Of Debian's files. With name and date restored in their gzip headers, these have the MD5 that
# torchvision publishes.
FASHION_SHA256 = (
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)


@dataclass(frozen=True)
class Mnist(ImageSet):
    """Fields: conf/dataset/mnist.yaml."""

    tag: ClassVar[str] = "mnist"
    name: str = "mnist"
    native: ClassVar[Info] = NATIVE
    folder: ClassVar[str] = "MNIST/raw"
    source: ClassVar[TorchvisionFiles] = TorchvisionFiles("MNIST")
    # GraSP: 0.5 / 0.5
    normalisations: ClassVar[Mapping[str, Constants]] = {"mnist": MNIST, "grasp": ((0.5,), (0.5,))}
    stands_for: ClassVar[str] = "cifar10"

    def verify(self, data_dir: Path) -> None:
        """Compare the checksums of the four files."""
        verify_files(self.places(data_dir), published(self.source, MNIST_SHA256))

    def read(self, data_dir: Path) -> Official:
        """Both splits."""
        return read_official(self.places(data_dir), published(self.source, MNIST_SHA256))


@dataclass(frozen=True)
class FashionMnist(ImageSet):
    """Fields: conf/dataset/fashion_mnist.yaml."""

    tag: ClassVar[str] = "fashion_mnist"
    name: str = "fashion_mnist"
    native: ClassVar[Info] = NATIVE
    folder: ClassVar[str] = "FashionMNIST/raw"
    source: ClassVar[TorchvisionFiles] = TorchvisionFiles(
        "FashionMNIST", package="dataset-fashion-mnist"
    )
    # rahulvigneswaran applies MNIST's constants.
    normalisations: ClassVar[Mapping[str, Constants]] = {"mnist": MNIST}
    stands_for: ClassVar[str] = "cifar10"

    def places(self, data_dir: Path) -> list[Path]:
        """torchvision's folder, then Debian's."""
        return [data_dir / self.folder, DEBIAN]

    def verify(self, data_dir: Path) -> None:
        """Compare the checksums of the four files."""
        verify_files(self.places(data_dir), published(self.source, FASHION_SHA256))

    def read(self, data_dir: Path) -> Official:
        """Both splits."""
        return read_official(self.places(data_dir), published(self.source, FASHION_SHA256))


def published(source: TorchvisionFiles, sha256: Sequence[str]) -> dict[str, str]:
    """Map file names to checksums.

    They are torchvision's MD5 of the gzipped files and `sha256` of the unpacked ones.
    """
    return dict(torchvision_class(source.name).resources) | dict(zip(FILES, sha256, strict=True))

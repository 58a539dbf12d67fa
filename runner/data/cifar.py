"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): pickled batches of the official Python archives.

Files are laid out as by torchvision.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from runner.data.base import Info, Official
from runner.data.cifar_batches import Layout, read_official, verify_files
from runner.data.constants import IMAGENET, MNIST_RGB, Constants
from runner.data.image_set import ImageSet
from runner.data.sources import TorchvisionArchive, torchvision_class

# alecwangcq/GraSP utils/data_utils.py; not the true std
GRASP10: Constants = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
HALF: Constants = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # EkdeepSLubana/flowandprune


@dataclass(frozen=True)
class Cifar10(ImageSet):
    """Fields: conf/dataset/cifar10.yaml."""

    tag: ClassVar[str] = "cifar10"
    name: str = "cifar10"
    augment: str = "crop_flip"
    native: ClassVar[Info] = Info(channels=3, size=32, classes=10, train=50_000, test=10_000)
    folder: ClassVar[str] = "cifar-10-batches-py"
    source: ClassVar[TorchvisionArchive] = TorchvisionArchive("CIFAR10")
    normalisations: ClassVar[Mapping[str, Constants]] = {
        "grasp": GRASP10,  # also JingtongSu (sanity-check), rethinking
        # ganguli-lab/Synaptic-Flow Utils/load.py
        "synflow": ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
        "open_lth": IMAGENET,  # facebookresearch/open_lth datasets/cifar10.py: ImageNet's constants
        # lolemacs
        "continuous_sparsification": (
            (125.3 / 255, 123.0 / 255, 113.9 / 255),
            (63.0 / 255, 62.1 / 255, 66.7 / 255),
        ),
        "flow_prune": HALF,
        "mnist": MNIST_RGB,
    }

    def verify(self, data_dir: Path) -> None:
        """Compare the checksums of all files."""
        verify_files(data_dir / self.folder, published(self.source, "labels"))

    def read(self, data_dir: Path) -> Official:
        """Both splits."""
        return read_official(data_dir / self.folder, published(self.source, "labels"))


@dataclass(frozen=True)
class Cifar100(ImageSet):
    """Fields: conf/dataset/cifar100.yaml. Labels are the 100 fine ones."""

    tag: ClassVar[str] = "cifar100"
    name: str = "cifar100"
    augment: str = "crop_flip"
    native: ClassVar[Info] = Info(channels=3, size=32, classes=100, train=50_000, test=10_000)
    folder: ClassVar[str] = "cifar-100-python"
    source: ClassVar[TorchvisionArchive] = TorchvisionArchive("CIFAR100")
    normalisations: ClassVar[Mapping[str, Constants]] = {
        "grasp": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
        "rethinking": GRASP10,  # rethinking and LT_prune: CIFAR-10's constants
        "synflow": ((0.507, 0.487, 0.441), (0.267, 0.256, 0.276)),
        "flow_prune": HALF,
        "mnist": MNIST_RGB,
    }

    def verify(self, data_dir: Path) -> None:
        """Compare the checksums of all files."""
        verify_files(data_dir / self.folder, published(self.source, "fine_labels"))

    def read(self, data_dir: Path) -> Official:
        """Both splits."""
        return read_official(data_dir / self.folder, published(self.source, "fine_labels"))


def published(source: TorchvisionArchive, labels_key: str) -> Layout:
    """The files and MD5 checksums that torchvision lists."""
    listed = torchvision_class(source.name)
    meta = {listed.meta["filename"]: listed.meta["md5"]}
    return Layout(
        dict(listed.train_list), dict(listed.test_list), meta, listed.meta["key"], labels_key
    )

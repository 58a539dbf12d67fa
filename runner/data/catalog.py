"""The data sets there are. A new one is a component, its YAML and one entry here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runner.data.base import DataError, DataSet
from runner.data.cifar import Cifar10, Cifar100
from runner.data.digits import Digits
from runner.data.imagenet import Imagenet, ImagenetSubset
from runner.data.mnist import FashionMnist, Mnist
from runner.data.tiny_imagenet import TinyImagenet

COMPONENTS: tuple[Callable[[], DataSet], ...] = (Digits, FashionMnist, Mnist, Cifar10, Cifar100, TinyImagenet, ImagenetSubset, Imagenet)


@dataclass(frozen=True)
class Archive:
    """An official archive of a data set that torchvision has no loader for."""

    url: str
    md5: str

    @property
    def file(self) -> str:
        """Its name on the disk."""
        return self.url.rpartition("/")[2]


ARCHIVES = {  # data set -> archive; the MD5 as many independent public loaders list it, all alike
    "tiny_imagenet": Archive("http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"),  # 248,100,043 bytes
}
BY_HAND = ("imagenet_subset", "imagenet")  # nobody may hand their files on: the errors of the components say how one gets them


def names() -> list[str]:
    """Names of all data sets."""
    return [component().name for component in COMPONENTS]


def ready(data_dir: Path) -> list[str]:
    """Names of the data sets whose files are all there and intact."""
    return [component().name for component in COMPONENTS if is_ready(component(), data_dir)]


def is_ready(component: DataSet, data_dir: Path) -> bool:
    """Whether the files of a data set are all there and intact."""
    try:
        component.verify(data_dir)
    except DataError:
        return False
    return True

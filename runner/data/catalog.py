"""The data sets there are. A new one is a component, its YAML and one entry here."""

from collections.abc import Callable
from pathlib import Path

from runner.data.base import DataError, DataSet
from runner.data.cifar import Cifar10, Cifar100
from runner.data.digits import Digits
from runner.data.mnist import FashionMnist, Mnist

COMPONENTS: tuple[Callable[[], DataSet], ...] = (Digits, FashionMnist, Mnist, Cifar10, Cifar100)


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

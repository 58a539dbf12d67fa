"""The image data sets: the classes of runner/data that declare a tag."""

from pathlib import Path

from runner.data.base import DataError, DataSet
from runner.registry import find_class, own_tags, tags

OF_DATA_SETS = ("info", "verify", "load")  # methods that only the class of a data set has


def data_sets() -> list[DataSet]:
    """All image data sets with default options, ordered by classes, image size and name."""
    own = [cls for tag in own_tags() if _reads_data(cls := find_class(tag))]
    found: list[DataSet] = [cls() for cls in (*map(find_class, tags("runner.data")), *own)]
    with_images = [component for component in found if component.info().images]
    return sorted(with_images, key=_order)


def _reads_data(cls: type) -> bool:
    return all(hasattr(cls, name) for name in OF_DATA_SETS)


def _order(component: DataSet) -> tuple[int, int, str]:
    info = component.info()
    return info.classes, info.size, component.name


def names() -> list[str]:
    """Names of all image data sets."""
    return [component.name for component in data_sets()]


def ready(data_dir: Path) -> list[str]:
    """Names of the data sets whose files are all present and intact."""
    return [component.name for component in data_sets() if is_ready(component, data_dir)]


def is_ready(component: DataSet, data_dir: Path) -> bool:
    """Whether the files of a data set are all present and intact."""
    try:
        component.verify(data_dir)
    except DataError:
        return False
    return True

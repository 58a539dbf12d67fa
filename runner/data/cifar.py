"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) in the pickled batches of the official Python archives, laid out as torchvision does."""

import codecs
import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from runner.data.base import Data, DataError, Info, Official, Split, explained, read_verified
from runner.data.prepare import assemble, check_options, padded_info

NATIVE10 = Info(channels=3, size=32, classes=10, train=50_000, test=10_000)
NATIVE100 = Info(channels=3, size=32, classes=100, train=50_000, test=10_000)


@dataclass(frozen=True)
class Layout:
    """The files of one of the two data sets, by name, with their checksums, and the keys inside."""

    train: Mapping[str, str]  # file name -> MD5 or SHA-256
    test: Mapping[str, str]
    meta: Mapping[str, str]
    names_key: str  # in the meta file: the list of class names
    labels_key: str  # in the others: the list of labels

    def files(self) -> dict[str, str]:
        """All files with their checksums."""
        return {**self.train, **self.test, **self.meta}


@dataclass(frozen=True)
class Cifar10:
    """Fields: conf/dataset/cifar10.yaml."""

    tag: ClassVar[str] = "cifar10"
    name: str = "cifar10"
    size: int | None = None
    validation: float = 0.0
    augment: str = "crop_flip"
    normalise: str = "computed"

    def __post_init__(self) -> None:
        check_options(self, "cifar10", NATIVE10)

    def info(self) -> Info:
        """Shape and counts after padding."""
        return padded_info(self, NATIVE10)

    def places(self, data_dir: Path) -> list[Path]:
        """torchvision's folder."""
        return [data_dir / "cifar-10-batches-py"]

    def verify(self, data_dir: Path) -> None:
        """Like `check`, but the error names only the problem."""
        verify_files(self.places(data_dir)[0], published("CIFAR10", "labels"))

    def check(self, data_dir: Path) -> None:
        """Raise a `DataError` unless all files are there and intact."""
        with explained(self, data_dir):
            self.verify(data_dir)

    def load(self, data_dir: Path, train_fraction: float) -> Data:
        """Read, check and prepare the images."""
        with explained(self, data_dir):
            official = read_official(self.places(data_dir)[0], published("CIFAR10", "labels"))
        return assemble(self, official, scale=255.0, classes=10, train_fraction=train_fraction)


@dataclass(frozen=True)
class Cifar100:
    """Fields: conf/dataset/cifar100.yaml. Labels are the 100 fine ones."""

    tag: ClassVar[str] = "cifar100"
    name: str = "cifar100"
    size: int | None = None
    validation: float = 0.0
    augment: str = "crop_flip"
    normalise: str = "computed"

    def __post_init__(self) -> None:
        check_options(self, "cifar100", NATIVE100)

    def info(self) -> Info:
        """Shape and counts after padding."""
        return padded_info(self, NATIVE100)

    def places(self, data_dir: Path) -> list[Path]:
        """torchvision's folder."""
        return [data_dir / "cifar-100-python"]

    def verify(self, data_dir: Path) -> None:
        """Like `check`, but the error names only the problem."""
        verify_files(self.places(data_dir)[0], published("CIFAR100", "fine_labels"))

    def check(self, data_dir: Path) -> None:
        """Raise a `DataError` unless all files are there and intact."""
        with explained(self, data_dir):
            self.verify(data_dir)

    def load(self, data_dir: Path, train_fraction: float) -> Data:
        """Read, check and prepare the images."""
        with explained(self, data_dir):
            official = read_official(self.places(data_dir)[0], published("CIFAR100", "fine_labels"))
        return assemble(self, official, scale=255.0, classes=100, train_fraction=train_fraction)


def published(torchvision_name: str, labels_key: str) -> Layout:
    """torchvision's list of files and MD5 checksums."""
    import torchvision.datasets  # here: importing torchvision takes seconds

    source = getattr(torchvision.datasets, torchvision_name)
    meta = {source.meta["filename"]: source.meta["md5"]}
    return Layout(dict(source.train_list), dict(source.test_list), meta, source.meta["key"], labels_key)


def verify_files(folder: Path, layout: Layout) -> None:
    """Raise a `DataError` unless all files are there and intact."""
    _require_all(folder, layout)
    for name, checksum in layout.files().items():
        read_verified(folder / name, checksum)


def read_official(folder: Path, layout: Layout) -> Official:
    """Both splits, the training files one after the other."""
    _require_all(folder, layout)
    classes = sum(len(_entry(folder / name, checksum, layout.names_key)[layout.names_key]) for name, checksum in layout.meta.items())
    return Official(_read_split(folder, layout.train, layout.labels_key, classes), _read_split(folder, layout.test, layout.labels_key, classes))


def _require_all(folder: Path, layout: Layout) -> None:
    missing = [name for name in layout.files() if not (folder / name).is_file()]
    if missing:
        raise DataError(f"missing {', '.join(missing)}")


def _read_split(folder: Path, files: Mapping[str, str], labels_key: str, classes: int) -> Split:
    """Images (N, 3, 32, 32) and labels (N,) of the files, joined in their order."""
    images, labels = [], []
    for name, checksum in files.items():
        entry = _entry(folder / name, checksum, "data", labels_key)
        rows, targets = entry["data"], np.asarray(entry[labels_key])
        rows_fit = isinstance(rows, np.ndarray) and rows.dtype == np.uint8 and rows.shape == (len(targets), 3072)
        if not rows_fit or targets.dtype.kind != "i" or not 0 <= targets.min() <= targets.max() < classes:
            raise DataError(f"{folder / name} does not hold uint8 rows of 3,072 values, each with a label from 0 to {classes - 1}")
        images.append(torch.from_numpy(rows.reshape(-1, 3, 32, 32).copy()))
        labels.append(torch.from_numpy(targets.astype(np.int64)))
    return Split(torch.cat(images), torch.cat(labels))


def _entry(path: Path, checksum: str, *keys: str) -> dict[str, Any]:
    """The dictionary pickled in an intact file; it has the given keys."""
    content = read_verified(path, checksum)
    try:
        entry = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        raise DataError(f"{path} is not a CIFAR batch: {error}") from error
    if not isinstance(entry, dict) or not set(keys) <= set(entry):
        raise DataError(f"{path} is not a CIFAR batch: it lacks {' and '.join(keys)}")
    return entry


class _ArrayUnpickler(pickle.Unpickler):
    """Reads numbers, text, lists, dictionaries and numpy arrays; a pickle that names anything else is refused, so that it can run no code."""

    def find_class(self, module: str, name: str) -> Any:
        reconstruct = np.empty(0).__reduce__()[0]  # numpy's own, wherever this version keeps it; the official files use the name of 2009
        admitted: dict[tuple[str, str], Any] = {
            ("numpy.core.multiarray", "_reconstruct"): reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): codecs.encode,  # how Python 3 writes bytes for Python 2
        }
        if (module, name) not in admitted:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which such a file has no use for")
        return admitted[module, name]

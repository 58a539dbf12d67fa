"""The file format of CIFAR-10 and CIFAR-100: dictionaries pickled by Python 2.

The reader never runs code that a pickle may contain.
"""

import codecs
import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from runner.data.base import DataError, Official, Split
from runner.data.checksums import read_verified

# Raised by the unpickler for files that are no pickle of plain values.
MALFORMED = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
)


@dataclass(frozen=True)
class Layout:
    """The files of one of the two data sets with their checksums, and the keys inside."""

    train: Mapping[str, str]  # file name -> MD5 or SHA-256
    test: Mapping[str, str]
    meta: Mapping[str, str]
    names_key: str  # in the meta file: the list of class names
    labels_key: str  # in the others: the list of labels

    def files(self) -> dict[str, str]:
        """All files with their checksums."""
        return {**self.train, **self.test, **self.meta}


def verify_files(folder: Path, layout: Layout) -> None:
    """Raise a `DataError` unless all files are present and intact."""
    _require_all(folder, layout)
    for name, checksum in layout.files().items():
        read_verified(folder / name, checksum)


def read_official(folder: Path, layout: Layout) -> Official:
    """Return both splits; training files are concatenated in order."""
    _require_all(folder, layout)
    classes = sum(
        len(_entry(folder / name, checksum, layout.names_key)[layout.names_key])
        for name, checksum in layout.meta.items()
    )
    return Official(
        _read_split(folder, layout.train, layout.labels_key, classes),
        _read_split(folder, layout.test, layout.labels_key, classes),
    )


def _require_all(folder: Path, layout: Layout) -> None:
    missing = [name for name in layout.files() if not (folder / name).is_file()]
    if missing:
        raise DataError(f"missing {', '.join(missing)}")


def _read_split(folder: Path, files: Mapping[str, str], labels_key: str, classes: int) -> Split:
    """Return images (N, 3, 32, 32) and labels (N,) of the files, concatenated in order."""
    images, labels = [], []
    for name, checksum in files.items():
        entry = _entry(folder / name, checksum, "data", labels_key)
        rows, targets = entry["data"], np.asarray(entry[labels_key])
        if not (_are_images(rows, len(targets)) and _are_classes(targets, classes)):
            raise DataError(
                f"{folder / name} does not contain uint8 rows of 3,072 values, each with a label"
                f" from 0 to {classes - 1}"
            )
        images.append(torch.from_numpy(rows.reshape(-1, 3, 32, 32).copy()))
        labels.append(torch.from_numpy(targets.astype(np.int64)))
    return Split(torch.cat(images), torch.cat(labels))


def _are_images(rows: object, count: int) -> bool:
    if not isinstance(rows, np.ndarray):
        return False
    return bool(rows.dtype == np.uint8 and rows.shape == (count, 3072))


def _are_classes(targets: "np.ndarray[Any, Any]", classes: int) -> bool:
    return bool(targets.dtype.kind == "i" and 0 <= targets.min() <= targets.max() < classes)


def _entry(path: Path, checksum: str, *keys: str) -> dict[str, Any]:
    """Return the dictionary pickled in an intact file, which must contain the given keys."""
    content = read_verified(path, checksum)
    try:
        entry = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    except MALFORMED as error:
        raise DataError(f"{path} is not a CIFAR batch: {error}") from error
    if not isinstance(entry, dict) or not set(keys) <= set(entry):
        raise DataError(f"{path} is not a CIFAR batch: it lacks {' and '.join(keys)}")
    return entry


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler limited to numbers, text, lists, dictionaries and numpy arrays.

    A pickle that names anything else raises an error, so it cannot run code.
    """

    def find_class(self, module: str, name: str) -> Any:
        # numpy's own function, whose location depends on the version; the official files use its
        # name of 2009.
        reconstruct = np.empty(0).__reduce__()[0]
        admitted: dict[tuple[str, str], Any] = {
            ("numpy.core.multiarray", "_reconstruct"): reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): codecs.encode,  # how Python 3 writes bytes for Python 2
        }
        if (module, name) not in admitted:
            raise pickle.UnpicklingError(
                f"it refers to {module}.{name}, which such a file never contains"
            )
        return admitted[module, name]

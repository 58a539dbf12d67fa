"""dataset=arrays: the user's own images as arrays in one .npz or .safetensors file.

Names of the arrays: images (or x, data) and labels (or y, targets), and the part before or behind
them: train_images, x_train, test.labels, y_val. Without parts, a share of each class is test images
(`test`, `split_seed`). Images are (N, H, W), (N, C, H, W) or (N, H, W, C): squares, of uint8,
uint16 or floating point. Labels are integers from 0 up, (N,) or (N, 1).
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor

from runner.data.base import DataError, Split
from runner.data.notes import Note, noted
from runner.data.own import OwnData
from runner.data.prepare import pad
from runner.paths import user_path
from runner.spec.found import Found

WORDS = {  # of the names of arrays
    "images": ("images", "image", "x", "data", "inputs"),
    "labels": ("labels", "label", "y", "targets", "target"),
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
MEANING = {word: name for name, words in WORDS.items() for word in words}
CHANNELS = (1, 3)  # of images that are not squares, so that the message can name their size
SCALES = {"uint8": 255.0, "uint16": 65535.0, "float16": 1.0, "float32": 1.0, "float64": 1.0}
EXPECTED = "expected names such as images and labels, or train_images, y_test"
Array = np.ndarray[Any, Any]
Part = tuple[Array, Array]  # images (N, C, H, W), labels (N,)


@dataclass(frozen=True)
class Arrays(OwnData):
    """Fields: conf/dataset/arrays.yaml.

    Args:
        classes: their number; None = the largest training label + 1.
    """

    tag: ClassVar[str] = "arrays"
    name: str = "arrays"
    classes: int | None = None
    kind: ClassVar[str] = "an .npz or .safetensors file with images and labels"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classes is not None and self.classes < 2:
            raise ValueError(f"dataset.classes={self.classes} must be null or 2 or more")

    def look(self, path: Path, notes: Path | None) -> Found:
        """Read the arrays, unless the notes have them, and check them."""
        ((digest, scale, shape, labels),) = noted({"": path}, notes, _look, "").values()
        found = {part: torch.tensor(values) for part, values in labels.items()}
        if set(found) == {"all"}:
            whole = found["all"]
            found = {part: whole[indices] for part, indices in self.divided(whole).items()}
        else:
            self.refuse_share(found)
        classes = self._classes(found)
        self.check_parts(found, classes)
        channels, height, width = shape
        if self.size is not None and self.size < height:
            raise DataError(
                f"dataset.size={self.size} is less than the {height} pixels of the images, which"
                " are padded, never cut"
            )
        return Found(
            content=digest,
            channels=channels,
            height=height,
            width=width,
            classes=classes,
            train=len(found["train"]),
            validation=len(found.get("validation", ())),
            test=len(found["test"]),
            scale=scale,
        )

    def _classes(self, labels: Mapping[str, Tensor]) -> tuple[str, ...]:
        """The names of the classes, which are their indices."""
        train = labels["train"]
        count = self.classes or (int(train.max()) + 1 if len(train) else 0)
        for part, values in labels.items():
            if strange := values[(values < 0) | (values >= count)].tolist():
                why = "dataset.classes" if self.classes else "the training labels"
                raise DataError(
                    f"the {part} labels are out of range: {strange[0]} is not 0 to {count - 1}"
                    f" ({why})"
                )
        if count < 2:
            raise DataError("there are no classes: all training labels are 0")
        return tuple(map(str, range(count)))

    def read(self, data_dir: Path) -> dict[str, Split]:
        """Return the images by part."""
        assert self.path is not None
        splits = {
            part: pad(Split(_tensor(images), torch.from_numpy(labels)), self.size)
            for part, (images, labels) in read_arrays(user_path(self.path)).items()
        }
        if "all" not in splits:
            return splits
        whole = splits["all"]
        return {part: whole.take(i) for part, i in self.divided(whole.labels).items()}


def _tensor(images: Array) -> Tensor:
    return torch.from_numpy(images if images.dtype == np.uint8 else images.astype(np.float32))


def _look(path: Path) -> Note:
    """[SHA-256, scale, shape of an image, labels by part]."""
    parts = read_arrays(path)
    digest = hashlib.sha256()
    for name, (images, labels) in sorted(parts.items()):
        digest.update(f"{name} {images.dtype} {images.shape}\n".encode())
        digest.update(images.data)
        digest.update(labels.data)
    first, _ = next(iter(parts.values()))
    labels_of = {part: labels.tolist() for part, (_, labels) in parts.items()}
    return [digest.hexdigest(), SCALES[str(first.dtype)], list(first.shape[1:]), labels_of]


def read_arrays(path: Path) -> dict[str, Part]:
    """Return the images and labels by part; one part `all` if the file has no parts.

    Raises:
        DataError: the file cannot be read, arrays are missing, or one has another type or shape.
    """
    arrays = _arrays(path)
    named: dict[str, dict[str, str]] = {}  # part -> what -> name in the file
    for name in arrays:
        words = [MEANING.get(word, "") for word in re.split(r"[^a-z]+", name.lower())]
        what = [word for word in words if word in ("images", "labels")]
        part = [word for word in words if word not in ("images", "labels")] or ["all"]
        if len(what) == 1 and len(part) == 1 and part[0]:
            named.setdefault(part[0], {})[what[0]] = name
    if missing := _missing(named):
        raise DataError(
            f"{path} has no {missing} among {', '.join(arrays) or 'no'} arrays: {EXPECTED}"
        )
    if "test" not in named and "validation" in named:
        named["test"] = named.pop("validation")
    if "train" in named and "test" not in named:
        raise DataError(
            f"the test split has no images: {path} has training arrays alone; {EXPECTED}"
        )
    found = {
        part: _part(arrays[names["images"]], arrays[names["labels"]], names)
        for part, names in named.items()
    }
    shapes = {(images.shape[1:], images.dtype) for images, _ in found.values()}
    if len(shapes) > 1:
        raise DataError(f"the parts of {path} have images of different shapes or types: {shapes}")
    return found


def _missing(named: Mapping[str, Mapping[str, str]]) -> str:
    """What a file lacks, as text; empty if it is complete."""
    for part, names in named.items():
        for what in ("images", "labels"):
            if what not in names:
                return what if part == "all" else f"{part} {what}"
    if "train" in named and "all" in named:
        return "part in the name of each array"
    return "" if "train" in named or "all" in named else "images and labels"


def _arrays(path: Path) -> dict[str, Array]:
    """The arrays of a file by name.

    Raises:
        DataError: there is no such file, or it is of another kind or damaged.
    """
    if path.suffix not in (".npz", ".safetensors"):
        what = "; dataset=folder reads folders" if path.is_dir() else ""
        raise DataError(f"it is no .npz or .safetensors file{what}")
    try:
        if path.suffix == ".safetensors":
            found: dict[str, Array] = load_file(path)
            return found
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise DataError("there is no such file") from error
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        TypeError,
        BadZipFile,
        SafetensorError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"it cannot be read ({reason}): save plain arrays of numbers") from error


def _part(images: Array, labels: Array, names: Mapping[str, str]) -> Part:
    """The images as (N, C, H, W) and the labels as int64 (N,), both contiguous.

    Raises:
        DataError: a wrong type, shape or number.
    """
    if str(images.dtype) not in SCALES:
        raise DataError(
            f"{names['images']} has the wrong type {images.dtype}: expected uint8, uint16 or"
            " floating point"
        )
    if images.ndim not in (3, 4):
        raise DataError(
            f"{names['images']} has the shape {images.shape}: expected (N, H, W), (N, C, H, W) or"
            " (N, H, W, C)"
        )
    images = _channels_first(images)
    count, _, height, width = images.shape
    if height != width:
        raise DataError(
            f"{names['images']} has images of {width}x{height} pixels, which are not square: pad or"
            " scale them"
        )
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        place = int(np.argwhere(~np.isfinite(images))[0][0])
        raise DataError(f"{names['images']} has a NaN or infinite pixel, first in image {place}")
    if labels.dtype.kind not in "iu":
        raise DataError(f"{names['labels']} has the wrong type {labels.dtype}: expected integers")
    if labels.shape not in ((count,), (count, 1)):
        raise DataError(
            f"{names['labels']} has the shape {labels.shape}: expected ({count},), one label for"
            f" each of the {count} images of {names['images']}"
        )
    return np.ascontiguousarray(images), np.ascontiguousarray(labels.reshape(-1), dtype=np.int64)


def _channels_first(images: Array) -> Array:
    """Images (N, C, H, W) of (N, H, W), (N, C, H, W) or (N, H, W, C)."""
    if images.ndim == 3:
        return images[:, None]
    _, first, second, third = images.shape
    square_first, square_last = second == third, first == second
    if square_first == square_last:  # none or both is a square: by the number of channels
        square_last = third in CHANNELS and first not in CHANNELS
        square_first = not square_last
    return images if square_first else images.transpose(0, 3, 1, 2)

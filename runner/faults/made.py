"""Made files of data sets, in their formats on disk: a few drawn images instead of the official.

`make faults` damages them, and tests read them.
"""

import hashlib
import io
import pickle
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from runner.data.cifar_batches import Layout

PicklerInPython: Any = pickle._Pickler  # its methods have no types


class Python2Pickler(PicklerInPython):  # type: ignore[misc]
    """Writes what Python 2's cPickle wrote in 2009: strings as bytes, numpy under its old name."""

    dispatch = dict(PicklerInPython.dispatch)

    def save_string(self, text: str | bytes) -> None:
        """Write text as Python 2's `str`."""
        raw = text if isinstance(text, bytes) else text.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string

    def save_global(self, value: Any, name: str | None = None) -> None:
        """Write the name of a class or function of numpy."""
        module = "numpy.core.multiarray" if value.__name__ == "_reconstruct" else "numpy"
        self.write(pickle.GLOBAL + f"{module}\n{value.__name__}\n".encode())
        self.memoize(value)

    dispatch[type(np.empty(0).__reduce__()[0])] = dispatch[type] = save_global


def pickled(entry: Any, python2: bool = True) -> bytes:
    """An entry as Python 2 or 3 pickles it."""
    if not python2:
        return pickle.dumps(entry, protocol=2)
    buffer = io.BytesIO()
    Python2Pickler(buffer, 2).dump(entry)
    return buffer.getvalue()


@dataclass(frozen=True)
class CifarForm:
    """The files of a CIFAR data set.

    Args:
        train: file name -> number of images.
        test: likewise.
        meta: name of the file with the names of the classes.
        names_key: their key in it.
        labels_key: the key of the labels in the other files.
    """

    train: Mapping[str, int]
    test: Mapping[str, int]
    meta: str
    names_key: str
    labels_key: str
    classes: Sequence[str]


def write_cifar(
    folder: Path, form: CifarForm, python2: bool = True, changed: Mapping[str, Any] | None = None
) -> Layout:
    """Write the files of a CIFAR data set; image i of all has class i modulo their number.

    Args:
        changed: entries, or contents as bytes, that are written instead.

    Returns:
        The files with their MD5 checksums.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries: dict[str, Any] = {}
    start = 0
    for name, count in {**form.train, **form.test}.items():
        entries[name] = {
            "batch_label": name,
            form.labels_key: [(start + i) % len(form.classes) for i in range(count)],
            "data": cifar_rows(start, count),
            "filenames": ["a.png"] * count,
        }
        start += count
    entries[form.meta] = {form.names_key: list(form.classes), "num_vis": 3072}
    checksums = {}
    for name, entry in (entries | dict(changed or {})).items():
        content = entry if isinstance(entry, bytes) else pickled(entry, python2)
        (folder / name).write_bytes(content)
        checksums[name] = hashlib.md5(content, usedforsecurity=False).hexdigest()
    train, test, meta = (
        {name: checksums[name] for name in part} for part in (form.train, form.test, [form.meta])
    )
    return Layout(train, test, meta, form.names_key, form.labels_key)


def cifar_rows(start: int, count: int) -> "np.ndarray[Any, Any]":
    """Noise images, uint8 (count, 3072)."""
    return np.random.RandomState(start).randint(0, 256, (count, 3072)).astype(np.uint8)


def smooth_picture(number: int, grey: bool = False) -> Image.Image:
    """A smooth, distinct image of 16x16 pixels, so that JPEG changes little."""
    across, down = np.meshgrid(np.arange(16), np.arange(16))
    channels = [across * 8 + number * 5, down * 8 + 40, (across + down) * 4 + 100 - number * 3]
    values = np.stack(channels, axis=2).clip(0, 255).astype(np.uint8)
    return Image.fromarray(values[:, :, 0] if grey else values)


def write_tiny_imagenet(folder: Path, names: Sequence[str], train: int, test: int) -> Path:
    """Write Tiny-ImageNet's official layout with images of 16x16 pixels; returns `folder`.

    Args:
        names: classes (WordNet ids), in the order of wnids.txt.
        train: training images of each class, of which the last is grey.
        test: validation images of each class.
    """
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "wnids.txt").write_text("".join(f"{name}\n" for name in names))
    for c, name in enumerate(names):
        images = folder / "train" / name / "images"
        images.mkdir(parents=True)
        (images.parent / f"{name}_boxes.txt").write_text("ignored")
        for i in range(train):
            picture = smooth_picture(train * c + i, grey=i == train - 1)
            picture.save(images / f"{name}_{i}.JPEG", quality=95)
    lines = []
    for i in range(test * len(names)):
        picture = smooth_picture(20 + i)
        picture.save(folder / "val" / "images" / f"val_{i}.JPEG", quality=95)
        lines.append(f"val_{i}.JPEG\t{names[i % len(names)]}\t0\t1\t2\t3\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    return folder


def noise_picture(number: int) -> Image.Image:
    """A noise image whose size depends on the seed, smooth enough for JPEG."""
    draws = np.random.RandomState(number)
    width, height = draws.randint(40, 90, size=2)
    return Image.fromarray(draws.randint(0, 256, (6, 5, 3)).astype(np.uint8)).resize(
        (int(width), int(height)), Image.Resampling.BICUBIC
    )


def write_image_folder(folder: Path, train: Mapping[str, int], val: Mapping[str, int]) -> None:
    """Write the given number of images of each class to `folder`/train and `folder`/val.

    As in the official archives, one is grey, one CMYK, and one a PNG under the name of a JPEG.
    """
    number = 0
    for part, counts in (("train", train), ("val", val)):
        for name, count in counts.items():
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                mode, kind = {1: ("L", "JPEG"), 2: ("RGB", "PNG"), 3: ("CMYK", "JPEG")}.get(
                    number, ("RGB", "JPEG")
                )
                noise_picture(number).convert(mode).save(
                    folder / part / name / f"{name}_{i}.JPEG", format=kind
                )
                number += 1

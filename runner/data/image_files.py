"""Lists image files in a folder and decodes them to RGB, for every data set of image files.

Rules of conversion (docs/data_sets.md). Grey values are repeated in three channels. Of values with
16 bits, the upper eight are taken, as Pillow does for colours: an 8-bit image stored with 16 bits
is read to the bit. Transparent pixels are laid over black. CMYK becomes RGB by (255 - c) (255 - k)
/ 255, without a colour profile. Rotations in EXIF data are not applied, as in torchvision.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from runner.data.base import DataError

# In lower case. Other files, and hidden ones such as macOS' ._NAME.JPEG, are not counted.
ENDINGS = (".jpeg", ".jpg", ".png")
PATTERN = "*.JPEG, *.jpg, *.png"  # for messages
# The content decides. One training image of ILSVRC-2012 is a PNG with a JPEG's file name.
FORMATS = ("JPEG", "PNG")
WIDE = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # Pillow's modes of grey PNGs with 16 bits
PLAIN = ("1", "L", "P", "RGB", "CMYK")  # modes that Pillow converts to RGB exactly
ALPHA = ("LA", "PA", "RGBA")


def image_files(folder: Path, inside: str) -> dict[str, os.stat_result]:
    """Map the paths inside `folder` of the images in one sub-folder to their status, by name.

    No file is opened.

    Raises:
        DataError: the sub-folder cannot be listed, or an image is no file or a link to nothing.
    """
    names = (entry.name for entry in entries(folder / inside) if is_image(entry.name))
    return {path: status(folder / path) for path in sorted(f"{inside}/{name}" for name in names)}


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image."""
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


def entries(folder: Path) -> Iterator["os.DirEntry[str]"]:
    """Everything in a folder; raise `DataError` if it cannot be listed."""
    try:
        with os.scandir(folder) as found:
            yield from found
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}") from error


def status(path: Path) -> os.stat_result:
    """The status of a file; raise `DataError` unless it is one."""
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(_unusable(path, error)) from error
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{path} has the name of an image, but is not a file; remove it")
    return found


def _unusable(path: Path, error: OSError) -> str:
    if path.is_symlink() and isinstance(error, FileNotFoundError):
        return (
            f"{path} is a link to {path.readlink()}, which does not exist; restore that file, or"
            " unpack the archive again"
        )
    return f"{path} cannot be read: {error.strerror}"


def rgb(path: Path, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Return one image file decoded to RGB.

    Raises:
        DataError: the file is missing, damaged or of another format.
    """
    try:
        with Image.open(path, formats=formats) as image:
            return in_rgb(image)
    except (FileNotFoundError, PermissionError) as error:
        raise DataError(_unusable(path, error)) from error
    except Exception as error:  # Pillow raises errors of any class for damaged files
        raise DataError(
            f"{path} is not an intact {' or '.join(formats)} ({error}); delete it and unpack the"
            " archive again"
        ) from error


def in_rgb(image: Image.Image) -> Image.Image:
    """Return an open image converted to RGB by the rules above.

    Raises:
        ValueError: these formats have no images of its mode.
    """
    transparent = image.info.get("transparency")
    if image.mode in WIDE:
        levels = np.array(image)
        if isinstance(transparent, int):
            levels[levels == transparent] = 0
        return Image.fromarray((levels >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ALPHA or (transparent is not None and image.mode in PLAIN):
        pixels = np.array(image.convert("RGBA")).astype(np.int32)
        over_black = (pixels[:, :, :3] * pixels[:, :, 3:] + 127) // 255
        return Image.fromarray(over_black.astype(np.uint8))
    if image.mode not in PLAIN:
        raise ValueError(f"images of mode {image.mode} are not supported")
    return image.convert("RGB")


def middle(image: Image.Image, short: int, size: int) -> Image.Image:
    """Scale an image (bilinear) and return its central `size` x `size` pixels.

    The shorter side of the scaled image is `short`, which is at least `size`.
    """
    width, height = (short * side // min(image.size) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.resize((width, height), Image.Resampling.BILINEAR).crop(
        (left, top, left + size, top + size)
    )


def as_tensor(image: Image.Image) -> Tensor:
    """An RGB image as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)

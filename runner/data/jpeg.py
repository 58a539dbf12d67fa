"""Decodes, crops and scales image files as tensors, at the speed of the decoder.

JPEGs are decoded by torchvision.io, whose pixels equal Pillow's to the bit (libjpeg-turbo); they
are scaled by torch's antialiased bilinear interpolation of bytes, which rounds other weights than
Pillow's does: a value differs by at most 2 (docs/data_sets.md). What is no plain JPEG, such as a
PNG under a JPEG's name or CMYK, or what torchvision refuses, is decoded by `image_files.rgb`.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from runner.data.augment import ResizedCrop
from runner.data.image_files import as_tensor, rgb

START = b"\xff\xd8\xff"  # of every JPEG
UNCHANGED = 0  # torchvision's ImageReadMode: grey stays one channel
PLAIN = (1, 3)  # channels of a grey and of a colour JPEG; CMYK has 4


def decoded(path: Path) -> Tensor:
    """Return the pixels of an image file: uint8 (3, H, W), or (1, H, W) of a grey JPEG.

    Raises:
        DataError: the file is missing or damaged.
    """
    decode = _decoder()
    try:
        content = np.fromfile(path, dtype=np.uint8)
        if decode and content[: len(START)].tobytes() == START:
            image = decode(torch.from_numpy(content), UNCHANGED, False)
            if image.shape[0] in PLAIN:
                return image
    except (OSError, RuntimeError):  # `rgb` tells what is wrong, or can read it
        pass
    return as_tensor(rgb(path))


@cache
def _decoder() -> Callable[[Tensor, int, bool], Tensor] | None:
    """torchvision's operator: (bytes, mode, whether to apply EXIF orientation) -> pixels.

    The function around it warns at each call, which takes a twentieth of the time of decoding. None
    where torchvision has no decoder, which 0.29 announces for a later version: Pillow decodes to
    the same pixels.
    """
    import torchvision.io  # noqa: F401  (registers the operator; importing it takes seconds)

    found: Callable[[Tensor, int, bool], Tensor] | None
    found = getattr(torch.ops.image, "decode_jpeg", None)
    return found


def randomly_cropped(image: Tensor, size: int, crop: ResizedCrop, draws: Tensor) -> Tensor:
    """Return a random box of an image (C, H, W), scaled to (C, size, size) and mirrored or not.

    `draws` are uniform numbers (DRAWS,).
    """
    left, top, width, height = crop.box(image.shape[2], image.shape[1], draws)
    cut = scaled(image[:, top : top + height, left : left + width], size, size)
    return cut.flip(2) if crop.flips(draws) else cut


def central(image: Tensor, short: int, size: int) -> Tensor:
    """Return the central (C, size, size) pixels of an image (C, H, W) that is scaled.

    The shorter side of the scaled image is `short`, which is at least `size`. The whole image is
    scaled: a box of whole pixels, cut out before, would be shifted by up to half a pixel.
    """
    shortest = min(image.shape[1:])
    height, width = (short * side // shortest for side in image.shape[1:])
    top, left = round((height - size) / 2), round((width - size) / 2)
    return scaled(image, height, width)[:, top : top + size, left : left + size]


def scaled(image: Tensor, height: int, width: int) -> Tensor:
    """Scale an image, uint8 (C, H, W), to `height` x `width`: bilinear with antialias."""
    pixels = image[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(pixels, (height, width), mode="bilinear", antialias=True)[0]

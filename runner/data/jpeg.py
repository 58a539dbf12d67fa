"""Decodes, crops and scales image files as tensors, at the speed of the decoder.

JPEGs are decoded by simplejpeg, whose pixels equal Pillow's and torchvision's to the bit
(libjpeg-turbo) and which takes 6 % less time than torchvision.io; they are scaled by torch's
antialiased bilinear interpolation of bytes, which rounds other weights than Pillow's does: a value
differs by at most 2 (docs/data_sets.md). What is no plain JPEG, such as a PNG under a JPEG's name
or CMYK, or what simplejpeg refuses, is decoded by `image_files.rgb`.
"""

from pathlib import Path

import simplejpeg
import torch
import torch.nn.functional as F
from torch import Tensor

from runner.data.augment import ResizedCrop
from runner.data.image_files import as_tensor, rgb

START = b"\xff\xd8\xff"  # of every JPEG
# Colour space of a file -> that of its pixels, for plain JPEGs; grey stays one channel.
PLAIN = {"Gray": "GRAY", "YCbCr": "RGB", "RGB": "RGB"}


def decoded(path: Path) -> Tensor:
    """Return the pixels of an image file: uint8 (3, H, W), or (1, H, W) of a grey JPEG.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        with path.open("rb", buffering=0) as file:
            content = file.readall()
        if content.startswith(START):
            space = PLAIN.get(simplejpeg.decode_jpeg_header(content)[2])
            if space is not None:
                return torch.from_numpy(simplejpeg.decode_jpeg(content, space)).permute(2, 0, 1)
    except (OSError, ValueError):  # `rgb` tells what is wrong, or can read it
        pass
    return as_tensor(rgb(path))


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

"""Pure functions that make the data of a run: size, padding, statistics, subset, held-out part."""

import torch
import torch.nn.functional as F
from torch import Tensor

from runner.data.base import DataError, Images, Info, Split
from runner.data.split import hold_out, subset

SOME_IMAGES = 256  # of which statistics make a float64 copy


def check_size(size: int | None, native: Info, smallest: int, why: str) -> None:
    """Raise `ValueError` unless `dataset.size` is null or a whole number from `smallest` up."""
    if size is not None and (
        not isinstance(size, int) or isinstance(size, bool) or size < smallest
    ):
        raise ValueError(
            f"dataset.size={size} must be null (its own {native.size}) or a whole number of at"
            f" least {smallest}: {why}"
        )


def check_split(part: str, split: Split, native: Info, size: int) -> None:
    """Raise `DataError` unless a split is as the data set's constants say.

    Args:
        part: its name, for the message.
        size: height and width of its images.
    """
    images, labels = split.images, split.labels
    shape = (native.channels, size, size)
    if not len(labels):
        raise DataError(f"the {part} split has no images")
    if images.dtype != torch.uint8 or images.shape != (len(labels), *shape):
        raise DataError(
            f"the {part} images are {images.dtype} {tuple(images.shape)}, expected torch.uint8"
            f" {(len(labels), *shape)}: one for each of {len(labels):,} labels"
        )
    if labels.dtype != torch.int64 or labels.dim() != 1:
        raise DataError(
            f"the {part} labels are {labels.dtype} {tuple(labels.shape)}, expected torch.int64"
            f" ({len(images)},)"
        )
    if strange := sorted(set(labels[(labels < 0) | (labels >= native.classes)].tolist())):
        raise DataError(
            f"the {part} split has the label {strange[0]}, expected 0 to {native.classes - 1}"
        )


def parts(train: Images, train_fraction: float, validation: float) -> tuple[Images, Images | None]:
    """Return the images for training and those held out, None if nothing is held out."""
    used = train if train_fraction == 1 else train.take(subset(train.labels, train_fraction))
    if not validation:
        return used, None
    kept, held = hold_out(used.labels, validation)
    return used.take(kept), used.take(held)


def pad(split: Split, size: int | None) -> Split:
    """Centre images (N, C, H, W) on a square of zeros, raw black.

    If the margin is odd, right and bottom get the extra pixel.
    """
    missing = (size or split.images.shape[-1]) - split.images.shape[-1]
    before, after = missing // 2, missing - missing // 2
    if not missing:
        return split
    return Split(F.pad(split.images, (before, after, before, after)), split.labels)


def statistics(images: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return mean and std (C,) of images (N, C, H, W) divided by `scale`.

    They are computed in float64, then rounded to float32; those of uint8 images are exact.
    """
    mean, std = (_of_bytes if images.dtype == torch.uint8 else _of_floats)(images, scale)
    if not bool((std > 0).all()):
        raise DataError(
            f"a channel of the training images is constant (std {std.tolist()}), so it cannot be"
            " normalised"
        )
    return mean.float(), std.float()


def _of_bytes(images: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """`statistics` of uint8 images, from 256-bin histograms."""
    counts = [torch.bincount(image.flatten(), minlength=256) for image in images.unbind(1)]
    histograms = torch.stack(counts).double()  # (C, 256)
    shares = histograms / histograms.sum(1, keepdim=True)
    levels = torch.arange(256, dtype=torch.float64) / scale
    mean = shares @ levels
    return mean, (shares * (levels - mean[:, None]) ** 2).sum(1).sqrt()


def _of_floats(images: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """`statistics` of floating-point images; a float64 copy is made of some images at a time."""
    count = images.numel() // images.shape[1]  # pixels of a channel
    chunks = torch.split(images, SOME_IMAGES)
    sums = torch.stack([chunk.double().sum((0, 2, 3)) for chunk in chunks])
    mean = sums.sum(0) / count
    squares = [((chunk.double() - mean[:, None, None]) ** 2).sum((0, 2, 3)) for chunk in chunks]
    return mean / scale, (torch.stack(squares).sum(0) / count).sqrt() / scale

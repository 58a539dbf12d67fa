"""dataset=folder: the user's own folder of images, one sub-folder for each class.

<path>/<class>/**/<image>           a share of each class is test images (`test`, `split_seed`)
<path>/{train,test}/<class>/...     the split of the folders; `val` instead of `test`, or besides
                                    it: then its images are held out as validation images

Every file with an ending that Pillow reads is an image; others, and hidden ones, are ignored.
Classes are numbered in alphabetical order of the training folders. Images are grey if all of them
are. Where one has 16 bits, all keep them, as float32; otherwise they are 8-bit images by the rules
of runner/data/image_files.py. Images of different sizes, or that are not square, need
`dataset.size`: the short side is scaled to it, and the middle of the long side is kept.

<data_dir>/own/<content>-<size>.safetensors  the images, decoded once (runner/data/decoded.py)
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from runner.data.base import DataError, Split
from runner.data.class_listing import Listing, list_images
from runner.data.decoded import decoded_parts
from runner.data.image_files import WIDE, in_rgb, middle
from runner.data.notes import Note, noted
from runner.data.own import FOLDER, OwnData
from runner.paths import user_path
from runner.spec.found import Found

GREY, COLOUR, DEEP, FLOAT = "grey", "colour", "deep", "float"  # kinds of images
SCALES = {GREY: 255.0, COLOUR: 255.0, DEEP: 65535.0, FLOAT: 1.0}


@dataclass(frozen=True)
class ClassFolders(OwnData):
    """Fields: conf/dataset/folder.yaml."""

    tag: ClassVar[str] = "folder"
    name: str = "folder"
    kind: ClassVar[str] = "a folder with a sub-folder of images for each class"

    def look(self, path: Path, notes: Path | None) -> Found:
        """List the images; read new ones for checksum, size and mode."""
        classes, listing = list_images(path)
        listed = {each.path: path / each.path for part in listing.values() for each in part}
        title = f"reading {len(listed):,} images in {path}, once"
        seen = noted(listed, notes, _look, title)
        labels = self._labels(listing, classes)
        sizes = {(width, height): name for name, (_, width, height, _) in seen.items()}
        (width, height), *_ = sizes
        if self.size is None and (len(sizes) > 1 or width != height):
            raise DataError(_sizes(sizes))
        kinds = {kind: name for name, (*_, kind) in seen.items()}
        if FLOAT in kinds and len(kinds) > 1:
            kind, other = next(each for each in kinds.items() if each[0] != FLOAT)
            raise DataError(
                f"{kinds[FLOAT]} has floating-point pixels and {other} has none ({kind}): they have"
                " no common scale"
            )
        same = len(sizes) == 1
        return Found(
            content=_digest(listing, seen, classes),
            channels=3 if COLOUR in kinds else 1,
            height=height if same else 0,
            width=width if same else 0,
            classes=classes,
            train=len(labels["train"]),
            validation=len(labels.get("validation", ())),
            test=len(labels["test"]),
            scale=max((SCALES[kind] for kind in kinds), default=255.0),
        )

    def _labels(self, listing: Listing, classes: tuple[str, ...]) -> dict[str, Tensor]:
        """The labels by part; checked."""
        labels = {name: torch.tensor([i.label for i in part]) for name, part in listing.items()}
        if "all" in labels:
            whole = labels["all"]
            labels = {part: whole[indices] for part, indices in self.divided(whole).items()}
        else:
            self.refuse_share(listing)
        self.check_parts(labels, classes)
        return labels

    def read(self, data_dir: Path) -> dict[str, Split]:
        """Return the images by part, from the kept file once they are decoded."""
        assert self.path is not None and self.found is not None
        folder, found, size = user_path(self.path), self.found, self.info().size
        _, listing = list_images(folder)
        listed = {
            name: [(folder / image.path, image.label) for image in part]
            for name, part in listing.items()
        }
        kept = data_dir / FOLDER / f"{found.content[:32]}-{size}.safetensors"
        decode = partial(pixels, size=size, channels=found.channels, scale=found.scale)
        shape = (found.channels, size, size)
        source = f"{found.content} {found.channels} {found.scale:g} {size}"
        dtype = torch.uint8 if found.scale == SCALES[GREY] else torch.float32
        splits = decoded_parts(kept, source, listed, torch.empty(shape, dtype=dtype), decode)
        if "all" not in splits:
            return splits
        whole = splits["all"]
        return {part: whole.take(i) for part, i in self.divided(whole.labels).items()}


def _look(path: Path) -> Note:
    """[SHA-256, width, height, kind] of one image, of which only the header is decoded."""
    content = _content(path)
    with _opened(path, content) as image:
        return [hashlib.sha256(content).hexdigest(), *image.size, _kind(image)]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _opened(path: Path, content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content))
    except Exception as error:  # Pillow raises errors of any class for damaged files
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    reason = str(error).partition(": <")[0] or type(error).__name__
    return DataError(f"{path} is not an intact image ({reason}); delete or replace it")


def _kind(image: Image.Image) -> str:
    """GREY, COLOUR, DEEP (grey with 16 bits) or FLOAT."""
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        return FLOAT
    if image.mode in WIDE:
        return DEEP
    return GREY if image.mode in ("1", "L", "LA", "La") or _grey_palette(image) else COLOUR


def _grey_palette(image: Image.Image) -> bool:
    """Whether an image of mode P has grey levels only, as GIFs of grey images have."""
    if image.mode != "P":
        return False
    levels = np.array(image.getpalette("RGB")).reshape(-1, 3)
    return bool((levels == levels[:, :1]).all())


def pixels(path: Path, size: int, channels: int, scale: float) -> Tensor:
    """Return one image (channels, size, size): uint8 if `scale` is 255, else float32.

    Raises:
        DataError: the file cannot be decoded, or a pixel is not finite.
    """
    with _opened(path, _content(path)) as image:
        try:
            layers = _layers(image, channels, scale)
        except Exception as error:  # Pillow raises errors of any class for damaged files
            raise _damaged(path, error) from error
    if layers[0].size != (size, size):
        layers = [middle(layer, size, size) for layer in layers]
    values = np.stack([np.array(layer) for layer in layers])
    if not np.isfinite(values).all():
        raise DataError(f"{path} has a pixel that is not finite (NaN or infinite)")
    return torch.from_numpy(values)


def _layers(image: Image.Image, channels: int, scale: float) -> list[Image.Image]:
    """The channels of an image, as images of bytes, or of floats unless `scale` is 255."""
    if _kind(image) in (DEEP, FLOAT):
        return [Image.fromarray(np.array(image).astype(np.float32))] * channels
    if image.mode not in ("1", "L", "P", "RGB", "CMYK", "LA", "PA", "RGBA"):
        image = image.convert("RGB")
    layers = list(in_rgb(image).split())[:channels]
    if scale == SCALES[GREY]:
        return layers
    factor = np.float32(scale / SCALES[GREY])  # 257
    return [Image.fromarray(np.array(layer).astype(np.float32) * factor) for layer in layers]


def _digest(listing: Listing, seen: dict[str, Note], classes: Sequence[str]) -> str:
    """SHA-256 over classes, parts, names and contents."""
    digest = hashlib.sha256("\0".join([*classes, ""]).encode(errors="surrogateescape"))
    for part, images in listing.items():
        for image in images:
            line = f"{part}\0{image.label}\0{image.path}\0{seen[image.path][0]}\n"
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _sizes(sizes: dict[tuple[int, int], str]) -> str:
    """The message for images that are not all squares of one size."""
    (one, first), *others = ((f"{w}x{h}", name) for (w, h), name in sizes.items())
    if others:
        other, second = others[0]
        what = f"images have {len(sizes):,} different sizes ({one} in {first}, {other} in {second})"
    else:
        what = f"images have {one} pixels and are not square"
    return (
        f"{what}; dataset.size=S scales the short side of all to S and keeps the middle S x S"
        " pixels"
    )

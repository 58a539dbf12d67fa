"""Reading of image files on one core: beside torchvision's loader, and beside the bare decoder.

Files are JPEGs of made pictures of 500 x 375 pixels, as large as photographs of that size (75 KB).
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Generator

from runner.bench.timing import Comparison
from runner.data.files import Files

IMAGES, BATCH, SIZE = 48, 16, 224
CROP = "resized_crop"
QUALITY = 91  # gives 75 KB
WORK = f"{IMAGES} JPEGs of 500x375 pixels to crops of {SIZE}x{SIZE}, one core"


def photograph(number: int, width: int = 500, height: int = 375) -> Image.Image:
    """Draw a picture with details of all sizes, as photographs have."""
    draws, values = np.random.RandomState(number), np.zeros((height, width, 3))
    for cell, strength in ((60, 60), (16, 35), (5, 20), (2, 14)):
        coarse = draws.randn(height // cell + 2, width // cell + 2, 3).astype(np.float32)
        layers = [
            np.array(Image.fromarray(coarse[:, :, c]).resize((width, height))) for c in range(3)
        ]
        values += strength * np.stack(layers, axis=2)
    return Image.fromarray((values + 128).clip(0, 255).astype(np.uint8))


@cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    """The files, in the layout of torchvision's ImageFolder; removed with the process."""
    folder = tempfile.TemporaryDirectory()
    (Path(folder.name) / "class").mkdir()
    for number in range(IMAGES):
        photograph(number).save(Path(folder.name) / "class" / f"{number}.JPEG", quality=QUALITY)
    return folder


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _on_one_core(work: Callable[[], object]) -> Callable[[], object]:
    @wraps(work)
    def limited() -> None:
        with _one_thread():
            work()

    return limited


def files() -> Files:
    """Return the pictures as a part of a data set, decoded by the caller's thread."""
    names = np.array([f"class/{number}.JPEG".encode() for number in range(IMAGES)])
    return Files(Path(_folder().name), names, torch.zeros(IMAGES, dtype=torch.long), SIZE)


def read() -> None:
    """Read all pictures in augmented batches."""
    part, rng = files(), Generator().manual_seed(0)
    batches = torch.split(torch.arange(IMAGES), BATCH)
    for _ in part.read(((each, part.draws(len(each), rng)) for each in batches), CROP):
        pass


def decode_comparison(name: str, device: torch.device) -> Comparison:
    """Compare with torchvision's ImageFolder, RandomResizedCrop and RandomHorizontalFlip.

    Both give bytes; torchvision's images are not collated into batches.
    """
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    steps = [v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip(), v2.PILToTensor()]
    theirs = ImageFolder(_folder().name, v2.Compose(steps))

    def read_theirs() -> None:
        for i in range(IMAGES):
            theirs[i]

    rival = "torchvision's ImageFolder, RandomResizedCrop and RandomHorizontalFlip"
    return Comparison(name, WORK, rival, _on_one_core(read), _on_one_core(read_theirs))


def limit_of_decoding(name: str, device: torch.device) -> Comparison:
    """Compare with libjpeg-turbo alone, as torchvision.io has it, on the same files in memory."""
    from torchvision.io import decode_jpeg, read_file

    part = files()
    contents = [read_file(str(part.folder / each.decode())) for each in part.names]

    def decode() -> None:
        for content in contents:
            decode_jpeg(content)

    rival = "libjpeg-turbo decoding of the same files, in memory"
    return Comparison(name, WORK, rival, _on_one_core(read), _on_one_core(decode))

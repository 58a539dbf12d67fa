"""Reading of image files on one core: beside torchvision's loader, and beside the bare decoder.

Files are JPEGs of made pictures of 500 x 375 pixels, as large as photographs of that size (75 KB).
Each way has a process of its own: every run keeps the memory that it frees
(runner/engine/allocator.py), so that a decoded picture needs no new pages, and torchvision's loader
is timed in a process as it comes.
"""

import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from PIL import Image
from torch import Generator

from runner.bench.apart import Apart
from runner.bench.timing import Comparison
from runner.data.files import Files
from runner.engine.allocator import keep_freed_memory

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


def files(folder: Path | None = None) -> Files:
    """Return the pictures as a part of a data set, decoded by the caller's thread.

    Args:
        folder: where they are; None = made once by this process.
    """
    names = np.array([f"class/{number}.JPEG".encode() for number in range(IMAGES)])
    labels = torch.zeros(IMAGES, dtype=torch.long)
    return Files(folder or Path(_folder().name), names, labels, SIZE)


def _reading(folder: Path) -> Callable[[], None]:
    """Return a function that reads all pictures in augmented batches, in a process as a run's."""
    keep_freed_memory()
    torch.set_num_threads(1)
    part, rng = files(folder), Generator().manual_seed(0)
    batches = torch.split(torch.arange(IMAGES), BATCH)

    def read() -> None:
        for _ in part.read(((each, part.draws(len(each), rng)) for each in batches), CROP):
            pass

    return read


def _image_folder(folder: Path) -> Callable[[], None]:
    """Return a function that reads them by torchvision: bytes, not collated into batches."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    steps = [v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip(), v2.PILToTensor()]
    theirs = ImageFolder(folder, v2.Compose(steps))

    def read() -> None:
        for i in range(IMAGES):
            theirs[i]

    return read


def _decoding(folder: Path) -> Callable[[], None]:
    """Return a function that decodes the files, which are in memory, as fast as in a run."""
    keep_freed_memory()
    contents = [(folder / each.decode()).read_bytes() for each in files(folder).names]

    def decode() -> None:
        for content in contents:
            simplejpeg.decode_jpeg(content)

    return decode


def decode_comparison(name: str, device: torch.device) -> Comparison:
    """Compare with torchvision's ImageFolder, RandomResizedCrop and RandomHorizontalFlip."""
    rival = "torchvision's ImageFolder, RandomResizedCrop and RandomHorizontalFlip"
    return _compared(name, rival, _image_folder)


def limit_of_decoding(name: str, device: torch.device) -> Comparison:
    """Compare with libjpeg-turbo alone, as simplejpeg has it, on the same files in memory."""
    return _compared(name, "libjpeg-turbo decoding of the same files, in memory", _decoding)


def _compared(name: str, rival: str, way: Callable[[Path], Callable[[], None]]) -> Comparison:
    folder = Path(_folder().name)
    return Comparison(
        name, WORK, rival, Apart(partial(_reading, folder)), Apart(partial(way, folder))
    )

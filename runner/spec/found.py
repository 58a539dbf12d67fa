"""What is in the user's own files of images: the part of a data set that its files decide."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable


@dataclass(frozen=True)
class Found:
    """The content of own files. Of all fields, the identity of a run contains `content` alone.

    A run's config.yaml stores it, so that a finished run is known where the files are gone.

    Args:
        content: SHA-256 of the files' content with names, labels and parts; not of their path.
        channels: 1 if all images are grey, else 3; of arrays, theirs.
        height, width: of the images in pixels; 0 = they differ, and are scaled to `dataset.size`.
        classes: names, in the order of their indices.
        train, validation, test: numbers of images.
        scale: pixel / scale is in [0, 1]: 255, 65535 for 16 bits, 1 for floating-point images.
    """

    tag: ClassVar[str] = "found"
    content: str
    channels: int = field(compare=False)
    height: int = field(compare=False)
    width: int = field(compare=False)
    classes: tuple[str, ...] = field(compare=False)
    train: int = field(compare=False)
    validation: int = field(compare=False)
    test: int = field(compare=False)
    scale: float = field(compare=False)


@runtime_checkable
class Surveyed(Protocol):
    """A data set component whose shape and identity follow from the user's own files."""

    @property
    def found(self) -> Found | None: ...  # None before `survey`

    # with what is in the files; notes on them are kept in the folder of all data sets, if given
    def survey(self, data_dir: Path | None) -> "Surveyed": ...

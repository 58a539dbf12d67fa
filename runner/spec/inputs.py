"""Files that replace a computation of a run: pretrained weights, and masks."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal


@dataclass(frozen=True)
class Weights:
    """Pretrained weights (runner/engine/pretrained.py).

    Args:
        content: their identity: `sha256:...` of a file, or `torchvision:` and the name of an entry.
        path: the file's path as given; no part of identity or equality. None = torchvision's own.
        match: whether tensors under unknown names may be found by their order and shape. No part of
            identity: where names fit, nothing else is tried.
    """

    tag: ClassVar[str] = "pretrained_weights"
    content: str
    path: str | None = field(default=None, compare=False)
    match: Literal["names", "shape"] = field(default="names", compare=False)


@dataclass(frozen=True)
class MaskFile:
    """A file of masks (runner/engine/given_masks.py).

    Args:
        content: their identity: `sha256:...` of the file.
        path, key: the file's path as given, and the option that names it; no part of identity or
            equality.
        match: as for `Weights`; no part of identity for the same reason.
        missing: whether a prunable layer without a mask is refused, or stays dense. No part of
            identity: it decides only whether the file is used.
    """

    tag: ClassVar[str] = "mask_file"
    content: str
    path: str = field(default="", compare=False)
    key: str = field(default="", compare=False)
    match: Literal["names", "shape"] = field(default="names", compare=False)
    missing: Literal["refused", "dense"] = field(default="refused", compare=False)

    def beside(self, option: str) -> str:
        """The key of another option in the block of `key`."""
        return f"{self.key.rpartition('.')[0]}.{option}"

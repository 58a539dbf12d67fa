"""Files of weights (`start.weights`) and of masks, and their identity.

A file is identified by its SHA-256, torchvision's weights by the name of their entry.
"""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from runner.errors import ConfigError, nearest
from runner.paths import user_path
from runner.spec.inputs import MaskFile, Weights

# A value of start.weights, and the prefix of an entry's name in `Weights.content`.
TORCHVISION = "torchvision"
FORMS = "*.safetensors, or torch's *.pt, *.pth; docs/methods/given.md"
OTHERS = (
    "start.weights=null, the default, trains the net; start.weights=torchvision loads the weights"
    " that torchvision publishes for some nets"
)


def weights_of(key: str, value: Any, model: Any, finished: bool = False) -> Weights:
    """The weights that `key`=`value` selects for a net.

    A file is read to compute its checksum. Nothing is downloaded.

    Args:
        model: the net's component; its `torchvision`, if it has one, names its published weights.
        finished: the run was done once, so its file may have been deleted since.

    Raises:
        ConfigError: the file does not exist or cannot be read, or torchvision has no weights for
            this net.
    """
    if not isinstance(value, str):
        raise ConfigError(
            f"{key}={value} must be null (the net is trained), {TORCHVISION}, or the name of a file"
            " (*.safetensors, or torch's *.pt, *.pth)"
        )
    if value == TORCHVISION:
        entry = getattr(model, "torchvision", None)
        if entry is None:
            raise ConfigError(
                f"{key}={TORCHVISION}: torchvision publishes no weights for model={model.name}, "
                f"only for resnet50 and efficientnet_b4; name a file, {key}=PATH, or leave {key} "
                "out to train the net"
            )
        return Weights(f"{TORCHVISION}:{entry}")
    content = _content(key, value, finished)
    if content is None:
        if key != "start.weights":  # a choice of start takes them from the file of something else
            raise ConfigError(_nothing(key, value))
        raise ConfigError(f"{_nothing(key, value)}{nearest(value, [TORCHVISION])}; {OTHERS}")
    return Weights(content, value)


def mask_file_of(key: str, value: Any, finished: bool = False) -> MaskFile:
    """The file of masks that `key`=`value` names. It is read to compute its checksum.

    Args:
        finished: as for `weights_of`.

    Raises:
        ConfigError: no file is named, or it does not exist or cannot be read.
    """
    if value is None or value == "":
        raise ConfigError(f"{key} is missing: name the file of masks, {key}=FILE ({FORMS})")
    if not isinstance(value, str):
        raise ConfigError(f"{key}={value} must be the name of a file of masks ({FORMS})")
    content = _content(key, value, finished)
    if content is None:
        raise ConfigError(_nothing(key, value))
    return MaskFile(content, value, key)


def _content(key: str, value: str, finished: bool) -> str | None:
    """The identity of a file; None if there is none and the run was not done before.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        path = user_path(value)
        if path.is_file():
            return f"sha256:{digest(path)}"
    except OSError as error:
        raise ConfigError(f"{key}={value} cannot be read: {error.strerror}") from error
    return "sha256:unknown" if finished else None


def _nothing(key: str, value: str) -> str:
    what = "it is a folder" if user_path(value).is_dir() else "there is no such file"
    return f"{key}={value}: {what}"


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hex.

    It is cached until the file's time stamp or size changes: the cells of a table share a file.
    """
    state = path.stat()
    return _digest(path.resolve(), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=64)
def _digest(path: Path, changed: int, size: int) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()

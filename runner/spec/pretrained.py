"""Weights from elsewhere (`start.weights`) and what identifies them: a file by its SHA-256, torchvision's by the name of their entry."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from runner.errors import ConfigError, nearest
from runner.spec.run import Weights

TORCHVISION = "torchvision"  # as a value of start.weights, and before the name of an entry in `Weights.content`
OTHERS = "start.weights=null, the default, trains the net; start.weights=torchvision takes what torchvision publishes for it, where it does"


def weights_of(key: str, value: Any, model: Any, finished: bool = False) -> Weights:
    """What `key`=`value` names for a net; a file is read for its checksum, nothing is fetched.

    Args:
        model: the component; one with published weights says which, as `torchvision`.
        finished: of a run that was done once: its file may be gone since.

    Raises:
        ConfigError: no such file, or torchvision has none for this net.
    """
    if not isinstance(value, str):
        raise ConfigError(f"{key}={value} must be null (the net is trained), {TORCHVISION}, or the name of a file (*.safetensors, or torch's *.pt, *.pth)")
    if value == TORCHVISION:
        entry = getattr(model, "torchvision", None)
        if entry is None:
            problem = f"{key}={TORCHVISION}: torchvision publishes no weights for model={model.name}, but for resnet50 and efficientnet_b4"
            raise ConfigError(f"{problem}; name a file, {key}=PATH, or leave {key} out: then the net is trained")
        return Weights(f"{TORCHVISION}:{entry}")
    path = Path(value).expanduser()
    if not path.is_file():
        if finished:
            return Weights("sha256:unknown", value)
        raise ConfigError(f"{key}={value}: there is no such file{nearest(value, [TORCHVISION])}; {OTHERS}")
    try:
        return Weights(f"sha256:{digest(path)}", value)
    except OSError as error:
        raise ConfigError(f"{key}={value} cannot be read: {error.strerror}") from error


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex; read once while it stays as it is, since a table's cells share theirs."""
    state = path.stat()
    return _digest(path.resolve(), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=64)
def _digest(path: Path, changed: int, size: int) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()

"""Parts of a recipe by name: `train.lr_schedule=cosine` is conf/lr_schedule/cosine.yaml."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from runner.config.instantiate import construct
from runner.config.own_parts import OWN, part_names
from runner.errors import ConfigError, nearest
from runner.paths import CONF


def named_part(folder: str, name: str, key: str, values: Mapping[str, Any] | None = None) -> Any:
    """The component that a file of conf/FOLDER or of the user's own folders describes.

    Args:
        folder: LR_SCHEDULE or OPTIMIZER.
        name: the file's name without its suffix.
        key: the key that sets the name, for messages.
        values: a configuration, which holds the user's own parts.

    Raises:
        ConfigError: there is no such file, or it describes no component.
    """
    own = (values or {}).get(OWN[folder], {})
    if name in own:
        return construct(own[name], f"{folder}/{name}.yaml")
    if name not in (shipped := part_names(folder)):
        names = sorted({*shipped, *own})
        raise ConfigError(
            f"{key}={name} must be one of {', '.join(names)}{nearest(str(name), names)}"
        )
    return _read(folder, name)


@cache
def _read(folder: str, name: str) -> Any:
    """The component of a file. It is frozen, so the thousands of recipes of a plan share it."""
    node = OmegaConf.to_container(OmegaConf.load(CONF / folder / f"{name}.yaml"))
    return construct(node, f"conf/{folder}/{name}.yaml")

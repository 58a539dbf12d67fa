"""Learning-rate schedules by name: `train.lr_schedule=cosine` is conf/lr_schedule/cosine.yaml."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from runner.config.instantiate import construct
from runner.config.own_schedules import FOLDER, schedule_names
from runner.errors import ConfigError, nearest
from runner.paths import CONF
from runner.spec.lr_schedule import LrSchedule


def named_schedule(name: str, key: str, own: Mapping[str, Any] | None = None) -> LrSchedule:
    """The schedule that a file of conf/lr_schedule or of the user's own folders describes.

    Args:
        name: the file's name without its suffix.
        key: the key that sets the name, for messages.
        own: those of `with_own_schedules` by name.

    Raises:
        ConfigError: there is no such file, or it describes no component.
    """
    own = own or {}
    if name in own:
        found: LrSchedule = construct(own[name], f"{FOLDER}/{name}.yaml")
        return found
    if name not in (shipped := schedule_names()):
        names = sorted({*shipped, *own})
        raise ConfigError(
            f"{key}={name} must be one of {', '.join(names)}{nearest(str(name), names)}"
        )
    return _read(name)


@cache
def _read(name: str) -> LrSchedule:
    """The component of a file. It is frozen, so the thousands of recipes of a plan share it."""
    node = OmegaConf.to_container(OmegaConf.load(CONF / FOLDER / f"{name}.yaml"))
    found: LrSchedule = construct(node, f"conf/{FOLDER}/{name}.yaml")
    return found

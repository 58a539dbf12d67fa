"""Learning-rate schedules by name: `train.lr_schedule=cosine` is conf/lr_schedule/cosine.yaml."""

from functools import cache

from omegaconf import OmegaConf

from runner.config.instantiate import construct
from runner.errors import ConfigError, nearest
from runner.paths import CONF
from runner.spec.lr_schedule import LrSchedule

FOLDER = "lr_schedule"  # of conf


def schedule_names() -> list[str]:
    """The schedules that can be chosen, sorted."""
    return sorted(path.stem for path in (CONF / FOLDER).glob("*.yaml"))


def named_schedule(name: str, key: str) -> LrSchedule:
    """The schedule that a file of conf/lr_schedule describes.

    Args:
        name: the file's name without its suffix.
        key: the key that sets the name, for messages.

    Raises:
        ConfigError: there is no such file, or it describes no component.
    """
    try:
        return _read(name)
    except FileNotFoundError:
        names = schedule_names()
        raise ConfigError(
            f"{key}={name} must be one of {', '.join(names)}{nearest(str(name), names)}"
        ) from None


@cache
def _read(name: str) -> LrSchedule:
    """The component of a file. It is frozen, so the thousands of recipes of a plan share it."""
    node = OmegaConf.to_container(OmegaConf.load(CONF / FOLDER / f"{name}.yaml"))
    found: LrSchedule = construct(node, f"conf/{FOLDER}/{name}.yaml")
    return found

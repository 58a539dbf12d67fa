"""Format hyper-parameters of a configuration as a paper's table prints them.

They are read from the composed configuration, so printed values equal those of a run.
"""

from typing import Any

from runner.config.build import build_plain
from runner.config.compose import Composer
from runner.config.interpolation import resolve
from runner.data.split import training_images
from runner.errors import ConfigError


def read_setting(key: str, overrides: list[str], composer: Composer) -> str:
    """Return the value at `key`, e.g. `method.lipschitz.p`.

    The key `images` gives the numbers of training and test images.

    Args:
        overrides: the overrides of the configuration.

    Raises:
        ConfigError: an unknown key, or an invalid configuration.
    """
    plain = composer.plain(overrides)
    if key == "images":
        run = build_plain(plain)
        info = run.dataset.info()
        trained = training_images(info.train, run.train_fraction, run.dataset.validation)
        return f"{_thousands(trained)}/{_thousands(info.test)}"
    node: Any = resolve(plain).values
    for name in key.split("."):
        if not isinstance(node, dict) or name not in node:
            raise ConfigError(
                f"{key}, which the table prints, is not a key of this configuration: correct the"
                " YAML of the table"
            )
        node = node[name]
    return f"{node:g}" if isinstance(node, float) else str(node).removesuffix("ep")


def _thousands(count: int) -> str:
    """Format 50000 as 50K; a number that is not a multiple of 1000 is written in full."""
    return f"{count // 1000}K" if count >= 1000 and count % 1000 == 0 else f"{count:,}"

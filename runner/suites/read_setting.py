"""Format hyper-parameters of a configuration as a paper's table prints them.

They are read from the composed configuration, so printed values equal those of a run.
"""

from runner.config.build import build_plain
from runner.config.compose import Composer
from runner.config.interpolation import resolve
from runner.errors import ConfigError
from runner.suites.readings import Source, read


def read_setting(key: str, overrides: list[str], composer: Composer) -> str:
    """Return the value at `key`, e.g. `method.lipschitz.p`; runner/suites/readings.py has the keys.

    Args:
        overrides: the overrides of the configuration.

    Raises:
        ConfigError: an unknown key, or an invalid configuration.
    """
    plain = composer.plain(overrides)
    found = read(key, Source(build_plain(plain), resolve(plain).values, (), ""))
    if found is None:
        raise ConfigError(
            f"{key}, which the table prints, is not a key of this configuration: correct the YAML"
            " of the table"
        )
    return found.removesuffix("ep")

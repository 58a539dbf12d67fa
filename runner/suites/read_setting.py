"""Format hyper-parameters of a configuration as a paper's table prints them.

They are read from the composed configuration, so printed values equal those of a run.
"""

from collections.abc import Iterable

from runner.config.build import build_plain
from runner.config.compose import Composer
from runner.config.interpolation import resolve
from runner.errors import ConfigError
from runner.suites.readings import Source, read


def read_settings(keys: Iterable[str], overrides: list[str], composer: Composer) -> dict[str, str]:
    """The value at each key, e.g. `method.lipschitz.p` (keys: runner/suites/readings.py).

    Args:
        overrides: the overrides of the configuration.

    Raises:
        ConfigError: an unknown key, or an invalid configuration.
    """
    wanted = list(keys)
    if not wanted:
        return {}
    plain = composer.plain(overrides)
    source = Source(build_plain(plain), resolve(plain).values, (), "")
    return {key: _text(key, source) for key in wanted}


def _text(key: str, source: Source) -> str:
    found = read(key, source)
    if found is None:
        raise ConfigError(
            f"{key}, which the table prints, is not a key of this configuration: correct the YAML"
            " of the table"
        )
    return found.removesuffix("ep")

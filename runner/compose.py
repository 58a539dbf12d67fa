"""Compose a configuration without a command line: for tables, sweeps and tests."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from runner.errors import ConfigError
from runner.messages import refuse_key_changes, translate
from runner.schema import register

CONF = Path(__file__).resolve().parent.parent / "conf"


def compose_config(overrides: list[str]) -> DictConfig:
    """The configuration that `python run.py <overrides>` would run.

    Raises:
        ConfigError: one message, as on the command line.
    """
    register()
    refuse_key_changes(overrides)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("config", overrides=overrides)
    except Exception as error:
        message = translate(error, str(CONF), overrides)
        if message is None:
            raise
        raise ConfigError(message) from error


def method_names() -> list[str]:
    """Methods that have a configuration."""
    return sorted(path.stem for path in (CONF / "method").glob("*.yaml"))

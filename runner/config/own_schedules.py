"""The user's own learning-rate schedules: files in `lr_schedule/` of a `--config-dir`."""

from collections.abc import Iterable

from omegaconf import DictConfig, OmegaConf

from runner.config.overrides import conf_folders
from runner.config.plain import read_plain
from runner.paths import CONF

FOLDER = "lr_schedule"  # of conf
OWN = "lr_schedules"  # key of a configuration: the user's own schedules


def schedule_names() -> list[str]:
    """The schedules of Winnow, sorted."""
    return sorted(path.stem for path in (CONF / FOLDER).glob("*.yaml"))


def with_own_schedules(cfg: DictConfig, overrides: Iterable[str]) -> DictConfig:
    """The configuration with the schedules in the user's own folders among `overrides`.

    They are stored under OWN, so that a run's config.yaml describes it without these folders.

    Raises:
        ConfigError: a file is no YAML.
    """
    files = {
        path.stem: path
        for folder in conf_folders(overrides)[1:]
        for path in sorted((folder / FOLDER).glob("*.yaml"))
        if path.stem not in schedule_names()
    }
    if files:
        nodes = {name: read_plain(path, resolve=False) for name, path in files.items()}
        OmegaConf.update(cfg, OWN, nodes, force_add=True)
    return cfg

"""Parts of a recipe that are files, by name, and those in the user's own folders.

A part is a learning-rate schedule, `lr_schedule/NAME.yaml`, or an optimizer, `optimizer/NAME.yaml`,
in conf or in a `--config-dir`.
"""

from collections.abc import Iterable

from omegaconf import DictConfig, OmegaConf

from runner.config.overrides import conf_folders
from runner.config.plain import read_plain
from runner.paths import CONF

LR_SCHEDULE, OPTIMIZER = "lr_schedule", "optimizer"  # folders of conf
# folder -> key of a configuration that holds the user's own
OWN = {LR_SCHEDULE: "lr_schedules", OPTIMIZER: "optimizers"}


def part_names(folder: str) -> list[str]:
    """The parts of Winnow in a folder of conf, sorted."""
    return sorted(path.stem for path in (CONF / folder).glob("*.yaml"))


def with_own_parts(cfg: DictConfig, overrides: Iterable[str]) -> DictConfig:
    """The configuration with the parts in the user's own folders among `overrides`.

    They are stored under the keys of OWN, so that a run's config.yaml describes it without these
    folders.

    Raises:
        ConfigError: a file is no YAML.
    """
    folders = conf_folders(overrides)[1:]
    for name, key in OWN.items():
        shipped = part_names(name)
        nodes = {
            path.stem: read_plain(path, resolve=False)
            for folder in folders
            for path in sorted((folder / name).glob("*.yaml"))
            if path.stem not in shipped
        }
        if nodes:
            OmegaConf.update(cfg, key, nodes, force_add=True)
    return cfg

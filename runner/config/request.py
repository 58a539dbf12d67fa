"""Build a command's `RunRequest` from a composed configuration."""

from copy import deepcopy
from dataclasses import asdict

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from runner.config.build import build_run
from runner.config.environment import environment_of, typed_by_user
from runner.config.own_parts import with_own_parts
from runner.config.plain import to_plain
from runner.config.unread import unread
from runner.errors import ConfigError
from runner.spec.request import RunRequest, SavedConfig
from runner.spec.run import Run


def read_request(cfg: DictConfig) -> RunRequest:
    """The run and the environment that `cfg` describes.

    Raises:
        ConfigError: as `build_run`.
    """
    typed = typed_by_user()
    cfg = with_own_parts(cfg, typed)
    method, run = cfg.method, build_run(cfg)
    cfg = _with_files(cfg, run)
    return RunRequest(
        run=run,
        environment=environment_of(cfg),
        config=SavedConfig(OmegaConf.to_yaml(cfg, resolve=True), to_plain(cfg, resolve=True)),
        overrides=_effective(cfg, typed),
        highlights=tuple(method.get("highlights", ())),
        paper_command=method.get("paper_command"),
    )


def _with_files(cfg: DictConfig, run: Run) -> DictConfig:
    """The configuration with what was found in the user's own files of images, if it has any."""
    found = getattr(run.dataset, "found", None)
    if found is None:
        return cfg
    cfg = deepcopy(cfg)
    OmegaConf.update(cfg, "dataset.found", asdict(found), force_add=True)
    return cfg


def _effective(cfg: DictConfig, overrides: tuple[str, ...]) -> tuple[str, ...]:
    """The overrides that have an effect on this job.

    Raises:
        ConfigError: one has none, and this is not a job of a sweep, whose jobs share overrides.
    """
    idle = unread(to_plain(cfg, resolve=False), overrides)
    if idle and HydraConfig.get().mode != RunMode.MULTIRUN:
        raise ConfigError(*idle.values())
    return tuple(each for each in overrides if each not in idle)

"""Build a command's `RunRequest` and `Environment` from a composed configuration."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from runner.config.build import build_run
from runner.config.compose import compose_config
from runner.config.plain import to_plain
from runner.spec.request import Environment, RunRequest, SavedConfig


def read_request(cfg: DictConfig) -> RunRequest:
    """The run and the environment that `cfg` describes.

    Raises:
        ConfigError: as `build_run`.
    """
    method = cfg.method
    return RunRequest(
        run=build_run(cfg),
        environment=environment_of(cfg),
        config=SavedConfig(OmegaConf.to_yaml(cfg, resolve=True), to_plain(cfg, resolve=True)),
        overrides=tuple(HydraConfig.get().overrides.task) if HydraConfig.initialized() else (),
        highlights=tuple(method.get("highlights", ())),
        paper_training=method.get("paper"),
        paper_command=method.get("paper_command"),
    )


def environment_of(cfg: DictConfig) -> Environment:
    """The `env` group of a composed configuration."""
    env = to_plain(cfg.env, resolve=True)
    folders = {key: Path(env[key]) for key in ("results_dir", "cache_dir", "data_dir")}
    return Environment(**{**env, **folders})


def environment(overrides: list[str]) -> Environment:
    """The environment that the `env.*` overrides select; other overrides are ignored.

    Raises:
        ConfigError: an unknown key of env, or a value of the wrong type.
    """
    return environment_of(compose_config([each for each in overrides if each.startswith("env.")]))

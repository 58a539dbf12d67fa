"""Build a command's `RunRequest` and `Environment` from a composed configuration."""

from dataclasses import replace

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from runner.config import typed
from runner.config.build import build_run
from runner.config.compose import compose_config
from runner.config.overrides import SEARCH, search_path
from runner.config.own_schedules import with_own_schedules
from runner.config.plain import to_plain
from runner.config.quoting import REFERENCE, no_reference
from runner.config.unread import unread
from runner.errors import ConfigError
from runner.paths import user_path
from runner.spec.request import Environment, RunRequest, SavedConfig


def read_request(cfg: DictConfig) -> RunRequest:
    """The run and the environment that `cfg` describes.

    Raises:
        ConfigError: as `build_run`.
    """
    typed_by_user = _typed_by_user() if HydraConfig.initialized() else ()
    cfg = with_own_schedules(cfg, typed_by_user)
    method, run = cfg.method, build_run(cfg)
    return RunRequest(
        run=run,
        environment=environment_of(cfg),
        config=SavedConfig(OmegaConf.to_yaml(cfg, resolve=True), to_plain(cfg, resolve=True)),
        overrides=_effective(cfg, typed_by_user),
        highlights=tuple(method.get("highlights", ())),
        paper_command=method.get("paper_command"),
    )


def _typed_by_user() -> tuple[str, ...]:
    """The overrides of this job, with the one that names the user's own folders."""
    overrides = HydraConfig.get().overrides
    return (*search_path(overrides.hydra), *overrides.task)


def _effective(cfg: DictConfig, overrides: tuple[str, ...]) -> tuple[str, ...]:
    """The overrides that have an effect on this job.

    Raises:
        ConfigError: one has none, and this is not a job of a sweep, whose jobs share overrides.
    """
    idle = unread(to_plain(cfg, resolve=False), overrides)
    if idle and HydraConfig.get().mode != RunMode.MULTIRUN:
        raise ConfigError(*idle.values())
    return tuple(each for each in overrides if each not in idle)


def environment_of(cfg: DictConfig) -> Environment:
    """The `env` group of a composed configuration.

    Raises:
        ConfigError: a value of the wrong type; a path is empty or contains an interpolation.
    """
    env = to_plain(cfg.env, resolve=True)
    folders = {f"env.{key}": env[key] for key in ("results_dir", "cache_dir", "data_dir")}
    problems = [no_reference(key, path) for key, path in folders.items() if REFERENCE in path]
    problems += [f"{key}= is empty: name a folder" for key, path in folders.items() if not path]
    problems += [
        f"{key}={ascii(path)} is not UTF-8, which the files of stages require: choose another name"
        for key, path in folders.items()
        if path != path.encode("utf-8", errors="replace").decode()
    ]
    if problems:
        raise ConfigError(*problems)
    found = typed.build(Environment, env, "env")
    return replace(
        found,
        results_dir=user_path(env["results_dir"]),
        cache_dir=user_path(env["cache_dir"]),
        data_dir=user_path(env["data_dir"]),
    )


def environment(overrides: list[str]) -> Environment:
    """The environment that the `env.*` overrides select; other overrides are ignored.

    Raises:
        ConfigError: an unknown key of env, or a value of the wrong type.
    """
    return environment_of(
        compose_config(
            [each for each in overrides if each.startswith(("env.", "env=", f"{SEARCH}="))]
        )
    )

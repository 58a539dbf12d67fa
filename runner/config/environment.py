"""Build a command's `Environment` from a composed configuration, and what its user typed.

It imports nothing that builds a run.
"""

from collections.abc import Sequence
from dataclasses import replace

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from runner.config import typed as typed_values
from runner.config.compose import compose_config
from runner.config.overrides import SEARCH, search_path
from runner.config.plain import to_plain
from runner.config.quoting import REFERENCE, no_reference
from runner.errors import ConfigError
from runner.paths import user_path
from runner.spec.request import Environment


def typed_by_user() -> tuple[str, ...]:
    """The overrides of this job, with the one that names the user's own folders.

    Empty if no command line was composed.
    """
    if not HydraConfig.initialized():
        return ()
    overrides = HydraConfig.get().overrides
    return typed((*overrides.hydra, *overrides.task))


def typed(words: Sequence[str]) -> tuple[str, ...]:
    """The overrides on a command line, without Hydra's other than the user's own folders."""
    task = [word for word in words if not word.startswith(("hydra.", "hydra/"))]
    return (*search_path(words), *task)


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
    found = typed_values.build(Environment, env, "env")
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

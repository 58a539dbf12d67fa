"""What commands for tables and figures have in common: their words, the launcher, the machine."""

from typing import Any

from omegaconf import OmegaConf

from runner.config.request import environment
from runner.engine.machine import Machine, prepare
from runner.launch.launcher import DEFAULT, PREFIX, Launcher, make_launcher, read_launcher
from runner.spec.planned import PlannedRun
from runner.suites.expand import Suite, expand_all, parse_arguments


def launcher(words: list[str]) -> tuple[Launcher, list[str]]:
    """What runs the jobs, by its options, and the other words of a command line.

    `hydra/launcher=NAME hydra.launcher.KEY=VALUE` as in a sweep; the queue, which is the default, takes its options as plain KEY=VALUE too.

    Raises:
        ConfigError: another launcher, an unknown option, a value of the wrong kind or out of range.
    """
    pairs = [word.partition("=")[::2] for word in words]
    name = dict(pairs).get("hydra/launcher", DEFAULT)
    cls, options = read_launcher(name)
    plain = set(options) if name == DEFAULT else set[str]()
    own = {key for key, _ in pairs if key in plain or key.startswith(PREFIX)}
    given = OmegaConf.from_dotlist([f"{key.removeprefix(PREFIX)}={value}" for key, value in pairs if key in own])
    rest = [word for word, (key, _) in zip(words, pairs, strict=True) if key not in own | {"hydra/launcher"}]
    chosen: Any = OmegaConf.to_container(OmegaConf.merge(options, given))
    return make_launcher(cls, chosen, "" if plain else PREFIX), rest


def load(words: list[str]) -> tuple[list[Suite], Machine, int | None]:
    """The tables that the words of a command line ask for, the machine of their runs, and env.threads if it is set.

    Raises:
        ConfigError: anything that no run could start with.
    """
    names, chosen, overrides = parse_arguments(words)
    tables = expand_all(names, chosen, overrides)
    env = environment(overrides)
    return tables, prepare(env), env.threads


def unique_jobs(tables: list[Suite]) -> list[PlannedRun]:
    """Every run of the tables, each once."""
    return list({job.run_id: job for table in tables for job in table.jobs}.values())

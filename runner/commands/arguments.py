"""Command-line arguments of the commands for tables and figures."""

from typing import Any

from omegaconf import OmegaConf

from runner.config.environment import environment
from runner.config.overrides import given_twice, with_search_path
from runner.engine.machine import Place
from runner.errors import ConfigError
from runner.launch.launcher import DEFAULT, PREFIX, Launcher, make_launcher, read_launcher
from runner.spec.planned import PlannedRun
from runner.suites.expand import Suite, expand_all, parse_arguments
from runner.suites.kept import KeptCells


def launcher(words: list[str]) -> tuple[Launcher, list[str]]:
    """The launcher that a command line chooses, and the remaining words.

    The words are `hydra/launcher=NAME hydra.launcher.KEY=VALUE` as in a sweep. The default
    launcher, the queue, also accepts its options as plain KEY=VALUE.

    Raises:
        ConfigError: an unknown launcher or option, or a value of the wrong type or out of range.
    """
    words = whole_mappings(with_search_path(words))
    if problems := given_twice(words):
        raise ConfigError(*problems)
    pairs = [word.partition("=")[::2] for word in words]
    name = dict(pairs).get("hydra/launcher", DEFAULT)
    cls, options = read_launcher(name, words)
    plain = set(options) if name == DEFAULT else set[str]()
    own = {key for key, _ in pairs if key in plain or key.startswith(PREFIX)}
    given: Any = OmegaConf.create({})
    for key, value in pairs:
        if key in own and value.startswith("{"):
            OmegaConf.update(given, key.removeprefix(PREFIX), value)
        elif key in own:
            given.merge_with_dotlist([f"{key.removeprefix(PREFIX)}={value}"])
    rest = [
        word
        for word, (key, _) in zip(words, pairs, strict=True)
        if key not in own | {"hydra/launcher"}
    ]
    chosen: Any = OmegaConf.to_container(OmegaConf.merge(options, given))
    return make_launcher(cls, chosen, "" if plain else PREFIX), rest


def whole_mappings(words: list[str]) -> list[str]:
    """The words, with those joined between which a shell has split `{account: lab}`."""
    whole: list[str] = []
    for word in words:
        if whole and whole[-1].startswith(PREFIX) and whole[-1].count("{") > whole[-1].count("}"):
            whole[-1] += f" {word}"
        else:
            whole.append(word)
    return whole


def load(words: list[str]) -> tuple[list[Suite], Place]:
    """The tables that a command line names, and the machine of their runs.

    Raises:
        ConfigError: the words, the configuration or the machine are invalid.
    """
    names, chosen, overrides = parse_arguments(words)
    env = environment(overrides)
    tables = expand_all(names, chosen, overrides, KeptCells(env.cache_dir))
    return tables, Place(env)


def unique_jobs(tables: list[Suite]) -> list[PlannedRun]:
    """The runs of the tables without duplicates."""
    return list({job.run_id: job for table in tables for job in table.jobs}.values())

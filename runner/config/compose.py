"""Compose a configuration without a command line: for tables, sweeps and tests."""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.config.hydra_errors import translate
from runner.config.overrides import check_overrides, conf_folders
from runner.config.own_schedules import with_own_schedules
from runner.config.plain import to_plain
from runner.config.quoting import literal_paths
from runner.config.schema import register
from runner.errors import ConfigError
from runner.paths import CONF


def compose_config(overrides: list[str]) -> DictConfig:
    """The configuration that `python run.py <overrides>` would run.

    Raises:
        ConfigError: one message, as on the command line.
    """
    register()
    check_overrides(overrides)
    overrides = literal_paths(overrides)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return with_own_schedules(compose("config", overrides=overrides), overrides)
    except Exception as error:
        message = translate(error, str(CONF), overrides)
        if message is None:
            raise
        raise ConfigError(message) from error


@dataclass
class Composer:
    """Composes the configurations of many command lines.

    Hydra takes 50 to 100 ms to compose one. Each combination of groups is composed once, and values
    are set on copies. Groups that no other file touches (data set, net, training) are composed once
    per choice of their own. Overrides other than `group=name` and `key=value`, and those with an
    error, are composed in full, so that messages equal those of the command line.
    """

    bases: dict[tuple[str, ...], DictConfig] = field(default_factory=dict)  # by groups
    # by all overrides but density: the configuration, and the same as plain dicts
    composed: dict[tuple[str, ...], tuple[DictConfig, dict[str, Any]]] = field(default_factory=dict)
    parsed: dict[str, tuple[str, Any]] = field(default_factory=dict)  # override -> key, value

    @cached_property
    def apart(self) -> set[str]:
        """Groups whose part of the configuration is independent of all other choices."""
        return {group for group in ("dataset", "model", "train") if not touched(group)}

    def plain(self, overrides: list[str]) -> dict[str, Any]:
        """The configuration of `overrides` as plain dicts, with interpolations unresolved.

        Calls share parts of their results: do not modify them.

        Raises:
            ConfigError: as `compose_config`.
        """
        rest = tuple(each for each in overrides if not re.match(r"density=[\d.e+-]+$", each))
        if rest not in self.composed:
            cfg = self.config(list(rest))
            self.composed[rest] = cfg, to_plain(cfg, resolve=False)
        cfg, plain = self.composed[rest]
        if len(rest) == len(overrides):
            return plain
        if not self._set(cfg, [each for each in overrides if each not in rest]):
            return to_plain(compose_config(overrides), resolve=False)
        return {**plain, "density": cfg.density}  # converted to its type in runner/config/schema.py

    def config(self, overrides: list[str]) -> DictConfig:
        """As `compose_config`; the caller may modify the result."""
        overrides = literal_paths(overrides)
        if any(re.search(r"^[+~]|^hydra|[@$]", each) for each in overrides):
            return compose_config(overrides)
        check_overrides(overrides)
        chosen = {each: each.partition("=")[0] for each in overrides}
        groups = [each for each, key in chosen.items() if (CONF / key).is_dir()]
        own = [each for each in groups if chosen[each] in self.apart]
        try:
            cfg = copy.deepcopy(self._base(*(each for each in groups if each not in own)))
            for override in own:
                cfg[chosen[override]] = copy.deepcopy(self._base(override)[chosen[override]])
        except ConfigError:
            return compose_config(overrides)  # for the message of the whole command line
        values = [each for each in overrides if each not in groups]
        return cfg if self._set(cfg, values) else compose_config(overrides)

    def _base(self, *groups: str) -> DictConfig:
        if groups not in self.bases:
            self.bases[groups] = compose_config(list(groups))
        return self.bases[groups]

    def _set(self, cfg: DictConfig, values: list[str]) -> bool:
        """Set values as Hydra does after composing; False where Hydra would fail or sweep."""
        try:
            for override in values:
                if override not in self.parsed:
                    (parsed,) = OverridesParser.create().parse_overrides([override])
                    if parsed.is_sweep_override() or parsed.package is not None:
                        return False
                    self.parsed[override] = parsed.key_or_group, parsed.value()
                OmegaConf.update(cfg, *self.parsed[override], merge=True)
        except (HydraException, OmegaConfBaseException):
            return False
        return True


def touched(group: str) -> bool:
    """Whether a group's part of the configuration depends on other choices, or they depend on it.

    It does if a file outside `conf/<group>` sets its keys or chooses it, or if one of its own files
    sets keys elsewhere.
    """
    outside = [
        path for path in CONF.rglob("*.yaml") if path.parent.name not in (group, "table", "figure")
    ]
    inside = (path.read_text(encoding="utf-8") for path in (CONF / group).glob("*.yaml"))
    return any(
        re.search(rf"^{group}:|/{group}\b", path.read_text(encoding="utf-8"), re.MULTILINE)
        for path in outside
    ) or any("@package" in text for text in inside)


def method_names(overrides: Sequence[str] = ()) -> list[str]:
    """Names of the methods in conf/method and the user's own folders among `overrides`, sorted."""
    folders = conf_folders(overrides)
    return sorted({path.stem for each in folders for path in (each / "method").glob("*.yaml")})


def has_method(name: str, overrides: Sequence[str] = ()) -> bool:
    """Whether `method=name` can be chosen, given the user's own folders among `overrides`.

    Theory experiments, which prune nothing, have a folder of their own: theory/recovery.
    """
    return any((conf / "method" / f"{name}.yaml").is_file() for conf in conf_folders(overrides))

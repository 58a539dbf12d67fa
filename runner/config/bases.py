"""Configurations of choices of groups, which a process keeps while the files behind them stay.

Hydra takes 80 ms and more to compose a configuration; the choices of groups take nearly all of it.
Values are set on copies, as Hydra sets them after composing.
"""

import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.config.overrides import conf_folders
from runner.config.parsed_files import Answers, hydra_on

MOST = 256  # configurations, of about 20 kB; beyond it, the earliest are dropped


def split_words(overrides: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """The overrides `group=name`, and those `key=value`.

    None if there are others, which Hydra has to see together: those that add, delete or rename a
    key, those of Hydra itself, and references.
    """
    if any(re.search(r"^[+~]|^hydra|[@$]", each) for each in overrides):
        return None
    folders = conf_folders(())
    groups = [
        each
        for each in overrides
        if any((folder / each.partition("=")[0]).is_dir() for folder in folders)
    ]
    return groups, [each for each in overrides if each not in groups]


@lru_cache(maxsize=4096)
def parsed(override: str) -> tuple[str, Any] | None:
    """Key and value of an override; None where Hydra would fail or sweep. Do not modify it."""
    try:
        (found,) = OverridesParser.create().parse_overrides([override])
    except HydraException:
        return None
    if found.is_sweep_override() or found.package is not None:
        return None
    return found.key_or_group, found.value()


def set_values(cfg: DictConfig, values: Sequence[str]) -> bool:
    """Set values as Hydra does after composing; False where Hydra would fail or sweep."""
    for override in values:
        pair = parsed(override)
        if pair is None:
            return False
        try:
            OmegaConf.update(cfg, *pair, merge=True)
        except (HydraException, OmegaConfBaseException):
            return False
    return True


@dataclass
class Bases:
    """The kept configurations, each with what was read for it."""

    kept: dict[tuple[str, ...], tuple[Answers, bytes]] = field(default_factory=dict)

    def get(self, conf: str, groups: Sequence[str]) -> DictConfig | None:
        """The configuration of choices of groups; None where Hydra fails.

        Args:
            conf: the folder of Winnow's own files.
        """
        key = (conf, *map(str, conf_folders(())), "", *groups)
        answers, tree = self.kept.get(key, (None, b""))
        if answers is None or not answers.hold():
            answers, cfg = Answers(), None
            GlobalHydra.instance().clear()
            try:
                with hydra_on(conf, answers):
                    cfg = compose("config", overrides=list(groups))
            except Exception:  # whoever composes all overrides gets the message
                return None
            tree = pickle.dumps(cfg)
            self._keep(key, answers, tree)
        found: DictConfig = pickle.loads(tree)
        return found

    def _keep(self, key: tuple[str, ...], answers: Answers, tree: bytes) -> None:
        self.kept.pop(key, None)
        if answers.complete:
            self.kept[key] = answers, tree
        while len(self.kept) > MOST:
            del self.kept[next(iter(self.kept))]

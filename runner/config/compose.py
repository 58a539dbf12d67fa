"""Compose a configuration without a command line: for tables, sweeps and tests."""

import copy
import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from runner.config.bases import Bases, parsed, set_values, split_words
from runner.config.hydra_errors import translate
from runner.config.overrides import check_overrides, conf_folders, use_folders
from runner.config.own_parts import with_own_parts
from runner.config.parsed_files import hydra_on
from runner.config.plain import Plain, to_plain
from runner.config.quoting import literal_paths
from runner.config.schema import register
from runner.errors import ConfigError
from runner.paths import CONF

UNKNOWN = object()  # a value that cannot be set
# Like the modules that are imported, what was composed belongs to the process. A file that changes
# is read again (runner/config/parsed_files.py).
_BASES = Bases()


def compose_config(overrides: list[str]) -> DictConfig:
    """The configuration that `python run.py <overrides>` would run, as `compose_in_full`.

    The choices of groups are composed once while the files that count for them stay as they are,
    and values are set on a copy.

    Raises:
        ConfigError: one message, as on the command line.
    """
    register()
    use_folders(overrides)
    check_overrides(overrides)
    words = literal_paths(overrides)
    split = split_words(words)
    if split is not None:
        cfg = _BASES.get(str(CONF), split[0])
        if cfg is not None and set_values(cfg, split[1]):
            return with_own_parts(cfg, words)
    return compose_in_full(overrides)


def compose_in_full(overrides: list[str]) -> DictConfig:
    """The same, composed by Hydra from all overrides.

    Raises:
        ConfigError: one message, as on the command line.
    """
    register()
    use_folders(overrides)
    check_overrides(overrides)
    overrides = literal_paths(overrides)
    GlobalHydra.instance().clear()
    try:
        with hydra_on(str(CONF)):
            return with_own_parts(compose("config", overrides=overrides), overrides)
    except Exception as error:
        message = translate(error, str(CONF), overrides)
        if message is None:
            raise
        raise ConfigError(message) from error


def command_config(overrides: list[str]) -> DictConfig:
    """The configuration of a command line that has neither flags nor overrides of Hydra's own.

    It is composed once, and kept for what asks Hydra about the command. `hydra.main` composes it
    twice, which takes as long as a tiny run. Errors are those of Hydra.
    """
    GlobalHydra.instance().clear()
    with hydra_on(str(CONF)):
        cfg = compose("config", overrides=overrides, return_hydra_config=True)
    cfg.hydra.mode = RunMode.RUN
    HydraConfig.instance().set_config(cfg)
    own: DictConfig = copy.copy(cfg)
    with read_write(own), open_dict(own):
        del own["hydra"]
    return own


@dataclass
class _Base:
    """The configuration of a choice of groups, to which values are set.

    Args:
        cfg: the configuration; it is never modified.
        plain: the same as plain dicts, with interpolations unresolved.
    """

    cfg: DictConfig
    plain: Plain
    parts: dict[tuple[str, ...], Any] = field(default_factory=dict)  # by overrides

    @cached_property
    def scratch(self) -> DictConfig:
        """A copy to which scalars are set for their conversion (runner/config/schema.py)."""
        return self.copy()

    @cached_property
    def _tree(self) -> bytes:
        return pickle.dumps(self.cfg)

    def copy(self) -> DictConfig:
        """A configuration of the caller's own; from bytes, in a third of `deepcopy`'s time."""
        found: DictConfig = pickle.loads(self._tree)
        return found

    def converted(self, top: str, value: Any) -> Any:
        """The scalar `value` as the value of a key of the top level."""
        OmegaConf.update(self.scratch, top, value)
        return self.scratch[top]


@dataclass
class Composer:
    """Composes the configurations of many command lines.

    Hydra takes 80 ms to compose one. Each combination of groups is composed once, and values are
    set on copies. Groups that no other file touches (data set, net, training) are composed once
    per choice of their own. Overrides other than `group=name` and `key=value`, and those with an
    error, are composed in full, so that messages equal those of the command line.
    """

    bases: dict[tuple[str, ...], _Base] = field(default_factory=dict)  # by groups

    @cached_property
    def apart(self) -> set[str]:
        """Groups whose part of the configuration is independent of all other choices."""
        return {group for group in ("dataset", "model", "train") if not touched(group)}

    def plain(self, overrides: list[str]) -> Plain:
        """The configuration of `overrides` as plain dicts, with interpolations unresolved.

        Calls share parts of their results: do not modify them.

        Raises:
            ConfigError: as `compose_config`.
        """
        found = self._plain(literal_paths(overrides))
        if found is not None:
            return found
        density = [each for each in overrides if re.match(r"density=[\d.e+-]+$", each)]
        base = self._base(*(each for each in overrides if each not in density))
        part = self._part(base, "density", density) if density else base.plain["density"]
        if part is UNKNOWN:
            return to_plain(compose_config(overrides), resolve=False)
        return {**base.plain, "density": part}

    def _plain(self, overrides: list[str]) -> Plain | None:
        """As `plain`; None if the overrides have to be composed in full.

        Only the keys of the top level that the overrides name differ from those of a base.
        """
        split = self._split(overrides)
        if split is None:
            return None
        base, own, values = split
        found = {**base.plain, **{key: each.plain[key] for key, each in own.items()}}
        by_key: dict[str, list[str]] = {}
        for each in values:
            by_key.setdefault(re.split(r"[.=\[]", each)[0], []).append(each)
        for top, words in by_key.items():
            part = self._part(own.get(top, base), top, words)
            if part is UNKNOWN:
                return None
            found[top] = part
        return found

    def _part(self, base: _Base, top: str, words: list[str]) -> Any:
        """The value of a key of the top level after `words`; UNKNOWN where Hydra would fail."""
        pair = parsed(words[-1])
        if (
            pair
            and pair[0] == top
            and all(map(_is_scalar, (pair[1], base.plain.get(top, UNKNOWN))))
        ):
            try:
                return base.converted(top, pair[1])
            except OmegaConfBaseException:
                return UNKNOWN
        key = tuple(words)
        if key not in base.parts:
            cfg = base.copy()
            fine = set_values(cfg, words)
            base.parts[key] = to_plain(cfg, resolve=False)[top] if fine else UNKNOWN
        return base.parts[key]

    def _split(self, overrides: list[str]) -> tuple[_Base, dict[str, _Base], list[str]] | None:
        """The base, those of the groups that are composed apart, and the values to set.

        None if the overrides have to be composed in full.

        Raises:
            ConfigError: an override is invalid.
        """
        split = split_words(overrides)
        if split is None:
            return None
        check_overrides(overrides)
        groups, values = split
        chosen = {each: each.partition("=")[0] for each in groups}
        own = [each for each in groups if chosen[each] in self.apart]
        try:
            base = self._base(*(each for each in groups if each not in own))
            return base, {chosen[each]: self._base(each) for each in own}, values
        except ConfigError:
            return None  # for the message of the whole command line

    def _base(self, *groups: str) -> _Base:
        if groups not in self.bases:
            cfg = compose_config(list(groups))
            self.bases[groups] = _Base(cfg, to_plain(cfg, resolve=False))
        return self.bases[groups]


def _is_scalar(value: Any) -> bool:
    """Whether a value has no parts and is not missing."""
    return value is None or isinstance(value, (bool, int, float, str)) and value != "???"


def touched(group: str) -> bool:
    """Whether a group's part of the configuration depends on other choices, or they depend on it.

    It does if a file outside `conf/<group>` sets its keys or chooses it, or if one of its own files
    sets keys elsewhere. The user's own files count.
    """
    folders = conf_folders(())
    outside = [
        path
        for folder in folders
        for path in folder.rglob("*.yaml")
        if path.parent.name not in (group, "table", "figure")
    ]
    inside = (
        path.read_text(encoding="utf-8")
        for folder in folders
        for path in (folder / group).glob("*.yaml")
    )
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

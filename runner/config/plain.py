"""Configurations as plain dicts, lists and scalars."""

from pathlib import Path
from typing import Any, TypeAlias, cast

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from yaml import YAMLError  # type: ignore[import-untyped]

from runner.errors import ConfigError

# A configuration or a part of one, as YAML has it. Its keys are those of the user and of the parts;
# `runner.config.typed` checks them when it builds dataclasses.
Plain: TypeAlias = dict[str, Any]


def to_plain(cfg: DictConfig | ListConfig, *, resolve: bool) -> Plain:
    """The configuration as plain dicts; with `resolve`, references are replaced."""
    return cast(Plain, OmegaConf.to_container(cfg, resolve=resolve))


def has_key(plain: Plain, key: str) -> bool:
    """Whether `OmegaConf.select` finds a value at a key with dots; references are unresolved."""
    node: Any = plain
    for part in key.split("."):
        if not isinstance(node, dict):  # a reference, or a list
            found = OmegaConf.select(OmegaConf.create(plain), key, default=MISSING)
            return bool(found != MISSING)
        node = node.get(part, MISSING)
    return bool(node != MISSING)


def read_plain(path: Path, *, resolve: bool) -> Plain:
    """The plain dicts of a YAML file."""
    return parse_plain(path.read_text(encoding="utf-8"), resolve=resolve)


def parse_plain(text: str, *, resolve: bool) -> Plain:
    """The plain dicts of a YAML or JSON text.

    Raises:
        ConfigError: the text is neither.
    """
    try:
        return to_plain(OmegaConf.create(text), resolve=resolve)
    except YAMLError as error:
        raise ConfigError(f"this is no YAML: {' '.join(str(error).split())}") from error

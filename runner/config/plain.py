"""Configurations as plain dicts, lists and scalars."""

from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf


def to_plain(cfg: DictConfig | ListConfig, *, resolve: bool) -> dict[str, Any]:
    """The configuration as plain dicts; with `resolve`, references are replaced."""
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=resolve))


def read_plain(path: Path, *, resolve: bool) -> dict[str, Any]:
    """The plain dicts of a YAML file."""
    return parse_plain(path.read_text(encoding="utf-8"), resolve=resolve)


def parse_plain(text: str, *, resolve: bool) -> dict[str, Any]:
    """The plain dicts of a YAML or JSON text."""
    return to_plain(OmegaConf.create(text), resolve=resolve)

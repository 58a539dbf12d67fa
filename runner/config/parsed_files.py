"""Hydra's file sources, which parse a text once in a process and note what they are asked.

A composition reads some 25 YAML files, and parsing them takes a third of its time. Every
composition reads the files anew; only the tree of a text that has been parsed before is kept. An
edited file is therefore a new text, and nothing has to be invalidated.
"""

import io
import pickle
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.core_plugins.importlib_resources_config_source import (
    ImportlibResourcesConfigSource,
)
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf

HEADER = 512  # characters at the begin of a file in which Hydra looks for `# @package`
UNCHANGED = ("pkg://hydra.conf", "structured://")  # sources that stay as they are in a process
RESOLVER = re.compile(r"\$\{[^}]*:")  # e.g. ${oc.env:NAME}, which may depend on anything


@dataclass
class Answers:
    """What a composition has read and asked of folders; with the same answers, it gives the same.

    Args:
        complete: whether nothing else counts, such as a variable of the environment.
    """

    texts: dict[Path, str] = field(default_factory=dict)
    files: dict[Path, bool] = field(default_factory=dict)  # whether there is such a file
    folders: dict[Path, bool] = field(default_factory=dict)
    complete: bool = True

    def __deepcopy__(self, memo: Any) -> "Answers":
        return self  # Hydra copies its sources, which all note what they are asked here

    def hold(self) -> bool:
        """Whether the same questions have the same answers now."""
        try:
            return (
                self.complete
                and all(path.is_file() == was for path, was in self.files.items())
                and all(path.is_dir() == was for path, was in self.folders.items())
                and all(_read(path) == was for path, was in self.texts.items())
            )
        except (OSError, ValueError):  # a file is gone, or is no text any more
            return False


@contextmanager
def hydra_on(folder: str, answers: Answers | None = None) -> Iterator[None]:
    """Hydra on a folder of YAML files, as `initialize_config_dir`, with the sources below.

    Args:
        answers: receives what is read and asked.
    """
    with initialize_config_dir(folder, version_base="1.3"):
        loader: Any = GlobalHydra.instance().config_loader()
        loader.repository = _Repository(loader.config_search_path, answers or Answers())
        yield


class _Repository(ConfigRepository):  # type: ignore[misc]  # Hydra has no types
    """Hydra's repository with the sources of this module for files and packages."""

    def __init__(self, config_search_path: ConfigSearchPath, answers: Answers) -> None:
        self.answers = answers
        super().__init__(config_search_path)

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        super().initialize_sources(config_search_path)
        self.sources: list[ConfigSource] = [_source(each, self.answers) for each in self.sources]


def _source(source: ConfigSource, answers: Answers) -> ConfigSource:
    """The source that gives the same as Hydra's; one of another scheme is returned as it is."""
    if source.scheme() == "file":
        return _Files(source.provider, source.full_path(), answers)
    if source.full_path() not in UNCHANGED:
        answers.complete = False
    if source.scheme() == "pkg":
        return _PackageFiles(source.provider, source.full_path())
    return source


class _Files(FileConfigSource):  # type: ignore[misc]
    def __init__(self, provider: str, path: str, answers: Answers) -> None:
        super().__init__(provider, path)
        self.answers = answers

    def is_config(self, config_path: str) -> bool:
        path = self._path(self._normalize_file_name(config_path))
        found = self.answers.files[path] = bool(super().is_config(config_path))
        return found

    def is_group(self, config_path: str) -> bool:
        found = self.answers.folders[self._path(config_path)] = bool(super().is_group(config_path))
        return found

    def load_config(self, config_path: str) -> ConfigResult:
        path = self._path(self._normalize_file_name(config_path))
        try:  # a link may lead elsewhere later
            text = self.answers.texts[path] = sys.intern(_read(path))
        except FileNotFoundError as error:
            raise ConfigLoadError(f"Config not found : {path.resolve()}") from error
        found = _result(self, str(path.resolve()), text)
        if _chooses_by_resolver(found.config):
            self.answers.complete = False
        return found

    def _path(self, name: str) -> Path:
        return Path(self.path) / name


class _PackageFiles(ImportlibResourcesConfigSource):  # type: ignore[misc]
    def load_config(self, config_path: str) -> ConfigResult:
        name = self._normalize_file_name(config_path)
        file = resources.files(self.path).joinpath(name)
        if not file.is_file():
            raise ConfigLoadError(f"Config not found : {name}")
        return _result(self, str(file), file.read_text(encoding="utf-8"))


def _chooses_by_resolver(cfg: Any) -> bool:
    """Whether a resolver decides which other files a file takes."""
    if not isinstance(cfg, DictConfig) or "defaults" not in cfg:
        return False
    if OmegaConf.is_interpolation(cfg, "defaults"):
        return True
    return bool(RESOLVER.search(str(cfg.get("defaults"))))


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _result(source: ConfigSource, path: str, text: str) -> ConfigResult:
    """What Hydra's sources return for a file; the caller may modify it."""
    return ConfigResult(
        config=pickle.loads(_tree(path, text)),
        path=source.full_path(),
        provider=source.provider,
        header=ConfigSource._get_header_dict(text[:HEADER]),
    )


@lru_cache(maxsize=1024)
def _tree(path: str, text: str) -> bytes:
    """The tree of a YAML text as bytes, from which each composition gets one of its own.

    Args:
        path: the file's, for messages on a text that is no YAML.
    """
    stream = io.StringIO(text)
    stream.name = path  # PyYAML's messages contain it
    return pickle.dumps(OmegaConf.load(stream))

"""Hydra's file sources, which parse a text once in a process.

A composition reads some 25 YAML files, and parsing them takes a third of its time. Every
composition reads the files anew; only the tree of a text that has been parsed before is kept. An
edited file is therefore a new text, and nothing has to be invalidated.
"""

import io
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import resources
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
from omegaconf import OmegaConf

HEADER = 512  # characters at the begin of a file in which Hydra looks for `# @package`


@contextmanager
def hydra_on(folder: str) -> Iterator[None]:
    """Hydra on a folder of YAML files, as `initialize_config_dir`, with the sources below."""
    with initialize_config_dir(folder, version_base="1.3"):
        loader: Any = GlobalHydra.instance().config_loader()
        loader.repository = _Repository(loader.config_search_path)
        yield


class _Repository(ConfigRepository):  # type: ignore[misc]  # Hydra has no types
    """Hydra's repository with the sources of this module for files and packages."""

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        super().initialize_sources(config_search_path)
        self.sources: list[ConfigSource] = [_source(each) for each in self.sources]


def _source(source: ConfigSource) -> ConfigSource:
    """The source that gives the same as Hydra's; one of another scheme is returned as it is."""
    own = {"file": _Files, "pkg": _PackageFiles}
    cls = own.get(source.scheme())
    return source if cls is None else cls(source.provider, source.full_path())


class _Files(FileConfigSource):  # type: ignore[misc]
    def load_config(self, config_path: str) -> ConfigResult:
        name = os.path.join(self.path, self._normalize_file_name(config_path))  # noqa: PTH118
        path = os.path.realpath(name)
        try:
            with open(path, encoding="utf-8") as file:  # noqa: PTH123
                return _result(self, path, file.read())
        except FileNotFoundError as error:
            raise ConfigLoadError(f"Config not found : {path}") from error


class _PackageFiles(ImportlibResourcesConfigSource):  # type: ignore[misc]
    def load_config(self, config_path: str) -> ConfigResult:
        name = self._normalize_file_name(config_path)
        file = resources.files(self.path).joinpath(name)
        if not file.is_file():
            raise ConfigLoadError(f"Config not found : {name}")
        return _result(self, str(file), file.read_text(encoding="utf-8"))


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

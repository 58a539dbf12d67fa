"""Hydra plugin: the user's own YAML files are choices of every command (runner/own.py)."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from runner.own import standing_folders


class WinnowSearchPath(SearchPathPlugin):  # type: ignore[misc]  # Hydra has no types
    """Appends the folders of `WINNOW_PATH` and of installed packages to Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called once for each composition."""
        for folder in standing_folders():
            if folder.conf.is_dir():
                search_path.append("winnow-own", f"file://{folder.conf}")

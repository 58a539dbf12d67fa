"""Where parts of the user's own are: folders and installed packages beside Winnow's own code.

Such a folder has modules, `my/mine.py`, and YAML files in the groups of `conf`,
`my/conf/method/mine.yaml`. `WINNOW_PATH=my` or `--config-dir my/conf` names it; the entry point of
an installed package does so for all commands (group `winnow.plugins`).
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path

from runner.errors import ConfigError
from runner.paths import CONF, user_path

VARIABLE = "WINNOW_PATH"  # several folders are joined by os.pathsep, as in PATH
GROUP = "winnow.plugins"  # entry points NAME = PACKAGE
YAML = "conf"  # the folder of the YAML files
# Files that add to Winnow's instead of being choices of their own.
ADDING = ("papers.yaml",)


@dataclass(frozen=True)
class OwnFolder:
    """A folder with parts of the user's own.

    Args:
        code: the folder of its modules.
        conf: the folder of its YAML files, which may be missing.
        package: the name of the installed package that it is; empty for any other folder.
    """

    code: Path
    conf: Path
    package: str = ""

    @property
    def label(self) -> str:
        """What messages and records call it."""
        return f"the package {self.package}" if self.package else str(self.code)

    def modules(self) -> Iterator[tuple[str, Path]]:
        """Name and file of each module: all of a package, those directly in any other folder."""
        for path in sorted(self.code.rglob("*.py") if self.package else self.code.glob("*.py")):
            parts = path.relative_to(self.code).with_suffix("").parts
            name = ".".join(part for part in (self.package, *parts) if part not in ("", "__init__"))
            if name:
                yield name, path

    def choices(self) -> Iterator[Path]:
        """Its YAML files, relative to `conf`."""
        return (path.relative_to(self.conf) for path in sorted(self.conf.rglob("*.yaml")))


# The folders that the last command line of this process has named. Like sys.path, which the modules
# in them need too, this list belongs to the process.
_named: list[OwnFolder] = []


def use(confs: Iterable[Path]) -> None:
    """Make the parts beside folders of YAML files known to this process, instead of earlier ones.

    Args:
        confs: `my/conf`, whose modules are in `my`; a folder of another name has its own. None of
            them leaves everything as it is.
    """
    if found := [_beside(conf.absolute()) for conf in confs]:
        _named[:] = found


def _beside(conf: Path) -> OwnFolder:
    return OwnFolder(conf.parent if conf.name == YAML else conf, conf)


def own_folders() -> tuple[OwnFolder, ...]:
    """All folders with parts of the user's own, each once.

    Raises:
        ConfigError: as `standing_folders`; files of two folders have the same name.
    """
    return _checked((*standing_folders(), *_named))


def standing_folders() -> tuple[OwnFolder, ...]:
    """The folders of every command: those of `WINNOW_PATH`, then the installed packages.

    Raises:
        ConfigError: a folder is missing, or a file has the name of one of Winnow's.
    """
    words = [word for word in os.environ.get(VARIABLE, "").split(os.pathsep) if word]
    folders = [user_path(word).absolute() for word in words]
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise ConfigError(
            f"{VARIABLE}={os.environ[VARIABLE]}: there is no folder {missing[0]}; name folders with"
            f" modules and a folder {YAML}, joined by {os.pathsep!r}"
        )
    return _checked((*(_beside(f if f.name == YAML else f / YAML) for f in folders), *installed()))


@cache
def installed() -> tuple[OwnFolder, ...]:
    """The installed packages with an entry point of the group `winnow.plugins`.

    Raises:
        ConfigError: an entry point names no package.
    """
    found = []
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda each: each.name):
        try:
            spec = util.find_spec(point.module)
        except ImportError:
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(
                f"the entry point {point.name} = {point.value} of {GROUP} names no installed"
                " package: name one that has its modules and a folder conf"
            )
        code = Path(next(iter(spec.submodule_search_locations)))
        found.append(OwnFolder(code, code / YAML, point.module))
    return tuple(found)


def own_files() -> list[Path]:
    """The modules and YAML files of all folders, sorted."""
    return sorted(
        {path for folder in own_folders() for _, path in folder.modules()}
        | {folder.conf / path for folder in own_folders() for path in folder.choices()}
    )


def _checked(folders: Sequence[OwnFolder]) -> tuple[OwnFolder, ...]:
    """The folders, each once, if no YAML file has the name of another one.

    Raises:
        ConfigError: with a message for each such file.
    """
    unique = tuple({folder.conf: folder for folder in reversed(folders)}.values())[::-1]
    _refuse_taken(unique)
    return unique


@cache
def _refuse_taken(folders: tuple[OwnFolder, ...]) -> None:
    owners: dict[Path, Path] = {}
    problems = []
    for folder in folders:
        for path in folder.choices():
            file = folder.conf / path
            other = CONF / path if (CONF / path).is_file() else owners.setdefault(path, file)
            if other != file and path.name not in ADDING:
                choice = f"{path.parent.as_posix()}={path.stem}"
                problems.append(f"{file}: {choice} is that of {other} already; rename the file")
    if problems:
        raise ConfigError(*problems)

"""The interface of launchers, which run jobs, and the choice of a launcher by name.

A launcher is a module of this package and a file in conf/hydra/launcher. The file refers to the
class by its tag and lists its options. Users choose it by the file's name: `hydra/launcher=NAME`.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, get_type_hints

from omegaconf import OmegaConf
from rich.console import Console

from runner.config import typed
from runner.config.overrides import conf_folders
from runner.config.typed import Alias
from runner.engine.machine import Machine
from runner.errors import ConfigError, one_of
from runner.launch.jobs import QueueJob
from runner.launch.options import mapping
from runner.registry import UnknownTag, find_class
from runner.torchrun import ranks

DEFAULT = "gpu_queue"  # launcher of the commands for tables and figures
FOLDER = Path("hydra", "launcher")  # of a configuration folder
PREFIX = "hydra.launcher."  # what a user types before an option's name
TAG_KEY = "_launcher_"  # names the class in a launcher's file
EXIT_WAITING = 130  # exit code: the command stopped waiting, the jobs continue


class Launcher(Protocol):
    """Runs jobs. An implementation is a frozen dataclass of options with a `tag`."""

    tag: ClassVar[str]
    at_a_time: ClassVar[str]  # the option for concurrent jobs, for an error message

    def run(
        self, jobs: Sequence[QueueJob], machine: Machine, threads: int | None, console: Console
    ) -> tuple[int, str]:
        """Run the jobs that are not done and wait for them.

        Args:
            machine: machine of the launching process; the jobs' commands contain its folders.
            threads: env.threads as set by the user; None = not set.

        Returns:
            The command's exit code, and a text to print at the very end ("" = nothing).

        Raises:
            ConfigError: jobs cannot be launched on this machine; none has been started.
        """
        ...

    def job_threads(self, machine: Machine, threads: int | None) -> int | None:
        """Threads of each process of a job, for plans; None = torch's default; as for `run`."""
        ...

    def job_processes(self, model: str) -> int:
        """Processes of a job, which train together, for plans.

        Args:
            model: the name of the run's model.
        """
        ...


def launcher_names(overrides: Iterable[str] = ()) -> list[str]:
    """The names of all launchers, sorted, with those in the user's folders among `overrides`."""
    return sorted(_files(overrides))


def _files(overrides: Iterable[str]) -> dict[str, Path]:
    """Name -> YAML file of each launcher; Winnow's own come first, as in Hydra's search path."""
    folders = [folder / FOLDER for folder in conf_folders(overrides)]
    return {path.stem: path for each in reversed(folders) for path in each.glob("*.yaml")}


def read_launcher(
    name: str, overrides: Iterable[str] = ()
) -> tuple[type[Launcher], dict[str, Any]]:
    """The class of a launcher and the options in its file.

    Args:
        overrides: may name the user's own folders.

    Raises:
        ConfigError: there is no launcher of that name, or its file names no class.
    """
    files = _files(overrides)
    if name not in files:
        raise ConfigError(one_of("hydra/launcher", name, sorted(files)))
    node: Any = OmegaConf.to_container(OmegaConf.load(files[name]))
    return launcher_class(node), own_options(node)


def launcher_class(node: Mapping[str, Any]) -> type[Launcher]:
    """The class that a launcher's configuration node names.

    Raises:
        ConfigError: no class declares that tag.
    """
    tag = str(node.get(TAG_KEY))
    try:
        return find_class(tag)
    except UnknownTag:
        raise ConfigError(
            f"{PREFIX}{TAG_KEY}={tag} is not the tag of a launcher; a launcher's class in"
            " runner/launch declares it: tag: ClassVar[str]"
        ) from None


def make_launcher(
    cls: type[Launcher], options: Mapping[str, Any], prefix: str = PREFIX
) -> Launcher:
    """Create a launcher with these options.

    Args:
        prefix: the text before an option's name on the command line, for messages.

    Raises:
        ConfigError: one message per unknown option, value of the wrong type and value out of range;
            or torchrun has started several of this command.
    """
    plain = {
        name: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        for name, value in options.items()
    }
    hints = get_type_hints(cls)
    for name, value in plain.items():
        if isinstance(value, str) and "dict" in str(hints.get(name)):
            plain[name] = mapping(value)
    try:
        launcher = typed.build(cls, plain, prefix.rstrip("."), fallback=_as_written)
    except ConfigError as error:  # the class names its options without the prefix
        written = "a mapping, set as NAME.KEY=VALUE or '{KEY: VALUE}'"
        messages = (
            each.removeprefix(prefix).replace("a mapping", written) for each in error.messages
        )
        raise ConfigError(*(f"{prefix}{each}" for each in messages)) from None
    if (size := ranks().size) > 1:
        raise ConfigError(
            f"hydra/launcher={cls.tag} under torchrun: each of the {size} processes would launch"
            " all jobs; start the launcher without torchrun"
        )
    return launcher


def _as_written(value: Any, key: str, alias: Alias) -> Any:
    return value


def own_options(node: Mapping[str, Any]) -> dict[str, Any]:
    """The options in a launcher's configuration node: all keys without a leading underscore."""
    return {name: value for name, value in node.items() if not name.startswith("_")}


def print_lines(console: Console, text: str) -> None:
    """Print lines without wrapping, so that commands can be copied."""
    console.print(text, soft_wrap=True, markup=False, highlight=False)

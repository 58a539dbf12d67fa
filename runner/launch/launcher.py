"""The interface of launchers, which run jobs, and the choice of a launcher by name.

A launcher is a module of this package and a file in conf/hydra/launcher. The file refers to the
class by its tag and lists its options. Users choose it by the file's name: `hydra/launcher=NAME`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from omegaconf import OmegaConf
from rich.console import Console

from runner.engine.machine import Machine
from runner.errors import ConfigError, one_of
from runner.launch.jobs import QueueJob
from runner.launch.options import options_from
from runner.paths import CONF
from runner.registry import UnknownTag, find_class
from runner.torchrun import ranks

DEFAULT = "gpu_queue"  # launcher of the commands for tables and figures
FOLDER = CONF / "hydra" / "launcher"
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
        """Threads per job, for plans; None = torch's default. Arguments as for `run`."""
        ...


def launcher_names() -> list[str]:
    """The names of all launchers, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def launcher_file(name: str) -> Path:
    """The YAML file of a launcher.

    Raises:
        ConfigError: there is no launcher of that name.
    """
    if name not in launcher_names():
        raise ConfigError(one_of("hydra/launcher", name, launcher_names()))
    return FOLDER / f"{name}.yaml"


def read_launcher(name: str) -> tuple[type[Launcher], dict[str, Any]]:
    """The class of a launcher and the options in its file.

    Raises:
        ConfigError: there is no launcher of that name, or its file names no class.
    """
    node: Any = OmegaConf.to_container(OmegaConf.load(launcher_file(name)))
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
    launcher = options_from(cls, dict(options), prefix)
    if (size := ranks().size) > 1:
        raise ConfigError(
            f"hydra/launcher={cls.tag} under torchrun: each of the {size} processes would launch"
            " all jobs; start the launcher without torchrun"
        )
    return launcher


def own_options(node: Mapping[str, Any]) -> dict[str, Any]:
    """The options in a launcher's configuration node: all keys without a leading underscore."""
    return {name: value for name, value in node.items() if not name.startswith("_")}


def print_lines(console: Console, text: str) -> None:
    """Print lines without wrapping, so that commands can be copied."""
    console.print(text, soft_wrap=True, markup=False, highlight=False)

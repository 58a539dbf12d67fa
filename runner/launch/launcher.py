"""What runs jobs: the interface of launchers, and how one is chosen by name.

A launcher is a module of this package and a file of conf/hydra/launcher. The file names the class by
its tag and lists its options; its own name is what users type: `hydra/launcher=NAME`.
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

DEFAULT = "gpu_queue"  # of commands for tables and figures
FOLDER = CONF / "hydra" / "launcher"
PREFIX = "hydra.launcher."  # what a user types before an option's name
TAG_KEY = "_launcher_"  # names the class in a launcher's file
EXIT_WAITING = 130  # exit code: no longer waiting for the jobs, which go on


class Launcher(Protocol):
    """What runs jobs. A class that implements it is a frozen dataclass of options with a `tag`."""

    tag: ClassVar[str]
    at_a_time: ClassVar[str]  # says how many jobs run at a time; max_batch_size is answered with it

    def run(self, jobs: Sequence[QueueJob], machine: Machine, threads: int | None, console: Console) -> tuple[int, str]:
        """Run the jobs that are not done and wait for them.

        Args:
            machine: of the process that launches; jobs have its folders in their commands.
            threads: env.threads as the user set it; None = not set.

        Returns:
            The command's exit code, and what is to be printed at the very end ("" = nothing).

        Raises:
            ConfigError: jobs cannot be launched here; none has been started then.
        """
        ...

    def job_threads(self, machine: Machine, threads: int | None) -> int | None:
        """Threads of each job, for plans; None = torch's choice. Arguments as for `run`."""
        ...


def launcher_names() -> list[str]:
    """The launchers that can be chosen, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def launcher_file(name: str) -> Path:
    """The file that describes a launcher.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in launcher_names():
        raise ConfigError(one_of("hydra/launcher", name, launcher_names()))
    return FOLDER / f"{name}.yaml"


def read_launcher(name: str) -> tuple[type[Launcher], dict[str, Any]]:
    """The class of a launcher, and its options as its file has them.

    Raises:
        ConfigError: there is none of that name, or its file names no class.
    """
    node: Any = OmegaConf.to_container(OmegaConf.load(launcher_file(name)))
    return launcher_class(node), own_options(node)


def launcher_class(node: Mapping[str, Any]) -> type[Launcher]:
    """The class that a launcher's node names.

    Raises:
        ConfigError: no class declares that tag.
    """
    tag = str(node.get(TAG_KEY))
    try:
        return find_class(tag)
    except UnknownTag:
        raise ConfigError(f"{PREFIX}{TAG_KEY}={tag} is the tag of no launcher; its class in runner/launch declares one: tag: ClassVar[str]") from None


def make_launcher(cls: type[Launcher], options: Mapping[str, Any], prefix: str = PREFIX) -> Launcher:
    """A launcher with these options.

    Args:
        prefix: what the user typed before an option's name, for messages.

    Raises:
        ConfigError: with a message for each unknown option, value of the wrong kind or out of range.
    """
    return options_from(cls, dict(options), prefix)


def own_options(node: Mapping[str, Any]) -> dict[str, Any]:
    """A launcher's node without what names its classes."""
    return {name: value for name, value in node.items() if not name.startswith("_")}


def print_lines(console: Console, text: str) -> None:
    """Print whole lines: a command that is cut cannot be copied."""
    console.print(text, soft_wrap=True, markup=False, highlight=False)

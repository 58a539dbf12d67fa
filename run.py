"""Entry point: `python run.py method=imc model=resnet20`.

Composes the configuration, reports invalid input in one message and calls runner.commands.run.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from runner.entry import command
from runner.errors import EXIT_CONFIG, EXIT_INTERRUPTED, EXIT_STOPPED, ConfigError, SweepEnded
from runner.paths import CONF, RUN_PY
from runner.streams import say
from runner.torchrun import ranks

MULTIRUN = ("-m", "--multirun")
AGAIN = "--again"
VERSION = "--version"


def main() -> NoReturn:
    """Run the command line and exit.

    Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted, 143 stopped at a checkpoint.
    """
    command(start)


def run_words(words: list[str]) -> int:
    """Run `python run.py WORDS` in this process; `--choices` prints all choices; the exit code."""
    sys.argv = [str(RUN_PY), *(["--help"] if words == ["--choices"] else words)]
    return start()


def start() -> int:
    """Run the command line, print the version, or perform a finished run again; the exit code."""
    if VERSION in sys.argv[1:]:
        from runner.code import version_text

        print(version_text())
        return 0
    return repeat() if AGAIN in sys.argv else run()


def repeat() -> int:
    """Perform a finished run again; the exit code."""
    from runner.commands.again import again

    return again(sys.argv[1:])


def run() -> int:
    """Run the command line; its exit code. Imports take seconds, and Ctrl-C may interrupt them."""
    import hydra
    from omegaconf import DictConfig

    from runner.config.hydra_errors import translate
    from runner.config.schema import register

    register()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises; translated below
    arguments = sys.argv[1:]
    codes: list[int] = []
    planned: list[Any] = []  # runs of a sweep with env.plan=true, for one plan of all
    sweeps: list[Any] = []  # the sweep, if it is one whose jobs this process runs

    @hydra.main(str(CONF), "config", version_base="1.3")  # type: ignore[untyped-decorator]
    def job(cfg: DictConfig) -> None:
        from runner.commands.run import run_config  # loads torch: not for --help and --cfg

        codes.append(run_config(cfg, planned, brief=bool(sweeps)))
        if codes[-1] in (EXIT_STOPPED, EXIT_INTERRUPTED):
            sys.exit(codes[-1])  # a stopped sweep does not start its next job

    try:
        sys.argv[1:] = arguments = hydra_arguments(accepted(arguments))
        if helped(arguments) or answered(arguments, own := composed(arguments)):
            return 0
        sweeps += check_jobs(arguments)
        job(*own)
        show(planned, sweeps)
    except SweepEnded as ended:
        return ended.code
    except Exception as error:
        message = translate(error, str(CONF), arguments)
        if message is None:
            raise
        if ranks().rank == 0:
            say(f"error: {message}")
        return EXIT_CONFIG
    return max(codes, default=0)


def show(planned: list[Any], sweeps: list[Any]) -> None:
    """Print one plan of the runs of a sweep, or the table of its results; nothing for one run."""
    if planned:
        from runner.commands.run import show_plan

        show_plan(planned)
    elif ranks().rank == 0:
        from runner.console import console

        for sweep in sweeps:
            sweep.show(console())


def composed(arguments: list[str]) -> list[Any]:
    """The configuration of a command line; none if it has flags or overrides of Hydra's own."""
    from runner.config.compose import command_config

    own = any(each.startswith(("-", "hydra")) for each in arguments)
    return [] if own else [command_config(arguments)]


def helped(arguments: list[str]) -> bool:
    """Print the help or the configuration if the command line asks for it; whether it does."""
    from runner.config.help import asks_only_for_help, help_text
    from runner.config.sources import asked, config_text

    if asks_only_for_help(arguments):
        sys.stdout.write(f"{help_text(arguments)}\n")
        return True
    if request := asked(arguments):
        sys.stdout.write(f"{config_text(request)}\n")
        return True
    return False


def answered(arguments: list[str], own: list[Any]) -> bool:
    """Print the summary of a finished run; False for any other command line.

    This needs neither torch nor Hydra to run an application.

    Args:
        own: `composed(arguments)`.
    """
    if any(each.startswith("-") for each in arguments):
        return False
    from runner.commands.repeated import answer

    return answer(arguments, *own)


def hydra_arguments(arguments: list[str]) -> list[str]:
    """The command line as Hydra reads it.

    Flags come first, because argparse reads no overrides after a flag that follows one. Paths are
    quoted. Keys below an option of a launcher, such as hydra.launcher.extra.account, are new ones.

    Raises:
        ConfigError: a path contains an interpolation.
    """
    from runner.config.quoting import literal_paths

    flags = [each for each in arguments if each in MULTIRUN]
    rest = [each for each in arguments if each not in MULTIRUN]
    return flags + [
        f"++{each}" if re.match(r"hydra\.launcher\.\w+\.[^=]+=", each) else each
        for each in literal_paths(rest, sweeps=bool(flags))
    ]


def check_jobs(arguments: list[str]) -> list[Any]:
    """Check all jobs of a sweep before the first one starts; a launcher checks those of its own.

    Returns:
        The sweep in a list; empty for one run, or with a launcher.

    Raises:
        ConfigError: with every problem of every job.
    """
    words = [each for each in arguments if each not in MULTIRUN]
    if len(words) == len(arguments) or any(
        each.startswith(("-", "hydra/launcher=", "hydra/sweeper=")) for each in words
    ):
        return []
    from runner.launch.sweep import check_sweep  # loads torch

    found = check_sweep(words, plans(words))
    return [] if found is None or len(found.runs) < 2 else [found]


def plans(arguments: list[str]) -> bool:
    """Whether the command only prints a plan."""
    plan = re.compile(r"env\.plan=(true|yes|y|on|1)", re.IGNORECASE)
    return any(plan.fullmatch(each) for each in arguments)


def accepted(words: list[str]) -> list[str]:
    """The words of the command line, checked, with `--config-dir` as an override.

    Raises:
        ConfigError: Hydra would misread them, or the working directory no longer exists.
    """
    from runner.config.overrides import check_words, with_search_path

    try:
        Path.cwd()
    except FileNotFoundError:
        problem = "the working directory no longer exists: change to one that does"
        raise ConfigError(problem) from None
    words = with_search_path(words)
    check_words(words)
    return planned_here(words)


def planned_here(arguments: list[str]) -> list[str]:
    """The overrides, without the launcher's if env.plan=true: this process makes the plan."""
    alone = plans(arguments)
    return [
        each
        for each in arguments
        if not (alone and each.startswith(("hydra/launcher=", "hydra.launcher.")))
    ]


if __name__ == "__main__":
    main()

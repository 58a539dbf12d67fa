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
from runner.paths import CONF
from runner.streams import say
from runner.torchrun import ranks

MULTIRUN = ("-m", "--multirun")
AGAIN = "--again"


def main() -> NoReturn:
    """Run the command line and exit.

    Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted, 143 stopped at a checkpoint.
    """
    command(repeat if AGAIN in sys.argv else run)


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

    @hydra.main(str(CONF), "config", version_base="1.3")  # type: ignore[untyped-decorator]
    def job(cfg: DictConfig) -> None:
        from runner.commands.run import run_config  # loads torch: not for --help and --cfg

        codes.append(run_config(cfg, planned))
        if codes[-1] in (EXIT_STOPPED, EXIT_INTERRUPTED):
            sys.exit(codes[-1])  # a stopped sweep does not start its next job

    try:
        sys.argv[1:] = arguments = hydra_arguments(accepted(arguments))
        check_jobs(arguments)
        job()
        if planned:
            from runner.commands.run import show_plan

            show_plan(planned)
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


def check_jobs(arguments: list[str]) -> None:
    """Check all jobs of a sweep before the first one starts; a launcher checks those of its own.

    Raises:
        ConfigError: with every problem of every job.
    """
    words = [each for each in arguments if each not in MULTIRUN]
    if len(words) == len(arguments) or any(
        each.startswith(("-", "hydra/launcher=", "hydra/sweeper=")) for each in words
    ):
        return
    from runner.launch.sweep import check_sweep  # loads torch

    check_sweep(words, plans(words))


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

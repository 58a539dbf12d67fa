"""Entry point: `python run.py method=imc model=resnet20`.

Composes the configuration, reports invalid input in one message and calls runner.commands.run.
"""

import os
import re
import sys
from typing import Any, NoReturn

from runner.entry import command
from runner.errors import EXIT_CONFIG, EXIT_INTERRUPTED, EXIT_STOPPED, SweepEnded
from runner.paths import CONF
from runner.torchrun import ranks

MULTIRUN = ("-m", "--multirun")


def main() -> NoReturn:
    """Run the command line and exit.

    Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted, 143 stopped at a checkpoint.
    """
    command(run)


def run() -> int:
    """Run the command line; its exit code. Imports take seconds, and Ctrl-C may interrupt them."""
    import hydra
    from omegaconf import DictConfig

    from runner.config.hydra_errors import refuse_key_changes, translate
    from runner.config.schema import register

    register()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises; translated below
    arguments = planned_here(sys.argv[1:])
    codes: list[int] = []
    planned: list[Any] = []  # runs of a sweep with env.plan=true, for one plan of all

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def job(cfg: DictConfig) -> None:
        from runner.commands.run import run_config  # loads torch: not for --help and --cfg

        codes.append(run_config(cfg, planned))
        if codes[-1] in (EXIT_STOPPED, EXIT_INTERRUPTED):
            sys.exit(codes[-1])  # a stopped sweep does not start its next job

    try:
        refuse_key_changes(arguments)
        sys.argv[1:] = arguments = hydra_arguments(arguments)
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
            print(f"error: {message}", file=sys.stderr)
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


def planned_here(arguments: list[str]) -> list[str]:
    """The overrides, without the launcher's if env.plan=true: this process makes the plan."""
    plans = any(
        re.fullmatch(r"env\.plan=(true|yes|on|1)", each, re.IGNORECASE) for each in arguments
    )
    return [
        each
        for each in arguments
        if not (plans and each.startswith(("hydra/launcher=", "hydra.launcher.")))
    ]


if __name__ == "__main__":
    main()

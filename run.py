"""Entry point: `python run.py method=imc model=resnet20`.

Composes the configuration, reports invalid input in one message and calls runner.commands.run.
"""

import os
import re
import sys
from typing import Any

import hydra
from omegaconf import DictConfig

from runner.config.schema import register
from runner.errors import EXIT_CONFIG, EXIT_STOPPED, SweepEnded
from runner.paths import CONF

register()


def main() -> None:
    """Run the command line.

    Exit codes: 0 done, 1 failed, 2 bad input, 143 stopped at a checkpoint.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises; translated below
    arguments = planned_here(sys.argv[1:])
    # Flags first: argparse reads no overrides after a flag that follows one.
    sys.argv[1:] = sorted(arguments, key=lambda each: each not in ("-m", "--multirun"))
    codes: list[int] = []
    planned: list[Any] = []  # runs of a sweep with env.plan=true, for one plan of all

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def job(cfg: DictConfig) -> None:
        from runner.commands.run import run_config  # loads torch: not for --help and --cfg

        codes.append(run_config(cfg, planned))
        if codes[-1] == EXIT_STOPPED:
            sys.exit(EXIT_STOPPED)  # a stopped sweep does not start its next job

    from runner.config.hydra_errors import refuse_key_changes, translate

    try:
        refuse_key_changes(arguments)
        job()
        if planned:
            from runner.commands.run import show_plan

            show_plan(planned)
    except SweepEnded as ended:
        sys.exit(ended.code)
    except Exception as error:
        message = translate(error, str(CONF), arguments)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(EXIT_CONFIG)
    sys.exit(max(codes, default=0))


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

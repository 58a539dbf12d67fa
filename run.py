"""Entry point: `python run.py method=imc model=resnet20`. Composes the configuration, answers bad input with one message, hands over to runner.commands.run."""

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
    """Run the command line; exit code 0 done, 1 failed, 2 bad input, 143 stopped at a checkpoint."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra's exceptions reach us, and become one message
    words = planned_here(sys.argv[1:])
    sys.argv[1:] = sorted(words, key=lambda word: word not in ("-m", "--multirun"))  # argparse takes a flag among the overrides for their end
    codes: list[int] = []
    planned: list[Any] = []  # runs of a sweep that is only planned: one plan for all

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def job(cfg: DictConfig) -> None:
        from runner.commands.run import run_config  # torch: not for --help and --cfg

        codes.append(run_config(cfg, planned))
        if codes[-1] == EXIT_STOPPED:
            sys.exit(EXIT_STOPPED)  # a sweep that was asked to stop does not begin its next job

    from runner.config.hydra_errors import refuse_key_changes, translate

    try:
        refuse_key_changes(words)
        job()
        if planned:
            from runner.commands.run import show_plan

            show_plan(planned)
    except SweepEnded as ended:
        sys.exit(ended.code)
    except Exception as error:
        message = translate(error, str(CONF), words)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(EXIT_CONFIG)
    sys.exit(max(codes, default=0))


def planned_here(words: list[str]) -> list[str]:
    """A plan needs no launcher: with env.plan=true it is made in this process, whatever would run the jobs."""
    plans = any(re.fullmatch(r"env\.plan=(true|yes|on|1)", word, re.IGNORECASE) for word in words)
    return [word for word in words if not (plans and word.startswith(("hydra/launcher=", "hydra.launcher.")))]


if __name__ == "__main__":
    main()

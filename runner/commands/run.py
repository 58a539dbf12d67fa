"""`python run.py`: one run, or the plan of it."""

import torch
from omegaconf import DictConfig
from rich.console import Console

from runner.config.request import read_request
from runner.engine.execute import execute
from runner.engine.machine import Machine, prepare
from runner.errors import guarded
from runner.planning.show import show
from runner.planning.survey import survey
from runner.spec.planned import PlannedRun, plan_run

Planned = list[tuple[PlannedRun, Machine]]


def run_config(cfg: DictConfig, planned: Planned | None = None) -> int:
    """Do the run that `cfg` describes, or plan it; the process' exit code. Every problem is one message on standard error.

    Args:
        planned: where a run that is only to be planned goes, for one plan of them all; None = show its own.
    """
    if cfg.env.plan:
        return guarded(lambda: _plan(cfg, planned))
    return guarded(lambda: execute(read_request(cfg)))


def show_plan(planned: Planned) -> int:
    """Print one plan of all these runs; the exit code."""
    show(planned, torch.get_num_threads(), Console(highlight=False))
    return 0


def _plan(cfg: DictConfig, planned: Planned | None) -> int:
    request = read_request(cfg)
    alone = [(plan_run(request.run), prepare(request.environment))]
    survey(alone)  # its problems are this run's
    if planned is None:
        return show_plan(alone)
    planned += alone
    return 0

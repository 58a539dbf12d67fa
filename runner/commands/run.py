"""`python run.py`: execute one run, or print its plan."""

import contextlib
from dataclasses import replace

import torch
from omegaconf import DictConfig

from runner.commands.repeated import remember
from runner.config.environment import environment_of
from runner.config.request import read_request
from runner.console import console
from runner.engine.execute import execute
from runner.engine.machine import Machine, prepare
from runner.entry import guarded
from runner.errors import ConfigError
from runner.planning.show import show
from runner.planning.survey import survey
from runner.spec.planned import PlannedRun, plan_run
from runner.spec.request import RunRequest
from runner.suites.paper_rows import paper_command
from runner.torchrun import ranks

Planned = list[tuple[PlannedRun, Machine]]


def run_config(cfg: DictConfig, planned: Planned | None = None, brief: bool = False) -> int:
    """Execute or plan the run that `cfg` describes; return the process' exit code.

    Each problem produces one message on standard error.

    Args:
        planned: list to which a planned run is appended, for one plan of several runs; None = print
            the plan of this run.
        brief: print one line instead of a summary, for the jobs of a sweep.
    """
    if environment_of(cfg).plan:
        return guarded(lambda: plan(read_request(cfg), planned))
    return guarded(lambda: _execute(cfg, brief))


def _execute(cfg: DictConfig, brief: bool) -> int:
    request = _request(cfg)
    code = execute(request, brief)
    if code == 0 and ranks().size == 1:
        remember(cfg, request)
    return code


def _request(cfg: DictConfig) -> RunRequest:
    """The request, with the command of the paper's setting if a paper has this run.

    A fault in the file of a table is reported where the table is printed; it does not stop a run.
    """
    request = read_request(cfg)
    found = request.paper_command
    with contextlib.suppress(ConfigError):
        found = found or paper_command(request.run, request.config.values, request.overrides)
    return replace(request, paper_command=found)


def show_plan(planned: Planned) -> int:
    """Print one plan of all these runs, once under torchrun, and return the exit code."""
    if ranks().rank == 0:
        show(planned, torch.get_num_threads(), console())
    return 0


def plan(request: RunRequest, planned: Planned | None = None) -> int:
    """Print the plan of a run, or append it to `planned`; the exit code."""
    alone = [(plan_run(request.run), prepare(request.environment))]
    survey(alone)  # reports the problems of this run
    if planned is None:
        return show_plan(alone)
    planned += alone
    return 0

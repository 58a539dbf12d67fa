"""A planned run: the run, the command-line overrides that make it, and its identity."""

from collections.abc import Sequence
from dataclasses import dataclass

from runner.spec.identity import identify_all
from runner.spec.run import Run


@dataclass(frozen=True)
class PlannedRun:
    """One run and its identity.

    Args:
        overrides: the command-line overrides that make it.
        keys: stage name -> cache key.
    """

    run: Run
    overrides: tuple[str, ...]
    run_id: str
    keys: dict[str, str]


def plan_run(run: Run, overrides: tuple[str, ...] = ()) -> PlannedRun:
    """One run with its identity."""
    return plan_runs([run], [overrides])[0]


def plan_runs(runs: Sequence[Run], overrides: Sequence[tuple[str, ...]]) -> tuple[PlannedRun, ...]:
    """Each run with its identity. Stages that runs share are serialized once."""
    return tuple(
        PlannedRun(run, own, of.run_id, of.keys)
        for run, own, of in zip(runs, overrides, identify_all(runs), strict=True)
    )

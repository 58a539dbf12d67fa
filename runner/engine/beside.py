"""Measurements beside a run (`Stage.extra`), whose failure does not end it."""

from runner.engine.context import RunContext
from runner.engine.divergence import is_diverged
from runner.engine.failure import write_failure
from runner.engine.stage_meta import ENTRY, StageMeta
from runner.engine.stages import run_stage
from runner.errors import Damaged, Stopped
from runner.spec.findings import is_diverged as has_diverged
from runner.spec.record import Record
from runner.spec.run import Run, Stage, required_extras


def run_or_leave_out(context: RunContext, stage: Stage) -> tuple[StageMeta, bool] | None:
    """As `run_stage`; None where a measurement beside the run failed, which is then left out.

    The error is written to the run's folder. In a team it is raised, since the other processes wait
    for the one that failed.
    """
    if not stage.extra:
        return run_stage(context, stage)
    try:
        meta, cached = run_stage(context, stage)
    except (Stopped, Damaged):
        raise
    except Exception as error:
        if context.machine.group.size > 1 or context.stop():
            raise
        message, path = write_failure(context.watcher.folder, error, {})
        _tell(context, stage, f"failed and is left out: {message}\n  where: {path}")
        return None
    if found := meta[ENTRY]:
        _tell(context, stage, f"has no result: {found['what']}")
    return meta, cached


def ends_run(stage: Stage, meta: StageMeta) -> bool:
    """Whether a run ends with this stage since it diverged."""
    return is_diverged(meta) and not stage.extra


def left_out(run: Run, record: Record) -> tuple[str, ...]:
    """The stages that failed beside a run, by its record."""
    there = {stage["name"] for stage in record["stages"]}
    return tuple(s.name for s in run.stages if s.name not in there and not has_diverged(record))


def not_delivered(run: Run, record: Record) -> tuple[str, ...]:
    """Those of `left_out` that the command requests by a number."""
    return tuple(name for name in left_out(run, record) if name in required_extras(run))


def _tell(context: RunContext, stage: Stage, what: str) -> None:
    context.watcher.warn(f"note: the measurement {stage.name} {what}")

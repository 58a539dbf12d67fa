"""What the result of a run cost, from the costs of its stages (docs/training_flops.md)."""

from collections.abc import Sequence
from fractions import Fraction

from runner.engine.stage_meta import COST, Cost, DoneStage
from runner.spec.record import TrainingCost
from runner.spec.run import Run, Stage

COUNTED_LATER = ("train_flops", "train_flops_ratio")  # absent from earlier records


def training_cost(
    run: Run, stages: Sequence[DoneStage], final: str | None, times: Fraction = Fraction(1)
) -> TrainingCost:
    """Multiply-accumulates of all stages that led to the result, and their ratio to dense training.

    Dense training is that of the whole net.

    Both are None without a result, and if a stage's cost is not known. The ratio is also None where
    nothing was trained.

    Args:
        stages: metadata of each stage, with `name`.
        final: the stage that is the result; None for a run that diverged or only measures.
        times: cost of a pass through the whole net, in passes through the run's.
    """
    total, dense = _sum_of_costs(run, stages, final) if final else (None, None)
    ratio = float(total / (dense * times)) if total is not None and dense else None
    return {"train_flops": total, "train_flops_ratio": ratio}


def _sum_of_costs(
    run: Run, stages: Sequence[DoneStage], final: str
) -> tuple[int | None, int | None]:
    """Multiply-accumulates of the stages that led to `final`, as they were and dense."""
    metas = {meta["name"]: meta for meta in stages}
    unknown: Cost = {"total": None, "dense": None}
    found = [metas[stage.name].get(COST, unknown) for stage in _leading_to(run, final)]
    return _sum([cost["total"] for cost in found]), _sum([cost["dense"] for cost in found])


def _sum(numbers: Sequence[int | None]) -> int | None:
    """The sum; None if a number is not known."""
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def _leading_to(run: Run, final: str) -> list[Stage]:
    """The stages that compute, of `final` and of those that it directly or indirectly reads."""
    names = {final}
    for stage in reversed(run.stages):
        names |= set(stage.parents) if stage.name in names else set()
    return [
        stage for stage in run.stages if stage.name in names and (stage.recipe or stage.component)
    ]

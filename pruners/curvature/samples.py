"""The training images over which a task's Hessian is the mean."""

from torch import nn

from pruners.base import Batch, Masks, Task, in_batches
from pruners.curvature.hessian import HessianOperator
from pruners.curvature.options import HessianOptions


def fixed_batches(task: Task, options: HessianOptions) -> list[Batch]:
    """The first n_samples of the task's pass, or all if there are fewer, in mini-batches.

    Raises:
        ValueError: the training set is empty.
    """
    first = next(iter(task.batches(options.n_samples)), None)
    if first is None:
        raise ValueError("a Hessian needs at least one training image: the data set is empty")
    x, y = (t[: options.n_samples] for t in first)
    return list(in_batches(x, y, options.batch_size))


def task_operator(
    model: nn.Module, masks: Masks, task: Task, options: HessianOptions, vectors: int
) -> HessianOperator:
    """The Hessian of a task's loss over its `fixed_batches`, divided among its processes.

    Args:
        vectors: how many vectors (d,) the caller holds beside the graphs.
    """
    batches = fixed_batches(task, options)
    memory, team = task.memory, task.team
    return HessianOperator(
        model, masks, batches, task.loss, options, memory, vectors=vectors, team=team
    )

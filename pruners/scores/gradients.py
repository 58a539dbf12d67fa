"""Gradients by parameter name, and a guard that keeps a scored model bit-identical."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from math import inf

import torch
from torch import nn

from pruners.base import Batch, LossFn, Masks, Scores, in_batches
from pruners.divided import largest_share, share, share_of_loss, summed, whole_batch
from pruners.memory import at_once
from pruners.scores.chunks import LargeBatch, loss_bytes
from pruners.team import ALONE, Team

BATCHNORM_MODES = ("train", "eval")


@contextmanager
def undisturbed(model: nn.Module, bn: str = "eval") -> Iterator[None]:
    """Run a block in BatchNorm mode `bn`, then restore the model.

    Buffers, training flags, gradients and requires_grad are restored.

    Args:
        bn: `train` normalises with batch statistics, `eval` with running statistics. The whole
            model is put into that mode.
    """
    if bn not in BATCHNORM_MODES:
        raise ValueError(f"bn={bn!r} must be one of {', '.join(BATCHNORM_MODES)}")
    flags = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    grads = {name: p.grad for name, p in model.named_parameters()}
    learns = {name: p.requires_grad for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = None  # backward() would add to the caller's tensor in place
    model.train(bn == "train")
    try:
        yield
    finally:
        for module, training in flags.items():
            module.training = training
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
        for name, p in model.named_parameters():
            p.grad = grads[name]
            p.requires_grad_(learns[name])


def mean_gradients(
    model: nn.Module,
    masks: Masks,
    batches: Iterable[Batch],
    loss: LossFn,
    bn: str = "eval",
    memory: float = inf,
    team: Team = ALONE,
) -> Scores:
    """Gradient of the mean loss over all examples of `batches`; keys and shapes of `masks`.

    Batches are weighted by their size, so that smaller batches give the same result as one large
    batch (in eval mode). The model is left unchanged.

    Args:
        memory: bytes that a graph may take. A batch that needs more is computed in chunks
            (pruners/scores/chunks.py), with the result of the whole batch up to rounding.
        team: divides every batch.

    Raises:
        ValueError: `batches` is empty, or not even one image fits.
    """
    names = list(masks)
    total: list[torch.Tensor] | None = None
    examples, fits = 0, 0  # images that are known to fit
    with undisturbed(model, bn):
        parameters = [model.get_parameter(name).requires_grad_(True) for name in names]
        for x, y in batches:
            cost, own = partial(loss_bytes, model, (x, y), loss), largest_share(team, len(y))
            if own > fits and at_once(own, memory, cost) < own:
                found = LargeBatch(model, parameters, (x, y), loss, memory, team=team).gradient()
                grads = [grad * len(y) for grad in found]
            else:
                fits = max(fits, own)
                grads = _summed_gradient(model, parameters, (x, y), loss, team)
            total = grads if total is None else [t + g for t, g in zip(total, grads, strict=True)]
            examples += len(y)
    if total is None:
        raise ValueError("a gradient needs at least one batch: the source is empty")
    return {name: t / examples for name, t in zip(names, total, strict=True)}


def _summed_gradient(
    model: nn.Module, parameters: list[torch.Tensor], batch: Batch, loss: LossFn, team: Team
) -> list[torch.Tensor]:
    """The gradient of the sum of losses over a batch that the processes divide."""
    with whole_batch(model, team):
        value = share_of_loss(model, share(team, batch), loss, 1.0)
        own = torch.autograd.grad(value, parameters, materialize_grads=True)
    return summed(team, own)


def normalised_together(batches: Iterable[Batch], images: int | None) -> Iterator[Batch]:
    """The batches cut into parts of `images` with batch statistics of their own; None = whole.

    A single last image, which BatchNorm may not accept, belongs to the part before it.
    """
    for x, y in batches:
        size = images or len(y)
        whole = len(y) - size - 1 if len(y) > size and len(y) % size == 1 else len(y)
        yield from in_batches(x[:whole], y[:whole], size) if whole else ()
        if whole < len(y):
            yield x[whole:], y[whole:]


def chunk_problems(images: int | None, bn: str) -> list[str]:
    """Messages about an invalid `method.score.chunk` of a score in BatchNorm mode `bn`."""
    if images is None:
        return []
    if images < 2:
        return [
            f"method.score.chunk={images} must be at least 2, as BatchNorm needs two images, or"
            " null for the statistics of a whole batch"
        ]
    if bn == "eval":
        return [
            f"method.score.chunk={images}: with method.score.bn=eval no image is normalised by"
            " others, and memory is bounded by env.memory_gb; leave chunk out"
        ]
    return []

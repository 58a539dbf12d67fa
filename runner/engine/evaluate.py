"""Accuracy and loss on a held-out set."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from pruners.base import Batch
from runner.engine.distributed import ALONE, ProcessGroup
from runner.engine.precision import full


@dataclass(frozen=True)
class Evaluation:
    """Accuracies in percent, loss as mean cross-entropy in nats."""

    accuracy: float
    top5: float
    loss: float


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    weights: dict[str, Tensor],
    autocast: torch.autocast,
    group: ProcessGroup = ALONE,
) -> Evaluation:
    """Evaluate in eval mode; the model's training flag is restored.

    Args:
        batches: of several processes, each one's share of each batch; the result covers all.
        weights: parameters to replace in the forward pass (`Masking.weights`); {} for none.
        autocast: the precision context of the training.
    """
    training = model.training
    model.eval()
    # (3,) from the first batch on: hits, hits among the five largest, loss. They stay on the device
    # of the logits, so that the host waits only once.
    sums, count = torch.zeros((), dtype=torch.float64), 0
    with autocast:
        for x, y in batches:
            # Shapes: logits (B, C), top (B, min(5, C)).
            logits = full(functional_call(model, weights, (x,)) if weights else model(x))
            top = logits.topk(min(5, logits.shape[1]), dim=1).indices == y[:, None]
            found = (
                top[:, 0].sum(),
                top.any(dim=1).sum(),
                F.cross_entropy(logits, y, reduction="sum"),
            )
            sums = sums + torch.stack([value.double() for value in found])
            count += len(y)
    model.train(training)
    hits, hits5, loss, count = group.total(torch.cat([sums, sums.new_full((1,), count)])).tolist()
    return Evaluation(100 * hits / count, 100 * hits5 / count, loss / count)

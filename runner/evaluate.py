"""Accuracy and loss on a held-out set."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from pruners.base import Batch


@dataclass(frozen=True)
class Evaluation:
    """Accuracies in percent, loss as mean cross-entropy in nats."""

    accuracy: float
    top5: float
    loss: float


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[Batch], weights: dict[str, Tensor], autocast: torch.autocast) -> Evaluation:
    """Evaluate in eval mode; the model's training flag is put back.

    Args:
        weights: parameters to replace in the forward pass (`Masking.weights`); {} for none.
        autocast: the precision context of the training.
    """
    training = model.training
    model.eval()
    count, hits, hits5, loss = 0, 0, 0, 0.0
    with autocast:
        for x, y in batches:
            logits = (functional_call(model, weights, (x,)) if weights else model(x)).float()  # (B, C)
            top = logits.topk(min(5, logits.shape[1]), dim=1).indices == y[:, None]  # (B, 5)
            hits += int(top[:, 0].sum())
            hits5 += int(top.any(dim=1).sum())
            loss += float(F.cross_entropy(logits, y, reduction="sum"))
            count += len(y)
    model.train(training)
    return Evaluation(100 * hits / count, 100 * hits5 / count, loss / count)

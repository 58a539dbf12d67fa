"""The rule for numbers that are not finite; it holds for all methods and kinds of stages.

A stage diverges where a loss, a weight, a buffer or a score of it is NaN or infinite. Its run ends
there (docs/records.md). Components report such numbers by FloatingPointError.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from runner.engine.evaluate import Evaluation
from runner.engine.stage_meta import ENTRY, DivergenceEntry, StageMeta
from runner.engine.store import Artefact


@dataclass(frozen=True)
class Divergence:
    """What is not finite in a stage, and since when.

    Args:
        what: a clause such as `the training loss is not finite`.
        epoch: the first epoch of the stage with such a number; 0 before its first step and in
            stages that do not train.
    """

    what: str
    epoch: int = 0

    @property
    def entry(self) -> DivergenceEntry:
        """The divergence as an entry of a stage's metadata."""
        return {"what": self.what, "epoch": self.epoch}


def finite(value: float) -> float | None:
    """`value`, or None for NaN and infinity, which JSON cannot hold: a training may diverge."""
    return value if math.isfinite(value) else None


def infinite_tensor(tensors: Mapping[str, Tensor]) -> str:
    """A clause on the first tensor with a number that is not finite; empty if there is none."""
    for name, tensor in tensors.items():
        bad = tensor.numel() - int(tensor.isfinite().sum())
        if bad:
            return f"{bad:,} of {tensor.numel():,} numbers in {name} are not finite"
    return ""


def infinite_loss(loss: float | None, test: Evaluation | None, held_out: Evaluation | None) -> str:
    """A clause on the first loss that is not finite; empty if there is none.

    Args:
        loss: the training loss; None without any.
        test, held_out: evaluations on test images and held-out training images; None without any.
    """
    losses = {
        "training": loss,
        "test": test.loss if test else None,
        "validation": held_out.loss if held_out else None,
    }
    for name, value in losses.items():
        if value is not None and not math.isfinite(value):
            return f"the {name} loss is not finite"
    return ""


def divergence_of(artefact: Artefact) -> Divergence | None:
    """The divergence of a stage's result: a loss of its history or a tensor that is not finite.

    History rows have None for a loss that is not finite. A row of epoch 0 has no training loss.
    """
    history = artefact.meta["history"]
    for row in history:
        if row["train_loss"] is None and row["epoch"]:
            return Divergence("the training loss is not finite", row["epoch"])
        if row["test_loss"] is None and row["accuracy"] is not None:
            return Divergence("the test loss is not finite", row["epoch"])
    last = history[-1]["epoch"] if history else 0
    states = [artefact.weights, artefact.findings, *artefact.snapshots.values()]
    what = next(filter(None, map(infinite_tensor, states)), "")
    return Divergence(what, last) if what else None


def is_diverged(meta: StageMeta) -> bool:
    """Whether the metadata of a stored stage state that it diverged."""
    return bool(meta.get(ENTRY))
